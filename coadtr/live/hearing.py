"""Sound that is going on: blocks of samples, and the log-mel features that a detector was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Self

from coadtr.audio import AudioReader, LogMel
from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from coadtr.audio import LogMelStream
    from coadtr.video.streaming import Described

__all__ = ["Block", "Ears", "Heard", "HeardStream", "SoundReader", "hears"]

# A file is told in pieces of so long: what is heard of it at its own speed does not come in bursts.
_BLOCK_S: Final = 0.01
_RATE_TOLERANCE: Final = 1e-3


class Block(NamedTuple):
    """Some samples of a stream.

    Attributes:
        time: Seconds since the start at which the last of them is there.
        samples: ``(n,)`` float32.
    """

    time: float
    samples: NDArray[np.float32]


class Heard(NamedTuple):
    """A feature of sound, which is known as soon as it is complete.

    Attributes:
        time: Seconds since the start at which its last sample is there.
        values: ``(D,)`` float32.
    """

    time: float
    values: NDArray[np.float32]

    @property
    def ready(self) -> float:
        """The same: it is complete then."""
        return self.time


class SoundReader:
    """Read sound in short blocks, as `coadtr.video.VideoReader` does frames.

    Args:
        source: File or microphone, as for `AudioReader`.
        rate_hz: Samples a second that are wanted.

    Raises:
        DataError: If it cannot be opened, or holds no sound.

    Example:
        >>> with SoundReader("microphone:lavfi:sine=frequency=440:duration=0.1", 8000) as reader:
        ...     blocks = [*reader]
        >>> sum(len(block.samples) for block in blocks), blocks[0].time, blocks[-1].time
        (800, 0.01, 0.1)
    """

    def __init__(self, source: str, rate_hz: int) -> None:
        self._reader = AudioReader(source, rate_hz=rate_hz)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file or device."""
        self._reader.close()

    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks; can be gone through once.

        Raises:
            DataError: If the file is broken; after its last good sample.
        """
        rate, taken = self._reader.rate_hz, 0
        size = max(1, round(_BLOCK_S * rate))
        for samples in self._reader:
            begin = 0
            while begin < len(samples):
                part = samples[begin : begin + size - taken % size]  # at even times, however the file is cut
                begin, taken = begin + len(part), taken + len(part)
                yield Block(taken / rate, part)


class Ears:
    """The front end that turns sound into features.

    Args:
        front_end: Its settings.

    Attributes:
        front_end: Its settings.

    Example:
        >>> import numpy as np
        >>> stream = Ears(LogMel()).stream()
        >>> [round(heard.time, 3) for heard in stream.chunks(Block(0.05, np.zeros(800, np.float32)))]
        [0.025, 0.035, 0.045]
    """

    def __init__(self, front_end: LogMel) -> None:
        self.front_end = front_end

    @classmethod
    def of(cls, description: Described, *, rate_hz: float) -> Self:
        """Make the front end that a detector was trained with.

        Args:
            description: Says how the features were made.
            rate_hz: Frames a second that the detector was trained on.

        Raises:
            ConfigError: If it does not take one stream of log-mel features at their own rate.
        """
        streams, told = description.streams, description.extractors
        if others := [name for name in streams if "front_end" not in told.get(name, {})]:
            raise ConfigError(
                f"the checkpoint takes {', '.join(map(repr, streams))}, and {', '.join(map(repr, others))} is not made "
                "of sound: give a checkpoint of sound alone or of pictures alone, or push features of your own "
                "(docs/runtime.md)"
            )
        if len(streams) != 1:
            raise ConfigError(
                f"the checkpoint takes {len(streams)} streams of sound ({', '.join(map(repr, streams))}); live it can "
                "be one: push features of your own (docs/runtime.md)"
            )
        ((name, channels),) = streams.items()
        front_end = LogMel.recorded(told[name])
        if front_end.dim != channels:
            raise ConfigError(
                f"the checkpoint takes {channels} channels of {name!r}, and the front end on its record makes "
                f"{front_end.dim}; export the checkpoint again"
            )
        if abs(front_end.feature_rate_hz - rate_hz) > _RATE_TOLERANCE * rate_hz:
            raise ConfigError(
                f"the checkpoint takes {rate_hz:g} frames a second, and the front end on its record makes "
                f"{front_end.feature_rate_hz:g}; push features of your own (docs/runtime.md)"
            )
        return cls(front_end)

    def stream(self) -> HeardStream:
        """Begin with a part of a stream."""
        return HeardStream(self.front_end)


class HeardStream:
    """The features of sound that is going on, each at the time at which it is complete.

    Args:
        front_end: The settings.
    """

    def __init__(self, front_end: LogMel) -> None:
        self._front_end = front_end
        self._features: LogMelStream = front_end.stream()
        self._count = 0

    def chunks(self, block: Block) -> list[Heard]:
        """Take the next block and return the features that it completes.

        They cost little beside a step of the detector, so they are made here, on the thread that reads.
        """
        rows = self._features.push(block.samples)
        begin = self._count
        self._count += len(rows)
        return [Heard(self._front_end.complete_s(begin + index), row) for index, row in enumerate(rows)]

    def rest(self) -> list[Heard]:
        """Return nothing: what the end leaves is no whole feature."""
        return []

    def look(self, heard: Heard) -> Heard:
        """Return the feature, which is made already."""
        return heard


def hears(extractors: Mapping[str, Mapping[str, str]], streams: Mapping[str, int]) -> bool:
    """Say whether any stream of a detector was made of sound.

    Example:
        >>> hears({"audio": LogMel().describe()}, {"audio": 64}), hears({}, {"rgb": 1280})
        (True, False)
    """
    return any("front_end" in extractors.get(name, {}) for name in streams)
