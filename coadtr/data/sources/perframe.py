"""Read published per-frame labels out of an ``.npz`` file in which the videos follow each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.data.importers.problems import raise_problems
from coadtr.data.sources.safe_npz import NpzFile
from coadtr.data.storage import schema
from coadtr.data.storage.schema import listing
from coadtr.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["PerFrameLabels", "read_perframe"]

# Kind and number of dimensions of each field.
_FIELDS: Final = {
    "labels": ("iu", 1),
    "offsets": ("iu", 1),
    "names": ("U", 1),
    "video_fps": ("fiu", 1),
    "class_names": ("U", 1),
}


@dataclass(frozen=True, slots=True)
class PerFrameLabels:
    """Labels of the videos of one subset.

    Attributes:
        class_names: The C class names.
        labels: ``(T,)`` class index of each frame, by video, in the order of the file.
        fps: Video frames a second, by video; NaN where it is not known.
    """

    class_names: tuple[str, ...]
    labels: dict[str, NDArray[Any]]
    fps: dict[str, float]


def read_perframe(path: Path) -> PerFrameLabels:
    """Read per-frame labels; nothing is unpickled.

    Fields: ``labels (N,)``, ``offsets (V+1,)`` (video i is rows ``offsets[i]:offsets[i+1]``), ``names (V,)``,
    ``video_fps (V,)``, ``class_names (C,)``.

    Args:
        path: The file.

    Raises:
        DataError: If the file is missing, damaged or contradicts itself; all problems in one message.
        UnsafeFileError: If it holds pickled objects.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "val_perframe.npz"
        >>> videos = {"names": ["a", "b"], "video_fps": [30.0, 25.0], "offsets": [0, 1, 3]}
        >>> np.savez(path, labels=[0, 1, 1], class_names=["Background", "Dive"], **videos)
        >>> read_perframe(path).labels["b"].tolist(), read_perframe(path).fps["b"]
        ([1, 1], 25.0)
    """
    fields = _load(path)
    raise_problems(path, _problems(fields))
    offsets = fields["offsets"].astype(np.int64)
    names = [str(name) for name in fields["names"]]
    parts = np.split(fields["labels"], offsets[1:-1])
    return PerFrameLabels(
        class_names=tuple(str(name) for name in fields["class_names"]),
        labels=dict(zip(names, parts, strict=True)),
        fps=dict(zip(names, fields["video_fps"].astype(float).tolist(), strict=True)),
    )


def _load(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file: give per-frame labels (val_perframe.npz, test_perframe.npz)")
    file = NpzFile(path, list(_FIELDS))
    return {field: file.read(field) for field in _FIELDS}


def _problems(fields: dict[str, NDArray[Any]]) -> list[str]:
    found = [
        f"field {field!r} is {array.dtype} of shape {array.shape}: "
        f"give an array of {_FIELDS[field][1]} dimension and a kind out of {_FIELDS[field][0]!r}"
        for field, array in fields.items()
        if array.dtype.kind not in _FIELDS[field][0] or array.ndim != _FIELDS[field][1]
    ]
    if found:  # the rest would stumble over the same
        return found
    rows, videos, offsets = len(fields["labels"]), len(fields["names"]), fields["offsets"].astype(np.int64)
    for field, length in (("video_fps", videos), ("offsets", videos + 1)):
        if len(fields[field]) != length:
            found.append(f"field {field!r} has {len(fields[field])} entries for {videos} videos: give {length}")
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != rows or (np.diff(offsets) < 1).any():
        found.append(f"field 'offsets' does not rise from 0 to {rows}, the number of labels: correct it")
    for name in fields["names"]:
        try:
            schema.check_name(str(name), what="video")
        except DataError as error:
            found.append(str(error))
    names = fields["names"].tolist()
    if len(set(names)) != len(names):
        found.append(f"field 'names' lists {listing({n for n in names if names.count(n) > 1})} twice: drop one")
    fault = schema.label_fault(fields["labels"], "index", len(fields["class_names"]))
    return [*found, fault] if fault is not None else found
