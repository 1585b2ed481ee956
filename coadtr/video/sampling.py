"""Which frames of a video make one feature: chunks of frames at a rate, as the online action detection line does."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PRESETS", "TOLERANCE_S", "Chunker", "Resampler", "Sampling", "Shown", "Timed", "chunks", "even_rate"]

PRESETS: Final = ("lstr", "oadtr", "rate")
TOLERANCE_S: Final = 1e-3
"""A frame counts as shown this long before its time: Matroska and FLV round times to milliseconds."""

_CHUNK: Final = 6
_LSTR_VIDEO_HZ: Final = 24.0
_USUAL_HZ: Final = 25.0  # of a video that neither declares nor shows a rate
_RATE_PART: Final = 0.02  # a declared rate that is farther from the counted one is wrong


class Timed(Protocol):
    """What is sampled: anything that has a time in seconds."""

    @property
    def time(self) -> float:
        """Seconds since the start of the video."""
        ...


class Shown(Timed, Protocol):
    """What is looked at: a frame of a video."""

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """The upright picture, ``(H, W, 3)`` uint8."""
        ...


TimedT = TypeVar("TimedT", bound=Timed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which frames of a video make one feature.

    ======== =========================== ============ ===================== ==============
    preset   frames that are looked at   chunk        one-image backbones   features a second
    ======== =========================== ============ ===================== ==============
    `lstr`   24 a second                 6            the 4th               4
    `oadtr`  every frame of the video    6            the 4th               video rate / 6
    `rate`   ``rate_hz * chunk``         ``chunk``    the middle one        ``rate_hz``
    ======== =========================== ============ ===================== ==============

    At time t the frame shown is the latest whose time is at most t (and a millisecond), or the first where there is
    none yet. `lstr` looks at times k / 24; `rate` at the middles of ``chunk`` equal parts of each interval of
    ``1 / rate_hz`` seconds. A chunk that is not complete when the video ends is dropped.

    Attributes:
        preset: ``'lstr'``, ``'oadtr'`` or ``'rate'``.
        rate_hz: Features a second, for `rate` alone.
        chunk: Frames in a chunk: 6 for `lstr` and `oadtr`; for `rate` 1 by default, more for video backbones
            and optical flow.

    Raises:
        ConfigError: If a value is unknown, out of range, or does not go with the preset.

    Source: the sampling of LSTR (Xu et al. 2021) as its author describes it, amazon-science/long-short-term-transformer
    issue 5; that of OadTR (Wang et al. 2021), section 4.

    Example:
        >>> Sampling().feature_rate_hz(30.0), Sampling(preset="oadtr").feature_rate_hz(30.0)
        (4.0, 5.0)
        >>> Sampling(preset="rate", rate_hz=2.0).describe()
        'rate: 2 features a second, each of the frame at the middle of its interval'
    """

    preset: str = "lstr"
    rate_hz: float | None = None
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"sampling {self.preset!r}: use one of {listing(PRESETS)}")
        if self.preset != "rate":
            if self.rate_hz is not None:
                raise ConfigError(
                    f"rate_hz={self.rate_hz!r} is not for sampling={self.preset}: say sampling=rate, or drop rate_hz"
                )
            if self.chunk not in (None, _CHUNK):
                raise ConfigError(f"chunk={self.chunk!r}: sampling {self.preset} has chunks of 6, use sampling=rate")
            return
        if self.rate_hz is None or not (math.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise ConfigError(f"rate_hz={self.rate_hz!r}: sampling=rate needs the features a second, such as 4")
        if self.chunk is not None and self.chunk < 1:
            raise ConfigError(f"chunk={self.chunk!r}: give the frames of a chunk, 1 or more")

    @property
    def size(self) -> int:
        """Frames in a chunk."""
        return self.chunk if self.chunk is not None else 1 if self.preset == "rate" else _CHUNK

    @property
    def pick(self) -> int:
        """Place in the chunk of the frame for backbones that take one image."""
        return self.size // 2

    def feature_rate_hz(self, video_rate_hz: float) -> float:
        """Return the features a second, for a video of ``video_rate_hz`` frames a second."""
        if self.rate_hz is not None:
            return float(self.rate_hz)
        return (_LSTR_VIDEO_HZ if self.preset == "lstr" else video_rate_hz) / self.size

    def describe(self) -> str:
        """Say it in one line, for the record that a store keeps."""
        if self.preset == "lstr":
            return "lstr: 24 frames a second, chunks of 6, the 4th for one image"
        if self.preset == "oadtr":
            return "oadtr: every frame of the video, chunks of 6, the 4th for one image"
        if self.size == 1:
            return f"rate: {self.rate_hz:g} features a second, each of the frame at the middle of its interval"
        return f"rate: {self.rate_hz:g} features a second, chunks of {self.size}, frame {self.pick + 1} for one image"


class Resampler(Generic[TimedT]):
    """Show a stream of frames at even times: the frame that is shown at each of ``offset + k / rate_hz``, k = 0, 1, ...

    The first frame is shown from time 0 on. One frame is held, so the stream may be endless; a frame of the source
    is handed out when the next one has come, as only then it is known how long it was shown.

    Args:
        rate_hz: Frames a second to hand out.
        offset: Seconds of the first.
        hold: Seconds for which the last frame is shown; none for as long as the one before it.

    Example:
        >>> from types import SimpleNamespace
        >>> slow, double = [SimpleNamespace(time=i / 10) for i in range(3)], Resampler(rate_hz=20.0)
        >>> [[shown.time for shown in double.push(frame)] for frame in slow]
        [[], [0.0, 0.0], [0.1, 0.1]]
        >>> [shown.time for shown in double.finish()]
        [0.2, 0.2]
    """

    def __init__(self, *, rate_hz: float, offset: float = 0.0, hold: float | None = None) -> None:
        self._rate, self._offset, self._hold = rate_hz, offset, hold
        self._shown: TimedT | None = None
        self._gap, self._index = 1 / rate_hz, 0

    def push(self, frame: TimedT) -> list[TimedT]:
        """Take the next frame, and return what was shown before it: the same frame several times if it was long."""
        shown, self._shown = self._shown, frame
        if shown is None:
            return []
        self._gap = frame.time - shown.time or self._gap
        return self._until(frame.time, shown)

    def finish(self) -> list[TimedT]:
        """Return what was shown to the end of the stream."""
        if self._shown is None:
            return []
        return self._until(self._shown.time + (self._gap if self._hold is None else self._hold), self._shown)

    def _until(self, end: float, shown: TimedT) -> list[TimedT]:
        frames = []
        while self._offset + self._index / self._rate + TOLERANCE_S < end:
            frames.append(shown)
            self._index += 1
        return frames


class Chunker(Generic[TimedT]):
    """Put the frames of a stream together to what each feature is computed from.

    A chunk holds what was shown in its time and nothing later. An incomplete last one is dropped.

    Args:
        sampling: Rate and size of the chunks.
        context: Frames to hand out with each chunk, its own included, if that is more than a chunk has. Where
            the video has not shown as many, its first frame stands in.
        hold: Seconds for which the last frame of the video is shown.

    Example:
        >>> from types import SimpleNamespace
        >>> chunker = Chunker(Sampling(preset="oadtr"))
        >>> [len(chunker.push(SimpleNamespace(time=i / 30))) for i in range(12)]
        [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    """

    def __init__(self, sampling: Sampling, *, context: int = 0, hold: float | None = None) -> None:
        self._size = sampling.size
        self._sampler: Resampler[TimedT] | None = None
        if sampling.preset != "oadtr":
            rate = sampling.feature_rate_hz(0.0) * sampling.size
            offset = 0.5 / rate if sampling.preset == "rate" else 0.0
            self._sampler = Resampler(rate_hz=rate, offset=offset, hold=hold)
        self._part: list[TimedT] = []
        self._recent: deque[TimedT] = deque(maxlen=max(context, sampling.size))

    def push(self, frame: TimedT) -> list[tuple[TimedT, ...]]:
        """Take the next frame, and return the chunks that it completes, of ``max(context, chunk)`` frames each."""
        return self._together([frame] if self._sampler is None else self._sampler.push(frame))

    def finish(self) -> list[tuple[TimedT, ...]]:
        """Return the chunks that the end of the stream completes."""
        return [] if self._sampler is None else self._together(self._sampler.finish())

    def _together(self, frames: Sequence[TimedT]) -> list[tuple[TimedT, ...]]:
        done = []
        for frame in frames:
            self._part.append(frame)
            if len(self._part) == self._size:
                if not self._recent:
                    self._recent.extend([self._part[0]] * (int(self._recent.maxlen or 0) - self._size))
                self._recent.extend(self._part)
                self._part.clear()
                done.append(tuple(self._recent))
        return done


def chunks(
    frames: Iterable[TimedT], sampling: Sampling, *, context: int = 0, hold: float | None = None
) -> Iterator[tuple[TimedT, ...]]:
    """Yield what each feature of a whole video is computed from: see :class:`Chunker`.

    Args:
        frames: All frames of the video, in order.
        sampling: Rate and size of the chunks.
        context: Frames to hand out with each chunk, if that is more than a chunk has.
        hold: Seconds for which the last frame of the video is shown.

    Yields:
        ``max(context, chunk)`` frames, the chunk at the end.

    Example:
        >>> from types import SimpleNamespace
        >>> video = [SimpleNamespace(time=i / 30) for i in range(60)]
        >>> [round(chunk[3].time, 2) for chunk in chunks(video, Sampling(preset="oadtr"))][:3]
        [0.1, 0.3, 0.5]
        >>> [len(chunk) for chunk in chunks(video, Sampling(), context=16)]
        [16, 16, 16, 16, 16, 16, 16, 16]
    """
    chunker: Chunker[TimedT] = Chunker(sampling, context=context, hold=hold)
    for frame in frames:
        yield from chunker.push(frame)
    yield from chunker.finish()


def even_rate(
    sampling: Sampling, starts: Sequence[float], *, declared: float | None, counted: float | None
) -> tuple[float, list[str]]:
    """Return the features a second of a video, once its chunks are known, and what is odd about it.

    Labels lie at even times. `oadtr` hangs on the rate of the video, so each of its chunks has to start within half
    a chunk of the even time: by the declared rate, or else by the counted one.

    Args:
        sampling: Which frames made the chunks.
        starts: Seconds at which the chunks start, one or more.
        declared: Frames a second that the video declares, or none.
        counted: Frames a second that were counted, or none.

    Raises:
        DataError: If chunks of `oadtr` start at other times.

    Example:
        >>> even_rate(Sampling(preset="oadtr"), [0.0, 0.24, 0.48], declared=25.0, counted=25.0)
        (4.166666666666667, [])
    """
    if sampling.preset != "oadtr":
        return sampling.feature_rate_hz(0.0), []
    apart = declared is None or (counted is not None and abs(counted - declared) > _RATE_PART * declared)
    if declared is not None and not apart and _fits(starts, sampling.feature_rate_hz(declared)):
        return sampling.feature_rate_hz(declared), []
    video_rate = counted or declared or _USUAL_HZ
    rate = sampling.feature_rate_hz(video_rate)
    if not _fits(starts, rate):
        chunk, drift = _worst_drift(starts, rate)
        raise DataError(
            f"its frames are uneven in time: chunk {chunk} starts at {starts[chunk]:.2f} s, and would at "
            f"{starts[chunk] - drift:.2f} s by {video_rate:.5g} frames a second: use sampling=lstr"
        )
    said = "no rate" if declared is None else f"{declared:.6g} frames a second"
    return rate, [f"declares {said} but shows {video_rate:.6g}, which is used: see sampling=lstr"]


def _fits(starts: Sequence[float], rate_hz: float) -> bool:
    return abs(_worst_drift(starts, rate_hz)[1]) <= 0.5 / rate_hz


def _worst_drift(starts: Sequence[float], rate_hz: float) -> tuple[int, float]:
    """Return the chunk whose start is farthest from ``k / rate_hz``, and how many seconds after it it starts."""
    drifts = [start - index / rate_hz for index, start in enumerate(starts)]
    return max(enumerate(drifts), key=lambda item: abs(item[1]))
