"""The adapter that keeps the memory of streams for a module of coadtr, as a ``continual.CoModule`` has to.

coadtr keeps a stream's memory in a value that goes in and comes out; a ``CoModule`` keeps it inside. The adapter does
so for one batch of streams at a time, and turns the axes: frames are ``(B, C, T)`` there, ``(B, T, C)`` in coadtr.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple, cast, get_args

import continual as co
import torch
from continual.module import CALL_MODES
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers import clone_state, state_tensors

__all__ = ["AdapterState", "ContinualAdapter", "FirstFrames", "require_axes"]

FirstFrames = Literal["answered", "silent"]

MODE_NAMES: dict[int, str] = {int(number): name for name, number in CALL_MODES.items()}


class AdapterState(NamedTuple):
    """What an adapter remembers between calls.

    Attributes:
        memory: State of B streams, as the adapted module's ``init_state`` and ``step`` return it.
        frames: Frames taken in since ``clean_state``.
    """

    memory: Any
    frames: int


class ContinualAdapter(co.CoModule, nn.Module):  # type: ignore[misc]
    """A streaming module as a ``CoModule``, made by :func:`as_comodule`.

    ::

        forward         (B, C, T) -> (B, C', T - delay)   whole streams, no memory
        forward_steps   (B, C, T) -> (B, C', <= T)        the next T frames; None while none is answered
        forward_step    (B, C)    -> (B, C')              the next frame; None in the first ``delay`` steps

    The three agree: the answers of ``forward`` are those of ``forward_step`` stacked, whatever the chunks. Gradients
    flow within a call, not from one call to the next.

    Args:
        module: A module with ``init_state``, ``step`` and ``forward``; it is held, not copied.
        first_frames: See :func:`as_comodule`.
        receptive_field: See :func:`as_comodule`.

    Attributes:
        module: The adapted module; the state dict holds its tensors under this name, and no memory.
        receptive_field: Frames that one answer depends on.
        padding: Missing frames that a stream may begin with, as a convolution's padding counts them.
        stride: One.
    """

    def __init__(
        self, module: nn.Module, *, first_frames: FirstFrames = "answered", receptive_field: int | None = None
    ) -> None:
        nn.Module.__init__(self)
        if first_frames not in get_args(FirstFrames):
            raise ConfigError(f"first_frames must be one of {', '.join(get_args(FirstFrames))}, got {first_frames!r}")
        reach = _reach(module) if receptive_field is None else receptive_field
        ahead = getattr(module, "delay", 0)
        if reach <= ahead:
            raise ConfigError(f"receptive_field must be above the delay of {ahead} frames, got {reach}")
        self.module: Any = module
        self.first_frames = first_frames
        self.receptive_field = reach
        self.stride = (1,)
        self.padding = (reach - 1 - ahead if first_frames == "answered" else 0,)
        self._mode = "forward"
        self._state: AdapterState | None = None

    @property
    def delay(self) -> int:
        """First steps of a stream that give no answer."""
        return self.receptive_field - 1 - self.padding[0]

    @property
    def call_mode(self) -> Tensor:
        """What calling the module does: ``forward``, ``forward_steps`` or ``forward_step``."""
        # continual-inference tells modes apart by the identity of these tensors, which no copy keeps: hold the name.
        mode: Tensor = CALL_MODES[self._mode]
        return mode

    @call_mode.setter
    def call_mode(self, mode: str | int | Tensor) -> None:
        name = mode.lower() if isinstance(mode, str) else MODE_NAMES.get(int(mode), "")
        if name not in CALL_MODES:
            raise ConfigError(f"call_mode must be one of {', '.join(CALL_MODES)}, got {mode!r}")
        self._mode = name

    def get_state(self) -> AdapterState | None:
        """Return a copy of the memory, which later steps leave alone; None before the first frame."""
        return None if self._state is None else self._state._replace(memory=clone_state(self._state.memory))

    def set_state(self, state: AdapterState | None) -> None:
        """Go on from a state that :meth:`get_state` returned; it is copied."""
        self._state = None if state is None else state._replace(memory=clone_state(state.memory))

    def clean_state(self) -> None:
        """Forget all streams; the next frame begins new ones, of any batch size."""
        self._state = None

    def reset_rows(self, rows: Tensor) -> None:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again, and leave the others as they are.

        A step answers all rows or none, so a row that begins anew is answered from its first frame on, silent start or
        not.
        """
        if self._state is not None:
            self._state = self._state._replace(memory=self._reset(self._state.memory, rows))

    def forward(self, frames: Tensor) -> Tensor:
        """Answer whole streams, ``(B, C, T)`` to ``(B, C', T - delay)``; the memory is neither read nor changed.

        Raises:
            ShapeError: If ``frames`` is not ``(B, C, T)`` with T above the delay.
        """
        require_axes(frames, 3, "(B, C, T)")
        if frames.shape[2] <= self.delay:
            raise ShapeError(
                f"forward answers after {self.delay} frames, got {tuple(frames.shape)}: pass at least {self.delay + 1} "
                "frames, or have the first ones answered (first_frames='answered')"
            )
        return self._forward(frames.transpose(1, 2)).transpose(1, 2)[:, :, self.delay :]

    def forward_steps(self, frames: Tensor, pad_end: bool = False, update_state: bool = True) -> Tensor | None:  # noqa: ARG002
        """Take in the next T frames of each stream and answer for each.

        Args:
            frames: ``(B, C, T)``, T may be 0.
            pad_end: No effect: an answer waits for no frame that could be padded.
            update_state: Remember the frames; if false, the next call finds the memory as this one did.

        Returns:
            ``(B, C', T)`` less the steps that give no answer; None if that leaves none.

        Raises:
            ShapeError: If ``frames`` is not ``(B, C, T)``, or B differs from the running streams'.
        """
        require_axes(frames, 3, "(B, C, T)")
        if frames.shape[2] == 0:
            return None
        state = self._to_write(len(frames), update_state)
        answers, memory = self._steps(frames.transpose(1, 2), state.memory)
        if update_state:
            self._keep(memory, state.frames + frames.shape[2])
        answers = answers[:, :, max(0, self.delay - state.frames) :]
        return answers if answers.shape[2] else None

    def forward_step(self, frame: Tensor, update_state: bool = True) -> Tensor | None:
        """Take in the next frame of each stream and answer for it.

        Args:
            frame: ``(B, C)``.
            update_state: Remember the frame; if false, the next call finds the memory as this one did.

        Returns:
            ``(B, C')``; None in the first ``delay`` steps.

        Raises:
            ShapeError: If ``frame`` is not ``(B, C)``, or B differs from the running streams'.
        """
        require_axes(frame, 2, "(B, C)")
        state = self._to_write(len(frame), update_state)
        answer, memory = self._step(frame, state.memory)
        if update_state:
            self._keep(memory, state.frames + 1)
        return answer if state.frames >= self.delay else None

    def _forward_step(
        self, frame: Tensor, prev_state: AdapterState | None = None
    ) -> tuple[Tensor | None, AdapterState]:
        """Step a memory that the caller holds (the containers call it by this name)."""
        state = AdapterState(self._init(len(frame)), 0) if prev_state is None else prev_state
        answer, memory = self._step(frame, clone_state(state.memory))
        return (answer if state.frames >= self.delay else None), AdapterState(memory, state.frames + 1)

    def warm_up(self, step_shape: Sequence[int]) -> None:
        """Take in ``delay`` frames of zeros, so that the next step answers; none if the first frame is answered.

        Args:
            step_shape: ``(B, C)``.
        """
        weights = chain(self.parameters(), self.buffers())
        like = next((tensor for tensor in weights if tensor.is_floating_point()), torch.empty(0))
        self.forward_steps(like.new_zeros(step_shape[0], step_shape[1], self.delay))

    def extra_repr(self) -> str:
        """Show how the module lines up with others."""
        return f"first_frames={self.first_frames}, receptive_field={self.receptive_field}, delay={self.delay}"

    def _init(self, streams: int) -> Any:
        return self.module.init_state(streams)

    def _reset(self, memory: Any, rows: Tensor) -> Any:
        return self.module.reset_rows(memory, rows)

    def _forward(self, frames: Tensor) -> Tensor:
        return cast("Tensor", self.module(frames))

    def _step(self, frame: Tensor, memory: Any) -> tuple[Tensor, Any]:
        return cast("tuple[Tensor, Any]", self.module.step(frame, memory))

    def _steps(self, frames: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """Answer ``(B, T, C)``, with the steps along the third dimension of what is returned."""
        if hasattr(self.module, "steps"):
            answers, memory = self.module.steps(frames, memory)
            return answers.transpose(1, 2), memory
        stacked = []
        for frame in frames.unbind(1):
            answer, memory = self._step(frame, memory)
            stacked.append(answer)
            if torch.is_grad_enabled():
                memory = clone_state(memory)
        return torch.stack(stacked, 2), memory

    def _to_write(self, streams: int, update_state: bool) -> AdapterState:
        """Return the memory of so many streams, with storage that a step may write into."""
        state = self._state
        if state is None:
            return AdapterState(self._init(streams), 0)
        tensors = list(state_tensors(state.memory))
        if len(tensors[0]) != streams:
            raise ShapeError(
                f"got frames of {streams} streams while {len(tensors[0])} are running; "
                "call clean_state() before other streams begin"
            )
        # A step writes in place: autograd and tensors made in inference mode need other storage than that in use.
        foreign = not torch.is_inference_mode_enabled() and any(tensor.is_inference() for tensor in tensors)
        if update_state and not torch.is_grad_enabled() and not foreign:
            return state
        return state._replace(memory=clone_state(state.memory))

    def _keep(self, memory: Any, frames: int) -> None:
        self._state = AdapterState(tree_map(lambda t: t.detach() if t.requires_grad else t, memory), frames)

    def _apply(self, fn: Any, recurse: bool = True) -> ContinualAdapter:
        """Convert the memory along with the weights (``to``, ``double``, ``cuda`` and the like end here)."""
        nn.Module._apply(self, fn, recurse)
        if self._state is not None:
            self._state = self._state._replace(memory=tree_map(fn, self._state.memory))
        return self


def _reach(module: nn.Module) -> int:
    """Find how many frames one answer depends on."""
    for owner in (module, getattr(module, "attention", None)):
        for name in ("receptive_field", "window"):
            if isinstance(reach := getattr(owner, name, None), int):
                return reach
    raise ConfigError(f"{type(module).__name__} tells neither receptive_field nor window; pass receptive_field=...")


def require_axes(x: Tensor, dimensions: int, shape: str) -> None:
    """Check the number of axes.

    Raises:
        ShapeError: If there are more or fewer.
    """
    if x.dim() != dimensions:
        raise ShapeError(f"continual-inference's axes are {shape} here, channels second; got {tuple(x.shape)}")
