"""Eyes that tests can afford, and pictures for them."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from coadtr.serving.eyes import Picture
from coadtr.serving.protocol import write_picture
from tests.serving.leaky import detector
from tests.serving.talking import told


class Colours(NamedTuple):
    """What `ColourEyes` make of two pictures."""

    time: float
    values: NDArray[np.float32]


class ColourEyes:
    """Make a feature of every two pictures: the mean colours of the first, red and green of the second.

    Pictures as high as `POISON` make them fail, as a network would.
    """

    POISON = 13
    pictures_per_second: float | None = 10.0

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def stream(self) -> ColourStream:
        """Begin with a video."""
        return ColourStream(self)


class ColourStream:
    """The features of one video."""

    def __init__(self, eyes: ColourEyes) -> None:
        self._eyes = eyes
        self._waiting: list[Picture] = []

    def push(self, picture: Picture) -> list[Colours]:
        """Take the next picture."""
        self._eyes.threads.add(threading.current_thread().name)
        if len(picture.rgb) == ColourEyes.POISON:
            raise RuntimeError("the network fell over")
        self._waiting.append(picture)
        return [self._feature(2)] if len(self._waiting) == 2 else []

    def finish(self) -> list[Colours]:
        """Make a feature of one picture."""
        return [self._feature(1)] if self._waiting else []

    def _feature(self, count: int) -> Colours:
        first, last = self._waiting[0], self._waiting[count - 1]
        self._waiting = []
        colours = np.concatenate([_mean(first.rgb), _mean(last.rgb)[:2]])
        return Colours(first.time, colours.astype(np.float32))


def _mean(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = rgb.mean(axis=(0, 1)) / 255
    return means


def picture_of(seed: int, size: tuple[int, int] = (24, 32)) -> NDArray[np.uint8]:
    """Make a picture ``(H, W, 3)``: of one colour, so that JPEG hardly changes it."""
    rng = np.random.default_rng(seed)
    return np.broadcast_to(rng.integers(0, 256, 3, np.uint8), (*size, 3)).copy()


def encode(rgb: NDArray[np.uint8], kind: str = "JPEG", **options: Any) -> bytes:
    """Write a picture as a file."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, kind, **options)
    return file.getvalue()


def files_of(count: int, seed: int = 0) -> list[bytes]:
    """Make pictures as JPEG files."""
    return [encode(picture_of(1000 * seed + index)) for index in range(count)]


def features_of(files: Sequence[bytes], times: Sequence[float], *, ended: bool = False) -> list[Colours]:
    """Make the features of picture files as the eyes do."""
    stream = ColourEyes().stream()
    found = []
    for file, time in zip(files, times, strict=True):
        found += stream.push(Picture(time, np.array(Image.open(io.BytesIO(file)).convert("RGB"))))
    return found + (stream.finish() if ended else [])


def solo_pictures(files: Sequence[bytes], times: Sequence[float], **options: Any) -> NDArray[np.float32]:
    """Score the features of picture files as a stream of their own."""
    features = features_of(files, times, **options)
    return detector().push_many(np.stack([one.values for one in features]), times=[one.time for one in features])


@contextmanager
def picturing(url: str, stream: str, query: str = "", **options: Any) -> Iterator[ClientConnection]:
    """Connect to send pictures; the greeting is not read."""
    with connect(
        f"{url.replace('http', 'ws')}/v1/pictures/{stream}?{query}", compression=None, **options
    ) as connection:
        yield connection


@contextmanager
def watching(url: str, stream: str, query: str = "", **options: Any) -> Iterator[ClientConnection]:
    """Connect to watch; the greeting is not read."""
    with connect(f"{url.replace('http', 'ws')}/v1/watch/{stream}?{query}", compression=None, **options) as connection:
        yield connection


def show(connection: ClientConnection, files: Sequence[bytes], times: Sequence[float]) -> list[dict[str, Any]]:
    """Send pictures, one after the other is seen, and receive the answers that come meanwhile."""
    answers: list[dict[str, Any]] = []
    for file, time in zip(files, times, strict=True):
        connection.send(write_picture(time, file))
        while "seen" not in (message := told(connection)):
            answers.append(message)
    return answers


def times_of(count: int, start: float = 0.0) -> list[float]:
    """Make times of pictures, ten a second."""
    return [start + index / 10 for index in range(count)]
