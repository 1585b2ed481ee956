"""Average precision by portion of the action: how well an action is seen in its first tenth, its second, and so on.

The checks and the joining of videos that the metrics over instances share stand here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError, DataError, ShapeError
from coadtr.evaluation.labels import check_classes, check_labels, frames_of_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "JoinedVideos",
    "PortionPrecision",
    "check_rates",
    "instances",
    "join_videos",
    "kept_frames",
    "means_over_classes",
    "portion_average_precision",
    "precision_against",
]


@dataclass(frozen=True, kw_only=True)
class PortionPrecision:
    """Hold average precision by portion of the action.

    Attributes:
        portions: Number of portions P.
        calibrated: Whether the values are calibrated AP.
        per_class: P values in (0, 1] by class name; None for a portion of which no frame counts.
        mean: P unweighted means over the classes that have a value; None where none has.
    """

    portions: int
    calibrated: bool
    per_class: dict[str, tuple[float | None, ...]]
    mean: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: the means under ``mAP`` or ``mcAP``, and ``per_class``."""
        return {
            "mcAP" if self.calibrated else "mAP": list(self.mean),
            "per_class": {name: list(values) for name, values in self.per_class.items()},
        }


def portion_average_precision(
    labels: Sequence[NDArray[Any]],
    scores: Sequence[NDArray[Any]],
    *,
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
    portions: int = 10,
    calibrated: bool = False,
) -> PortionPrecision:
    """Return the average precision of every class that occurs, by portion of the action.

    An instance is a maximal run of frames that show a class, within one video and found before any frame is
    left out. Frame i = 0..n-1 of an instance of n frames belongs to portion ``floor(P i / n)``. So its first
    frame belongs to portion 0, and an instance of fewer than P frames has no frame in some portions: it says
    nothing about them. For portion k, positive are the frames in portion k of all instances of the class,
    negative all frames that do not show it; its frames in other portions are left out. Then as in
    `average_precision` and `calibrated_average_precision`; w is taken from the positives of the portion.

    Frames labelled with the ignored class, and frames that are not scored, count neither as positive nor as
    negative. Background and ignored class get no value; a class that no remaining frame shows is left out.

    Args:
        labels: One entry per video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        scores: One entry per video: scores ``(T, C)``, higher is surer.
        class_names: The C names, each once.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        scored: One entry per video: frames ``(T,)`` that the protocol scores. None: all.
        portions: Number of portions P; 10 gives tenths.
        calibrated: Return calibrated AP instead.

    Returns:
        P values in (0, 1] per class, and their means.

    Raises:
        ConfigError: ``portions`` is below 1, a class name occurs twice, or a class index is outside 0..C-1.
        ShapeError: The videos of the arguments differ in number or length, or have another number of classes.
        DataError: A label is outside the classes, videos differ in the form of labels, or a score is nan.

    Source:
        De Geest et al., "Online Action Detection", ECCV 2016, section 4; Xu et al., "Temporal Recurrent
        Networks for Online Action Detection", ICCV 2019.

    Example:
        >>> labels, scores = np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9], [0.5, 0.5]])
        >>> portion_average_precision([labels], [scores], class_names=["none", "run"], background=0, portions=2).mean
        (0.5, 1.0)
    """
    check_classes(class_names, background=background, ignored=ignored)
    if portions < 1:
        raise ConfigError(f"portions is {portions}; give at least 1 (10 for tenths of the action)")
    videos = join_videos(labels, scores, num_classes=len(class_names), ignored=ignored, scored=scored)
    per_class: dict[str, tuple[float | None, ...]] = {}
    for index, name in enumerate(class_names):
        shown = frames_of_class(videos.labels, index)
        if index in {background, ignored} or not (shown & videos.kept).any():
            continue
        first, end = instances(shown)
        length = np.repeat(end - first, end - first)
        place = np.flatnonzero(shown) - np.repeat(first, end - first)
        counted = videos.kept[shown]
        portion = (portions * place // length)[counted]
        positive = videos.scores[shown, index][counted]
        negative = np.sort(videos.scores[~shown & videos.kept, index])
        per_class[name] = tuple(
            precision_against(positive[portion == part], negative, calibrated=calibrated) for part in range(portions)
        )
    return PortionPrecision(
        portions=portions,
        calibrated=calibrated,
        per_class=per_class,
        mean=means_over_classes(per_class, portions),
    )


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
    if len(scores) != len(labels):
        raise ShapeError(f"{len(scores)} videos have scores but {len(labels)} have labels; give both for every video")
    for video, (truth, answers) in enumerate(zip(labels, scores, strict=True)):
        if answers.shape != (truth.shape[0], num_classes):
            expected = (truth.shape[0], num_classes)
            raise ShapeError(f"video {video}: scores have shape {answers.shape}; expected {expected}, a row per label")
        if np.isnan(answers).any():
            frame = int(np.flatnonzero(np.isnan(answers).any(axis=1))[0])
            raise DataError(f"video {video}: a score at frame {frame} is nan; a score must be a number to be ranked")
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
