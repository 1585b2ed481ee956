"""How far behind a live stream the answers are."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

import numpy as np

__all__ = ["Lag", "Spread", "Typical"]

_DRIFT: Final = 0.005  # seconds a second: more than clocks differ, less than what makes a stream late unnoticed
_KEPT: Final = 10_000


class Lag:
    """Tell how long ago a moment of a video could have been seen at the earliest.

    A frame that arrives at once is taken for one without delay: the least of what lies between the time of a frame and
    its arrival is how a camera's clock stands to that of this machine. A clock that drifts is followed, but only while
    frames have to be waited for: a reader that never waits has a queue before it, and that is not to be forgotten.

    Args:
        origin: Moment of this machine's clock at which the video's time is 0, if that is known; then it does not move.

    Example:
        >>> lag = Lag()
        >>> for time, now in ((0.0, 100.0), (1.0, 101.5), (2.0, 102.0)):
        ...     lag.arrived(time, now, waited=False)
        >>> lag.behind(2.0, 102.25), lag.behind(1.0, 101.5)
        (0.25, 0.5)
    """

    def __init__(self, origin: float | None = None) -> None:
        self._known = origin is not None
        # One number, so that two threads may use it: one tells, the other asks.
        self._origin = origin
        self._last = 0.0

    def arrived(self, time: float, now: float, *, waited: bool) -> None:
        """Note a frame.

        Args:
            time: Its time, in seconds of the video.
            now: When it was there, by this machine's clock.
            waited: Whether it had to be waited for.
        """
        if self._known:
            return
        delay = now - time
        if self._origin is None:
            self._origin = delay
        else:
            risen = self._origin + (_DRIFT * (now - self._last) if waited else 0.0)
            self._origin = min(delay, risen)
        self._last = now

    def behind(self, time: float, now: float) -> float:
        """Return how many seconds ago the frame of ``time`` could have been there; 0 if that is not known."""
        origin = self._origin
        return 0.0 if origin is None else max(0.0, now - time - origin)


class Typical(NamedTuple):
    """Median and 95th percentile."""

    median: float
    p95: float


class Spread:
    """The distribution of the last values of something.

    Args:
        most: How many are kept.

    Example:
        >>> spread = Spread()
        >>> for value in range(101):
        ...     spread.add(value)
        >>> spread.typical()
        Typical(median=50.0, p95=95.0)
    """

    def __init__(self, most: int = _KEPT) -> None:
        self._values: deque[float] = deque(maxlen=most)

    def add(self, value: float) -> None:
        """Note a value."""
        self._values.append(value)

    def typical(self) -> Typical | None:
        """Return median and 95th percentile; None before the first value."""
        if not self._values:
            return None
        median, high = np.percentile(np.fromiter(self._values, float), [50, 95])
        return Typical(float(median), float(high))
