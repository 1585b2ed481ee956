"""Check labels and scores that come by video, and keep the frames that count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import DataError, ShapeError
from coadtr.evaluation.labels import check_classes, check_labels, frames_of_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["scored_parts"]


def scored_parts(
    labels: Sequence[NDArray[Any]],
    scores: Sequence[NDArray[Any]],
    scored: Sequence[NDArray[np.bool_]] | None = None,
    *,
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return labels and scores of each video without the frames that do not count.

    Frames that are not ``scored``, and those labelled with the ignored class, are left out; a video may keep none.

    Args:
        labels: One array per video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        scores: One array per video ``(T, C)``.
        scored: Which frames count, one array per video ``(T,)``; None for all.
        class_names: The C names, each once.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.

    Returns:
        One pair of labels and scores per video.

    Raises:
        ConfigError: The classes do not fit.
        ShapeError: The lists or the arrays in them do not match.
        DataError: A label is outside the classes, videos differ in the form of labels, or a score is nan.

    Example:
        >>> scored_parts([np.array([0, 1])], [np.eye(2)], class_names="ab", ignored=1)
        [(array([0]), array([[1., 0.]]))]
    """
    check_classes(class_names, background=background, ignored=ignored)
    if len(labels) != len(scores) or (scored is not None and len(scored) != len(labels)):
        counts = f"{len(labels)} of labels, {len(scores)} of scores"
        raise ShapeError(f"{counts}{'' if scored is None else f', {len(scored)} of scored'}: give one array per video")
    if len({marks.ndim for marks in labels}) > 1:
        raise DataError("some videos have class indices (T,) and some multi-hot labels (T, C); use one form")
    parts = []
    for index, (marks, ranked) in enumerate(zip(labels, scores, strict=True)):
        kept = np.ones(marks.shape[:1], np.bool_) if scored is None else np.asarray(scored[index], dtype=np.bool_)
        _check_video(index, marks, ranked, kept, len(class_names))
        if ignored is not None:
            kept = kept & ~frames_of_class(marks, ignored)
        parts.append((marks[kept], ranked[kept]))
    return parts


def _check_video(
    index: int, labels: NDArray[Any], scores: NDArray[Any], kept: NDArray[np.bool_], num_classes: int
) -> None:
    if scores.shape != (*labels.shape[:1], num_classes) or kept.shape != labels.shape[:1]:
        raise ShapeError(
            f"video {index}: labels {labels.shape}, scores {scores.shape}, scored {kept.shape}; "
            f"give one row of scores per label and one column for each of {num_classes} classes"
        )
    try:
        check_labels(labels, num_classes)
    except (DataError, ShapeError) as error:
        raise type(error)(f"video {index}: {error}") from error
    unknown = np.isnan(scores).any(axis=1)
    if unknown.any():
        frame = int(np.flatnonzero(unknown)[0])
        raise DataError(f"video {index}: a score at frame {frame} is nan; a score must be a number to be ranked")
