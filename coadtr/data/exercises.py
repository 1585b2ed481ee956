"""The embedded data set: smartwatch recordings of physiotherapy exercises, as untrimmed streams.

The PyPI package ``seglearn`` (BSD licence) carries them as a data file: 140 recordings of 10 subjects doing 7
shoulder exercises, 3-axis accelerometer and gyroscope at 50 Hz (Burns et al. 2018, arXiv 1802.01489). The
package is not
imported: its file is found and read here, by an unpickler that reads arrays only.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.data.sources.packaged import packaged_file
from coadtr.data.sources.safe_pickle import load_object_npy
from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "SPLIT_OF",
    "STREAMS",
    "Recordings",
    "describe",
    "join_recordings",
    "load_recordings",
    "locate_recordings",
    "subject_stream",
    "write_exercises",
]

_PACKAGE: Final = "seglearn"
_CHANNELS: Final = 6
_SAMPLES_PER_FRAME: Final = 10  # 0.2 s at 50 Hz
SPLIT_OF: Final = MappingProxyType(
    {
        **dict.fromkeys(range(1, 6), "train"),
        6: "validation",
        **dict.fromkeys(range(7, 11), "test"),
    }
)
"""Split of each subject; no subject is in two."""
STREAMS: Final = MappingProxyType({"imu": _SAMPLES_PER_FRAME * _CHANNELS})
"""Channels of the one feature stream."""


@dataclass(frozen=True, slots=True)
class Recordings:
    """The recordings as the package stores them.

    Attributes:
        signals: One ``(samples, 6)`` array a recording, 50 Hz: acceleration x, y, z, then rotation x, y, z.
        classes: ``(R,)`` exercise of each recording.
        subjects: ``(R,)`` subject of each recording, 1 to 10.
        class_names: Names of the exercises.
    """

    signals: tuple[NDArray[np.float64], ...]
    classes: NDArray[np.int64]
    subjects: NDArray[np.int64]
    class_names: tuple[str, ...]


def locate_recordings() -> Path:
    """Return the data file inside the installed package, without importing the package.

    Raises:
        MissingExtraError: If the package is not installed.
        DataError: If it is installed but does not carry the file.

    Example:
        >>> locate_recordings().name
        'watch_dataset.npy'
    """
    return packaged_file(_PACKAGE, "data", "watch_dataset.npy", needed_by="the data set exercises", extra="demo")


def load_recordings(path: Path | None = None) -> Recordings:
    """Read the recordings.

    Args:
        path: The data file; none for the one of the installed package.

    Raises:
        MissingExtraError: If the package is not installed.
        UnsafeFileError: If the file asks for anything but data.
        DataError: If the file is not what the package version 1.2.5 carries.

    Example:
        >>> recordings = load_recordings()
        >>> len(recordings.signals), recordings.class_names
        (140, ('PEN', 'ABD', 'FEL', 'IR', 'ER', 'TRAP', 'ROW'))
    """
    path = locate_recordings() if path is None else path
    try:
        content: Any = load_object_npy(path).item()
        recordings = Recordings(
            signals=tuple(np.asarray(signal, np.float64) for signal in content["X"]),
            classes=np.asarray(content["y"]).astype(np.int64),
            subjects=np.asarray(content["subject"]).astype(np.int64),
            class_names=tuple(str(name) for name in content["y_labels"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: is not the recordings of {_PACKAGE} 1.2.5 ({error!r}): reinstall the package"
        ) from error
    _check(recordings, path)
    return recordings


def _check(recordings: Recordings, path: Path) -> None:
    count, faults = len(recordings.signals), []
    if recordings.classes.shape != (count,) or recordings.subjects.shape != (count,):
        faults.append(f"{count} recordings, {recordings.classes.shape} classes, {recordings.subjects.shape} subjects")
    faults += [
        f"recording {index} has shape {signal.shape}, not (samples, {_CHANNELS})"
        for index, signal in enumerate(recordings.signals)
        if signal.ndim != 2 or signal.shape[1] != _CHANNELS
    ]
    if sorted(set(recordings.subjects.tolist())) != sorted(SPLIT_OF):
        faults.append(f"subjects are {sorted(set(recordings.subjects.tolist()))}, not 1 to 10")
    if faults:
        raise DataError(f"{path}: {faults[0]}: reinstall {_PACKAGE} 1.2.5")


def join_recordings(
    signals: Sequence[NDArray[np.float64]], classes: Sequence[int] | NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Join recordings into one untrimmed stream of 5 frames a second.

    A frame is the 10 samples of its 0.2 s, flattened sample by sample (six channels of the first, then of the
    second,
    ...). What a recording has beyond its last whole frame is dropped, so no frame spans two recordings.

    Args:
        signals: ``(samples, 6)`` each, 50 Hz, in the order to join.
        classes: Class of each recording.

    Returns:
        ``(T, 60)`` features and ``(T,)`` class indices.

    Example:
        >>> features, labels = join_recordings([np.zeros((25, 6)), np.ones((10, 6))], [3, 1])
        >>> features.shape, labels.tolist()
        ((3, 60), [3, 3, 1])
    """
    frames = [
        signal[: len(signal) // _SAMPLES_PER_FRAME * _SAMPLES_PER_FRAME].reshape(-1, _SAMPLES_PER_FRAME * _CHANNELS)
        for signal in signals
    ]
    labels = np.repeat(np.asarray(classes, np.int64), [len(block) for block in frames])
    return np.concatenate(frames).astype(np.float32), labels


def subject_stream(recordings: Recordings, subject: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Join the recordings of one subject in a seeded order.

    Args:
        recordings: The recordings.
        subject: Number of the subject, 1 to 10.
        seed: Seed of the order; the subject is part of it, so that one subject's order does not hang on the others.

    Returns:
        ``(T, 60)`` features and ``(T,)`` class indices.

    Example:
        >>> features, labels = subject_stream(load_recordings(), 3, seed=0)
        >>> features.shape[1], len(features) == len(labels)
        (60, True)
    """
    order = np.random.default_rng([seed, subject]).permutation(np.flatnonzero(recordings.subjects == subject))
    return join_recordings([recordings.signals[index] for index in order], recordings.classes[order])


def describe(seed: int) -> dict[str, object]:
    """Return the attributes of the store: where the data come from.

    Args:
        seed: Seed of the order of the recordings.

    Raises:
        MissingExtraError: If the package is not installed.

    Example:
        >>> describe(0)["label_rule"]
        'the exercise of the recording that the frame belongs to'
    """
    return {
        "origin": f"smartwatch recordings of the package {_PACKAGE} {importlib.metadata.version(_PACKAGE)}",
        "label_rule": "the exercise of the recording that the frame belongs to",
        "seed": seed,
    }


def write_exercises(out: str | Path, *, seed: int = 0) -> Path:
    """Write the data set `exercises`: one untrimmed stream a subject, split by subject.

    Subjects 1 to 5 train, 6 validates, 7 to 10 test; no subject is in two splits.

    Args:
        out: Feature store to write.
        seed: Seed of the order in which each subject's recordings are joined.

    Returns:
        The path of the store.

    Raises:
        MissingExtraError: If the package is not installed.
        ConfigError: If the seed is negative.
        DataError: If the data file is damaged or ``out`` cannot be written.

    Example:
        >>> import tempfile
        >>> from coadtr.data import FeatureStore
        >>> store = FeatureStore(write_exercises(Path(tempfile.mkdtemp()) / "exercises.h5"))
        >>> len(store.videos("train")), len(store.videos("validation")), len(store.videos("test"))
        (5, 1, 4)
    """
    # The importers read this module.
    from coadtr.data.importers import import_features  # noqa: PLC0415

    import_features("exercises", None, out, seed=seed)
    return Path(out)
