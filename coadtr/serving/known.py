"""Frames that were received, and what the server knows of the streams that took them."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import deque

    import numpy as np
    from numpy.typing import NDArray

    from coadtr.runtime import EventDecoder

__all__ = ["Frame", "Known"]


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame that was received.

    Attributes:
        stream: Name of its stream.
        values: ``(D,)``.
        time: Its time in seconds; None on a stream whose frames bring none.
        received: When it came, in seconds of `time.monotonic`.
    """

    stream: str
    values: NDArray[np.float32]
    time: float | None = None
    received: float = 0.0


@dataclass(eq=False)
class Known:
    """What the server knows of a stream beside the detector's memory.

    Attributes:
        timed: Whether its frames bring their times.
        decoder: Makes its events.
        answers: The texts of its last answers.
        frames: Frames taken.
        time: Time of the last one in seconds; None before the first.
        restarts: How often a gap has made the detector begin it anew.
        used: When it was last connected, in seconds of `time.monotonic`.
    """

    timed: bool
    decoder: EventDecoder
    answers: deque[str]
    frames: int = 0
    time: float | None = None
    restarts: int = 0
    used: float = field(default_factory=monotonic)

    def answers_since(self, number: int) -> list[str]:
        """Return the kept answers to the frames from ``number`` on."""
        first = self.frames - len(self.answers)
        return [text for index, text in enumerate(self.answers, first) if index >= number]
