"""A video or sound that is going on, frame by frame, block by block, as it goes on."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from coadtr.audio import microphone
from coadtr.errors import ConfigError, DataError
from coadtr.live.hearing import Block, SoundReader
from coadtr.live.lag import Lag
from coadtr.video.address import camera, is_live, is_url, shown
from coadtr.video.decode import VideoReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from coadtr.video.sampling import Shown

__all__ = ["LiveSource", "Seen"]

_log = logging.getLogger("coadtr.live")
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 10.0
# A frame that is the last one of its part lasts so long.
_FRAME_S: Final = 1 / 25
_ROUNDING_S: Final = 1e-6
# Makes frames as fast as they are taken, as a file does.
_NOT_A_CAMERA: Final = "lavfi"


class Reader(Protocol):
    """Gives the frames or blocks of one connection."""

    def __iter__(self) -> Iterator[Shown | Block]:
        """Yield them, in order."""
        ...


class Seen(NamedTuple):
    """A frame as it was seen, or a block as it was heard.

    Attributes:
        frame: Its picture or samples, and its time since the start of its part.
        part: Number of the connection that it came by: after a lost one the video begins anew.
        offset: Seconds from the start of the first part to the start of this one.
        lag: Tells how far behind the part one is.
    """

    frame: Shown | Block
    part: int
    offset: float
    lag: Lag


class LiveSource:
    """Show a camera, an address or a file frame by frame, or a microphone or file block by block, none before its time.

    A file is shown at its own speed, or as fast as it is taken. A camera or an address whose connection is lost is
    opened again, with longer and longer pauses; one that cannot be opened in the first place is an error.

    Args:
        source: File, address (``rtsp://`` and others), or camera (``camera:0``, ``/dev/video0``).
        realtime: Whether a file is shown at its own speed.
        max_seconds: Stop after this much of the video; none for all of it.
        reconnect_seconds: How long a lost connection is tried again; 0 ends the stream, none tries for ever.
        sound_hz: Samples a second at which it is heard, where it is to be heard: a file, or a microphone
            (``microphone:0``). None: it is seen.

    Attributes:
        name: The source as views show it: a file without its folder, an address without passwords.
        sound: Whether it is heard.

    Raises:
        ConfigError: If a number is out of range, a microphone is to be seen, or a camera or an address to be heard.

    Example:
        >>> source = LiveSource("camera:lavfi:testsrc=size=32x32:rate=5:duration=1", realtime=False)
        >>> [round(seen.frame.time, 3) for seen in source.frames()]
        [0.0, 0.2, 0.4, 0.6, 0.8]
    """

    def __init__(
        self,
        source: str,
        *,
        realtime: bool = True,
        max_seconds: float | None = None,
        reconnect_seconds: float | None = None,
        sound_hz: int | None = None,
    ) -> None:
        if max_seconds is not None and not max_seconds > 0:
            raise ConfigError(f"max_seconds={max_seconds!r}: give a positive number, or null for the whole video")
        if reconnect_seconds is not None and not reconnect_seconds >= 0:
            raise ConfigError(f"reconnect_seconds={reconnect_seconds!r}: give 0 or more, or null to try for ever")
        self.sound, self._sound_hz = sound_hz is not None, sound_hz
        mic, device = microphone(source), camera(source)
        _check_sense(source, self.sound)
        # Pages are seen from elsewhere, and the folders of this machine are nobody's business there.
        away = mic is not None or device is not None or (is_url(source) and not source.lower().startswith("file:"))
        self.name = shown(source) if away else PurePath(source).name
        self._seen, self._end = False, 0.0
        named = mic or device
        self._camera = (mic is not None or is_live(source)) and (named is None or named[0] != _NOT_A_CAMERA)
        self._source, self._realtime = source, realtime
        self._most, self._patience = max_seconds, reconnect_seconds
        self._stopped = threading.Event()

    @property
    def live(self) -> bool:
        """Whether frames come at the speed of the world: of a camera, or of a file that is shown so."""
        return self._camera or self._realtime

    def check(self) -> None:
        """Make sure that a file can be opened, before anything slow is done; cameras and addresses are left alone.

        Raises:
            DataError: If it cannot.
        """
        if not is_url(self._source) and camera(self._source) is None and microphone(self._source) is None:
            with self._open():
                pass

    def stop(self) -> None:
        """End the stream, from any thread, at its next frame."""
        self._stopped.set()

    def frames(self) -> Iterator[Seen]:
        """Yield the frames, each when it is time.

        Raises:
            DataError: If the source cannot be opened, or is a file that is broken; then after its last good frame.
        """
        part, begun = 0, time.monotonic()
        wait, lost_at = _FIRST_WAIT_S, 0.0
        while not self._stopped.is_set():
            lost = f"{self.name}: the connection ended"
            try:
                with self._open() as reader:
                    begun = begun if self._seen else time.monotonic()
                    # A clock that runs ahead may have shown more seconds than have passed.
                    offset = max(time.monotonic() - begun, self._end) if self._seen else 0.0
                    for seen in self._part(reader, part, offset):
                        self._seen, wait, lost_at = True, _FIRST_WAIT_S, 0.0
                        self._end = offset + seen.frame.time + (0.0 if self.sound else _FRAME_S)
                        yield seen
            except DataError as error:
                if not (self._camera and self._seen):
                    raise
                lost = str(error)
            now = time.monotonic()
            if not self._camera or self._patience == 0 or self._over(now - begun):
                return
            if not lost_at:
                lost_at = now
                _log.warning("%s; trying again", lost)
            elif self._patience is not None and now - lost_at > self._patience:
                raise DataError(f"{lost}; it was tried again for {now - lost_at:.3g} s")
            self._stopped.wait(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)
            part += 1

    def _over(self, seconds: float) -> bool:
        return self._stopped.is_set() or (self._most is not None and seconds >= self._most)

    def _open(self) -> AbstractContextManager[Reader]:
        return VideoReader(self._source) if self._sound_hz is None else SoundReader(self._source, self._sound_hz)

    def _past(self, moment: float) -> bool:
        """Say whether a frame that is there at a moment of the stream is too much."""
        if self._most is None:
            return False
        return moment > self._most + _ROUNDING_S if self.sound else moment >= self._most

    def _part(self, reader: Reader, part: int, offset: float) -> Iterator[Seen]:
        origin: float | None = None
        lag, frames = Lag(), iter(reader)
        last = 0.0
        while True:
            asked = time.monotonic()
            frame = next(frames, None)
            if frame is None:
                return
            if self._stopped.is_set() or self._past(offset + frame.time):
                return
            now = time.monotonic()
            if not self._camera and self._realtime:
                if origin is None:
                    origin = now - frame.time
                    lag = Lag(origin)
                if (early := origin + frame.time - now) > 0 and self._stopped.wait(early):
                    return
            elif not self._camera:
                lag = Lag(now - frame.time)  # as fast as it goes, nothing is ever late
            lag.arrived(frame.time, now, waited=now - asked > 0.5 * (frame.time - last))
            last = frame.time
            yield Seen(frame, part, offset, lag)


def _check_sense(source: str, sound: bool) -> None:
    if microphone(source) is not None and not sound:
        raise ConfigError(f"source={source} has no pictures, which the checkpoint takes: give a camera or a video")
    if sound and (camera(source) is not None or is_url(source)):
        raise ConfigError(
            f"source={shown(source)} is not heard, and the checkpoint takes sound: give a file, or a microphone "
            "(microphone:0)"
        )
