"""Frames of a video with the time at which each is shown, by PyAV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from coadtr.audio.ffmpeg import LOCAL_ONLY, cause, import_av, open_container, tag_seconds
from coadtr.errors import ConfigError, DataError
from coadtr.video.address import camera, is_live, is_url, shown
from coadtr.video.clock import MAX_GAP_S, Clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from av import VideoFrame
    from numpy.typing import NDArray

__all__ = ["Frame", "VideoReader", "decode_frames"]

# The same number everywhere: how a damaged packet is patched over depends on it, and so would the features.
_DECODER_THREADS: Final = 4
_TIMEOUT_S: Final = 30.0
# What a container says of its length is rounded, and may count the sound after the last picture.
_SHORT_S, _SHORT_PART = 1.0, 0.02


class Frame:
    """One decoded frame; it becomes an RGB array only when asked, as most frames of a chunk are not used.

    Attributes:
        time: Seconds since the start of the container, see `VideoReader`.
    """

    __slots__ = ("_frame", "_rgb", "time")

    def __init__(self, time: float, frame: VideoFrame) -> None:
        self.time = time
        self._frame = frame
        self._rgb: NDArray[np.uint8] | None = None

    @property
    def rotation(self) -> int:
        """Degrees by which the stored picture is turned counter-clockwise to be upright: 0, 90, 180 or 270."""
        return round(self._frame.rotation / 90) % 4 * 90

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """The upright picture, ``(H, W, 3)`` uint8."""
        if self._rgb is None:
            picture: NDArray[Any] = self._frame.to_ndarray(format="rgb24")
            self._rgb = np.ascontiguousarray(np.rot90(picture, self.rotation // 90), dtype=np.uint8)
        return self._rgb


class VideoReader:
    """Decode a video from its first frame to its last, in the order in which they are shown.

    Times come from presentation time stamps, so frames of uneven length keep their times. They count from the start
    of the container, as in a player: where the sound begins 2 s before the pictures, the first frame is at 2 s.
    In a container that starts at another time than 0, and at cameras, time 0 is that start. The picture is turned
    upright. The first video stream is read; sound and cover pictures are left alone. A packet that cannot be
    decoded is counted in ``damaged`` and passed over; a video that ends in damage or well before its declared
    end, or whose time jumps by more than a minute, raises `DataError` after its last good frame.

    Args:
        source: File, address that FFmpeg can open (``http://``, ``rtsp://`` and others), or camera: ``camera:0``.
        max_seconds: Stop after this much of the video; none for all of it.
        timeout: Seconds to wait for an address to answer.

    Raises:
        DataError: If the source cannot be opened or holds no video.
        ConfigError: If ``max_seconds`` is not above 0.
        MissingExtraError: If PyAV is not installed.

    Example:
        >>> VideoReader("no_such_file.mp4")
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such_file.mp4: cannot be opened (No such file or directory): give a video file
    """

    def __init__(self, source: str | Path, *, max_seconds: float | None = None, timeout: float = _TIMEOUT_S) -> None:
        if max_seconds is not None and not max_seconds > 0:
            raise ConfigError(f"max_seconds={max_seconds!r}: give a positive number, or null for the whole video")
        self.source = shown(source)
        self.max_seconds = max_seconds
        self.frames = self.damaged = 0
        self._av = import_av("decoding video", "video")
        self._container = self._open(source, timeout)
        try:
            self._stream = self._pick_stream()
        except BaseException:
            self.close()
            raise
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.rate_hz: float | None = float(rate) if rate else None
        # The parts of a live stream begin as they arrive: what lies between them says nothing.
        start = None if is_live(source) else self._start()
        self._clock = Clock(self._container.format.name, float(self._stream.time_base or 0), self.rate_hz, start)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file or connection."""
        self._container.close()

    @property
    def codec(self) -> str:
        """Name of the codec, such as ``h264``."""
        return str(self._stream.codec_context.name)

    @property
    def declared_seconds(self) -> float | None:
        """Length that the container declares, in seconds from its start; the shortest if it names several."""
        if self._container.format.name == "avi" and self._stream.frames and self.rate_hz:
            # FFmpeg takes the length of an AVI without index from the size of the file, which may be cut.
            return float(self._stream.frames) / self.rate_hz
        known = []
        if self._stream.duration and self._stream.time_base:
            begins = float((self._stream.start_time or 0) * self._stream.time_base)
            known.append(max(0.0, begins - self._start()) + float(self._stream.duration * self._stream.time_base))
        if (tag := tag_seconds(self._stream.metadata.get("DURATION"))) is not None:
            known.append(tag)
        if self._container.duration:
            known.append(self._container.duration / self._av.time_base)
        return min((seconds for seconds in known if seconds > 0), default=None)

    def measured_rate(self) -> float | None:
        """Frames a second over the frames read so far, or none before the second."""
        return (self.frames - 1) / self._clock.span if self.frames > 1 and self._clock.span > 0 else None

    def _start(self) -> float:
        """Return the time stamp at which the container starts, in seconds."""
        return float((self._container.start_time or 0) / self._av.time_base)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; can be gone through once.

        Raises:
            DataError: If the video is broken; the message has its last good time.
        """
        faulty = False
        for frame in self._decoded():
            if frame is None or frame.is_corrupt:
                self.damaged += 1
                faulty = True
                if frame is None:
                    continue
            else:
                faulty = False
            good = self._clock.last
            time = self._clock.seconds(frame.pts, frame.dts)
            if time - good > MAX_GAP_S:
                raise self._broken(f"jumps from {good:.2f} s to {time:.2f} s", good)
            if self.max_seconds is not None and time >= self.max_seconds:
                return
            self.frames += 1
            yield Frame(time, frame)
        if self.frames == 0:
            raise DataError(f"{self.source}: holds no frame that can be decoded: copy or download it again")
        if faulty:
            raise self._broken("ends in damaged data")
        self._check_length()

    def _decoded(self) -> Iterator[VideoFrame | None]:
        """Yield decoded frames, and none for each packet that cannot be decoded."""
        errors = self._av.error
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (errors.FFmpegError, OSError) as error:
                raise self._broken(f"cannot be read on ({cause(error)})") from error
            try:
                decoded = packet.decode()
            except errors.InvalidDataError:
                yield None
                continue
            except (errors.FFmpegError, OSError) as error:
                raise self._broken(f"cannot be decoded on ({cause(error)})") from error
            yield from decoded

    def _check_length(self) -> None:
        declared, reached = self.declared_seconds, self._clock.reached
        if declared is None or is_url(self.source) or is_live(self.source):
            return
        if reached < declared - max(_SHORT_S, _SHORT_PART * declared):
            raise self._broken(f"is cut short: it declares {declared:.2f} s")

    def _broken(self, what: str, last: float | None = None) -> DataError:
        last = self._clock.last if last is None else last
        good = f"{self.frames} frames up to {last:.2f} s are good" if self.frames else "no frame is good"
        return DataError(f"{self.source}: {what}, {good}: copy or download it again, or cut it there")

    def _open(self, source: str | Path, timeout: float) -> Any:
        options: dict[str, Any] = {}
        if (device := camera(source)) is not None:
            options["format"], name = device
            remedy = "check that it is connected, that no other program uses it, and that you may read it"
        elif is_url(source):
            options |= {"timeout": timeout}
            if self.source.lower().startswith("rtsp"):
                options["options"] = {"rtsp_transport": "tcp"}
            name, remedy = str(source), "check the address and that it can be reached from here"
        else:
            options["options"] = LOCAL_ONLY
            name, remedy = f"file:{source}", "give a video file"
        return open_container(self._av, name, options, shown=self.source, remedy=remedy)

    def _pick_stream(self) -> Any:
        attached = self._av.stream.Disposition.attached_pic
        streams = [stream for stream in self._container.streams.video if not stream.disposition & attached]
        streams = [stream for stream in streams if stream.codec_context is not None and stream.codec_context.width]
        if not streams or self._container.format.name == "tty":
            found = sorted({stream.type for stream in self._container.streams}) or ["nothing"]
            raise DataError(f"{self.source}: has no video stream (it holds {', '.join(found)}): give a video file")
        stream = streams[0]
        stream.codec_context.thread_type = "FRAME"
        stream.codec_context.thread_count = _DECODER_THREADS
        return stream


def decode_frames(source: str | Path, *, max_seconds: float | None = None) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Decode a video: the time of each frame and its upright picture.

    Args:
        source: File or address.
        max_seconds: Stop after this much of the video; none for all of it.

    Yields:
        Seconds since the start of the container, and ``(H, W, 3)`` RGB uint8.

    Raises:
        DataError: If the source is no video, or is broken; then after the last good frame.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes.mp4"
        >>> _ = path.write_text("no video")
        >>> next(decode_frames(path))
        Traceback (most recent call last):
        coadtr.errors.DataError: ...notes.mp4: cannot be opened (Invalid data found when ...): give a video file
    """
    with VideoReader(source, max_seconds=max_seconds) as reader:
        for frame in reader:
            yield frame.time, frame.rgb
