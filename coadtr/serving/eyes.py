"""Pictures in, features out, for streams whose clients have no features: one picture at a time, on one thread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

from coadtr.errors import DataError, MissingExtraError
from coadtr.serving.hub import RefusedError
from coadtr.serving.protocol import Close, read_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Eyes", "Feature", "FeatureStream", "Gaze", "Picture", "Seen", "Viewer"]

_T = TypeVar("_T")

WIDTH: Final = 640  # pixels that clients are asked for
# After a longer pause the features begin anew: what was to be seen meanwhile is not what was seen before it.
PAUSE_SECONDS: Final = 10.0
# Pictures a second that are asked for where networks look at all that a video has.
_USUAL_HZ: Final = 25.0


class Picture(NamedTuple):
    """A picture as eyes take it.

    Attributes:
        time: Seconds since the first picture.
        rgb: ``(H, W, 3)`` uint8, upright, no side longer than `coadtr.serving.images.SIDE`.
    """

    time: float
    rgb: NDArray[np.uint8]


class Feature(Protocol):
    """What a detector takes as one frame."""

    @property
    def time(self) -> float:
        """Seconds since the first picture."""
        ...

    @property
    def values(self) -> NDArray[np.float32]:
        """The frame, ``(D,)``."""
        ...


class FeatureStream(Protocol):
    """The features of one video that is going on."""

    def push(self, picture: Picture, /) -> Sequence[Feature]:
        """Take the next picture and return the features that it completes."""
        ...

    def finish(self) -> Sequence[Feature]:
        """Return the features that the end of the video completes."""
        ...


class Eyes(Protocol):
    """What makes features of pictures, such as :class:`coadtr.video.Eyes`. One thread uses it."""

    @property
    def pictures_per_second(self) -> float | None:
        """How many pictures a second it needs to see; None for all that a video has."""
        ...

    def stream(self) -> FeatureStream:
        """Begin with a video."""
        ...


class Moment(NamedTuple):
    """A feature and its time on the clock of the client, in seconds."""

    time: float
    values: NDArray[np.float32]


class Seen(NamedTuple):
    """What came of a picture.

    Attributes:
        time: Its time in seconds.
        jpeg: The picture as others are shown it.
        features: The features that it completed.
        seconds: What it took.
    """

    time: float
    jpeg: bytes
    features: list[Moment]
    seconds: float


class Gaze:
    """Look at the pictures of one connection. The thread of the eyes uses it.

    Args:
        eyes: What looks.
        last: Time before which no picture may lie, in seconds; None if any will do.
    """

    def __init__(self, eyes: Eyes, last: float | None) -> None:
        self._eyes, self._last = eyes, last
        self._stream: FeatureStream | None = None
        self._origin = 0.0

    def see(self, message: bytes) -> Seen:
        """Take the next picture.

        Args:
            message: It with its time: see :func:`coadtr.serving.protocol.write_picture`.

        Raises:
            DataError: If it is no picture, or its time went back.
        """
        from coadtr.serving.images import read_image, write_jpeg  # noqa: PLC0415 - needs Pillow

        begun = time.perf_counter()
        moment, data = read_picture(message)
        last = self._last
        if last is not None and moment < last:
            raise DataError(
                f"time went back from {last!r} s to {moment!r} s; send pictures in order, or say fresh=true"
            )
        rgb = read_image(data)
        if self._stream is None or last is None or moment - last > PAUSE_SECONDS:
            self._stream, self._origin = self._eyes.stream(), moment
        self._last = moment
        features = self._on_clock(self._stream.push(Picture(moment - self._origin, rgb)))
        seconds = time.perf_counter() - begun
        # Written anew: a file may say more than its picture shows, such as where it was taken.
        return Seen(moment, write_jpeg(rgb, WIDTH), features, seconds)

    def finish(self) -> list[Moment]:
        """Return the features that the end of the stream completes."""
        return [] if self._stream is None else self._on_clock(self._stream.finish())

    def _on_clock(self, features: Sequence[Feature]) -> list[Moment]:
        return [Moment(self._origin + feature.time, feature.values) for feature in features]


class Viewer:
    """Look at the pictures of all connections, on one thread of its own, one picture after the other.

    Args:
        eyes: What looks.
        most: Streams at a time.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """

    def __init__(self, eyes: Eyes, most: int) -> None:
        try:
            import PIL  # noqa: F401, PLC0415 - a server without eyes needs none
        except ImportError as error:
            raise MissingExtraError('pictures need Pillow: run `pip install "coadtr[video]"`') from error
        self._eyes, self._most = eyes, most
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="coadtr-eyes")
        self._open: Counter[str] = Counter()

    @property
    def told(self) -> dict[str, Any]:
        """Say what pictures are wanted, JSON-ready."""
        return {"per_second": self._eyes.pictures_per_second or _USUAL_HZ, "width": WIDTH}

    @contextlib.contextmanager
    def looking(self, stream: str) -> Iterator[None]:
        """Have a place for a stream's pictures.

        Raises:
            RefusedError: If there is none.
        """
        if len({*self._open, stream}) > self._most:
            raise RefusedError(Close.TOO_MANY, f"{self._most} streams send pictures, the limit; try again later")
        self._open[stream] += 1
        try:
            yield
        finally:
            self._open[stream] -= 1
            self._open += Counter()  # leaves those above 0

    def gaze(self, last: float | None) -> Gaze:
        """Begin with the pictures of a connection."""
        return Gaze(self._eyes, last)

    async def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Run a function on the thread of the eyes."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)

    def close(self) -> None:
        """Look at nothing more."""
        self._worker.shutdown(wait=False, cancel_futures=True)
