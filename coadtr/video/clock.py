"""From time stamps to seconds since the start of a video."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_GAP_S", "Clock"]

MAX_GAP_S: Final = 60.0
"""Seconds for which a frame may be shown; a longer gap is damage, or two recordings in one file."""

# Without a rate, a frame is taken to last this long.
_USUAL_S: Final = 1 / 25
# A stamp that goes back by more than this begins anew (a camera that restarts, a counter that wraps).
_RESTART_S: Final = 1.0


class Clock:
    """Turn the time stamps of frames, in the order in which they are shown, into seconds that never go back.

    Time 0 is where the container starts, as in a player: pictures that begin two seconds after the sound begin at
    2. A lead of the sound of less than a frame is not counted: codecs of sound begin a little early.

    AVI keeps no presentation times: there the decoding times count, which are even. A frame without a stamp
    comes one frame after the one before it.

    Args:
        container: Name of the container format, as FFmpeg calls it.
        time_base: Seconds in one unit of the time stamps.
        rate_hz: Frames a second, or none if unknown.
        start: Time stamp of the start of the container, in seconds; none to begin with the first frame.

    Attributes:
        last: Seconds of the latest frame.

    Example:
        >>> clock = Clock("matroska,webm", 0.001, 30.0)
        >>> [round(clock.seconds(stamp, None), 3) for stamp in (500, 533, None, 600)]
        [0.0, 0.033, 0.066, 0.1]
        >>> Clock("matroska,webm", 0.001, 30.0, 0.0).seconds(500, None)
        0.5
    """

    def __init__(self, container: str, time_base: float, rate_hz: float | None, start: float | None = None) -> None:
        self._by_dts = container == "avi"
        self._time_base = time_base
        self._step = 1 / rate_hz if rate_hz else _USUAL_S
        self._start = None if self._by_dts else start
        self._origin: float | None = None
        self._stamp = self._first = 0.0
        self.last = 0.0

    @property
    def reached(self) -> float:
        """Seconds at which the latest frame ends: since the start or on the container's clock, if later."""
        return max(self.last, self._stamp) + self._step

    @property
    def span(self) -> float:
        """Seconds from the first frame to the latest."""
        return self.last - self._first

    def seconds(self, pts: int | None, dts: int | None) -> float:
        """Return the time of the next frame.

        Args:
            pts: Presentation time stamp, in units of the time base.
            dts: Decoding time stamp.

        Returns:
            Seconds since the start of the container.
        """
        stamp = dts if self._by_dts else pts
        first = self._origin is None
        if stamp is None or self._time_base <= 0:
            time = 0.0 if first else self.last + self._step
            absolute = (0.0 if first else self._stamp + self._step) if stamp is None else time
        else:
            absolute = stamp * self._time_base
            time = self._lead(absolute) if first else absolute - float(self._origin or 0.0)
        if first:
            self._first = time
            self._origin = absolute - time
        elif time < self.last - _RESTART_S:
            time = self.last + self._step
            self._origin = absolute - time
        self._stamp = absolute
        self.last = max(self.last, time)
        return self.last

    def _lead(self, absolute: float) -> float:
        """Return how long after the container the pictures start."""
        lead = 0.0 if self._start is None else absolute - self._start
        return lead if lead >= self._step else 0.0
