"""Detection delay: how long after its start an action is noticed, at a fixed rate of false alarms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError
from coadtr.evaluation.labels import check_classes, frames_of_class
from coadtr.evaluation.metrics.videos import check_rates, instances, join_videos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FALSE_POSITIVES_PER_HOUR", "MOST_ON", "ClassDelay", "DetectionDelay", "alarm_threshold", "detection_delay"]

# One a minute and class. Much for a product, but test sets are short (a split of 50 Salads lasts 56 minutes, one of
# GTEA 9): there, one an hour would mean none at all, and the threshold would hang on a single frame.
FALSE_POSITIVES_PER_HOUR = 60.0
# That many alarms of 6 seconds each. Without a limit, an alarm that never goes off would raise next to no false ones.
MOST_ON = 0.1


@dataclass(frozen=True, kw_only=True)
class ClassDelay:
    """Hold the detection delay of one class, or of all classes together.

    Attributes:
        instances: Instances whose first frame counts.
        detected: How many of them are noticed while they last.
        mean_s: Mean delay in seconds, 0 or more, over the detected instances only; None if there are none.
        median_s: Median delay, likewise.
        threshold: An alarm is a score at or above it; None where no threshold keeps to the rate (and for all
            classes together).
        false_alarms: Alarms that are false at this threshold.
        alarm_share: Share in [0, 1] of the frames without the class at which the alarm is on; None if there are
            none.
    """

    instances: int
    detected: int
    mean_s: float | None
    median_s: float | None
    threshold: float | None
    false_alarms: int
    alarm_share: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; ``detected`` is the share of instances, in [0, 1]."""
        return {
            "instances": self.instances,
            "detected": self.detected / self.instances,
            "mean_s": self.mean_s,
            "median_s": self.median_s,
            "threshold": self.threshold,
            "false_alarms": self.false_alarms,
            "alarm_share": self.alarm_share,
        }


@dataclass(frozen=True, kw_only=True)
class DetectionDelay:
    """Hold detection delays at a fixed rate of false alarms.

    Attributes:
        false_positives_per_hour: False alarms an hour that each class is allowed.
        most_on: Share of the frames without a class at which its alarm may be on.
        hours: Duration of the frames that count.
        instances: Instances of all classes whose first frame counts.
        detected: Share of them that is noticed while they last, in [0, 1]; None if there are none.
        mean_s: Mean delay in seconds over the detected instances of all classes; None if there are none.
        median_s: Median delay, likewise.
        on_at_start: Share of the instances whose alarm is on at their first frame, in [0, 1]; None if there are none.
        per_class: The same for each class that has an instance.
    """

    false_positives_per_hour: float
    most_on: float
    hours: float
    instances: int
    detected: float | None
    mean_s: float | None
    median_s: float | None
    on_at_start: float | None
    per_class: dict[str, ClassDelay]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "false_positives_per_hour": self.false_positives_per_hour,
            "most_on": self.most_on,
            "hours": self.hours,
            "instances": self.instances,
            "detected": self.detected,
            "mean_s": self.mean_s,
            "median_s": self.median_s,
            "on_at_start": self.on_at_start,
            "per_class": {name: delay.to_dict() for name, delay in self.per_class.items()},
        }


def detection_delay(
    labels: Sequence[NDArray[Any]],
    scores: Sequence[NDArray[Any]],
    *,
    rates_hz: Sequence[float],
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
    false_positives_per_hour: float = FALSE_POSITIVES_PER_HOUR,
    most_on: float = MOST_ON,
) -> DetectionDelay:
    """Return how long after its start an action is noticed, each class at its own threshold.

    Frames that are not scored, or labelled with the ignored class, are no part of any alarm. Among the others
    of a video, an alarm of class c at threshold h is a maximal run of frames with a score at or above h; it is
    false if none of them shows c. The threshold is `alarm_threshold` for ``false_positives_per_hour`` times the
    hours of all frames that count, T over the rate, whatever they show; and for ``most_on``, since few long alarms
    are worth no more than many short ones. It is chosen on the labels that are evaluated: the delay is that of an
    operating point, as those of a precision-recall curve are, and not of a threshold that was set before.

    An instance is a maximal run of frames that show c, within one video and found before any frame is left out;
    it counts if its first frame does. Its delay is the time from its first frame to the first of its frames that
    is in an alarm. An alarm that was on before the start gives 0, however early it came; ``on_at_start`` says how
    often one is on at the first frame. An instance without such a frame is missed: it lowers
    ``detected``, and is in neither mean nor median, so these read together with ``detected`` only. Background
    and ignored class have no delay; a class without an instance is left out. Instances are made of frame labels, and
    differ from an official list as the starts of `action_starts` do.

    Args:
        labels: One entry per video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        scores: One entry per video: scores ``(T, C)``, higher is surer.
        rates_hz: Frames a second, one value per video.
        class_names: The C names, each once.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        scored: One entry per video: frames ``(T,)`` that the protocol scores. None: all.
        false_positives_per_hour: False alarms an hour that each class is allowed. One a minute by default: test
            sets of an hour or of minutes leave no room for rates that a product would ask for.
        most_on: Share, in [0, 1], of the frames without the class at which its alarm may be on, true or false.

    Returns:
        Delays in seconds, and shares of detected instances in [0, 1].

    Raises:
        ConfigError: The rate of false alarms or ``most_on`` is out of range, or the classes do not fit.
        ShapeError: The videos of the arguments differ in number or length, or do not have C classes.
        DataError: A rate is not positive, a label is outside the classes, or a score is nan.

    Example:
        >>> labels, run = np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.3, 0.2, 0.6, 0.9])
        >>> scores = np.stack([1 - run, run], axis=1)
        >>> names = ["none", "run"]
        >>> detection_delay([labels], [scores], rates_hz=[2.0], class_names=names, background=0).median_s
        0.5
    """
    check_classes(class_names, background=background, ignored=ignored)
    if not (np.isfinite(false_positives_per_hour) and false_positives_per_hour >= 0):
        raise ConfigError(f"false_positives_per_hour is {false_positives_per_hour}; give a finite rate, 0 or more")
    if not 0 <= most_on <= 1:
        raise ConfigError(f"most_on is {most_on}; give a share of the frames without the action, from 0 to 1")
    videos = join_videos(labels, scores, num_classes=len(class_names), ignored=ignored, scored=scored)
    check_rates(rates_hz, len(labels))
    period = np.repeat(1 / np.asarray(rates_hz, np.float64), [truth.shape[0] + 1 for truth in labels])
    period = np.append(period, np.ones(videos.kept.size - period.size))  # no video at all: one empty frame
    hours = float(period[videos.kept].sum()) / 3600
    allowed = false_positives_per_hour * hours
    delays: dict[str, NDArray[np.float64]] = {}
    per_class: dict[str, ClassDelay] = {}
    for index, name in enumerate(class_names):
        shown = frames_of_class(videos.labels, index)
        if index in {background, ignored} or not (shown & videos.kept).any():
            continue
        score = np.ascontiguousarray(videos.scores[:, index])
        threshold, alarms = alarm_threshold(score, shown, videos.kept, allowed=allowed, most_on=most_on)
        on = videos.kept & (score >= threshold)
        waited = _waits(on, shown, videos.kept, period)
        if waited.size:
            delays[name] = waited[~np.isnan(waited)]
            per_class[name] = ClassDelay(
                instances=waited.size,
                detected=delays[name].size,
                **_middle(delays[name]),
                threshold=threshold if np.isfinite(threshold) else None,
                false_alarms=alarms,
                alarm_share=float(on[videos.kept & ~shown].mean()) if (videos.kept & ~shown).any() else None,
            )
    total = sum(delay.instances for delay in per_class.values())
    found = np.concatenate([np.zeros(0), *delays.values()])
    return DetectionDelay(
        false_positives_per_hour=float(false_positives_per_hour),
        most_on=float(most_on),
        hours=hours,
        instances=total,
        detected=found.size / total if total else None,
        **_middle(found),
        on_at_start=int((found == 0).sum()) / total if total else None,
        per_class=per_class,
    )


def alarm_threshold(
    score: NDArray[np.float64],
    shown: NDArray[np.bool_],
    kept: NDArray[np.bool_],
    *,
    allowed: float,
    most_on: float = 1.0,
) -> tuple[float, int]:
    """Return the lowest threshold down to which there are never more than ``allowed`` false alarms.

    A false alarm is a maximal run of kept frames with a score at or above the threshold, none of which shows
    the class. Their number may fall again as the threshold falls, for alarms grow together; so the search goes
    down from the highest score and stops before the number first exceeds ``allowed``, or before more than
    ``most_on`` of the kept frames without the class have an alarm on. Only scores of kept frames are tried, and
    all of them, with one sort.

    Args:
        score: Score of the class at each frame ``(T,)``.
        shown: Whether each frame shows the class ``(T,)``.
        kept: Whether each frame counts ``(T,)``; one that does not ends an alarm.
        allowed: Number of false alarms that are allowed, 0 or more.
        most_on: Share in [0, 1] of the frames without the class at which the alarm may be on.

    Returns:
        The threshold, infinite where even the highest score gives too many, and its number of false alarms.

    Example:
        >>> score, shown = np.array([0.9, 0.2, 0.7, 0.8, 0.3]), np.array([False, False, False, True, True])
        >>> alarm_threshold(score, shown, np.ones(5, dtype=bool), allowed=0)
        (inf, 0)
        >>> alarm_threshold(score, shown, np.ones(5, dtype=bool), allowed=1, most_on=0.5)
        (0.8, 1)
    """
    value, change = _changes(score, shown, kept)
    order = np.argsort(-value, kind="stable")
    value, count = value[order], np.cumsum(change[order])
    ends = np.append(value[1:] != value[:-1], np.ones(min(value.size, 1), np.bool_))
    value, count = value[ends], count[ends]
    # Sums of times and shares may fall short of a whole number by a rounding error.
    above = np.flatnonzero(count > allowed * (1 + 1e-9))
    outside = np.sort(score[kept & ~shown])[::-1]
    on = int(most_on * outside.size * (1 + 1e-9))
    limits = [*value[above[:1]], *outside[on : on + 1]]
    candidates = score[kept & (score > max(limits))] if limits else score[kept]
    if not candidates.size:
        return float("inf"), 0
    threshold = float(candidates.min())
    reached = int(np.searchsorted(-value, -threshold, side="right"))
    return threshold, int(count[reached - 1]) if reached else 0


def _changes(
    score: NDArray[np.float64], shown: NDArray[np.bool_], kept: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return by how much the number of false alarms changes when the threshold falls to a value.

    Runs among frames are frames less neighbouring pairs. Of the runs in a gap, a stretch of kept frames without the
    class, those that touch an alarm of the class are not false: one for each of its two ends where the frame and its
    neighbour that shows the class are both on. A run that fills a gap and touches at both ends was taken off twice.
    A pair is on from its lower score on; most frames then change nothing, and need not be sorted.
    """
    free = kept & ~shown
    true = kept & shown
    paired = (free[1:] & kept[:-1]) | (true[1:] & free[:-1])
    lower = np.arange(paired.size) + (score[1:] < score[:-1])
    net = free.astype(np.int64) - np.bincount(lower[paired], minlength=score.size)
    first, end = instances(free)
    before = np.where(first > 0, true[first - 1], False)
    behind = np.where(end < free.size, true[np.minimum(end, free.size - 1)], False)
    first, end = first[before & behind], end[before & behind]
    # From the neighbour before a gap to the one behind it; every second slice is a gap.
    edges = np.stack([first - 1, end + 1], axis=1).ravel()
    filled = np.minimum.reduceat(np.append(score, np.inf), edges)[::2] if edges.size else np.zeros(0)
    moves = net != 0
    value = np.concatenate([score[moves], filled])
    return value, np.concatenate([net[moves], np.ones(filled.size, np.int64)])


def _waits(
    on: NDArray[np.bool_], shown: NDArray[np.bool_], kept: NDArray[np.bool_], period: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the delay in seconds of each instance whose first frame is kept; nan for those that are missed."""
    first, end = instances(shown)
    first, end = first[kept[first]], end[kept[first]]
    hits = np.append(np.flatnonzero(on & shown), on.size)
    hit = hits[np.searchsorted(hits, first)]
    return np.where(hit < end, (hit - first) * period[first], np.nan)


def _middle(delays: NDArray[np.float64]) -> dict[str, float | None]:
    known = delays.size > 0
    return {
        "mean_s": float(delays.mean()) if known else None,
        "median_s": float(np.median(delays)) if known else None,
    }
