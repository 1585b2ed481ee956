"""Samples of a sound file, of the sound of a video, or of a microphone, by PyAV."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from coadtr.audio.address import microphone
from coadtr.audio.ffmpeg import LOCAL_ONLY, cause, import_av, open_container
from coadtr.audio.lengths import check_complete, declared
from coadtr.audio.resampling import Resampling, check_rate
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["AudioReader", "read_audio"]

# What sound is missing inside a file is filled with silence, so that the rest keeps its time; up to so much.
_MOST_GAP_S: Final = 60.0
_LATEST_START_S: Final = 3600.0
# Time stamps of containers are rounded, to a millisecond or to a packet.
_LEAST_GAP_S: Final = 0.05
_ALSA: Final = Path("/usr/share/alsa/alsa.conf")
# Bytes from one sample to the middle: 8 bits lie around 128.
_UNSIGNED_MIDDLE: Final = 128.0


class AudioReader:
    """Decode sound from its first sample to its last, mixed down to one channel.

    Channels are averaged. The first stream of sound is read, so a video will do. Samples count from the start of the
    container, as in a player: where the sound of a video begins 2 s after the pictures, 2 s of silence come first,
    and sound that is missing inside is silence too. A packet that cannot be decoded, or is left out, is counted in
    ``damaged``. A file that is cut short raises `DataError` at once (WAV, Ogg) or after its last good sample: where
    the header counts bytes or samples (WAV, FLAC, AIFF) all of them have to be there; containers whose length is
    rounded (MP4, Matroska, Ogg, MP3 with a header) may miss a hundredth; an MP3 or AAC file without a header does
    not say how long it is.

    Args:
        source: File, or ``microphone:0`` and ``microphone:FORMAT:DEVICE``.
        rate_hz: Samples a second that come out; none for the file's own.
        max_seconds: Stop after this much of it; none for all.

    Attributes:
        source: As messages show it.
        source_rate_hz: Samples a second of the file.
        rate_hz: Samples a second that come out.
        channels: Channels of the file.
        damaged: Packets that could not be decoded so far, and gaps.

    Raises:
        DataError: If the source cannot be opened, holds no sound, or is a WAV file that is cut short.
        ConfigError: If a number is out of range.
        MissingExtraError: If PyAV is not installed.

    Example:
        >>> AudioReader("no_such_file.wav")
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such_file.wav: cannot be opened (No such file or directory): give a sound file
    """

    def __init__(self, source: str | Path, *, rate_hz: int | None = None, max_seconds: float | None = None) -> None:
        if max_seconds is not None and not max_seconds > 0:
            raise ConfigError(f"max_seconds={max_seconds!r}: give a positive number, or null for all of it")
        if rate_hz is not None:
            check_rate(rate_hz, "rate_hz")
        self.source = str(source)
        self.damaged = 0
        self._av = import_av("decoding sound", "audio")
        self._device = microphone(source)
        self._path = None if self._device is not None else Path(source)
        self._most = max_seconds
        self._container = self._open()
        try:
            if self._path is not None:
                check_complete(self._path)
            self._stream = self._pick_stream()
            self.source_rate_hz, self.channels = int(self._stream.rate), int(self._stream.channels)
            self.rate_hz = rate_hz or self.source_rate_hz
            self._resampling = Resampling(self.source_rate_hz, self.rate_hz)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file or device."""
        self._container.close()

    @property
    def declared_seconds(self) -> float | None:
        """Seconds from the start to the end of the sound, as the container declares it; none if it does not know."""
        return declared(self._container, self._stream, self._path)[0]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield blocks ``(n,)`` of samples at ``rate_hz``; can be gone through once.

        Raises:
            DataError: If the file is broken; after its last good sample.
        """
        for block in self._blocks():
            if len(out := self._resampling.push(block)):
                yield out
        if len(out := self._resampling.finish()):
            yield out

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield blocks at the rate of the source, with silence where something is missing."""
        taken, sound, faulty = 0, 0, False
        most = None if self._most is None else round(self._most * self.source_rate_hz)
        size = self.source_rate_hz
        for frame in self._decoded():
            if frame is None:
                self.damaged += 1
                faulty = True
                continue
            block = self._mono(frame, taken)
            gap = self._gap(frame, taken)
            # A reader of packets that finds a wrong checksum leaves the packet out without a word.
            self.damaged += bool(gap and sound and not faulty)
            faulty = False
            if gap > (_MOST_GAP_S if sound else _LATEST_START_S) * self.source_rate_hz:
                raise self._broken(f"jumps by {gap / self.source_rate_hz:.1f} s", taken)
            silence = (np.zeros(min(size, gap - begin), np.float32) for begin in range(0, gap, size))
            for part in chain(silence, (block,)):
                kept = part if most is None else part[: most - taken]
                taken += len(kept)
                if len(kept):
                    yield kept
            sound += len(block)
            if most is not None and taken >= most:
                return
        if not sound:
            raise DataError(f"{self.source}: holds no sound that can be decoded: copy or download it again")
        if faulty:
            raise self._broken("ends in damaged data", taken)
        self._check_length(taken)

    def _gap(self, frame: Any, taken: int) -> int:
        """Return how many samples are missing before a frame."""
        if self._path is None or frame.pts is None:
            return 0
        start = float((self._container.start_time or 0) / self._av.time_base)
        gap = float(frame.pts * frame.time_base) - start - taken / self.source_rate_hz
        return round(gap * self.source_rate_hz) if gap >= _LEAST_GAP_S else 0

    def _mono(self, frame: Any, taken: int) -> NDArray[np.float32]:
        if frame.sample_rate != self.source_rate_hz:
            raise self._broken(f"changes from {self.source_rate_hz} to {frame.sample_rate} samples a second", taken)
        raw: NDArray[Any] = frame.to_ndarray()
        channels = len(frame.layout.channels)
        raw = raw if frame.format.is_planar else raw.reshape(-1, channels).T
        if raw.dtype.kind == "u":
            raw = (raw.astype(np.float32) - _UNSIGNED_MIDDLE) / _UNSIGNED_MIDDLE
        elif raw.dtype.kind == "i":
            raw = raw / float(-np.iinfo(raw.dtype).min)
        mono: NDArray[np.float32] = (raw[0] if len(raw) == 1 else raw.mean(0, dtype=np.float64)).astype(np.float32)
        if not np.isfinite(mono).all():
            raise self._broken("holds samples that are not finite numbers", taken)
        return mono

    def _decoded(self) -> Iterator[Any]:
        """Yield decoded frames, and none for each packet that cannot be decoded."""
        errors = self._av.error
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (errors.FFmpegError, OSError) as error:
                raise DataError(
                    f"{self.source}: cannot be read on ({cause(error)}): copy or download it again"
                ) from error
            try:
                decoded = packet.decode()
            except (errors.FFmpegError, OSError):
                yield None
                continue
            yield from decoded

    def _check_length(self, taken: int) -> None:
        seconds, tolerance = declared(self._container, self._stream, self._path)
        if seconds is not None and taken / self.source_rate_hz < seconds - tolerance:
            raise self._broken(f"is cut short: it declares {seconds:.2f} s", taken)

    def _broken(self, what: str, taken: int) -> DataError:
        good = f"{taken / self.source_rate_hz:.2f} s are good" if taken else "no sample is good"
        return DataError(f"{self.source}: {what}, {good}: copy or download it again, or cut it there")

    def _open(self) -> Any:
        options: dict[str, Any] = {}
        if self._device is not None:
            options["format"], name = self._device
            _find_alsa(self._device[0])
            remedy = "check that it is connected, that no other program uses it, and that you may listen to it"
        else:
            options["options"] = LOCAL_ONLY
            name, remedy = f"file:{self.source}", "give a sound file"
        return open_container(self._av, name, options, shown=self.source, remedy=remedy)

    def _pick_stream(self) -> Any:
        streams = [stream for stream in self._container.streams.audio if stream.codec_context is not None]
        streams = [stream for stream in streams if stream.rate and stream.channels]
        if not streams:
            found = sorted({stream.type for stream in self._container.streams}) or ["nothing"]
            raise DataError(f"{self.source}: has no sound (it holds {', '.join(found)}): give a sound file")
        stream = streams[0]
        if stream.codec_context.name == "flac":  # whose frames have a checksum; FFmpeg plays a wrong one as it is
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        return stream


def read_audio(source: str | Path, *, rate_hz: int | None = None) -> tuple[NDArray[np.float32], int]:
    """Decode all of a file.

    Args:
        source: File.
        rate_hz: Samples a second to bring it to; none for the file's own.

    Returns:
        ``(n,)`` float32 between -1 and 1 (a file of floats may go beyond), and samples a second.

    Raises:
        DataError: If the file is not sound, is damaged or cut short.
        MissingExtraError: If PyAV is not installed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes.wav"
        >>> _ = path.write_text("no sound")
        >>> read_audio(path)
        Traceback (most recent call last):
        coadtr.errors.DataError: ...notes.wav: cannot be opened (Invalid data found when ...): give a sound file
    """
    with AudioReader(source, rate_hz=rate_hz) as reader:
        return np.concatenate([*reader], dtype=np.float32), reader.rate_hz


def _find_alsa(device_format: str) -> None:
    """Name the settings of ALSA, which the library inside the wheels of PyAV seeks where those were built."""
    if device_format == "alsa" and _ALSA.is_file():
        os.environ.setdefault("ALSA_CONFIG_PATH", str(_ALSA))
