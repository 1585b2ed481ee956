"""Import the sequence layout: one ``.npz`` file in which the videos follow each other."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from coadtr.data.importers.plan import ImportPlan, PlannedVideo, VideoArrays
from coadtr.data.importers.problems import raise_problems
from coadtr.data.sources.safe_npz import NpzFile
from coadtr.data.splits import choose_validation
from coadtr.data.storage import schema
from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["plan_sequence_npz"]

# Rank and kinds of each array.
_ARRAYS: Final = {
    "features": (2, "f"),
    "labels": (1, "iu"),
    "offsets": (1, "iu"),
    "names": (1, "U"),
    "is_test": (1, "b"),
    "class_names": (1, "U"),
    "fps": (0, "fiu"),
}

Arrays = dict[str, NDArray[Any]]


class _Features:
    """The features of all videos, unpacked when the first is read."""

    def __init__(self, file: NpzFile) -> None:
        self._file = file
        self._array: NDArray[Any] | None = None

    def rows(self, rows: slice) -> NDArray[Any]:
        if self._array is None:
            self._array = self._file.read("features")
        array = self._array[rows]
        if rows.stop == len(self._array):  # the last video
            self._array = None
        return array


def plan_sequence_npz(
    source: Path, *, validation_fraction: float = 0.15, seed: int = 0, stream: str = "features"
) -> ImportPlan:
    """Plan the import of a sequence ``.npz`` file (50 Salads, GTEA).

    Fields: ``features (N, D)``, ``labels (N,)``, ``offsets (V+1,)`` (video i is rows ``offsets[i]:offsets[i+1]``),
    ``names (V,)``, ``is_test (V,)``, ``class_names (C,)``, ``fps``. Other fields are left alone. The test split is
    ``is_test``; the validation split is taken from the other videos. The class named ``background``, if there is
    one, becomes the background.

    Args:
        source: The ``.npz`` file.
        validation_fraction: Part of the training videos set aside for validation; at least one is, so 0 is refused.
        seed: Seed of that choice.
        stream: Name of the feature stream in the store.

    Returns:
        What is to be imported.

    Raises:
        DataError: If the file is missing, damaged or contradicts itself; all problems in one message.
        UnsafeFileError: If the file holds pickled objects, or unpacks to far more than its size.
        ConfigError: If ``validation_fraction`` or ``seed`` is out of range.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "tiny.npz"
        >>> np.savez(
        ...     path, features=np.ones((9, 2), "f2"), labels=np.arange(9) % 2, offsets=[0, 3, 6, 9], fps=3.0,
        ...     names=["a", "b", "c"], is_test=[False, False, True], class_names=["background", "cut"],
        ... )
        >>> plan = plan_sequence_npz(path)
        >>> [video.name for video in plan.videos], plan.background, plan.streams
        (['a', 'b', 'c'], 0, {'features': 2})
    """
    if not source.is_file():
        raise DataError(f"{source}: no such file: give a sequence .npz file as source")
    file = NpzFile(source, tuple(_ARRAYS))
    # What follows would stumble over a wrong rank or type.
    file.require(_ARRAYS)
    arrays = {field: file.read(field) for field in _ARRAYS if field != "features"}
    raise_problems(source, _faults(arrays, file.arrays["features"].shape[0]))
    names = [str(name) for name in arrays["names"]]
    is_test, offsets = arrays["is_test"].astype(bool), arrays["offsets"].astype(np.int64)
    train = [name for name, test in zip(names, is_test, strict=True) if not test]
    validation = choose_validation(train, fraction=validation_fraction, seed=seed)
    classes = tuple(str(name) for name in arrays["class_names"])
    lowered, features = [name.lower() for name in classes], _Features(file)

    def read(rows: slice) -> VideoArrays:
        return {stream: features.rows(rows)}, arrays["labels"][rows]

    return ImportPlan(
        source=source,
        class_names=classes,
        background=lowered.index("background") if "background" in lowered else None,
        ignored=None,
        streams={stream: file.arrays["features"].shape[1]},
        attributes={
            "origin": f"sequence-npz file {source.parent.name}/{source.name}",
            "label_rule": "one class a frame, as in the source",
            "validation": {"fraction": validation_fraction, "seed": seed, "videos": sorted(validation)},
        },
        videos=tuple(
            PlannedVideo(
                name=name,
                split="test" if is_test[index] else "validation" if name in validation else "train",
                rate_hz=float(arrays["fps"]),
                read=partial(read, slice(offsets[index], offsets[index + 1])),
            )
            for index, name in enumerate(names)
        ),
        files=(source,),
        label_kind="index",
    )


def _faults(arrays: Mapping[str, NDArray[Any]], rows: int) -> list[str]:
    """Return what is wrong with lengths and values; the features are looked at as they are read."""
    videos, offsets, found = len(arrays["names"]), arrays["offsets"].astype(np.int64), []
    if len(arrays["labels"]) != rows:
        found.append(f"features have {rows} frames but labels {len(arrays['labels'])}: cut or extract them alike")
    for field, length in (("is_test", videos), ("offsets", videos + 1)):
        if len(arrays[field]) != length:
            found.append(f"field {field!r} has {len(arrays[field])} entries for {videos} videos: give {length}")
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != rows:
        found.append(f"field 'offsets' runs from {offsets[:1]} to {offsets[-1:]}: it must run from 0 to {rows}")
    empty = np.flatnonzero(np.diff(offsets) <= 0)
    found += [f"field 'offsets': video {i} has {np.diff(offsets)[i]} frames: leave it out" for i in empty]
    if not (math.isfinite(arrays["fps"]) and arrays["fps"] > 0):
        found.append(f"field 'fps' is {arrays['fps']}: give the frames a second, a positive number")
    fault = schema.label_fault(arrays["labels"], "index", len(arrays["class_names"]))
    return [*found, fault] if fault is not None else found
