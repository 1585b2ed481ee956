"""Per-frame metrics of online action detection, as pure functions on arrays.

Frames are ranked by score over the whole test set, each class on its own. Equal scores form one threshold, so
no value here depends on the order of the frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import DataError, ShapeError
from coadtr.evaluation.labels import check_classes, check_labels, frames_of_class

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "average_precision",
    "calibrated_average_precision",
    "mean_average_precision",
    "per_frame_average_precision",
    "precision_against",
]


def average_precision(positives: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Return the average precision of one class.

    AP is the sum over distinct thresholds n, from the highest score down, of ``(R_n - R_{n-1}) P_n``, with
    precision P and recall R; nothing is interpolated. Equal to scikit-learn's ``average_precision_score``.

    Args:
        positives: Whether each frame shows the class ``(T,)``.
        scores: Score of the class at each frame ``(T,)``, higher is surer; only their order counts.

    Returns:
        A value in (0, 1]; the share of positive frames for constant scores, 1 for a perfect ranking.

    Raises:
        ShapeError: The two arrays are not one-dimensional and equally long.
        DataError: No frame is positive (AP is undefined), or a score is nan.

    Example:
        >>> average_precision(np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1]))
        0.8333333333333333
    """
    return _weighted_average_precision(positives, scores, calibrated=False)


def calibrated_average_precision(positives: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Return the calibrated average precision of one class: AP as if half of the frames were positive.

    Precision is replaced by ``w TP / (w TP + FP)`` with w the number of negative frames over that of positive
    ones, so classes of different prevalence compare. Equal scores form one threshold, as for
    `average_precision`; that makes it the AP of a test set in which each positive frame weighs w.

    Args:
        positives: Whether each frame shows the class ``(T,)``.
        scores: Score of the class at each frame ``(T,)``, higher is surer; only their order counts.

    Returns:
        A value in (0, 1]; 0.5 for constant scores, 1 for a perfect ranking or where no frame is negative.

    Raises:
        ShapeError: The two arrays are not one-dimensional and equally long.
        DataError: No frame is positive (AP is undefined), or a score is nan.

    Source:
        De Geest et al., "Online Action Detection", ECCV 2016, section 4.

    Example:
        >>> calibrated_average_precision(np.array([True, False, False, False]), np.full(4, 0.2))
        0.5
    """
    return _weighted_average_precision(positives, scores, calibrated=True)


def _weighted_average_precision(positives: NDArray[np.bool_], scores: NDArray[Any], *, calibrated: bool) -> float:
    positives = np.asarray(positives, dtype=np.bool_)
    scores = np.asarray(scores, dtype=np.float64)
    if positives.ndim != 1 or positives.shape != scores.shape:
        raise ShapeError(
            f"positives {positives.shape} and scores {scores.shape} must both be (T,), one value per frame"
        )
    if np.isnan(scores).any():
        frame = int(np.flatnonzero(np.isnan(scores))[0])
        raise DataError(f"the score at frame {frame} is nan; a score must be a number to be ranked")
    total = int(positives.sum())
    if total == 0:
        raise DataError(f"none of {positives.size} frames is positive: AP is undefined, leave the class out")
    weight = (positives.size - total) / total if calibrated else 1.0
    if weight == 0.0:
        return 1.0  # no negative frame: every ranking is perfect, and w TP / (w TP + FP) would be 0 / 0
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    # A threshold lies at the last frame of each run of equal scores.
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    true = np.cumsum(positives[order])[ends]
    false = ends + 1 - true
    precision = weight * true / (weight * true + false)
    return float(np.sum(np.diff(true, prepend=0) * precision) / total)


def precision_against(positive: NDArray[Any], negative: NDArray[Any], *, calibrated: bool = False) -> float | None:
    """Return the (calibrated) AP of positive scores against negative ones that are sorted already.

    The value of `average_precision`, up to rounding: recall moves at positive scores only, so the negative ones
    are sorted once and serve for several sets of positive ones.

    Args:
        positive: Scores of the positive frames, in any order.
        negative: Scores of the negative frames, ascending.
        calibrated: Return calibrated AP instead.

    Returns:
        A value in (0, 1]; None if there is no positive frame.

    Example:
        >>> precision_against(np.array([0.9, 0.7]), np.array([0.1, 0.8]))
        0.8333333333333333
    """
    if positive.size == 0:
        return None
    weight = negative.size / positive.size if calibrated else 1.0
    if weight == 0.0:
        return 1.0  # no negative frame: every ranking is perfect
    threshold, count = np.unique(positive, return_counts=True)
    true = np.cumsum(count[::-1])[::-1]
    false = negative.size - np.searchsorted(negative, threshold, side="left")
    return float(np.sum(count * (weight * true / (weight * true + false))) / positive.size)


def per_frame_average_precision(
    labels: NDArray[Any],
    scores: NDArray[Any],
    *,
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    calibrated: bool = False,
) -> dict[str, float]:
    """Return the average precision of every class that occurs, over all frames given.

    Background and ignored class get no value. Frames labelled with the ignored class count neither as
    positive nor as negative. A class that no remaining frame shows is left out: its AP is undefined, not
    zero.

    Args:
        labels: Class indices ``(T,)`` or multi-hot ``(T, C)``.
        scores: Scores ``(T, C)``.
        class_names: The C names, each once.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        calibrated: Return `calibrated_average_precision` instead.

    Returns:
        AP by class name, in the order of ``class_names``.

    Raises:
        ShapeError: ``scores`` is not ``(T, C)``, or ``labels`` do not fit it.
        ConfigError: A class name occurs twice, or a class index is outside 0..C-1.
        DataError: A label is outside the classes, or a score is nan.

    Example:
        >>> scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]])
        >>> names = ["none", "run", "jump"]
        >>> per_frame_average_precision(np.array([0, 1, 1]), scores, class_names=names, background=0)
        {'run': 1.0}
    """
    check_classes(class_names, background=background, ignored=ignored)
    if scores.ndim != 2 or scores.shape[1] != len(class_names) or scores.shape[0] != labels.shape[0]:
        raise ShapeError(
            f"scores have shape {scores.shape}; expected ({labels.shape[0]}, {len(class_names)}), "
            "one row per label and one column per class name"
        )
    check_labels(labels, len(class_names))
    if ignored is not None:
        kept = ~frames_of_class(labels, ignored)
        labels, scores = labels[kept], scores[kept]
    value = calibrated_average_precision if calibrated else average_precision
    result: dict[str, float] = {}
    for index, name in enumerate(class_names):
        if index not in {background, ignored}:
            positives = frames_of_class(labels, index)
            if positives.any():
                result[name] = value(positives, scores[:, index])
    return result


def mean_average_precision(per_class: Mapping[str, float]) -> float:
    """Return the unweighted mean over the classes that have a value.

    Args:
        per_class: AP (or calibrated AP) by class name, from `per_frame_average_precision`.

    Returns:
        mAP (or mcAP) in (0, 1].

    Raises:
        DataError: No class has a value.

    Example:
        >>> mean_average_precision({"run": 1.0, "jump": 0.5})
        0.75
    """
    if not per_class:
        raise DataError("no class has a positive frame: mAP is undefined; score videos that show an action")
    return float(np.mean(list(per_class.values())))
