"""Frames that did not come: how a gap is known by the times, and what is done about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Final, Literal, NamedTuple, TypeAlias

from coadtr.errors import ConfigError, DataError

__all__ = ["Gap", "GapPolicy", "Missing", "is_finite"]

Missing: TypeAlias = Literal["skip", "hold"]
MISSING: Final = ("skip", "hold")

# A frame may come half a period late before one is taken to be missing.
LATE: Final = 1.5
MOST: Final = 1e15  # periods of a gap: times may be any finite numbers, and a count must stay one


class Gap(NamedTuple):
    """What lies between a stream's last frame and the next.

    Attributes:
        missing: Frames that should have come in between.
        held: How often the last frame is fed again in their place.
        restarts: Whether the stream starts anew instead.
    """

    missing: int = 0
    held: int = 0
    restarts: bool = False


@dataclass(frozen=True, kw_only=True)
class GapPolicy:
    """Say what happens when frames are missing.

    A gap is known by the times of the frames: more than one and a half frame periods since the stream's last one.
    Without times there are no gaps.

    Attributes:
        missing: ``"skip"`` feeds nothing, so that the next frame follows the last one directly; ``"hold"`` feeds the
            last frame again for each one that is missing. Their answers are dropped.
        max_hold_seconds: Longest stretch that is held; what is missing beyond it is skipped.
        reset_after: Seconds without a frame after which the stream starts anew, or None for never.

    Raises:
        ConfigError: If a value is unknown or out of range.

    Example:
        >>> policy = GapPolicy(missing="hold", max_hold_seconds=1.0, reset_after=60.0)
        >>> policy.gap(10.0, 10.2, rate_hz=5.0), policy.gap(10.0, 10.6, rate_hz=5.0)
        (Gap(missing=0, held=0, restarts=False), Gap(missing=2, held=2, restarts=False))
        >>> policy.gap(10.0, 30.0, rate_hz=5.0), policy.gap(10.0, 90.0, rate_hz=5.0).restarts
        (Gap(missing=99, held=5, restarts=False), True)
    """

    missing: Missing = "skip"
    max_hold_seconds: float = 2.0
    reset_after: float | None = None

    def __post_init__(self) -> None:
        if self.missing not in MISSING:
            raise ConfigError(f"missing must be one of {', '.join(MISSING)}, got {self.missing!r}")
        if not is_finite(self.max_hold_seconds) or self.max_hold_seconds < 0:
            raise ConfigError(f"max_hold_seconds must be a finite number, 0 or more, got {self.max_hold_seconds!r}")
        if self.reset_after is not None and (not is_finite(self.reset_after) or self.reset_after <= 0):
            raise ConfigError(f"reset_after must be a finite number above 0, or None, got {self.reset_after!r}")

    def gap(self, last: float | None, time: float | None, *, rate_hz: float) -> Gap:
        """Return what lies between two frames of a stream.

        Args:
            last: Time of the stream's last frame in seconds, None if it has none.
            time: Time of the next one in seconds, None if it has none.
            rate_hz: Frames a second that should come.

        Raises:
            DataError: If ``time`` is not a finite number, or before ``last``.
        """
        if time is None:
            return Gap()
        if not is_finite(time):
            raise DataError(f"time must be a finite number of seconds, got {time!r}; give None if it is not known")
        if last is None:
            return Gap()
        if time < last:
            raise DataError(f"time went back from {last!r} s to {time!r} s; push frames in order, or reset the stream")
        periods = min((time - last) * rate_hz, MOST)
        if self.reset_after is not None and time - last > self.reset_after:
            return Gap(missing=max(round(periods) - 1, 0), restarts=True)
        if not periods > LATE:
            return Gap()
        missing = max(round(periods) - 1, 1)
        # A hair is added: 0.6 s at 5 frames a second are 3 frames, and 3.0000000000000004 or 2.9999999999999996.
        most = int(self.max_hold_seconds * rate_hz + 1e-6) if self.missing == "hold" else 0
        return Gap(missing, min(missing, most))


def is_finite(value: object) -> bool:
    """Whether something is a real, finite number.

    Example:
        >>> is_finite(0.5), is_finite(float("nan")), is_finite("1"), is_finite(True)
        (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False
