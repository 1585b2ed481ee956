"""What is checked when a feature store is opened: header, shapes, splits and labels of every video."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from coadtr.data.storage import schema
from coadtr.data.storage.schema import Header, LabelKind, VideoRecord
from coadtr.data.storage.stored import stored_dataset, stored_group
from coadtr.errors import DataError, SchemaError, UnsafeFileError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["own_videos", "read_header", "read_record", "read_records"]


def read_header(file: Any, path: Path) -> tuple[Header, LabelKind]:
    """Read and check the attributes of an open store.

    Args:
        file: The open HDF5 file.
        path: Its path, for messages.

    Returns:
        The header and the kind of labels.

    Raises:
        SchemaError: If the file is not a feature store of schema version 1.
        DataError: If a field contradicts another.
        UnsafeFileError: If the videos are in another file.
    """
    found = _plain(file.attrs.get("format"))
    if found != schema.FORMAT:
        raise SchemaError(
            f"{path}: format is {found!r}, not {schema.FORMAT!r}: give a feature store (`coadtr data import`)"
        )
    version = _plain(file.attrs.get("version"))
    if version != schema.VERSION:
        raise SchemaError(
            f"{path}: schema version {version!r}, this coadtr reads version {schema.VERSION}: "
            "import the data again, or install the coadtr that wrote the file"
        )
    fields = ("class_names", "background", "ignored", "streams", "dims", "label_kind", "attributes")
    missing = [field for field in fields if field not in file.attrs]
    if missing or own_videos(file, path) is None:
        what = f"attribute {missing[0]!r}" if missing else "group 'videos'"
        raise SchemaError(f"{path}: {what} is missing: import the data again")
    value = {field: _plain(file.attrs[field]) for field in fields}
    if value["label_kind"] not in ("index", "multi-hot"):
        raise SchemaError(f"{path}: label_kind is {value['label_kind']!r}, not 'index' or 'multi-hot': import again")
    try:
        header = Header(
            class_names=schema.texts(value["class_names"]),
            background=_class_or_none(value["background"]),
            ignored=_class_or_none(value["ignored"]),
            streams=dict(zip(value["streams"], value["dims"], strict=True)),
            attributes=json.loads(value["attributes"]),
        )
    except DataError as error:
        raise SchemaError(f"{path}: {error}") from error
    except (TypeError, ValueError) as error:
        raise SchemaError(f"{path}: header is damaged ({error}): import the data again") from error
    return header, cast("LabelKind", value["label_kind"])


def own_videos(file: Any, path: Path) -> Any:
    """Return the group of the videos, none if there is none; raise `UnsafeFileError` if it is a link."""
    try:
        return stored_group(file, "videos")
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{path}: group 'videos': {error}") from error


def _plain(value: Any) -> Any:
    """Return an HDF5 attribute as plain Python values."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value


def _class_or_none(index: int) -> int | None:
    return None if index == -1 else index


def read_records(file: Any, path: Path, header: Header, kind: LabelKind) -> dict[str, VideoRecord]:
    """Read and check what an open store says of its videos.

    Args:
        file: The open HDF5 file.
        path: Its path, for messages.
        header: The header of the file.
        kind: The kind of labels.

    Returns:
        The videos by name, in the order of their ``index``.

    Raises:
        DataError: If a video lacks a field, or one has the wrong shape, length, type, split or class.
        UnsafeFileError: If a video or field is a link, or its values are in another file.
    """
    indexed: dict[int, VideoRecord] = {}
    videos = file["videos"]
    for name in videos:
        index, record = read_record(videos, name, path, header, kind)
        if index in indexed:
            twin = indexed[index].name
            raise DataError(f"{path}: video {name!r}: attribute 'index' {index} is also that of {twin!r}: import again")
        indexed[index] = record
    if not indexed:
        raise DataError(f"{path}: holds no video: import the data again")
    return {indexed[index].name: indexed[index] for index in sorted(indexed)}


def read_record(videos: Any, name: str, path: Path, header: Header, kind: LabelKind) -> tuple[int, VideoRecord]:
    """Read and check what an open store says of one video.

    Args:
        videos: The group of the videos.
        name: Name of the video.
        path: Path of the file, for messages.
        header: The header of the file.
        kind: The kind of labels.

    Returns:
        Its place in the order of the store, and its record.

    Raises:
        DataError: As `read_records`.
    """
    try:
        return _read_record(name, stored_group(videos, name), header, kind)
    except DataError as error:
        raise type(error)(f"{path}: video {name!r}: {error}") from error
    except (OSError, RuntimeError, KeyError) as error:
        cause = " ".join(str(error).split())
        raise DataError(f"{path}: video {name!r}: is damaged and cannot be read ({cause}): import again") from error


def _read_record(name: str, group: Any, header: Header, kind: LabelKind) -> tuple[int, VideoRecord]:
    wanted = (*header.streams, schema.LABEL_DATASET)
    if group is None:
        raise DataError("is not a group: import the data again")
    fields = {field: stored_dataset(group, field) for field in wanted}
    missing = [field for field, data in fields.items() if data is None]
    if missing:
        raise DataError(f"field {missing[0]!r} is missing: import the data again")
    for field in ("split", "rate_hz", "index"):
        if field not in group.attrs:
            raise DataError(f"attribute {field!r} is missing: import the data again")
    split = schema.check_split(_plain(group.attrs["split"]))
    rate, index = _plain(group.attrs["rate_hz"]), _plain(group.attrs["index"])
    if not isinstance(rate, int | float) or not math.isfinite(rate) or rate <= 0:
        raise DataError(f"attribute 'rate_hz': {rate!r} is not a positive number: import the data again")
    if not isinstance(index, int):
        raise DataError(f"attribute 'index': {index!r} is not a whole number: import the data again")

    for stream, dim in header.streams.items():
        data: Any = fields[stream]
        if data.ndim != 2 or data.shape[1] != dim or data.dtype not in (np.float16, np.float32):
            raise DataError(
                f"field {stream!r}: shape {data.shape} of {data.dtype}: "
                f"the header declares (T, {dim}) of float16 or float32, import the data again"
            )
    lengths = {field: len(group[field]) for field in wanted}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{field!r} {length}" for field, length in lengths.items())
        raise DataError(f"fields differ in frames ({told}): import the data again")
    frames = lengths[schema.LABEL_DATASET]
    if frames == 0:
        raise DataError("holds no frame: import the data again without it")
    _check_labels(group[schema.LABEL_DATASET], header, kind)
    return index, VideoRecord(name, split, frames, float(rate))


def _check_labels(data: Any, header: Header, kind: LabelKind) -> None:
    classes = len(header.class_names)
    shape = (data.shape[0],) if kind == "index" else (data.shape[0], classes)
    if data.shape != shape or data.dtype.kind not in "iu":
        raise DataError(
            f"field 'labels': shape {data.shape} of {data.dtype}: "
            f"{kind} labels are whole numbers of shape {shape}, import the data again"
        )
    try:
        fault = schema.label_fault(data[:], kind, classes)
    except MemoryError as error:
        raise DataError(f"field 'labels': shape {data.shape}: does not fit in memory: split the video") from error
    if fault is not None:
        raise DataError(fault)
