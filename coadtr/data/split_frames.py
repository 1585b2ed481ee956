"""The frames and labels of one split, from memory where they fit and from the file where they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.data.statistics import carries_loss
from coadtr.data.storage import schema
from coadtr.data.storage.blocks import all_finite, widen
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coadtr.data.storage.schema import Labels, VideoRecord
    from coadtr.data.storage.store import FeatureStore

__all__ = ["DEFAULT_PRELOAD_BYTES", "SplitFrames"]

DEFAULT_PRELOAD_BYTES: Final = 2 * 1024**3


class SplitFrames:
    """Read spans of the videos of one split, by position.

    Labels are always in memory. Features are too if ``preload`` is set and they fit; they keep the type in
    which they are stored. Forked workers share that memory; a pickled copy (spawned workers) reads from the
    file instead, so that no worker costs a second copy.

    Args:
        store: The feature store.
        split: ``'train'``, ``'validation'`` or ``'test'``.
        streams: Streams to join, in this order; none for all.
        preload: Whether to keep the features in memory.
        max_preload_bytes: Features that take more than this stay in the file.

    Raises:
        DataError: If the split holds no video, a stream does not exist, or a feature is NaN or infinite
            (found while preloading, or else when its span is read).
        ConfigError: If ``max_preload_bytes`` is negative.
    """

    def __init__(
        self,
        store: FeatureStore,
        split: str,
        *,
        streams: Sequence[str] | None = None,
        preload: bool = True,
        max_preload_bytes: int = DEFAULT_PRELOAD_BYTES,
    ) -> None:
        if max_preload_bytes < 0:
            raise ConfigError(f"max_preload_bytes={max_preload_bytes}: give 0 or more bytes")
        self.store, self.split = store, split
        self.streams = store.check_streams(streams)
        self.records: tuple[VideoRecord, ...] = store.videos(split)
        self.labels: tuple[Labels, ...] = tuple(store.labels(record.name) for record in self.records)
        self.dim = sum(store.streams[stream] for stream in self.streams)
        self.classes = len(store.class_names)
        self._memory: tuple[NDArray[Any], ...] | None = None
        if preload:
            dtype = store.stored_dtype(split, self.streams)
            if sum(record.frames for record in self.records) * self.dim * dtype.itemsize <= max_preload_bytes:
                self._memory = tuple(self._whole(record, dtype) for record in self.records)
        if self._memory is None:
            store.share(split, self.streams)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_memory": None}

    @property
    def preloaded(self) -> bool:
        """Whether the features are in memory."""
        return self._memory is not None

    @property
    def multi_hot(self) -> bool:
        """Whether labels are ``(T, C)`` zeros and ones."""
        return self.store.label_kind == "multi-hot"

    def read(self, video: int, start: int, stop: int, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return a copy of frames ``start`` to ``stop - 1``, ``(T, D)``, of video number ``video``; all finite.

        Fills and returns ``out`` if that is given.
        """
        if self._memory is not None:
            target = np.empty((stop - start, self.dim), np.float32) if out is None else out
            widen(self._memory[video][start:stop], target)
            return target
        name = self.records[video].name
        frames = self.store.features(name, start, stop, self.streams, out)
        if not self.store.known_finite(name, start, stop, self.streams):
            self._check_finite(name, frames, start)
        return frames

    def _whole(self, record: VideoRecord, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Read a video in the type that is kept in memory."""
        whole = np.empty((record.frames, self.dim), dtype)
        column = 0
        for stream in self.streams:
            values = self.store.stored_features(record.name, stream)
            whole[:, column : column + values.shape[1]] = values
            column += values.shape[1]
        self._check_finite(record.name, whole, 0)
        return whole

    def _check_finite(self, name: str, frames: NDArray[Any], start: int) -> None:
        """Another program may have written the file, and one NaN would undo a training run."""
        if all_finite(frames):
            return
        raise DataError(
            f"{self.store.path}: video {name!r}: streams {', '.join(self.streams)}: "
            f"value {schema.non_finite(frames, first_frame=start)}: repair the source and import it again"
        )

    def counted(self, video: int, *, heard: int = 1) -> NDArray[np.bool_]:
        """Return ``(T,)`` which frames may carry a loss: those not labelled with the ignored class.

        Args:
            video: Number of the video.
            heard: Frames of a video, its own included, that a frame with loss comes after.
        """
        counted = carries_loss(self.labels[video], self.store.ignored)
        counted[: heard - 1] = False
        return counted
