"""Features while a video is still going on: those of `coadtr extract`, as soon as their frames are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import numpy as np
import torch

from coadtr.errors import ConfigError, DataError, ShapeError
from coadtr.video.record import check_rebuilt, recorded_extraction
from coadtr.video.sampling import Chunker
from coadtr.video.workers import LazyPictures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from coadtr.video.sampling import Sampling, Shown
    from coadtr.video.workers import Extraction, Networks

__all__ = ["Chunk", "Eyes", "Feature", "FeatureStream", "Picture"]


class Picture(NamedTuple):
    """A frame that is an array.

    Attributes:
        time: Seconds since the start of the video.
        rgb: ``(H, W, 3)`` uint8, upright.
    """

    time: float
    rgb: NDArray[np.uint8]


class Chunk(NamedTuple):
    """The frames of one feature.

    Attributes:
        time: Seconds at which the chunk starts.
        frames: Its frames, after those before it if a network looks at more.
    """

    time: float
    frames: tuple[Shown, ...]

    @property
    def ready(self) -> float:
        """Seconds at which its last frame is shown."""
        return self.frames[-1].time


class Feature(NamedTuple):
    """What a detector takes as one frame.

    Attributes:
        time: Seconds at which its chunk starts.
        values: ``(D,)`` float32, the streams joined in the order of the detector.
    """

    time: float
    values: NDArray[np.float32]


class Described(Protocol):
    """What says how its features were made: the description of an exported file, or the spec of a checkpoint."""

    @property
    def extractors(self) -> Mapping[str, Mapping[str, str]]:
        """What made the features of each stream."""
        ...

    @property
    def streams(self) -> Mapping[str, int]:
        """Name and channels of each stream, in the order in which they are joined."""
        ...


class Eyes:
    """The networks that turn pictures into features, shared by all streams of one thread.

    Args:
        networks: Network of each feature stream, by its name, in the order in which the features are joined.
        sampling: Which frames make one feature.

    Attributes:
        sampling: Which frames make one feature.
        dim: Channels D of a feature.

    Example:
        >>> from coadtr.video import Sampling
        >>> eyes = Eyes({}, Sampling())
        >>> [feature.values.shape for feature in eyes.stream().push(Picture(0.0, np.zeros((8, 8, 3), np.uint8)))]
        []
    """

    def __init__(self, networks: Networks, sampling: Sampling) -> None:
        self.sampling = sampling
        self._networks = networks
        self.dim = sum(network.dim for network in networks.values())

    @classmethod
    def of(cls, description: Described, *, device: str = "cpu", threads: int = 1) -> Self:
        """Load the networks that a detector was trained with.

        Args:
            description: Says how the features were made.
            device: Where the networks compute.
            threads: Threads of torch, for the whole process.

        Raises:
            ConfigError: If that is not known, or the same weights cannot be had.
            DataError: If weights have to be downloaded and cannot be.
            MissingExtraError: If a package is missing.
        """
        extraction: Extraction = recorded_extraction(
            description.extractors, description.streams, device=device, threads=threads
        )
        loaded = extraction.load()
        check_rebuilt(loaded, extraction.sampling, description.extractors)
        networks = {name: loaded[name] for name in description.streams}
        for name, channels in description.streams.items():
            if networks[name].dim != channels:
                raise ConfigError(
                    f"the checkpoint takes {channels} channels of {name!r}, and the backbone on its record makes "
                    f"{networks[name].dim}; export the checkpoint again"
                )
        torch.set_num_threads(threads)
        return cls(networks, extraction.sampling)

    @property
    def pictures_per_second(self) -> float | None:
        """How many pictures a second are enough; None for all that a video has.

        A network that takes one image of a chunk is served by two pictures in the time of a chunk. Times of pictures
        are those at which they were taken, so more pictures than these give the same features or closer ones.
        """
        if self.sampling.preset == "oadtr":
            return None
        rate = self.sampling.feature_rate_hz(0.0)
        images = all(network.context == 1 for network in self._networks.values())
        return 2 * rate if images else rate * self.sampling.size

    def stream(self) -> FeatureStream:
        """Begin with a video."""
        return FeatureStream(self)

    def context(self) -> int:
        """Frames that have to be at hand for one feature."""
        return max((network.context for network in self._networks.values()), default=1)

    def look(self, frames: Sequence[Shown]) -> NDArray[np.float32]:
        """Return the feature ``(D,)`` of the frames of a chunk.

        Raises:
            DataError: If frames of one clip differ in size.
        """
        tensors = LazyPictures(frames)
        parts = [
            network.compute(network.prepare(tensors, self.sampling)[None])[0].numpy()
            for network in self._networks.values()
        ]
        return np.concatenate(parts, dtype=np.float32)


class FeatureStream:
    """The features of one video that is going on.

    Args:
        eyes: The networks.

    Example:
        >>> from coadtr.video import Sampling
        >>> stream = Eyes({}, Sampling()).stream()
        >>> [len(stream.chunks(Picture(index / 8, np.zeros((4, 4, 3), np.uint8)))) for index in range(5)]
        [0, 0, 1, 0, 1]
    """

    def __init__(self, eyes: Eyes) -> None:
        self._eyes = eyes
        self._chunker: Chunker[Shown] = Chunker(eyes.sampling, context=eyes.context())
        self._count = 0
        self._last = 0.0
        self._seen: tuple[tuple[Shown, ...], NDArray[np.float32]] | None = None

    def push(self, picture: Shown) -> list[Feature]:
        """Take the next picture and return the features that are complete: those whose chunks ended before it.

        Args:
            picture: Its time must not go back.

        Raises:
            DataError: If frames of one clip differ in size, or the time went back.
            ShapeError: If a `Picture` is no ``(H, W, 3)`` uint8 array.
        """
        if isinstance(picture, Picture):  # a decoded frame is one array only when it is looked at
            _check(picture.rgb)
        return [self.look(chunk) for chunk in self.chunks(picture)]

    def finish(self) -> list[Feature]:
        """Return the features that the end of the video completes."""
        return [self.look(chunk) for chunk in self.rest()]

    def chunks(self, picture: Shown) -> list[Chunk]:
        """Take the next picture and return the chunks that are complete, for `look`: nothing is computed here.

        Raises:
            DataError: If the time of the picture went back.
        """
        if not picture.time >= self._last:
            raise DataError(f"time went back from {self._last!r} s to {picture.time!r} s; give pictures in order")
        self._last = picture.time
        return [self._chunk(frames) for frames in self._chunker.push(picture)]

    def rest(self) -> list[Chunk]:
        """Return the chunks that the end of the video completes."""
        return [self._chunk(frames) for frames in self._chunker.finish()]

    def look(self, chunk: Chunk) -> Feature:
        """Return the feature of a chunk; of one that shows what the one before it did, without looking again."""
        if self._seen is None or not _same(self._seen[0], chunk.frames):
            self._seen = chunk.frames, self._eyes.look(chunk.frames)
        return Feature(chunk.time, self._seen[1])

    def _chunk(self, frames: tuple[Shown, ...]) -> Chunk:
        sampling = self._eyes.sampling
        time = frames[-sampling.size].time
        if sampling.preset != "oadtr":  # labels lie at even times, and so do these
            time = self._count / sampling.feature_rate_hz(0.0)
        self._count += 1
        return Chunk(time, frames)


def _same(some: tuple[Shown, ...], others: tuple[Shown, ...]) -> bool:
    return all(one is other for one, other in zip(some, others, strict=True))


def _check(rgb: NDArray[np.uint8]) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise ShapeError(f"a picture is {rgb.shape} {rgb.dtype}; give (H, W, 3) uint8")
