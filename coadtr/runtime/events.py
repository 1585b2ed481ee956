"""Starts and ends of actions out of scores, as they come: smoothing, hysteresis, least duration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from coadtr.errors import CheckpointError, ConfigError, DataError, ShapeError
from coadtr.runtime.gaps import is_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Event", "EventDecoder", "EventSettings"]

# Times are sums of frame periods, which floats hold almost: a duration may be short of its limit by so many seconds.
HAIR: Final = 1e-6
_BY_CLASS: Final = ("start", "end", "minimum_seconds")


class Event(NamedTuple):
    """A start or an end of an action.

    Attributes:
        kind: ``"start"`` or ``"end"``.
        class_name: The action.
        time: When it began, or ended, in seconds.
        score: Its smoothed score at the frame that told so.
    """

    kind: Literal["start", "end"]
    class_name: str
    time: float
    score: float


@dataclass(frozen=True, kw_only=True)
class EventSettings:
    """Say when an action starts and ends.

    Attributes:
        start: Smoothed score from which on a class is up, above 0, at most 1.
        end: Smoothed score below which it is down again, at most ``start``. In between it stays what it was.
        smoothing: Weight of each frame relative to the next, from 0 (none) to below 1, as ``smoothing.decay`` of
            ``coadtr replay``: thresholds chosen there hold here. The mean age of what a score is made of is
            d / (1 - d) frames.
        minimum_seconds: A start is told only when the class has stayed up so long; what was shorter is never told of.
        per_class: Other values of ``start``, ``end`` and ``minimum_seconds`` by the name of a class.

    Raises:
        ConfigError: If a value is unknown or out of range.

    Example:
        >>> EventSettings(start=0.7, per_class={"lift": {"start": 0.9}}).of("lift")
        (0.9, 0.4, 0.0)
    """

    start: float = 0.6
    end: float = 0.4
    smoothing: float = 0.0
    minimum_seconds: float = 0.0
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_finite(self.smoothing) or not 0 <= self.smoothing < 1:
            raise ConfigError(f"smoothing must be a number from 0 to below 1, got {self.smoothing!r}")
        _require_settings(self.per_class)
        for name, values in self.per_class.items():
            if unknown := [key for key in values if key not in _BY_CLASS]:
                raise ConfigError(f"per_class[{name!r}] has no setting {unknown[0]!r}; give {', '.join(_BY_CLASS)}")
        for label, where in ((None, ""), *((name, f" for class {name!r}") for name in self.per_class)):
            start, end, minimum = self.of(label)
            if not is_finite(start) or not 0 < start <= 1:
                raise ConfigError(f"start{where} must be a number above 0, at most 1, got {start!r}")
            if not is_finite(end) or not 0 <= end <= start:
                raise ConfigError(f"end{where} must be a number from 0 to start={start:g}, got {end!r}")
            if not is_finite(minimum) or minimum < 0:
                raise ConfigError(f"minimum_seconds{where} must be a finite number, 0 or more, got {minimum!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EventSettings:
        """Make settings of plain values, as a file of settings has them.

        Raises:
            ConfigError: If a setting is unknown or out of range.

        Example:
            >>> EventSettings.from_dict({"start": 0.5, "end": 0.5}).start
            0.5
        """
        known = [entry.name for entry in fields(cls)]
        if unknown := [key for key in values if key not in known]:
            raise ConfigError(f"events have no setting {unknown[0]!r}; choose of {', '.join(known)}")
        return cls(**values)

    def of(self, class_name: str | None) -> tuple[float, float, float]:
        """Return start, end and minimum_seconds of a class."""
        own = {} if class_name is None else self.per_class.get(class_name, {})
        start, end, minimum = (own.get(key, getattr(self, key)) for key in _BY_CLASS)
        return start, end, minimum


class _State(NamedTuple):
    """What the decoder remembers. A value: the next frame makes another.

    Attributes:
        total: Weighted sum of all scores ``(C,)``.
        weight: Sum of the weights.
        time: Of the last frame, None before the first.
        since: Since when each class is up, ``(C,)``; NaN where it is down.
        told: Whether its start was told, ``(C,)``.
    """

    total: NDArray[np.float64]
    weight: float
    time: float | None
    since: NDArray[np.float64]
    told: NDArray[np.bool_]


class EventDecoder:
    """Tell starts and ends of the actions of one stream, frame by frame.

    A class is up from the frame at which its smoothed score reaches ``start`` to the one at which it falls below
    ``end``. Several may be up at once. The background has no events. A frame that is refused changes nothing.

    Args:
        class_names: Names of the C classes, in the order of the scores.
        background: Index of the class that stands for "no action", or None.
        rate_hz: Frames a second, for frames without a time.
        settings: When an action starts and ends.

    Raises:
        ConfigError: If the settings name a class that there is not, or one of the numbers is out of range.

    Example:
        >>> decoder = EventDecoder(("rest", "lift"), background=0, rate_hz=2.0)
        >>> [decoder.push([1 - score, score]) for score in (0.1, 0.7, 0.5)][1:]
        [[Event(kind='start', class_name='lift', time=0.5, score=0.7)], []]
        >>> decoder.active, decoder.push([0.7, 0.3])
        (('lift',), [Event(kind='end', class_name='lift', time=1.5, score=0.3)])
    """

    def __init__(
        self,
        class_names: Sequence[str],
        background: int | None = None,
        rate_hz: float = 1.0,
        settings: EventSettings | None = None,
    ) -> None:
        self._settings = settings or EventSettings()
        if unknown := [name for name in self._settings.per_class if name not in class_names]:
            raise ConfigError(f"per_class names the class {unknown[0]!r}; choose of {', '.join(class_names)}")
        if not is_finite(rate_hz) or rate_hz <= 0:
            raise ConfigError(f"rate_hz must be a finite number above 0, got {rate_hz!r}")
        if background is not None and not 0 <= background < len(class_names):
            raise ConfigError(f"background must be the index of one of {len(class_names)} classes, got {background!r}")
        self._names, self._rate = tuple(class_names), float(rate_hz)
        limits = np.array([self._settings.of(name) for name in self._names], np.float64).reshape(-1, 3)
        self._start, self._end, self._minimum = limits.T
        self._counts = np.arange(len(self._names)) != (-1 if background is None else background)
        self._state = self._fresh()

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the classes whose start was told and whose end was not."""
        return tuple(self._names[index] for index in np.flatnonzero(self._state.told))

    def push(self, scores: NDArray[Any] | Sequence[float], time: float | None = None) -> list[Event]:
        """Take the scores of the next frame and return what it tells: ends first, then starts, by class.

        Args:
            scores: ``(C,)``, from 0 to 1.
            time: Of the frame in seconds; if None, one frame period after the last one, and 0 for the first.

        Returns:
            The events. The time of a start is when the class went up, which may be ``minimum_seconds`` ago.

        Raises:
            ShapeError: If there is not one score for each class.
            DataError: If a score or the time is not a finite number, or the time went back.
        """
        before = self._state
        row = _vector(scores, len(self._names))
        moment = self._moment(time)
        decay = self._settings.smoothing
        total, weight = row + decay * before.total, 1 + decay * before.weight
        smooth = total / weight
        was_up = ~np.isnan(before.since)
        up = self._counts & np.where(was_up, smooth >= self._end, smooth >= self._start)
        since = np.where(up, np.where(was_up, before.since, moment), np.nan)
        long = moment - since >= self._minimum - HAIR  # False where it is down
        told = up & (before.told | long)
        events = [self._event("end", index, moment, smooth) for index in np.flatnonzero(before.told & ~up).tolist()]
        events += [
            self._event("start", index, since[index], smooth) for index in np.flatnonzero(told & ~before.told).tolist()
        ]
        self._state = _State(total, weight, moment, since, told)
        return events

    def finish(self, time: float | None = None) -> list[Event]:
        """End the stream: tell the ends of all actions that are up, and begin anew.

        Args:
            time: When it ended, in seconds; if None, at the last frame.

        Raises:
            DataError: If the time is not a finite number, or went back.
        """
        state = self._state
        moment = self._moment(state.time if time is None else time)
        smooth = state.total / (state.weight or 1)
        events = [self._event("end", index, moment, smooth) for index in np.flatnonzero(state.told).tolist()]
        self._state = self._fresh()
        return events

    def state(self) -> dict[str, Any]:
        """Return what the decoder remembers, JSON-ready; `restore` takes it."""
        total, weight, time, since, told = self._state
        begun = [None if math.isnan(value) else value for value in since.tolist()]
        return {
            "classes": list(self._names),
            "total": total.tolist(),
            "weight": weight,
            "time": time,
            "since": begun,
            "told": told.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned, here or in another process.

        Raises:
            CheckpointError: If it is damaged, or of other classes; then nothing changes.
        """
        try:
            classes, restored = list(state["classes"]), _read_state(state)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"the state of the events is damaged ({error}); begin without it") from error
        if classes != list(self._names):
            raise CheckpointError(f"the state of the events is of the classes {classes}; give that of the same model")
        self._state = restored

    def _fresh(self) -> _State:
        classes = len(self._names)
        return _State(np.zeros(classes), 0.0, None, np.full(classes, np.nan), np.zeros(classes, np.bool_))

    def _moment(self, time: float | None) -> float:
        last = self._state.time
        if time is None:
            return 0.0 if last is None else last + 1 / self._rate
        if not is_finite(time):
            raise DataError(f"time must be a finite number of seconds, got {time!r}; give None if it is not known")
        if last is not None and time < last:
            raise DataError(f"time went back from {last!r} s to {time!r} s; push frames in order, or finish the stream")
        return float(time)

    def _event(self, kind: Literal["start", "end"], index: int, time: float, smooth: NDArray[np.float64]) -> Event:
        return Event(kind, self._names[index], float(time), float(smooth[index]))


def _vector(scores: object, classes: int) -> NDArray[np.float64]:
    try:
        row = np.asarray(scores, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"scores hold something that is not a number ({error}); give numbers") from error
    if row.shape != (classes,):
        raise ShapeError(f"scores are {row.shape}; give ({classes},), one for each class")
    if not np.isfinite(row).all():
        raise DataError("scores hold a number that is not finite; give those that the detector returned")
    return row


def _read_state(state: Mapping[str, Any]) -> _State:
    """Read what `EventDecoder.state` wrote; raises ValueError, TypeError or KeyError for what it never writes."""
    since = np.array([math.nan if value is None else value for value in state["since"]], np.float64)
    total, told = np.array(state["total"], np.float64), np.array(state["told"], np.bool_)
    if not total.shape == since.shape == told.shape == (len(state["classes"]),):
        raise ValueError("it has not a value for each class")
    weight, time = float(state["weight"]), None if state["time"] is None else float(state["time"])
    finite = np.isfinite([weight, 0.0 if time is None else time, *total]).all()
    if not finite or weight < 0 or np.isinf(since).any() or (told & np.isnan(since)).any():
        raise ValueError("a value is out of range")
    return _State(total, weight, time, since, told)


def _require_settings(per_class: object) -> None:
    if not isinstance(per_class, Mapping) or not all(isinstance(values, Mapping) for values in per_class.values()):
        raise ConfigError(f"per_class must be settings by class, as {{'lift': {{'start': 0.9}}}}, got {per_class!r}")
