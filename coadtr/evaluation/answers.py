"""What a replay yields: the raw answers of a detector for one video, beside its labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import DataError, ShapeError
from coadtr.scoring import Head, probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["VideoAnswers", "probabilities"]


@dataclass(frozen=True)
class VideoAnswers:
    """Hold the answers of a detector to every frame of one video.

    The logits are kept, not the probabilities: one softmax, in one place (`probabilities`), then makes the
    scores of every metric. A file of scores (`coadtr.data.write_scores`) holds those probabilities in float64,
    so that a stored replay can be evaluated again to the same last digit.

    Attributes:
        name: Name of the video.
        logits: Logits ``(T, C)``, float32 (float64 if the model answers so).
        labels: Class indices ``(T,)`` or multi-hot ``(T, C)``.
        rate_hz: Frames a second, or None if unknown.
        ahead: Logits ``(T, K, C)`` for the K frames after each, or None.

    Raises:
        ShapeError: The logits are not ``(T, C)``, or the labels are not as many.
        DataError: A logit is not finite.

    Example:
        >>> VideoAnswers("v", np.zeros((3, 2)), np.array([0, 1, 0])).probabilities()[0].tolist()
        [0.5, 0.5]
    """

    name: str
    logits: NDArray[Any]
    labels: NDArray[Any]
    rate_hz: float | None = None
    ahead: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.logits.ndim != 2 or self.labels.shape[:1] != self.logits.shape[:1]:
            raise ShapeError(
                f"video {self.name!r}: logits {self.logits.shape} and labels {self.labels.shape}; "
                "expected (T, C), and one label per frame"
            )
        finite = np.isfinite(self.logits).all(axis=1)
        if not finite.all():
            raise DataError(
                f"video {self.name!r}: the answer to frame {int(np.flatnonzero(~finite)[0])} is not finite; "
                "check the weights of the model, or replay in a wider dtype"
            )

    def probabilities(self, ignored: int | None = None, *, head: Head = "softmax") -> NDArray[np.float64]:
        """Return the scores ``(T, C)``: softmax with the ignored class left out, or sigmoids for multi-label heads."""
        return probabilities(self.logits, ignored, head=head)
