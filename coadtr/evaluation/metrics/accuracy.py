"""Share of frames that are answered right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ShapeError
from coadtr.evaluation.labels import check_classes, check_labels, frames_of_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["accuracy"]


def accuracy(labels: NDArray[Any], scores: NDArray[Any], *, ignored: int | None = None) -> float:
    """Return the share of frames whose highest score is that of a class they show.

    All classes can be answered, background too, but not the ignored one; frames labelled with it are left
    out, and so are multi-hot frames that show no class (no answer would be right). Of equal scores the lowest
    index wins.

    Args:
        labels: Class indices ``(T,)`` or multi-hot ``(T, C)``.
        scores: Scores ``(T, C)``.
        ignored: Index of the class that is never scored, or None if there is none.

    Returns:
        A value in [0, 1]; nan if no frame remains.

    Raises:
        ShapeError: ``scores`` is not ``(T, C)``, or ``labels`` do not fit it.
        DataError: A label is outside the classes.

    Example:
        >>> accuracy(np.array([0, 1]), np.array([[0.9, 0.1], [0.7, 0.3]]))
        0.5
    """
    if scores.ndim != 2 or scores.shape[0] != labels.shape[0]:
        raise ShapeError(f"scores have shape {tuple(scores.shape)}; expected ({labels.shape[0]}, C), one row per label")
    check_labels(labels, scores.shape[1])
    check_classes([str(index) for index in range(scores.shape[1])], ignored=ignored)
    kept = np.ones(labels.shape[0], dtype=np.bool_) if labels.ndim == 1 else labels.any(axis=1)
    if ignored is not None:
        kept &= ~frames_of_class(labels, ignored)
        scores = scores.copy()
        scores[:, ignored] = -np.inf
    if not kept.any():
        return float("nan")
    answers = scores[kept].argmax(axis=1)
    shown = labels[kept]
    right = shown == answers if shown.ndim == 1 else shown[np.arange(answers.size), answers]
    return float(np.mean(right))
