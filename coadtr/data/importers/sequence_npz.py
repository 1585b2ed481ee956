"""Import the sequence layout: one ``.npz`` file in which the videos follow each other."""

from __future__ import annotations

import math
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coadtr.data import schema
from coadtr.data.importers.problems import raise_problems
from coadtr.data.progress import progress
from coadtr.data.splits import choose_validation
from coadtr.data.writer import StoreWriter
from coadtr.errors import DataError, UnsafeFileError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["import_sequence_npz"]

_FIELDS = ("features", "labels", "offsets", "names", "is_test", "class_names", "fps")

Arrays = dict[str, NDArray[Any]]


def import_sequence_npz(
    source: Path, out: Path, *, validation_fraction: float = 0.15, seed: int = 0, stream: str = "features"
) -> Path:
    """Import a sequence ``.npz`` file (50 Salads, GTEA).

    Fields: ``features (N, D)``, ``labels (N,)``, ``offsets (V+1,)`` (video i is rows
        ``offsets[i]:offsets[i+1]``), ``names (V,)``, ``is_test (V,)``, ``class_names (C,)``, ``fps``. Other
        fields are left alone. The test split is ``is_test``; the validation split is taken from the other
        videos. The class named ``background``, if there is one, becomes the background.

    Args:
        source: The ``.npz`` file.
        out: Feature store to write.
        validation_fraction: Part of the training videos set aside for validation; at least one is.
        seed: Seed of that choice.
        stream: Name of the feature stream in the store.

    Returns:
        The path of the store.

    Raises:
        DataError: If the file is missing, damaged or contradicts itself; all problems in one message.
        UnsafeFileError: If the file holds pickled objects.
        ConfigError: If ``validation_fraction`` or ``seed`` is out of range.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from coadtr.data import FeatureStore
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.savez(
        ...     folder / "tiny.npz",
        ...     features=np.ones((9, 2), "f2"), labels=np.arange(9) % 2, offsets=[0, 3, 6, 9], fps=3.0,
        ...     names=["a", "b", "c"], is_test=[False, False, True], class_names=["background", "cut"],
        ... )
        >>> store = FeatureStore(import_sequence_npz(folder / "tiny.npz", folder / "tiny.h5"))
        >>> store.splits, store.background
        (('train', 'validation', 'test'), 0)
    """
    arrays = _load(source)
    raise_problems(source, _problems(arrays))
    names = [str(name) for name in arrays["names"]]
    classes = [str(name) for name in arrays["class_names"]]
    is_test, offsets = arrays["is_test"].astype(bool), arrays["offsets"].astype(np.int64)
    train = [name for name, test in zip(names, is_test, strict=True) if not test]
    validation = choose_validation(train, fraction=validation_fraction, seed=seed)
    lowered = [name.lower() for name in classes]
    with StoreWriter(
        out,
        class_names=classes,
        background=lowered.index("background") if "background" in lowered else None,
        streams={stream: int(arrays["features"].shape[1])},
        attributes={
            "origin": f"sequence-npz file {source.parent.name}/{source.name}",
            "label_rule": "one class a frame, as in the source",
            "validation": {"fraction": validation_fraction, "seed": seed, "videos": sorted(validation)},
        },
    ) as writer:
        for index in progress(range(len(names)), total=len(names), description="import"):
            rows, name = slice(offsets[index], offsets[index + 1]), names[index]
            writer.add(
                name,
                split="test" if is_test[index] else "validation" if name in validation else "train",
                rate_hz=float(arrays["fps"]),
                features={stream: arrays["features"][rows]},
                labels=arrays["labels"][rows],
            )
    return out


def _load(source: Path) -> Arrays:
    if not source.is_file():
        raise DataError(f"{source}: no such file: give a sequence .npz file as source")
    try:
        return _read(source)
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{source}: is not a whole .npz file ({error}): copy or download it again") from error


def _read(source: Path) -> Arrays:
    with source.open("rb") as raw:
        # NumPy takes what is neither for a pickle, and says how to load that; so it is not asked.
        magic = raw.read(6)
        raw.seek(0)
        if magic == b"\x93NUMPY":
            raise DataError(f"{source}: is a single array, not an .npz file: give a sequence .npz file as source")
        if not magic.startswith((b"PK\x03\x04", b"PK\x05\x06")) or not zipfile.is_zipfile(raw):
            raise DataError(
                f"{source}: is not a whole .npz file (another format, or cut short): "
                "copy or download it again, or give a sequence .npz file as source"
            )
        raw.seek(0)
        loaded = np.load(raw, allow_pickle=False)
        with loaded as file:
            missing = [field for field in _FIELDS if field not in file.files]
            raise_problems(source, [f"field {field!r} is missing: add it to the file" for field in missing])
            return {field: _field(file, field, source) for field in _FIELDS}


def _field(file: Any, field: str, source: Path) -> NDArray[Any]:
    try:
        return np.asarray(file[field])
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise UnsafeFileError(
            f"{source}: field {field!r} holds pickled objects: store it as plain numbers or text"
        ) from error


def _problems(arrays: Arrays) -> list[str]:
    """Return what is wrong with shapes and values; NaN features are the writer's to find."""
    ranks = {"features": 2, "labels": 1, "offsets": 1, "names": 1, "is_test": 1, "class_names": 1, "fps": 0}
    kinds = {**dict.fromkeys(("names", "class_names"), "U"), **dict.fromkeys(("labels", "offsets"), "iu")}
    kinds |= {"features": "f", "is_test": "b", "fps": "fiu"}
    found = []
    for field, array in arrays.items():
        if array.ndim != ranks[field] or array.dtype.kind not in kinds[field]:
            found.append(
                f"field {field!r} is {array.dtype} of shape {array.shape}: "
                f"give an array of {ranks[field]} dimensions and a kind out of {kinds[field]!r}"
            )
    if found:  # the rest would stumble over the same
        return found
    rows, videos, offsets = len(arrays["features"]), len(arrays["names"]), arrays["offsets"].astype(np.int64)
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
