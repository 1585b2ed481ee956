"""From time stamps to seconds since the first frame."""

from __future__ import annotations

from typing import Final

__all__ = ["Clock"]

# Without a rate, a frame is taken to last this long.
_USUAL_S: Final = 1 / 25
# A stamp that goes back by more than this begins anew (a camera that restarts, a counter that wraps).
_RESTART_S: Final = 1.0


class Clock:
    """Turn the time stamps of frames, in the order in which they are shown, into seconds that never go back.

    AVI keeps no presentation times: there the decoding times count, which are even. A frame without a stamp
    comes one frame after the one before it.

    Args:
        container: Name of the container format, as FFmpeg calls it.
        time_base: Seconds in one unit of the time stamps.
        rate_hz: Frames a second, or none if unknown.

    Attributes:
        last: Seconds of the latest frame.

    Example:
        >>> clock = Clock("matroska,webm", 0.001, 30.0)
        >>> [round(clock.seconds(stamp, None), 3) for stamp in (500, 533, None, 600)]
        [0.0, 0.033, 0.066, 0.1]
    """

    def __init__(self, container: str, time_base: float, rate_hz: float | None) -> None:
        self._by_dts = container == "avi"
        self._time_base = time_base
        self._step = 1 / rate_hz if rate_hz else _USUAL_S
        self._origin: float | None = None
        self._stamp = 0.0
        self.last = 0.0

    @property
    def reached(self) -> float:
        """Seconds at which the latest frame ends: since the first frame or on the container's clock, if later."""
        return max(self.last, self._stamp) + self._step

    def seconds(self, pts: int | None, dts: int | None) -> float:
        """Return the time of the next frame.

        Args:
            pts: Presentation time stamp, in units of the time base.
            dts: Decoding time stamp.

        Returns:
            Seconds since the first frame.
        """
        stamp = dts if self._by_dts else pts
        first = self._origin is None
        if stamp is None or self._time_base <= 0:
            time = 0.0 if first else self.last + self._step
            absolute = (0.0 if first else self._stamp + self._step) if stamp is None else time
        else:
            absolute = stamp * self._time_base
            time = 0.0 if first else absolute - float(self._origin or 0.0)
        if first or time < self.last - _RESTART_S:
            time = 0.0 if first else self.last + self._step
            self._origin = absolute - time
        self._stamp = absolute
        self.last = max(self.last, time)
        return self.last
