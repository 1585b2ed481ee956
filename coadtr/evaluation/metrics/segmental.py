"""Edit score and segmental F1: what the action segmentation papers report beside frame-wise accuracy.

A segment is a maximal run of frames with one answer. Here the answers are those that the detector gave as the
frames arrived, nothing is smoothed afterwards, so an online detector is charged for each flicker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from coadtr.errors import ConfigError, DataError, ShapeError
from coadtr.evaluation.metrics.videos import scored_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["SegmentalScores", "Segments", "edit_score", "find_segments", "segmental_f1", "segmental_scores"]

_EDGES = ("starts", "ends")


class Segments(NamedTuple):
    """Hold the S segments of one video in order of time.

    Attributes:
        classes: Class index of each ``(S,)``.
        starts: First frame ``(S,)``.
        ends: Frame after the last ``(S,)``.
    """

    classes: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SegmentalScores:
    """Hold what `segmental_scores` found; None where there is no segment to judge by.

    Attributes:
        edit: Mean of the edit score over the videos that have one, in [0, 1].
        f1: F1 by the least overlap in percent, in [0, 1].
        per_video_edit: Edit score of each video, in the order given (`bootstrap_mean` makes an interval of them).
    """

    edit: float | None
    f1: dict[int, float | None]
    per_video_edit: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, without those of each video."""
        return {"edit": self.edit, "f1": {str(percent): value for percent, value in self.f1.items()}}


def segmental_scores(
    labels: Sequence[NDArray[Any]],
    scores: Sequence[NDArray[Any]],
    *,
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
    overlaps: Sequence[int] = (10, 25, 50),
) -> SegmentalScores:
    """Return the edit score and the segmental F1 of all videos.

    The answer to a frame is the class of its highest score, the ignored class left out; of equal scores the lowest
    index wins. Frames that are not scored or carry the ignored class are dropped from labels and answers before
    segments are made: what lies on both sides of them then touches. Segments of background are left out of both.
    A video without any other segment, in labels and answers, has no edit score.

    Three conventions move the numbers of papers: F1 is of the segments of all videos together, as in the code of
    MS-TCN, and not the mean of the F1 of each video, as in that of Lea et al.; the last segment of a video has its
    last frame, which some published copies of that code drop; and papers on 50 Salads have a vocabulary with
    ``action_start`` and ``action_end``, which count as segments there, where one background class does not here.

    Args:
        labels: Class indices, one array per video ``(T,)``.
        scores: One array per video ``(T, C)``.
        class_names: The C names, each once.
        background: Index of the background class; None if there is none, and then all segments count.
        ignored: Index of the class that is never scored, or None if there is none.
        scored: Which frames the protocol scores, one array per video ``(T,)``; None for all.
        overlaps: Least overlaps in percent, each in 1..100.

    Returns:
        The scores, between 0 and 1 (papers print them in percent).

    Raises:
        ConfigError: An overlap is outside 1..100, or the classes do not fit.
        ShapeError: The arrays do not match.
        DataError: Labels are multi-hot, a label is outside the classes, or a score is nan.

    Source:
        Lea et al., "Temporal Convolutional Networks for Action Segmentation and Detection", CVPR 2017, section 4;
        Farha and Gall, "MS-TCN", CVPR 2019, section 4.

    Example:
        >>> labels, scores = np.array([0, 1, 1, 1]), np.eye(2)[[0, 0, 1, 1]]
        >>> segmental_scores([labels], [scores], class_names=["none", "run"], background=0).to_dict()
        {'edit': 1.0, 'f1': {'10': 1.0, '25': 1.0, '50': 1.0}}
    """
    if any(marks.ndim > 1 for marks in labels):
        raise DataError(
            "labels are multi-hot (T, C): segments of classes that overlap are undefined; give indices (T,)"
        )
    for percent in overlaps:
        if not 1 <= percent <= 100:
            raise ConfigError(f"overlap is {percent} percent; give a value in 1..100, such as 50")
    parts = scored_parts(labels, scores, scored, class_names=class_names, background=background, ignored=ignored)
    pairs = []
    for truth, ranked in parts:
        answers = ranked if ignored is None else np.delete(ranked, ignored, axis=1)
        best = answers.argmax(axis=1)
        if ignored is not None:
            best += best >= ignored
        pairs.append((find_segments(truth, background=background), find_segments(best, background=background)))
    edits = tuple(edit_score(*pair) for pair in pairs)
    known = [edit for edit in edits if edit is not None]
    matches = [_match(*pair) for pair in pairs]
    return SegmentalScores(
        edit=float(np.mean(known)) if known else None,
        f1={percent: _f1(pairs, matches, percent / 100) for percent in overlaps},
        per_video_edit=edits,
    )


def find_segments(classes: NDArray[Any], *, background: int | None = None) -> Segments:
    """Return the maximal runs of one class.

    Args:
        classes: Class index of each frame ``(T,)``.
        background: Index of the class whose runs are left out, or None.

    Returns:
        The segments in order of time; none for no frames.

    Raises:
        ShapeError: ``classes`` is not ``(T,)``.

    Example:
        >>> segments = find_segments(np.array([0, 2, 2, 1]), background=0)
        >>> segments.classes.tolist(), segments.starts.tolist(), segments.ends.tolist()
        ([2, 1], [1, 3], [3, 4])
    """
    if classes.ndim != 1:
        raise ShapeError(f"classes have shape {classes.shape}; give one class index per frame (T,)")
    classes = classes.astype(np.int64)
    edges = np.flatnonzero(np.diff(classes)) + 1
    starts, ends = np.append(0, edges), np.append(edges, classes.size)
    if classes.size == 0:
        starts, ends = starts[:0], ends[:0]
    kept = np.ones(starts.size, np.bool_) if background is None else classes[starts] != background
    return Segments(classes[starts][kept], starts[kept], ends[kept])


def edit_score(truth: Segments, answers: Segments) -> float | None:
    """Return the segmental edit score of one video: whether the right actions come in the right order.

    ``1 - d / max(S, S')`` with d the Levenshtein distance of the two sequences of classes: the least number of
    segments to insert, delete or replace. When segments begin and end does not count.

    Args:
        truth: Segments of the labels, S of them.
        answers: Segments of the answers, S' of them.

    Returns:
        A value in [0, 1]; None if neither has a segment.

    Example:
        >>> truth, answers = (find_segments(np.array(row)) for row in ([1, 1, 2], [1, 3, 2]))
        >>> round(edit_score(truth, answers), 3)
        0.667
    """
    longest = max(truth.classes.size, answers.classes.size)
    if longest == 0:
        return None
    return 1 - _levenshtein(truth.classes, answers.classes) / longest


def segmental_f1(pairs: Sequence[tuple[Segments, Segments]], *, overlap: float) -> float | None:
    """Return the F1 of segments: an answer is right if it overlaps a segment of its class far enough.

    Each answer is compared with the labelled segment of its class that it overlaps best, by intersection over union
    (the earlier of two alike), whether or not another answer has taken that one. It is a true positive if the overlap
    is at least ``overlap`` and no earlier answer has taken the segment, else a false positive; labelled segments that
    nobody took are false negatives. ``F1 = 2 TP / (2 TP + FP + FN)``, counts summed over all videos.

    Args:
        pairs: Segments of labels and of answers, one pair per video.
        overlap: Least intersection over union, in (0, 1].

    Returns:
        A value in [0, 1]; None if no video has a segment.

    Example:
        >>> pair = find_segments(np.array([1, 1, 1, 1])), find_segments(np.array([1, 2, 2, 2]))
        >>> segmental_f1([pair], overlap=0.25), segmental_f1([pair], overlap=0.5)
        (0.6666666666666666, 0.0)
    """
    return _f1(pairs, [_match(*pair) for pair in pairs], overlap)


class _Matches(NamedTuple):
    """Hold the labelled segment of its class that each answer overlaps best, for those answers that meet one."""

    segment: NDArray[np.int64]
    ratio: NDArray[np.float64]


def _match(truth: Segments, answers: Segments) -> _Matches:
    # Segments do not overlap each other, so those that an answer meets lie next to each other.
    first = np.searchsorted(truth.ends, answers.starts, side="right")
    met = np.maximum(np.searchsorted(truth.starts, answers.ends) - first, 0)
    answer = np.repeat(np.arange(met.size), met)
    segment = np.arange(answer.size) + np.repeat(first - np.cumsum(met) + met, met)
    alike = truth.classes[segment] == answers.classes[answer]
    answer, segment = answer[alike], segment[alike]
    starts, ends = (np.stack([getattr(truth, edge)[segment], getattr(answers, edge)[answer]]) for edge in _EDGES)
    ratio = (ends.min(axis=0) - starts.max(axis=0)) / (ends.max(axis=0) - starts.min(axis=0))
    order = np.lexsort((segment, -ratio, answer))
    best = order[np.flatnonzero(np.diff(answer[order], prepend=-1))]
    return _Matches(segment[best], ratio[best])


def _f1(pairs: Sequence[tuple[Segments, Segments]], matches: Sequence[_Matches], overlap: float) -> float | None:
    right = sum(np.unique(found.segment[found.ratio >= overlap]).size for found in matches)
    # TP + FN is the number of labelled segments, TP + FP that of answers.
    segments = sum(truth.classes.size + answers.classes.size for truth, answers in pairs)
    return 2 * right / segments if segments else None


def _levenshtein(first: NDArray[np.int64], second: NDArray[np.int64]) -> int:
    if first.size > second.size:
        first, second = second, first
    columns = np.arange(second.size + 1, dtype=np.int32)
    row, changed = columns.copy(), np.empty_like(columns)
    for index, value in enumerate(first, start=1):
        changed[0] = index
        np.minimum(row[1:] + 1, row[:-1] + (second != value), out=changed[1:])
        changed -= columns
        # Insertions go along the row: min over k <= j of changed[k] + (j - k).
        np.minimum.accumulate(changed, out=row)
        row += columns
    return int(row[-1])
