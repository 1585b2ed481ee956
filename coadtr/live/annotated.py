"""A live stream as a video file with its answers in the picture."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from coadtr.audio.ffmpeg import cause, import_av
from coadtr.data.atomic import replacing
from coadtr.errors import ConfigError, DataError
from coadtr.live.overlay import annotate

if TYPE_CHECKING:
    from pathlib import Path

    from coadtr.live.pipeline import Answer, Sight
    from coadtr.live.told import Action, Labels
    from coadtr.runtime import Event

__all__ = ["AnnotatedVideo"]

_KINDS: Final = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov", ".avi": "avi"}
_CODECS: Final = (("libx264", {"crf": "21", "preset": "veryfast"}), ("mpeg4", {"qscale": "4"}))
_CLOCK: Final = 90_000  # units a second, of the time stamps
_RATE: Final = 30


class AnnotatedVideo:
    """Write every frame with what was known when it was shown: no later answer gets into it.

    The file appears under its name when the stream has come to its end, or was stopped.

    Args:
        path: Video to write; its ending says the container: ``.mp4``, ``.mkv``, ``.mov`` or ``.avi``.
        labels: The classes.

    Raises:
        ConfigError: If the ending is another one.
        DataError: If the file cannot be written.
        MissingExtraError: If PyAV is not installed.
    """

    def __init__(self, path: Path, labels: Labels) -> None:
        av = import_av("writing a video file", "video")
        kind = _KINDS.get(path.suffix.lower())
        if kind is None:
            raise ConfigError(f"{path}: the ending says what is written; use one of {', '.join(_KINDS)}")
        self._av, self._path, self._labels = av, path, labels
        self._stack = contextlib.ExitStack()
        part = self._stack.enter_context(replacing(path))
        try:
            self._container: Any = av.open(str(part), "w", format=kind)
        except (av.error.FFmpegError, OSError) as error:
            self._give_up(error)
            raise DataError(f"{path}: cannot be written ({cause(error)}); name another file") from error
        self._stream: Any = None
        self._size = (0, 0)
        self._last = -1
        self._action: Action | None = None
        self._going_on: tuple[str, ...] = ()
        self._ended = False

    def answer(self, answer: Answer) -> None:
        """Take what the frames from here on show."""
        self._action = self._labels.current(answer.scores)
        for event in answer.events:
            others = tuple(name for name in self._going_on if name != event.class_name)
            self._going_on = (*others, event.class_name) if event.kind == "start" else others

    def frame(self, sight: Sight) -> None:
        """Write a frame.

        Raises:
            ConfigError: If it is sound.
        """
        if sight.frame is None:
            raise ConfigError(f"{self._path}: sound has no picture to write; use JSON lines or a page")
        rgb = annotate(sight.frame.rgb, self._action, sight.time, self._going_on)
        if self._stream is None:
            self._begin(*rgb.shape[:2])
        frame = self._av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame = frame.reformat(*self._size, format="yuv420p")  # also where the picture changes its size
        frame.pts = self._last = max(self._last + 1, round(sight.time * _CLOCK))
        frame.time_base = Fraction(1, _CLOCK)
        self._mux(frame)

    def end(self, events: tuple[Event, ...]) -> None:  # noqa: ARG002 - no frame is left to show them
        """Bring the file to its end, and to its name."""
        if self._stream is None:
            raise DataError(f"{self._path}: is not written, because the stream had no frame")
        self._mux(None)
        self._container.close()
        self._ended = True
        self._stack.close()

    def close(self) -> None:
        """Drop what is not complete."""
        if not self._ended:
            self._container.close()
            self._give_up(DataError("the stream failed"))

    def _begin(self, height: int, width: int) -> None:
        self._size = (width // 2 * 2, height // 2 * 2)  # this kind of colour has whole pairs
        for codec, options in _CODECS:
            if codec in self._av.codecs_available:
                self._stream = self._container.add_stream(codec, rate=_RATE, options=options)
                break
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, _CLOCK)

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (self._av.error.FFmpegError, OSError) as error:
            raise DataError(f"{self._path}: cannot be written on ({error}); make room there") from error

    def _give_up(self, error: BaseException) -> None:
        self._stack.__exit__(type(error), error, None)
