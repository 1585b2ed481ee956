"""Check labels and scores that come by video, keep the frames that count, and find the instances in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import DataError, ShapeError
from coadtr.evaluation.labels import check_classes, check_labels, frames_of_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "JoinedVideos",
    "check_rates",
    "instances",
    "join_videos",
    "kept_frames",
    "means_over_classes",
    "scored_parts",
]


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
    kept = kept_frames(labels, num_classes=len(class_names), ignored=ignored, scored=scored)
    _check_scores(labels, scores, len(class_names))
    return [(marks[mask], ranked[mask]) for marks, ranked, mask in zip(labels, scores, kept, strict=True)]


def _check_scores(labels: Sequence[NDArray[Any]], scores: Sequence[NDArray[Any]], num_classes: int) -> None:
    if len(scores) != len(labels):
        raise ShapeError(f"{len(scores)} videos have scores but {len(labels)} have labels; give both for every video")
    for video, (truth, answers) in enumerate(zip(labels, scores, strict=True)):
        if answers.shape != (truth.shape[0], num_classes):
            expected = (truth.shape[0], num_classes)
            raise ShapeError(f"video {video}: scores have shape {answers.shape}; expected {expected}, a row per label")
        unknown = np.isnan(answers).any(axis=1)
        if unknown.any():
            frame = int(np.flatnonzero(unknown)[0])
            raise DataError(f"video {video}: a score at frame {frame} is nan; a score must be a number to be ranked")


def means_over_classes(per_class: dict[str, tuple[float | None, ...]], size: int) -> tuple[float | None, ...]:
    """Return the unweighted mean over classes at each of ``size`` places, None where no class has a value.

    Example:
        >>> means_over_classes({"run": (1.0, None), "jump": (0.5, None)}, 2)
        (0.75, None)
    """
    columns = [[values[place] for values in per_class.values()] for place in range(size)]
    known = [[value for value in column if value is not None] for column in columns]
    return tuple(float(np.mean(column)) if column else None for column in known)


def instances(shown: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the maximal runs of true frames begin, and where they end (exclusive).

    Args:
        shown: Truth per frame ``(T,)``.

    Example:
        >>> [edge.tolist() for edge in instances(np.array([True, True, False, True]))]
        [[0, 3], [2, 4]]
    """
    edges = np.diff(shown.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


@dataclass(frozen=True, kw_only=True)
class JoinedVideos:
    """Hold all videos as one row of S frames, an empty frame behind each, so that no run spans two videos.

    Attributes:
        labels: Class indices ``(S,)``, -1 at the empty frames, or multi-hot ``(S, C)``.
        scores: Scores ``(S, C)``, minus infinity at the empty frames.
        kept: Frames ``(S,)`` that count: scored, and not labelled with the ignored class.
    """

    labels: NDArray[Any]
    scores: NDArray[np.float64]
    kept: NDArray[np.bool_]


def join_videos(
    labels: Sequence[NDArray[Any]],
    scores: Sequence[NDArray[Any]],
    *,
    num_classes: int,
    ignored: int | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
) -> JoinedVideos:
    """Check the videos and put them behind each other.

    Args:
        labels: One entry per video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        scores: One entry per video: scores ``(T, C)``.
        num_classes: Number of classes C.
        ignored: Index of the class that is never scored, or None if there is none.
        scored: One entry per video: frames ``(T,)`` that the protocol scores. None: all.

    Raises:
        ShapeError: The videos of the arguments differ in number or length, or have another number of classes.
        DataError: A label is outside the classes, videos differ in the form of labels, or a score is nan.

    Example:
        >>> join_videos([np.array([0, 1])], [np.eye(2)], num_classes=2).kept.tolist()
        [True, True, False]
    """
    kept = kept_frames(labels, num_classes=num_classes, ignored=ignored, scored=scored)
    _check_scores(labels, scores, num_classes)
    empty = np.full((1, num_classes), -np.inf)
    blank = np.zeros((1, num_classes), np.int64) if labels and labels[0].ndim == 2 else np.full(1, -1)
    none = np.zeros(1, np.bool_)
    return JoinedVideos(
        labels=np.concatenate([part for truth in labels for part in (truth.astype(np.int64), blank)] or [blank]),
        scores=np.concatenate([part for answers in scores for part in (answers, empty)] or [empty], dtype=np.float64),
        kept=np.concatenate([part for mask in kept for part in (mask, none)] or [none]),
    )


def kept_frames(
    labels: Sequence[NDArray[Any]],
    *,
    num_classes: int,
    ignored: int | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
) -> list[NDArray[np.bool_]]:
    """Check the labels of all videos and return which frames count: scored, and not labelled as ignored.

    Args:
        labels: One entry per video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        num_classes: Number of classes C.
        ignored: Index of the class that is never scored, or None if there is none.
        scored: One entry per video: frames ``(T,)`` that the protocol scores. None: all.

    Raises:
        ShapeError: Labels fit neither form, or ``scored`` does not fit the labels.
        DataError: A label is outside the classes, or videos differ in the form of labels.

    Example:
        >>> kept_frames([np.array([0, 2, 1])], num_classes=3, ignored=2)[0].tolist()
        [True, False, True]
    """
    if scored is not None and len(scored) != len(labels):
        raise ShapeError(f"scored has {len(scored)} videos but labels have {len(labels)}; give one mask per video")
    if len({truth.ndim for truth in labels}) > 1:
        raise DataError("some videos have class indices (T,) and some multi-hot labels (T, C); use one form")
    kept: list[NDArray[np.bool_]] = []
    for video, truth in enumerate(labels):
        try:
            check_labels(truth, num_classes)
        except (DataError, ShapeError) as error:
            raise type(error)(f"video {video}: {error}") from error
        mask = np.ones(truth.shape[0], np.bool_) if scored is None else np.asarray(scored[video], np.bool_)
        if mask.shape != truth.shape[:1]:
            raise ShapeError(f"video {video}: scored has shape {mask.shape}; expected ({truth.shape[0]},), as labels")
        kept.append(mask if ignored is None else mask & ~frames_of_class(truth, ignored))
    return kept


def check_rates(rates_hz: Sequence[float], videos: int) -> None:
    """Refuse rates that are not one positive number of frames a second per video.

    Args:
        rates_hz: Frames a second, one value per video.
        videos: Number of videos.

    Raises:
        ShapeError: There are not as many rates as videos.
        DataError: A rate is not a positive, finite number.

    Example:
        >>> check_rates([5.0, 4.0], 2)
    """
    if len(rates_hz) != videos:
        raise ShapeError(f"{len(rates_hz)} rates for {videos} videos; give one rate in Hz per video")
    for video, rate in enumerate(rates_hz):
        if not (np.isfinite(rate) and rate > 0):
            raise DataError(f"video {video}: the rate is {rate} Hz; give a positive number of frames a second")
