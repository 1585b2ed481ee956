"""What makes features of a stream that is going on: eyes of pictures, ears of sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Chunk", "Feature", "FeatureStream", "Moment", "Senses"]


class Moment(Protocol):
    """What a source gives: a picture, or a block of sound."""

    @property
    def time(self) -> float:
        """Seconds since the start of its part at which it is there: when it is shown, when its last sample is heard."""
        ...


class Chunk(Protocol):
    """What one feature is made of."""

    @property
    def time(self) -> float:
        """Seconds that the answer is told with."""
        ...

    @property
    def ready(self) -> float:
        """Seconds at which all of it can be there."""
        ...


class Feature(Protocol):
    """What a detector takes as one frame."""

    @property
    def values(self) -> NDArray[np.float32]:
        """The frame, ``(D,)``."""
        ...


class FeatureStream(Protocol):
    """The features of one part of a stream. One thread puts chunks together, another one looks."""

    def chunks(self, frame: Any, /) -> Sequence[Chunk]:
        """Take what comes next and return the chunks that are complete."""
        ...

    def rest(self) -> Sequence[Chunk]:
        """Return the chunks that the end completes."""
        ...

    def look(self, chunk: Any, /) -> Feature:
        """Return the feature of a chunk."""
        ...


class Senses(Protocol):
    """What makes features, such as :class:`coadtr.video.Eyes` and :class:`coadtr.live.Ears`."""

    def stream(self) -> FeatureStream:
        """Begin with a part."""
        ...
