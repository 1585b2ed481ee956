"""Read feature stores: spans of frames and labels, without loading files whole."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from coadtr.data.storage import schema
from coadtr.data.storage.extractors import extractors_of
from coadtr.data.storage.handle import FileHandle
from coadtr.data.storage.opening import read_header, read_records
from coadtr.data.storage.reading import SpanReader
from coadtr.data.storage.verify import stream_faults
from coadtr.errors import DataError
from coadtr.types import TASKS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from coadtr.data.storage.schema import LabelKind, Labels, VideoRecord
    from coadtr.types import Task

__all__ = ["FeatureStore"]


class FeatureStore:
    """A feature store of schema version 1, open for reading.

    Opening checks the header, the shapes and the labels of all videos (not the features: see `check`). The
    file is opened anew in every process that reads, so a store may be handed to forked and spawned
    ``DataLoader`` workers.

    The checksum of a block of features is verified when the block is read first; that it held is remembered as
    long as the store is open, so later reads need not verify it again. Compressed features always go through
    HDF5, which decompresses whole chunks, and take several times as long.

    Args:
        path: File of a feature store (``.h5``).

    Raises:
        DataError: If the file is missing, damaged, or contradicts itself; the message names video and field.
        SchemaError: If the file is not a feature store, or one of another schema version.
        UnsafeFileError: If it points to what another file holds; no such link is followed.

    Example:
        >>> import tempfile
        >>> from coadtr.data import StoreWriter
        >>> path = Path(tempfile.mkdtemp()) / "tiny.h5"
        >>> with StoreWriter(path, class_names=["rest", "lift"], background=0, streams={"imu": 3}) as writer:
        ...     ones = np.ones((4, 3), "f4")
        ...     writer.add("a", split="test", rate_hz=5.0, features={"imu": ones}, labels=[0, 1, 1, 0])
        >>> with FeatureStore(path) as store:
        ...     print(store.videos("test")[0].frames, store.features("a", 1, 3).shape, store.labels("a"))
        4 (2, 3) [0 1 1 0]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._handle = FileHandle(self.path)
        self._spans = SpanReader(self._handle)
        try:
            with self._handle.reading():
                file = self._handle.file
                self._header, self._label_kind = read_header(file, self.path)
                self._records = read_records(file, self.path, self._header, self._label_kind)
        except DataError:
            self.close()
            raise

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the store at ``path``; the same as calling the class."""
        return cls(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. A later read opens it again."""
        self._handle.close()

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r}, videos={len(self._records)}, streams={self.streams})"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C class names, in the order of the class indices."""
        return self._header.class_names

    @property
    def background(self) -> int | None:
        """Index of the class that stands for "no action", or none."""
        return self._header.background

    @property
    def ignored(self) -> int | None:
        """Index of the class whose frames are neither trained on nor scored, or none."""
        return self._header.ignored

    @property
    def streams(self) -> dict[str, int]:
        """Name and channels D of each feature stream, in order."""
        return dict(self._header.streams)

    @property
    def attributes(self) -> dict[str, object]:
        """Where the data come from."""
        return dict(self._header.attributes)

    @property
    def extractors(self) -> dict[str, dict[str, str]]:
        """What made the features of each stream (``backbone``, ``weights``, ...), as far as it is known."""
        return extractors_of(self._header.attributes)

    @property
    def task(self) -> Task:
        """What the data are for, as their attribute ``task`` says: ``'audio'`` if each video is of one class.

        Raises:
            DataError: If the attribute is none of the tasks.
        """
        found = self._header.attributes.get("task", "oad")
        for task in TASKS:
            if task == found:
                return task
        raise DataError(f"{self.path}: attribute 'task' is {found!r}: it must be one of {schema.listing(TASKS)}")

    @property
    def label_kind(self) -> LabelKind:
        """``'index'`` for ``(T,)`` class indices, ``'multi-hot'`` for ``(T, C)`` zeros and ones."""
        return self._label_kind

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold videos, in the order train, validation, test."""
        present = {record.split for record in self._records.values()}
        return tuple(split for split in schema.SPLITS if split in present)

    def videos(self, split: str | None = None) -> tuple[VideoRecord, ...]:
        """Return the videos of a split, or all, in the order stored.

        Args:
            split: ``'train'``, ``'validation'``, ``'test'``, or none for all videos.

        Raises:
            DataError: If the split holds no video.
        """
        if split is None:
            return tuple(self._records.values())
        chosen = tuple(record for record in self._records.values() if record.split == split)
        if not chosen:
            raise DataError(
                f"{self.path}: split {split!r} holds no video: it has {schema.listing(self.splits)}; "
                "make splits with `coadtr data split`, or when importing"
            )
        return chosen

    def rate_hz(self, split: str | None = None) -> float:
        """Return the frames a second of a split: the median over its videos, which may differ as THUMOS14's do."""
        rates = sorted(record.rate_hz for record in self.videos(split))
        return rates[len(rates) // 2]

    def video(self, name: str) -> VideoRecord:
        """Return the record of one video; raise `DataError` if there is none of that name."""
        if name not in self._records:
            raise DataError(f"{self.path}: has no video {name!r}: it has {schema.listing(self._records)}")
        return self._records[name]

    def class_index(self, name: str) -> int:
        """Return the index of a class; raise `DataError` if there is none of that name."""
        if name not in self.class_names:
            known = schema.listing(self.class_names, most=40)
            raise DataError(f"{self.path}: unknown class {name!r}: the classes are {known}")
        return self.class_names.index(name)

    def check_streams(self, streams: Sequence[str] | None) -> tuple[str, ...]:
        """Return ``streams``, or all if none are given; raise `DataError` for an unknown one."""
        if streams is None:
            return tuple(self._header.streams)
        unknown = [name for name in streams if name not in self._header.streams]
        if unknown or not streams or len(set(streams)) != len(streams):
            wrong = f"unknown stream {unknown[0]!r}" if unknown else f"streams {list(streams)!r}"
            raise DataError(f"{self.path}: {wrong}: name each once, out of {schema.listing(self._header.streams)}")
        return tuple(streams)

    def features(
        self,
        name: str,
        start: int = 0,
        stop: int | None = None,
        streams: Sequence[str] | None = None,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Read a span of features, the streams joined along the channels.

        Args:
            name: Name of the video.
            start: First frame.
            stop: Frame after the last; none for the end of the video.
            streams: Streams to join, in this order; none for all, in the order stored.
            out: ``(T, D)`` array to fill and return; none for a new one.

        Returns:
            ``(T, D)`` features of frames ``start`` to ``stop - 1``.

        Raises:
            DataError: If video, stream or span does not exist, or the file is damaged.
        """
        chosen = self.check_streams(streams)
        start, stop = self._span(name, start, stop)
        shape = (stop - start, sum(self._header.streams[stream] for stream in chosen))
        with self._handle.reading(name, ", ".join(chosen), shape):
            joined = np.empty(shape, np.float32) if out is None else out
        column = 0
        for stream in chosen:
            width = self._header.streams[stream]
            self._spans.read_into((name, stream), start, stop, joined[:, column : column + width])
            column += width
        return joined

    def stored_features(self, name: str, stream: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Read a span of one stream in the type in which it is stored, every checksum verified.

        Args:
            name: Name of the video.
            stream: The stream.
            start: First frame.
            stop: Frame after the last; none for the end of the video.

        Returns:
            ``(T, D)`` float16 or float32 features.

        Raises:
            DataError: If video, stream or span does not exist, or the file is damaged.
        """
        self.check_streams([stream])
        return self._read(name, stream, *self._span(name, start, stop))

    def known_finite(self, name: str, start: int, stop: int, streams: Sequence[str]) -> bool:
        """Return whether a span that was read lies in blocks without NaN and infinity; false if that is not known."""
        return self._spans.known_finite([(name, stream) for stream in streams], start, stop)

    def share(self, split: str, streams: Sequence[str] | None = None) -> None:
        """Find where the features of a split lie, before worker processes start.

        Forked workers then need not, and what one of them has verified is known to the others and to later ones.

        Args:
            split: ``'train'``, ``'validation'`` or ``'test'``.
            streams: Streams that will be read; none for all.
        """
        chosen = self.check_streams(streams)
        self._spans.share((record.name, stream) for record in self.videos(split) for stream in chosen)

    def labels(self, name: str, start: int = 0, stop: int | None = None) -> Labels:
        """Read a span of labels.

        Args:
            name: Name of the video.
            start: First frame.
            stop: Frame after the last; none for the end of the video.

        Returns:
            ``(T,)`` class indices (int64), or ``(T, C)`` zeros and ones (uint8) if labels are multi-hot.

        Raises:
            DataError: If video or span does not exist, or the file is damaged.
        """
        start, stop = self._span(name, start, stop)
        labels = self._read(name, schema.LABEL_DATASET, start, stop)
        return labels.astype(np.int64) if self._label_kind == "index" else labels.astype(np.uint8)

    def stored_dtype(self, split: str | None = None, streams: Sequence[str] | None = None) -> np.dtype[Any]:
        """Return the smallest type, float16 or float32, that holds the features of a split."""
        chosen, found = self.check_streams(streams), set()
        for record in self.videos(split):
            with self._handle.reading(record.name):
                group = self._handle.file["videos"][record.name]
                found |= {group[stream].dtype for stream in chosen}
        return np.result_type(*found)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that tell this data from other data.

        Covers the attributes, classes, streams, names, splits, rates, lengths and labels; not the feature
        values.
        """
        digest = hashlib.sha256()
        digest.update(repr((schema.VERSION, self.class_names, self.background, self.ignored)).encode())
        digest.update(repr((list(self.streams.items()), self._label_kind)).encode())
        digest.update(schema.encode_attributes(self._header.attributes).encode())
        for record in self._records.values():
            digest.update(repr((record.name, record.split, record.frames, record.rate_hz)).encode())
            digest.update(np.ascontiguousarray(self.labels(record.name)).tobytes())
        return digest.hexdigest()[:16]

    def check(self) -> int:
        """Read every feature and return the number of frames; raise `DataError` at damage, NaN or infinity."""
        for record in self._records.values():
            for stream in self._header.streams:
                with self._handle.reading(record.name, stream):
                    for fault in stream_faults(self._handle.file["videos"][record.name][stream]):
                        raise DataError(f"{self.path}: video {record.name!r}: field {stream!r}: {fault}")
        return sum(record.frames for record in self._records.values())

    def _span(self, name: str, start: int, stop: int | None) -> tuple[int, int]:
        frames = self.video(name).frames
        end = frames if stop is None else stop
        if not 0 <= start <= end <= frames:
            raise DataError(f"{self.path}: video {name!r}: span {start}:{end} is outside its frames 0:{frames}")
        return start, end

    def _read(self, name: str, field: str, start: int, stop: int) -> NDArray[Any]:
        width = self._header.streams.get(field, len(self.class_names))
        return self._spans.read((name, field), start, stop, width)
