"""How fast one client may go."""

from __future__ import annotations

__all__ = ["Pace"]


class Pace:
    """Tell how long the next frame has to wait, so that no more than so many a second come through.

    A second's worth may come at once: what a client has saved up while it was cut off is no abuse.

    Args:
        per_second: Frames a second.
        now: The time in seconds, of a clock that never goes back.

    Example:
        >>> pace = Pace(2.0, now=0.0)
        >>> [round(pace.wait(now=0.0), 3) for _ in range(4)]
        [0.0, 0.0, 0.5, 1.0]
        >>> pace.wait(now=9.0)
        0.0
    """

    def __init__(self, per_second: float, *, now: float) -> None:
        self._period = 1 / per_second
        self._burst = max(1.0, self._period)
        self._due = now - self._burst

    def wait(self, *, now: float) -> float:
        """Count a frame, and return the seconds that it has to wait."""
        self._due = max(self._due, now - self._burst) + self._period
        return max(0.0, self._due - now)
