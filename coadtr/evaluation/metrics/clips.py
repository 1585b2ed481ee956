"""How soon and how surely whole recordings are recognised: accuracy by the time listened, by the share, at the end.

Each recording has one class, and every frame answers it. The answer at a time is that of the newest frame which is
complete by then; before the first one there is none, which counts as wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import numpy as np

from coadtr.errors import ConfigError, DataError, ShapeError
from coadtr.evaluation.metrics.intervals import bootstrap_mean
from coadtr.evaluation.metrics.stretching import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["ClipAnswer", "ClipScores", "clip_scores", "clip_times"]

ClipAnswer: TypeAlias = Literal["last", "mean"]
SHARES: Final = tuple(tenth / 10 for tenth in range(1, 11))

_MOST_TIMES: Final = 40
_ROUNDING: Final = 1e-6  # of a frame: times are sums of floats


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """Hold the accuracy over recordings, shares in [0, 1].

    Attributes:
        recordings: Number of recordings.
        answer: ``"last"``: the class that the newest frame scores highest; ``"mean"``: that of the mean score so far.
        accuracy: Share that is right at its end.
        interval: Of that share, by resampling recordings; None if it was not asked for, or of a single one.
        seconds: Times at which the answer is asked for; the last is the end of the longest recording.
        going_on: How many recordings last so long.
        accuracy_going_on: Share of these that is right then.
        accuracy_all: Share of all that is right then, where those that ended keep their last answer.
        shares: Shares of a recording that were listened to.
        accuracy_by_share: Share of all that is right then.
        confusion: How often each class (row) was answered by each (column) at the end.
    """

    recordings: int
    answer: ClipAnswer
    accuracy: float
    interval: Interval | None
    seconds: tuple[float, ...]
    going_on: tuple[int, ...]
    accuracy_going_on: tuple[float, ...]
    accuracy_all: tuple[float, ...]
    shares: tuple[float, ...]
    accuracy_by_share: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "recordings": self.recordings,
            "answer": self.answer,
            "accuracy": self.accuracy,
            "interval": None if self.interval is None else list(self.interval),
            "by_seconds": {
                "seconds": list(self.seconds),
                "recordings": list(self.going_on),
                "accuracy_going_on": list(self.accuracy_going_on),
                "accuracy_all": list(self.accuracy_all),
            },
            "by_share": {"share": list(self.shares), "accuracy": list(self.accuracy_by_share)},
            "confusion": [list(row) for row in self.confusion],
        }


def clip_scores(
    labels: Sequence[NDArray[Any]],
    scores: Sequence[NDArray[Any]],
    *,
    rates_hz: Sequence[float],
    first_s: float | None = None,
    answer: ClipAnswer = "last",
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> ClipScores:
    """Compute the accuracy over recordings of one class each.

    Args:
        labels: Class of each frame ``(T,)``, one array per recording, the same in all of it.
        scores: Scores ``(T, C)``, one array per recording. Of equal ones, the lowest class is answered.
        rates_hz: Frames a second, one per recording.
        first_s: Seconds after which frame 0 is complete; None for the time of a frame. Frame t is complete
            ``t / rate`` later, and a recording ends with its last frame.
        answer: Of the newest frame, or of the mean score so far.
        resamples: Resamples of the recordings for the interval; 0 for none.
        level: Share of such intervals that are to hold the truth.
        seed: Seed of the resamples.

    Returns:
        The scores. Accuracy by share asks when that share of a recording's time has passed.

    Raises:
        ConfigError: ``answer`` is unknown, a setting of the interval is out of range, or ``first_s`` is negative.
        ShapeError: The lists or arrays do not match.
        DataError: There is no recording, one has no frame or several classes, or a rate is no positive number.

    Example:
        >>> labels = [np.array([1, 1]), np.array([0, 0, 0, 0])]
        >>> rows = [np.eye(2)[[0, 1]], np.eye(2)[[1, 0, 1, 0]]]
        >>> found = clip_scores(labels, rows, rates_hz=[2.0, 2.0])
        >>> found.accuracy, found.seconds, found.accuracy_all
        (1.0, (0.5, 1.0, 1.5, 2.0), (0.0, 1.0, 0.5, 1.0))
        >>> found.going_on, found.accuracy_going_on
        ((2, 2, 1, 1), (0.0, 1.0, 0.0, 1.0))
    """
    if answer not in get_args(ClipAnswer):
        raise ConfigError(f"answer must be one of {', '.join(get_args(ClipAnswer))}, got {answer!r}")
    if first_s is not None and not 0 <= first_s < math.inf:
        raise ConfigError(f"first_s is {first_s}: give the seconds after which the first frame is complete")
    _check(labels, scores, rates_hz)
    classes = scores[0].shape[1]
    truth = np.array([int(part[0]) for part in labels])
    answered = [_answers(part, answer) for part in scores]
    last = np.array([part[-1] for part in answered])
    rates = np.array(rates_hz, np.float64)
    frames = np.array([len(part) for part in answered])
    first = 1 / rates if first_s is None else np.full(len(rates), first_s)
    ends = first + (frames - 1) / rates

    def right_at(seconds: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether the answer of each recording is right at a time of its own."""
        newest = np.floor((seconds - first) * rates + _ROUNDING).astype(np.int64)
        found = [part[min(max(at, 0), len(part) - 1)] for part, at in zip(answered, newest.tolist(), strict=True)]
        right: NDArray[np.bool_] = (newest >= 0) & (np.array(found) == truth)
        return right

    times = clip_times(float(ends.max()), finest=1 / float(rates.max()))
    lasting = [ends + _ROUNDING / rates >= at for at in times]
    right = [right_at(np.full(len(rates), at)) for at in times]
    correct = last == truth
    pairs = np.bincount(truth * classes + last, minlength=classes * classes).reshape(classes, classes)
    interval = bootstrap_mean(correct, resamples=resamples, level=level, seed=seed) if resamples else None
    return ClipScores(
        recordings=len(truth),
        answer=answer,
        accuracy=float(correct.mean()),
        interval=interval,
        seconds=times,
        going_on=tuple(int(part.sum()) for part in lasting),
        accuracy_going_on=tuple(float(found[part].mean()) for found, part in zip(right, lasting, strict=True)),
        accuracy_all=tuple(float(found.mean()) for found in right),
        shares=SHARES,
        accuracy_by_share=tuple(float(right_at(share * ends).mean()) for share in SHARES),
        confusion=tuple(tuple(row) for row in pairs.tolist()),
    )


def clip_times(longest: float, *, finest: float = 0.0, most: int = _MOST_TIMES) -> tuple[float, ...]:
    """Choose the times at which answers are asked for: round steps, and the end of the longest recording.

    Args:
        longest: Seconds of the longest recording.
        finest: Seconds of a frame: no step is shorter.
        most: How many times there may be before the last.

    Example:
        >>> clip_times(2.3, most=5)
        (0.5, 1.0, 1.5, 2.0, 2.3)
    """
    least = max(longest / most, finest) * (1 - _ROUNDING)
    power = math.floor(math.log10(least))
    step = next(size * 10.0**power for size in (1, 2, 5, 10) if size * 10.0**power >= least)
    count = math.ceil(longest / step - _ROUNDING) - 1
    return (*(float(f"{step * (index + 1):.10g}") for index in range(count)), longest)


def _answers(scores: NDArray[Any], answer: ClipAnswer) -> NDArray[np.int64]:
    """Return the class that is answered after each frame ``(T,)``."""
    if answer == "mean":
        scores = np.cumsum(scores, axis=0)  # the mean but for a factor that all classes share
    found: NDArray[np.int64] = scores.argmax(axis=1)
    return found


def _check(labels: Sequence[NDArray[Any]], scores: Sequence[NDArray[Any]], rates_hz: Sequence[float]) -> None:
    if not len(labels) == len(scores) == len(rates_hz):
        raise ShapeError(f"{len(labels)} labels, {len(scores)} scores, {len(rates_hz)} rates: give one per recording")
    if not labels:
        raise DataError("there is no recording to score; check the split")
    classes = scores[0].shape[-1]
    for index, (marks, ranked, rate) in enumerate(zip(labels, scores, rates_hz, strict=True)):
        if ranked.ndim != 2 or ranked.shape != (marks.shape[0], classes) or marks.ndim != 1:
            raise ShapeError(
                f"recording {index}: labels {marks.shape} and scores {ranked.shape}; expected (T,) and (T, {classes})"
            )
        if not len(marks) or (marks != marks[0]).any() or not 0 <= int(marks[0]) < classes:
            raise DataError(f"recording {index} must have frames, all of one of the {classes} classes")
        if not (math.isfinite(rate) and rate > 0):
            raise DataError(f"recording {index} has rate {rate}: give its frames a second")
