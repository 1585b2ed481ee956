"""Write feature stores: one video at a time, checked as it arrives, whole or absent at the end."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np

from coadtr.data.atomic import replacing
from coadtr.data.storage import schema
from coadtr.data.storage.checking import CheckedVideo, check_dtype, check_video
from coadtr.data.storage.layout import check_compression, write_array
from coadtr.data.storage.schema import Header, LabelKind
from coadtr.errors import DataError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from numpy.typing import ArrayLike, NDArray

__all__ = ["StoreWriter"]


class StoreWriter:
    """Write a feature store of schema version 1, video by video.

    The file appears at ``path`` when the ``with`` block ends without an error; otherwise nothing is left
    behind and a file that was there before stays. Only one video is in memory at a time.

    Args:
        path: File to write (``.h5``).
        class_names: The C class names, in the order of the class indices.
        background: Index of the class that stands for "no action", or none.
        ignored: Index of the class whose frames are neither trained on nor scored, or none.
        streams: Name and channels D of each feature stream, in order.
        attributes: Where the data come from; any JSON object.
        dtype: Type to store features in, ``'float16'`` or ``'float32'``; none keeps either, and makes float64
            float32.
        compression: ``'gzip'`` or ``'lzf'``; none for files that read faster.
        settle: Whether to wait at the end until the disk has the contents.

    Raises:
        DataError: If the header contradicts itself or the folder cannot be written.
        ConfigError: If ``dtype`` or ``compression`` is unknown.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "tiny.h5"
        >>> with StoreWriter(path, class_names=["rest", "lift"], background=0, streams={"imu": 3}) as writer:
        ...     zeros = np.zeros((4, 3), "f4")
        ...     writer.add("a", split="test", rate_hz=5.0, features={"imu": zeros}, labels=[0, 1, 1, 0])
        >>> path.exists()
        True
    """

    def __init__(
        self,
        path: str | Path,
        *,
        class_names: Sequence[str],
        background: int | None = None,
        ignored: int | None = None,
        streams: Mapping[str, int],
        attributes: Mapping[str, object] | None = None,
        dtype: str | None = None,
        compression: str | None = None,
        settle: bool = True,
    ) -> None:
        self.path, self._settle = Path(path), settle
        self._dtype, self._compression = check_dtype(dtype), check_compression(compression)
        try:
            self.header = Header(tuple(class_names), background, ignored, dict(streams), dict(attributes or {}))
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error
        self._label_kind: LabelKind | None = None
        self._names: set[str] = set()
        self._broken = False
        self._stack = ExitStack()
        self._file: Any = None

    def __enter__(self) -> Self:
        try:
            with ExitStack() as stack:
                part = stack.enter_context(replacing(self.path, settle=self._settle))
                self._file = stack.enter_context(h5py.File(part, "w"))
                self._write_header()
                self._stack = stack.pop_all()
        except (OSError, RuntimeError) as error:
            self._file = None
            raise StorageError(f"{self.path}: cannot be written ({error}): free some space and try again") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file = None
        if kind is None and (self._broken or not self._names):
            fault = (
                "a video could not be written" if self._broken else "holds no video: add one before closing the store"
            )
            # Raised inside the stack, so that the temporary file goes.
            with self._stack:
                raise DataError(f"{self.path}: {fault}")
        try:
            self._stack.__exit__(kind, error, trace)
        except (OSError, RuntimeError) as failure:
            if failure is error:
                raise
            raise StorageError(
                f"{self.path}: cannot be completed ({failure}): free some space and try again"
            ) from failure

    def _write_header(self) -> None:
        attrs, header = self._file.attrs, self.header
        attrs["format"], attrs["version"] = schema.FORMAT, schema.VERSION
        attrs["class_names"] = np.array(header.class_names, dtype=h5py.string_dtype())
        attrs["background"] = -1 if header.background is None else header.background
        attrs["ignored"] = -1 if header.ignored is None else header.ignored
        attrs["streams"] = np.array(list(header.streams), dtype=h5py.string_dtype())
        attrs["dims"] = np.array(list(header.streams.values()), dtype=np.int64)
        attrs["attributes"] = schema.encode_attributes(header.attributes)
        self._file.create_group("videos")

    def add(
        self, name: str, *, split: str, rate_hz: float, features: Mapping[str, ArrayLike], labels: ArrayLike
    ) -> None:
        """Check one video and append it.

        Args:
            name: Name of the video, unique in the store, without ``/``.
            split: ``'train'``, ``'validation'`` or ``'test'``.
            rate_hz: Frames a second.
            features: ``(T, D)`` per stream, in any floating type.
            labels: ``(T,)`` class indices, or ``(T, C)`` zeros and ones; the same kind for all videos.

        Raises:
            DataError: If a value is not what the header and the schema ask for; the message names it.
        """
        self.put(name, split=split, rate_hz=rate_hz, features=features, labels=labels)

    def put(
        self, name: str, *, split: str, rate_hz: float, features: Mapping[str, ArrayLike], labels: ArrayLike
    ) -> CheckedVideo:
        """Do as `add` does, and return the video as it is stored."""
        self._check_new(name)
        try:
            video = check_video(
                self.header,
                name,
                split=split,
                rate_hz=rate_hz,
                features=features,
                labels=labels,
                dtype=self._dtype,
            )
        except DataError as error:
            raise self._fault(name, str(error)) from error
        self._check_new(name, video.kind)
        with self._adding(name, split, rate_hz, video.kind) as group:
            for stream, array in video.features.items():
                write_array(group, stream, array, compression=self._compression)
            write_array(group, schema.LABEL_DATASET, video.labels)
        return video

    def adopt(self, name: str, group: h5py.Group, labels: NDArray[Any]) -> None:
        """Append a video out of another store with the same streams, its features copied as they lie in the file.

        Args:
            name: Name of the video.
            group: The video's group in the other file, which was written by a `StoreWriter`.
            labels: ``(T,)`` or ``(T, C)`` in the type to be stored, in place of those of the group.

        Raises:
            DataError: If the video is there already, or the file cannot be written.
        """
        kind: LabelKind = "index" if labels.ndim == 1 else "multi-hot"
        self._check_new(name, kind)
        with self._adding(name, group.attrs["split"], group.attrs["rate_hz"], kind) as own:
            for stream in self.header.streams:
                group.copy(stream, own)
            write_array(own, schema.LABEL_DATASET, labels)

    def _check_new(self, name: str, kind: LabelKind | None = None) -> None:
        if self._file is None:
            raise DataError(f"{self.path}: is not open for writing: add videos inside the with block of the writer")
        if name in self._names:
            raise self._fault(name, "is there already: give every video its own name")
        if kind is not None and self._label_kind not in (None, kind):
            raise self._fault(name, f"field 'labels': is {kind} but the videos before it are {self._label_kind}")

    @contextmanager
    def _adding(self, name: str, split: str, rate_hz: float, kind: LabelKind) -> Iterator[h5py.Group]:
        """Make the group of a video; count the video in if the block ends without an error."""
        try:
            group = self._file["videos"].create_group(name)
            group.attrs["split"], group.attrs["rate_hz"] = split, float(rate_hz)
            group.attrs["index"] = len(self._names)
            yield group
            self._file.attrs["label_kind"] = self._label_kind = kind
        except (OSError, RuntimeError, KeyError) as error:
            self._broken = True
            raise StorageError(
                f"{self.path}: video {name!r}: cannot be written ({error}): free some space and try again"
            ) from error
        self._names.add(name)

    def _fault(self, video: str, text: str) -> DataError:
        return DataError(f"{self.path}: video {video!r}: {text}")
