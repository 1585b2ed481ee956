"""Schema version 1 of the feature store: names, types, and the checks that reading and writing share.

``data/README.md`` describes the layout in words. Nothing here touches a file; `coadtr.data.storage.store` reads
and `coadtr.data.storage.writer` writes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "FORMAT",
    "LABEL_DATASET",
    "SPLITS",
    "VERSION",
    "Header",
    "LabelKind",
    "Labels",
    "VideoRecord",
    "listing",
]

FORMAT: Final = "coadtr-features"
VERSION: Final = 1
SPLITS: Final = ("train", "validation", "test")
LABEL_DATASET: Final = "labels"

LabelKind: TypeAlias = Literal["index", "multi-hot"]
Labels: TypeAlias = NDArray[np.int64] | NDArray[np.uint8]

# HDF5 keeps an attribute in the object header, which holds 64 KiB.
_MAX_ATTRIBUTE_BYTES = 60_000


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One video of a feature store.

    Attributes:
        name: Name of the video, unique in its store.
        split: ``'train'``, ``'validation'`` or ``'test'``.
        frames: Number of frames T.
        rate_hz: Frames a second.

    Example:
        >>> VideoRecord("kitchen", "test", frames=300, rate_hz=5.0).seconds
        60.0
    """

    name: str
    split: str
    frames: int
    rate_hz: float

    @property
    def seconds(self) -> float:
        """Length of the video in seconds."""
        return self.frames / self.rate_hz


@dataclass(frozen=True, slots=True)
class Header:
    """What holds for all videos of a store.

    Attributes:
        class_names: The C class names, in the order of the class indices.
        background: Index of the class that stands for "no action", or none.
        ignored: Index of the class whose frames are neither trained on nor scored, or none.
        streams: Name and channels D of each feature stream, in order.
        attributes: Where the data come from; any JSON object.

    Raises:
        DataError: If a field contradicts another, or a name cannot be stored.

    Example:
        >>> Header(("rest", "lift"), background=0, ignored=None, streams={"imu": 60}).streams
        {'imu': 60}
    """

    class_names: tuple[str, ...]
    background: int | None
    ignored: int | None
    streams: Mapping[str, int]
    attributes: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_class_names(self.class_names)
        for role, index in (("background", self.background), ("ignored", self.ignored)):
            if index is not None and not 0 <= index < len(self.class_names):
                raise DataError(
                    f"{role} class {index} is not one of the {len(self.class_names)} classes: "
                    f"give an index from 0 to {len(self.class_names) - 1}, or none"
                )
        if self.background is not None and self.background == self.ignored:
            raise DataError(f"class {self.background} cannot be background and ignored at once: drop one of the two")
        _check_streams(self.streams)
        encode_attributes(self.attributes)


def _check_class_names(names: Sequence[str]) -> None:
    if len(names) < 2:
        raise DataError(f"class_names holds {len(names)} classes: a detector needs at least 2")
    empty = [index for index, name in enumerate(names) if not str(name).strip()]
    if empty:
        raise DataError(f"class_names[{empty[0]}] is {names[empty[0]]!r}: give every class a name")
    duplicates = sorted({name for name in names if list(names).count(name) > 1})
    if duplicates:
        raise DataError(f"class_names lists {duplicates[0]!r} more than once: give every class its own name")


def texts(names: object) -> tuple[str, ...]:
    """Return the class names that a file holds; raise `DataError` if they are not a list of texts."""
    if not isinstance(names, list):
        raise DataError(f"class_names is {names!r}: class names are a list of texts, write the file again")
    wrong = [index for index, name in enumerate(names) if not isinstance(name, str)]
    if wrong:
        raise DataError(
            f"class_names[{wrong[0]}] is {names[wrong[0]]!r}: class names are a list of texts, write the file again"
        )
    return tuple(names)


def _check_streams(streams: Mapping[str, int]) -> None:
    if not streams:
        raise DataError("streams is empty: name at least one feature stream and its channels, as {'rgb': 2048}")
    for name, dim in streams.items():
        check_name(name, what="stream")
        if name == LABEL_DATASET:
            raise DataError(f"stream name {name!r} is taken by the labels: choose another")
        if type(dim) is not int or dim < 1:
            raise DataError(f"stream {name!r} has {dim!r} channels: give a positive whole number")


def check_name(name: object, *, what: str) -> str:
    """Return ``name`` if it can be the name of a video or stream, one level deep in the file."""
    if not isinstance(name, str) or not name or name != name.strip():
        raise DataError(f"{what} name {name!r}: give a text that is not empty and has no blank at either end")
    if "/" in name or "\\" in name or name in {".", ".."} or not name.isprintable() or len(name.encode()) > 255:
        raise DataError(
            f"{what} name {name!r} cannot be stored: use printable characters other than / and \\, "
            "at most 255 bytes, and neither '.' nor '..'"
        )
    return name


def check_split(split: object) -> str:
    """Return ``split`` if it is one that the schema knows."""
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r}: use one of {listing(SPLITS)}")
    return str(split)


def encode_attributes(attributes: Mapping[str, object]) -> str:
    """Return the free attributes as JSON text with sorted keys, so that equal attributes are equal text."""
    try:
        text = json.dumps(dict(attributes), sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"attributes cannot be written as JSON ({error}): use text, numbers, lists and dicts"
        ) from error
    if len(text.encode()) > _MAX_ATTRIBUTE_BYTES:
        raise DataError(f"attributes take {len(text.encode())} bytes as JSON: keep them below {_MAX_ATTRIBUTE_BYTES}")
    return text


def label_fault(labels: NDArray[Any], kind: LabelKind, classes: int) -> str | None:
    """Return what is wrong with the values of ``labels``, or none.

    Args:
        labels: ``(T,)`` class indices or ``(T, C)`` zeros and ones.
        kind: Which of the two is meant.
        classes: Number of classes C.
    """
    if kind == "index":
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        if wrong.size:
            return (
                f"field 'labels': class {labels[wrong[0]]} at frame {wrong[0]} is outside 0..{classes - 1}: "
                "correct the label or list the class in class_names"
            )
    else:
        cells = np.argwhere((labels != 0) & (labels != 1))
        if cells.size:
            frame, column = cells[0]
            return (
                f"field 'labels': value {labels[frame, column]} at frame {frame}, class {column}: "
                "multi-hot labels are 0 or 1"
            )
    return None


def non_finite(features: NDArray[Any], *, first_frame: int = 0) -> str | None:
    """Return where the first NaN or infinite value of ``(T, D)`` features is, or none.

    Looks at about a million values at a time, so that a long video needs no second copy in memory.
    """
    rows = max(1, 1_000_000 // max(1, features.shape[1]))
    for start in range(0, len(features), rows):
        block = features[start : start + rows]
        wrong = np.argwhere(~np.isfinite(block))
        if wrong.size:
            frame, channel = wrong[0]
            return f"{block[frame, channel]} at frame {first_frame + start + frame}, channel {channel}"
    return None


def listing(names: Iterable[object], *, most: int = 12) -> str:
    """Return ``names`` as a short quoted list for a message.

    Example:
        >>> listing(["rgb", "flow"])
        "'rgb', 'flow'"
        >>> listing(range(5), most=2)
        '0, 1 and 3 more'
    """
    every = [repr(name) for name in names]
    if not every:
        return "(none)"
    rest = len(every) - most
    return ", ".join(every[:most]) + (f" and {rest} more" if rest > 0 else "")
