"""Any layer or model of coadtr as a ``continual.CoModule``, to nest beside the modules of continual-inference."""

from __future__ import annotations

from inspect import ismethod, signature
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.interop.adapter import ContinualAdapter, FirstFrames, require_axes
from coadtr.layers import RecyclingPositionalEncoding, reset_rows

__all__ = ["as_comodule"]


class _RetroactiveAdapter(ContinualAdapter):
    """Adapter of a layer whose step brings a window up to date.

    ::

        forward         (B, C, n <= N) -> (B, C, n)      one clip
        forward_steps   (B, C, T)      -> (B, C, T, N)   the window after each step
        forward_step    (B, C)         -> (B, C, N)      in time order, the newest last
    """

    def forward(self, frames: Tensor) -> Tensor:
        require_axes(frames, 3, "(B, C, T)")
        return self._forward(frames.transpose(1, 2)).transpose(1, 2)

    def _step(self, frame: Tensor, memory: Any) -> tuple[Tensor, Any]:
        window, memory = self.module.step(frame, memory)
        owner = _window_owner(self.module)
        positions = owner.positions(memory if owner is self.module else memory.attention)
        order = positions.argsort(1).unsqueeze(2).expand_as(window)
        ordered = window.masked_fill((positions < 0).unsqueeze(2), 0).gather(1, order)
        return ordered.transpose(1, 2), memory


class _PositionsMemory(NamedTuple):
    frames: Tensor


class _PositionsAdapter(ContinualAdapter):
    """Adapter of the positional encoding, which is told the index of a frame: the count of frames seen."""

    def _init(self, streams: int) -> _PositionsMemory:
        return _PositionsMemory(torch.zeros(streams, dtype=torch.int64, device=self.module.table.device))

    def _reset(self, memory: _PositionsMemory, rows: Tensor) -> _PositionsMemory:
        return reset_rows(memory, rows, self._init(1))

    def _forward(self, frames: Tensor) -> Tensor:
        return cast("Tensor", self.module(frames, torch.arange(frames.shape[1], device=frames.device)))

    def _step(self, frame: Tensor, memory: _PositionsMemory) -> tuple[Tensor, _PositionsMemory]:
        return self.module(frame, memory.frames), _PositionsMemory(memory.frames + 1)

    def _steps(self, frames: Tensor, memory: _PositionsMemory) -> tuple[Tensor, _PositionsMemory]:
        index = memory.frames.unsqueeze(1) + torch.arange(frames.shape[1], device=frames.device)
        encoded: Tensor = self.module(frames, index)
        return encoded.transpose(1, 2), _PositionsMemory(memory.frames + frames.shape[1])


def as_comodule(
    module: nn.Module, *, first_frames: FirstFrames = "answered", receptive_field: int | None = None
) -> ContinualAdapter:
    """Make a ``continual.CoModule`` of a layer or model of coadtr.

    Args:
        module: A module with ``init_state``, ``step`` and ``forward``, or a positional encoding; held, not copied.
        first_frames: ``"answered"``: as coadtr does, each frame is answered, from those seen; the module lines up as a
            convolution with padding on the left alone (delay 0, as many answers as frames), and so with padded
            convolutions. ``"silent"``: as continual-inference does, no answer before the window is full; the module
            lines up as a convolution of kernel size N without padding (delay N - 1, that many answers fewer).
        receptive_field: Frames that one answer depends on; found on the module if not given.

    Returns:
        The adapter. A layer with look-ahead k has a delay of k at least: its answer comes k frames later.

    Raises:
        ConfigError: If the module has no step, its receptive field is not known, or ``first_frames`` is unknown.

    Example:
        >>> import continual, torch
        >>> from coadtr.layers import SingleOutputAttention
        >>> attention = as_comodule(SingleOutputAttention(8, 2, window=4))
        >>> net = continual.Sequential(attention, continual.Conv1d(8, 3, kernel_size=3, padding=1)).eval()
        >>> frames = torch.randn(1, 8, 10)
        >>> with torch.no_grad():
        ...     whole, steps = net(frames), net.forward_steps(frames, pad_end=True)
        >>> net.delay, torch.allclose(whole, steps, atol=1e-6)
        (1, True)
    """
    if isinstance(module, RecyclingPositionalEncoding):
        return _PositionsAdapter(module, first_frames=first_frames, receptive_field=1)
    if not callable(getattr(module, "init_state", None)) or not _takes_frames(getattr(module, "step", None)):
        raise ConfigError(
            f"as_comodule takes a module with init_state and step(frame, state), got {type(module).__name__}; "
            "continual-inference itself converts modules of torch.nn"
        )
    kind = ContinualAdapter if _window_owner(module) is None else _RetroactiveAdapter
    return kind(module, first_frames=first_frames, receptive_field=receptive_field)


def _takes_frames(step: Any) -> bool:
    """Tell whether a step takes a frame and a state, and nothing else that it needs."""
    if not callable(step):
        return False
    return sum(parameter.default is parameter.empty for parameter in signature(step).parameters.values()) == 2


def _window_owner(module: Any) -> Any:
    """Find the layer that brings a window up to date, and tells which frames are where in it."""
    owners = (module, getattr(module, "attention", None))
    return next((owner for owner in owners if ismethod(getattr(owner, "positions", None))), None)
