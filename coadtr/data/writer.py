"""Write feature stores: one video at a time, checked as it arrives, whole or absent at the end."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np

from coadtr.data import schema
from coadtr.data.atomic import replacing
from coadtr.data.schema import Header, LabelKind
from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from numpy.typing import ArrayLike, NDArray

__all__ = ["StoreWriter"]

# A span read decodes whole chunks: 64 KiB holds a window of a typical video and wastes little at its ends.
_CHUNK_BYTES = 64 * 1024


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

    Raises:
        DataError: If the header contradicts itself or the folder cannot be written.

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
    ) -> None:
        self.path = Path(path)
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
                part = stack.enter_context(replacing(self.path))
                self._file = stack.enter_context(h5py.File(part, "w"))
                self._write_header()
                self._stack = stack.pop_all()
        except (OSError, RuntimeError) as error:
            self._file = None
            raise DataError(f"{self.path}: cannot be written ({error}): free some space and try again") from error
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
            raise DataError(f"{self.path}: cannot be completed ({failure}): free some space and try again") from failure

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
            features: ``(T, D)`` per stream. float16 and float32 are kept, float64 becomes float32.
            labels: ``(T,)`` class indices, or ``(T, C)`` zeros and ones; the same kind for all videos.

        Raises:
            DataError: If a value is not what the header and the schema ask for; the message names it.
        """
        if self._file is None:
            raise DataError(f"{self.path}: is not open for writing: add videos inside the with block of the writer")
        try:
            schema.check_name(name, what="video")
            schema.check_split(split)
        except DataError as error:
            raise DataError(f"{self.path}: video {name!r}: {error}") from error
        if name in self._names:
            raise self._fault(name, "is there already: give every video its own name")
        if not (math.isfinite(rate_hz) and rate_hz > 0):
            raise self._fault(name, f"field 'rate_hz': {rate_hz!r} frames a second: give a positive number")
        arrays = self._checked_features(name, features)
        frames = len(next(iter(arrays.values())))
        targets, kind = self._checked_labels(name, labels, frames)

        try:
            group = self._file["videos"].create_group(name)
            group.attrs["split"], group.attrs["rate_hz"] = split, float(rate_hz)
            group.attrs["index"] = len(self._names)
            for field, array in (*arrays.items(), (schema.LABEL_DATASET, targets)):
                self._write_array(group, field, array)
            self._file.attrs["label_kind"] = self._label_kind = kind
        except (OSError, RuntimeError) as error:
            self._broken = True
            raise self._fault(name, f"cannot be written ({error}): free some space and try again") from error
        self._names.add(name)

    @staticmethod
    def _write_array(group: Any, name: str, array: NDArray[Any]) -> None:
        rows = max(1, _CHUNK_BYTES // (array[0].size * array.itemsize))
        chunks = (min(len(array), rows), *array.shape[1:])
        # The checksum turns a damaged disk block into an error; features hardly compress, so no compression.
        group.create_dataset(name, data=array, chunks=chunks, fletcher32=True)

    def _checked_features(self, name: str, features: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        declared = self.header.streams
        if set(features) != set(declared):
            raise self._fault(
                name,
                f"has streams {schema.listing(features)} but the store declares {schema.listing(declared)}",
            )
        arrays: dict[str, NDArray[Any]] = {}
        for stream, dim in declared.items():
            array = np.asarray(features[stream])
            if array.dtype.kind != "f":
                raise self._fault(name, f"field {stream!r}: type {array.dtype}: features are floating-point numbers")
            if array.ndim != 2 or array.shape[1] != dim:
                raise self._fault(name, f"field {stream!r}: shape {array.shape}: the store declares (T, {dim})")
            if not len(array):
                raise self._fault(name, f"field {stream!r}: holds no frame: leave the video out")
            if array.dtype not in (np.float16, np.float32):
                # A value beyond float32 becomes infinite here and is named just below.
                with np.errstate(over="ignore"):
                    array = array.astype(np.float32)
            fault = schema.non_finite(array)
            if fault is not None:
                raise self._fault(name, f"field {stream!r}: value {fault}: features must be finite, repair the source")
            arrays[stream] = np.ascontiguousarray(array)
        lengths = {stream: len(array) for stream, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{stream!r} {length}" for stream, length in lengths.items())
            raise self._fault(name, f"streams differ in frames ({told}): cut or extract them alike")
        return arrays

    def _checked_labels(self, name: str, labels: ArrayLike, frames: int) -> tuple[NDArray[Any], LabelKind]:
        array, classes = np.asarray(labels), len(self.header.class_names)
        if array.dtype.kind not in "iub":
            raise self._fault(name, f"field 'labels': type {array.dtype}: labels are whole numbers")
        if (array.ndim == 2 and array.shape[1] != classes) or array.ndim not in (1, 2):
            raise self._fault(name, f"field 'labels': shape {array.shape}: give (T,) or (T, {classes}), one per class")
        if len(array) != frames:
            raise self._fault(
                name, f"has {frames} frames of features but {len(array)} labels: cut or extract them alike"
            )
        kind: LabelKind = "index" if array.ndim == 1 else "multi-hot"
        if self._label_kind not in (None, kind):
            raise self._fault(name, f"field 'labels': is {kind} but the videos before it are {self._label_kind}")
        fault = schema.label_fault(array, kind, classes)
        if fault is not None:
            raise self._fault(name, fault)
        small = np.uint8 if kind == "multi-hot" or classes <= 256 else np.int32
        return array.astype(small), kind

    def _fault(self, video: str, text: str) -> DataError:
        return DataError(f"{self.path}: video {video!r}: {text}")
