"""Streams of random frames to measure a step on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from coadtr.errors import ConfigError
from coadtr.evaluation.answering import answering, placement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coadtr.types import Detector

__all__ = ["RandomStreams", "check_timing", "computing_threads"]


class RandomStreams:
    """B streams that see the same random frame again and again, on the model's device.

    Args:
        model: A detector.
        batch_size: Streams B.
    """

    def __init__(self, model: Detector[Any], batch_size: int = 1) -> None:
        self.model = model
        self.device, dtype = placement(model)
        dtype = getattr(model, "input_dtype", dtype)
        # A generator of its own: measuring must not move the global one.
        source = torch.Generator().manual_seed(0)
        self.frame = torch.randn(batch_size, model.input_dim, generator=source).to(self.device, dtype)
        with answering(model):
            self.state = model.init_state(batch_size)

    def step(self, frame: torch.Tensor | None = None) -> torch.Tensor:
        """Take one frame of each stream, ``(B, D)``; the random one if none is given."""
        logits, self.state = self.model.step(self.frame if frame is None else frame, self.state)
        return logits

    def warm(self, extra: int) -> None:
        """Fill the window, and run so many steps more."""
        with answering(self.model):
            for _ in range(self.model.window + extra):
                self.step()
            self.wait()

    def wait(self) -> None:
        """Wait until an accelerator (CUDA, MPS, XPU, ...) is done."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)


def check_timing(*, warmup: int, steps: int, threads: int | None) -> None:
    """Refuse settings by which nothing can be timed.

    Raises:
        ConfigError: ``warmup`` is negative, or ``steps`` or ``threads`` is below 1.
    """
    if steps < 1 or warmup < 0 or (threads is not None and threads < 1):
        raise ConfigError(
            f"steps={steps}, warmup={warmup}, threads={threads}; "
            "time at least 1 step, with warmup >= 0 and threads >= 1 (or None)"
        )


@contextmanager
def computing_threads(threads: int | None) -> Iterator[None]:
    """Let torch compute with so many threads, as set now if None, and put the number back afterwards.

    Example:
        >>> with computing_threads(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
