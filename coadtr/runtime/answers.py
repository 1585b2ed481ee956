"""What a detector returns besides arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from coadtr.errors import CoadtrError

__all__ = ["BatchAnswers", "StreamInfo"]


class StreamInfo(NamedTuple):
    """What is known of a stream.

    Attributes:
        frames_seen: Frames answered since it began, or began anew.
        time: Time of its last frame in seconds, None if that had none.
        masked: Values that were not finite and were replaced.
        missing: Frames that did not come.
        held: How often its last frame was fed again in place of a missing one.
        restarts: How often it began anew after a gap.
    """

    frames_seen: int
    time: float | None
    masked: int
    missing: int
    held: int
    restarts: int


class BatchAnswers(dict[str, "NDArray[np.float32]"]):
    """Scores ``(C,)`` of each stream that was answered, in the order of the frames.

    Attributes:
        errors: What was wrong with the frame of each stream that was not.

    Example:
        >>> answers = BatchAnswers()
        >>> len(answers), answers.errors
        (0, {})
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, CoadtrError] = {}
