"""What a replay yields: the raw answers of a detector for one video, beside its labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError, DataError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["VideoScores", "probabilities"]


@dataclass(frozen=True)
class VideoScores:
    """Hold the answers of a detector to every frame of one video.

    The logits are kept, not the probabilities: one softmax, in one place (`probabilities`), then makes the
    scores of every metric, and a stored replay can be evaluated again to the same last digit.

    Attributes:
        name: Name of the video.
        logits: Logits ``(T, C)``, float32 (float64 if the model answers so).
        labels: Class indices ``(T,)`` or multi-hot ``(T, C)``.

    Raises:
        ShapeError: The logits are not ``(T, C)``, or the labels are not as many.
        DataError: A logit is not finite.

    Example:
        >>> VideoScores("v", np.zeros((3, 2)), np.array([0, 1, 0])).probabilities()[0].tolist()
        [0.5, 0.5]
    """

    name: str
    logits: NDArray[Any]
    labels: NDArray[Any]

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

    def probabilities(self, ignored: int | None = None) -> NDArray[np.float64]:
        """Return the scores ``(T, C)``: softmax with the ignored class left out."""
        return probabilities(self.logits, ignored)


def probabilities(logits: NDArray[Any], ignored: int | None = None) -> NDArray[np.float64]:
    """Turn logits into scores: a softmax over all classes but the ignored one, whose score is 0.

    Computed in float64: in float32 sure answers round to 1 and become ties that the logits did not have.

    Args:
        logits: Logits ``(..., C)``.
        ignored: Index of the class that is never scored, or None if there is none.

    Returns:
        Scores ``(..., C)``, each row sums to 1.

    Raises:
        ConfigError: ``ignored`` is not one of the classes, or the only one.

    Example:
        >>> probabilities(np.array([0.0, 0.0, 5.0]), ignored=2).tolist()
        [0.5, 0.5, 0.0]
    """
    classes = logits.shape[-1]
    if ignored is not None and (not 0 <= ignored < classes or classes == 1):
        raise ConfigError(
            f"ignored class index {ignored} does not leave a class of {classes}; give another, or None"
        )
    scores = logits.astype(np.float64)
    if ignored is not None:
        scores[..., ignored] = -np.inf
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores
