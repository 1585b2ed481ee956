"""How far behind a live stream the answers are."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

import numpy as np

__all__ = ["Lag", "Spread", "Typical"]

_WINDOW_S: Final = 60.0
_BUCKETS: Final = 6
_KEPT: Final = 10_000


class Lag:
    """Tell how long ago a moment of a video could have been seen at the earliest.

    A frame that arrives at once is taken for one without delay: the least of what lies between the time of a frame and
    its arrival, over the last minute, is how a camera's clock stands to that of this machine. So a queue that grows
    anywhere on the way is counted, and a clock that drifts is not.

    Args:
        origin: Moment of this machine's clock at which the video's time is 0, if that is known; then it does not move.

    Example:
        >>> lag = Lag()
        >>> for time, now in ((0.0, 100.0), (1.0, 101.5), (2.0, 102.0)):
        ...     lag.arrived(time, now)
        >>> lag.behind(2.0, 102.25), lag.behind(1.0, 101.5)
        (0.25, 0.5)
    """

    def __init__(self, origin: float | None = None) -> None:
        self._origin = origin
        self._least: deque[tuple[float, float]] = deque(maxlen=_BUCKETS + 1)

    def arrived(self, time: float, now: float) -> None:
        """Note that the frame of ``time`` (seconds of the video) was there at ``now`` (of this machine's clock)."""
        delay = now - time
        if self._least and now - self._least[-1][0] < _WINDOW_S / _BUCKETS:
            begun, least = self._least[-1]
            self._least[-1] = begun, min(least, delay)
        else:
            self._least.append((now, delay))

    def behind(self, time: float, now: float) -> float:
        """Return how many seconds ago the frame of ``time`` could have been there; 0 if that is not known."""
        if self._origin is None and not self._least:
            return 0.0
        origin = min(delay for _, delay in self._least) if self._origin is None else self._origin
        return max(0.0, now - time - origin)


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
