"""Metrics under many resamples of the videos at once: what intervals and paired tests are made of.

A resample is a column of multiplicities: how often each video takes part. Counts of true and false answers are
taken once per video, and one matrix product makes them those of all resamples. Counts are whole numbers, exact in
any order of summation, so a seed gives the same values on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import DataError
from coadtr.evaluation.labels import frames_of_class
from coadtr.evaluation.metrics.accuracy import accuracy
from coadtr.evaluation.metrics.videos import scored_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "JoinedFrames",
    "ResampledMetrics",
    "join_scored_frames",
    "resampled_accuracy",
    "resampled_average_precision",
    "resampled_metrics",
]

_CELLS = 2**18  # thresholds x resamples at a time: 2 MB an array, which stays in the cache


@dataclass(frozen=True, kw_only=True)
class JoinedFrames:
    """Hold the scored frames of all videos, and which video each is of.

    Attributes:
        labels: Class indices ``(T,)`` or multi-hot ``(T, C)``.
        scores: Scores ``(T, C)``.
        video: Index of the video of each frame ``(T,)``, 0 to V-1.
        videos: Number V of videos with a scored frame.
    """

    labels: NDArray[Any]
    scores: NDArray[Any]
    video: NDArray[np.int64]
    videos: int


@dataclass(frozen=True, kw_only=True)
class ResampledMetrics:
    """Hold metrics of R resamples; nan where one is undefined.

    Attributes:
        mAP: Mean over the classes that the resample shows ``(R,)``.
        mcAP: The same of the calibrated precision ``(R,)``.
        accuracy: Share of right frames ``(R,)``.
        per_class_AP: ``(R,)`` by the name of each class that occurs in some video.
        per_class_cAP: The same of the calibrated precision.
    """

    mAP: NDArray[np.float64]  # noqa: N815 - the name of the field's literature
    mcAP: NDArray[np.float64]  # noqa: N815
    accuracy: NDArray[np.float64]
    per_class_AP: dict[str, NDArray[np.float64]]  # noqa: N815
    per_class_cAP: dict[str, NDArray[np.float64]]  # noqa: N815


def join_scored_frames(
    labels: Sequence[NDArray[Any]],
    scores: Sequence[NDArray[Any]],
    scored: Sequence[NDArray[np.bool_]] | None = None,
    *,
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
) -> JoinedFrames:
    """Put the scored frames of all videos behind each other.

    Frames that are not ``scored``, and those labelled with the ignored class, are left out; so is a video that
    keeps none.

    Args:
        labels: One array per video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        scores: One array per video ``(T, C)``.
        scored: Which frames count, one array per video ``(T,)``; None for all.
        class_names: The C names, each once.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.

    Returns:
        The frames.

    Raises:
        ConfigError: The classes do not fit.
        ShapeError: The lists or the arrays in them do not match.
        DataError: No frame is scored, a label is outside the classes, or a score is nan.

    Example:
        >>> frames = join_scored_frames([np.array([0, 1]), np.array([1])], [np.eye(2), np.eye(2)[1:]], class_names="ab")
        >>> frames.video.tolist()
        [0, 0, 1]
    """
    parts = scored_parts(labels, scores, scored, class_names=class_names, background=background, ignored=ignored)
    kept = [part for part in parts if part[0].shape[0]]
    if not kept:
        raise DataError(f"no frame is scored in {len(labels)} videos; check the split and the protocol")
    sizes = [marks.shape[0] for marks, _ in kept]
    return JoinedFrames(
        labels=np.concatenate([marks for marks, _ in kept]),
        scores=np.concatenate([ranked for _, ranked in kept]),
        video=np.repeat(np.arange(len(sizes)), sizes),
        videos=len(sizes),
    )


def resampled_metrics(
    frames: JoinedFrames,
    multiplicities: NDArray[Any],
    *,
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
) -> ResampledMetrics:
    """Return mAP, mcAP and accuracy of every resample.

    Classes that a resample does not show are left out of its means; background and ignored class have no AP but
    background counts for accuracy.

    Args:
        frames: What `join_scored_frames` returned.
        multiplicities: How often each video takes part in each resample ``(V, R)``.
        class_names: The C names.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.

    Returns:
        The metrics, nan where undefined.

    Example:
        >>> frames = join_scored_frames([np.array([0, 1]), np.array([1])], [np.eye(2), np.eye(2)[:1]], class_names="ab")
        >>> resampled_metrics(frames, np.array([[1, 2], [1, 0]]), class_names="ab").mAP.round(3).tolist()
        [0.667, 1.0]
    """
    plain: dict[str, NDArray[np.float64]] = {}
    calibrated: dict[str, NDArray[np.float64]] = {}
    for index, name in enumerate(class_names):
        positives = frames_of_class(frames.labels, index)
        if index not in {background, ignored} and positives.any():
            plain[name], calibrated[name] = resampled_average_precision(
                positives, frames.scores[:, index], frames.video, multiplicities
            )
    resamples = multiplicities.shape[1]
    return ResampledMetrics(
        mAP=_mean_of_known(list(plain.values()), resamples),
        mcAP=_mean_of_known(list(calibrated.values()), resamples),
        accuracy=resampled_accuracy(frames, multiplicities, ignored=ignored),
        per_class_AP=plain,
        per_class_cAP=calibrated,
    )


def resampled_average_precision(
    positives: NDArray[np.bool_],
    scores: NDArray[Any],
    video: NDArray[np.int64],
    multiplicities: NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return AP and calibrated AP of one class in every resample of the videos.

    Equal to `average_precision` and `calibrated_average_precision` of the frames that each resample holds, each
    as often as its video is drawn. Equal scores form one threshold. With A (thresholds x videos) the true frames
    at or above each threshold, ``TP = A M``, and FP likewise.

    Args:
        positives: Whether each frame shows the class ``(T,)``; at least one does.
        scores: Score of the class at each frame ``(T,)``.
        video: Index of the video of each frame ``(T,)``.
        multiplicities: How often each video takes part in each resample ``(V, R)``, whole numbers.

    Returns:
        Two arrays ``(R,)`` in (0, 1]; nan where a resample has no positive frame.

    Example:
        >>> positives, scores = np.array([True, False, True]), np.array([0.9, 0.8, 0.1])
        >>> drawn = np.array([[1, 2, 0], [1, 0, 2]])
        >>> resampled_average_precision(positives, scores, np.array([0, 0, 1]), drawn)[0].round(3).tolist()
        [0.833, 1.0, 1.0]
    """
    drawn: NDArray[Any] = np.asarray(multiplicities, dtype=np.float64)
    videos, resamples = drawn.shape
    true_total = np.bincount(video[positives], minlength=videos) @ drawn
    false_total = np.bincount(video[~positives], minlength=videos) @ drawn
    # Positives weigh as much as negatives; without negatives FP is 0, and any weight gives precision 1.
    weight = np.divide(true_total, false_total, out=np.zeros(resamples), where=false_total > 0)
    # Recall grows at the scores of positive frames only; precision is asked for nowhere else.
    thresholds = np.unique(scores[positives])[::-1]
    first = np.searchsorted(-thresholds, -scores)  # the first threshold that a frame reaches
    sums = np.zeros((2, resamples))
    true_before = np.zeros((1, resamples))
    # float32 holds whole numbers below 2**24 exactly, and multiplies them in half the time.
    if (true_total + false_total).max() < 2**24:
        drawn = drawn.astype(np.float32)
    true_frames, false_frames = (_Counts(first[chosen], video[chosen], videos) for chosen in (positives, ~positives))
    rows = max(1, _CELLS // resamples)
    for start in range(0, thresholds.size, rows):
        stop = min(start + rows, thresholds.size)
        true, false = (_product(counts.until(start, stop), drawn) for counts in (true_frames, false_frames))
        gained = np.diff(true, axis=0, prepend=true_before)
        true_before = true[-1:].copy()
        gained *= true
        tiny = np.finfo(np.float64).tiny  # a threshold above all frames of a resample: 0 / 0, and nothing gained
        sums[0] += np.sum(gained / np.maximum(true + false, tiny), axis=0)
        false *= weight
        false += true
        sums[1] += np.sum(gained / np.maximum(false, tiny), axis=0)
    return _ratio(sums[0], true_total), _ratio(sums[1], true_total)


def resampled_accuracy(
    frames: JoinedFrames, multiplicities: NDArray[Any], *, ignored: int | None = None
) -> NDArray[np.float64]:
    """Return the share of right frames of every resample, as `accuracy`.

    Args:
        frames: What `join_scored_frames` returned.
        multiplicities: How often each video takes part in each resample ``(V, R)``.
        ignored: Index of the class that is never scored, or None if there is none.

    Returns:
        Values in [0, 1] ``(R,)``; nan where no frame has a label.

    Example:
        >>> frames = join_scored_frames([np.array([0, 1]), np.array([1])], [np.eye(2), np.eye(2)[:1]], class_names="ab")
        >>> resampled_accuracy(frames, np.array([[1, 2, 0], [1, 0, 2]])).round(3).tolist()
        [0.667, 1.0, 0.0]
    """
    right, counted = np.zeros(frames.videos), np.zeros(frames.videos)
    ends = np.cumsum(np.bincount(frames.video, minlength=frames.videos))[:-1]
    parts = zip(np.split(frames.labels, ends), np.split(frames.scores, ends), strict=True)
    for index, (labels, scores) in enumerate(parts):
        counted[index] = labels.shape[0] if labels.ndim == 1 else labels.any(axis=1).sum()
        if counted[index]:
            right[index] = np.rint(accuracy(labels, scores, ignored=ignored) * counted[index])
    return _ratio(right @ multiplicities, counted @ multiplicities)


class _Counts:
    """Count frames at or above each threshold by video, in blocks of thresholds from the highest down."""

    def __init__(self, first: NDArray[np.int64], video: NDArray[np.int64], videos: int) -> None:
        order = np.argsort(first, kind="stable")
        self.first, self.video, self.videos = first[order], video[order], videos
        self.before = np.zeros(videos, dtype=np.int64)

    def until(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return counts ``(stop - start, V)``; blocks have to follow each other from 0 on."""
        low, high = np.searchsorted(self.first, [start, stop])
        cells = (self.first[low:high] - start) * self.videos + self.video[low:high]
        counts = np.bincount(cells, minlength=(stop - start) * self.videos).reshape(stop - start, self.videos)
        counts[0] += self.before
        np.cumsum(counts, axis=0, out=counts)
        self.before = counts[-1].copy()
        return counts


def _product(counts: NDArray[np.int64], drawn: NDArray[Any]) -> NDArray[np.float64]:
    product: NDArray[np.float64] = (counts.astype(drawn.dtype) @ drawn).astype(np.float64)
    return product


def _mean_of_known(values: list[NDArray[np.float64]], resamples: int) -> NDArray[np.float64]:
    if not values:
        return np.full(resamples, np.nan)
    stacked = np.stack(values)
    known = ~np.isnan(stacked)
    return _ratio(np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0))


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    """Divide, nan where there is nothing to divide by."""
    result = np.full(above.shape, np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result
