"""Scores of a replay in HDF5: what a detector answered to every frame, beside the labels.

Scores are kept in float64, as they were scored: in float32 sure answers round to 1 and become ties, and the
average precision of the file would not be that of the report.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from coadtr.data.atomic import replacing
from coadtr.data.storage import schema
from coadtr.data.storage.opening import own_videos
from coadtr.data.storage.stored import stored_dataset, stored_group
from coadtr.errors import DataError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from coadtr.data.storage.schema import Labels

__all__ = ["ScoreFile", "VideoScores", "read_scores", "write_scores"]

_FORMAT: Final = "coadtr-scores"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class VideoScores:
    """The answers to one video.

    Attributes:
        name: Name of the video.
        scores: ``(T, C)`` float64, one row a frame.
        labels: ``(T,)`` class indices (int64), or ``(T, C)`` zeros and ones (uint8).
        scored: ``(T,)`` which frames the metric counts.
    """

    name: str
    scores: NDArray[np.float64]
    labels: Labels
    scored: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ScoreFile:
    """The contents of a score file.

    Attributes:
        class_names: The C class names.
        attributes: Where the scores come from.
        videos: The videos, in the order written.
    """

    class_names: tuple[str, ...]
    attributes: dict[str, object]
    videos: tuple[VideoScores, ...]


def write_scores(
    path: str | Path,
    *,
    class_names: Sequence[str],
    attributes: Mapping[str, object],
    videos: Iterable[tuple[str, ArrayLike, ArrayLike, ArrayLike]],
) -> Path:
    """Write scores; the file appears when it is complete.

    Args:
        path: File to write (``.h5``).
        class_names: The C class names.
        attributes: Where the scores come from; any JSON object.
        videos: Name, scores ``(T, C)``, labels ``(T,)`` or ``(T, C)``, and scored ``(T,) bool`` of each
            video.

    Returns:
        The path.

    Raises:
        DataError: If shapes differ, a score is NaN, a name cannot be stored, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = write_scores(
        ...     Path(tempfile.mkdtemp()) / "scores.h5", class_names=["rest", "lift"], attributes={"seed": 0},
        ...     videos=[("a", np.eye(2), [0, 1], [True, True])],
        ... )
        >>> read_scores(path).videos[0].scores.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    path = Path(path)
    try:
        with replacing(path) as part, h5py.File(part, "w") as file:
            file.attrs["format"], file.attrs["version"] = _FORMAT, _VERSION
            file.attrs["class_names"] = np.array(list(class_names), dtype=h5py.string_dtype())
            file.attrs["attributes"] = schema.encode_attributes(attributes)
            parent = file.create_group("videos")
            for index, (name, scores, labels, scored) in enumerate(videos):
                fault = _add_scores(parent, index, len(class_names), name, (scores, labels, scored))
                if fault is not None:
                    raise DataError(f"{path}: video {name!r}: {fault}")
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be written ({error}): free some space and try again") from error
    return path


def _add_scores(
    parent: Any, index: int, classes: int, name: str, arrays: tuple[ArrayLike, ArrayLike, ArrayLike]
) -> str | None:
    """Write one video; return what is wrong with it, or none."""
    schema.check_name(name, what="video")
    scores, labels, scored = np.asarray(arrays[0], np.float64), np.asarray(arrays[1]), np.asarray(arrays[2])
    frames = len(scores) if scores.ndim else 0
    if name in parent:
        return "is there already: give every video its own name"
    if scores.shape != (frames, classes):
        return f"field 'scores': shape {scores.shape}: give (T, {classes})"
    if labels.shape not in ((frames,), (frames, classes)) or labels.dtype.kind not in "iub":
        wanted = f"({frames},) or ({frames}, {classes}) whole numbers"
        return f"field 'labels': shape {labels.shape} of {labels.dtype}: give {wanted}"
    if scored.shape != (frames,) or scored.dtype != bool:
        return f"field 'scored': shape {scored.shape} of {scored.dtype}: give ({frames},) bool"
    if np.isnan(scores).any():
        return f"field 'scores': NaN at frame {np.argwhere(np.isnan(scores))[0][0]}: the model is at fault"
    group = parent.create_group(name)
    group.attrs["index"] = index
    group["scores"] = scores
    group["labels"] = labels.astype(np.uint8 if labels.ndim == 2 else np.int64)
    group["scored"] = scored
    return None


def read_scores(path: str | Path) -> ScoreFile:
    """Read a score file.

    Args:
        path: File that `write_scores` wrote.

    Returns:
        Its contents.

    Raises:
        DataError: If the file is missing or damaged.
        SchemaError: If it is not a score file, or one of another version.
        UnsafeFileError: If it points to what another file holds; no such link is followed.

    Example:
        >>> read_scores("no_such.h5")
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such.h5: no such file: write it with `coadtr replay`, or mend the path
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file: write it with `coadtr replay`, or mend the path")
    if not h5py.is_hdf5(path):
        raise SchemaError(f"{path}: is not an HDF5 file: give a score file (`coadtr replay`)")
    try:
        with h5py.File(path, "r") as file:
            return _read_file(file, path)
    except DataError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: is damaged and cannot be read ({error}): replay again") from error


def _read_file(file: Any, path: Path) -> ScoreFile:
    found = (file.attrs.get("format"), int(file.attrs.get("version", -1)))
    if found != (_FORMAT, _VERSION):
        raise SchemaError(f"{path}: is {found}, not {(_FORMAT, _VERSION)}: give a score file (`coadtr replay`)")
    try:
        classes = schema.texts(np.asarray(file.attrs["class_names"]).tolist())
    except DataError as error:
        raise SchemaError(f"{path}: {error}") from error
    videos = own_videos(file, path)
    if videos is None:
        raise SchemaError(f"{path}: group 'videos' is missing: replay again")
    indexed = []
    for name in videos:
        try:
            indexed.append(_read_video(videos, name))
        except DataError as error:
            raise type(error)(f"{path}: video {name!r}: {error}") from error
    return ScoreFile(
        class_names=classes,
        attributes=json.loads(file.attrs["attributes"]),
        videos=tuple(video for _, video in sorted(indexed, key=lambda item: item[0])),
    )


def _read_video(videos: Any, name: str) -> tuple[int, VideoScores]:
    """Return the place of a video in the order written, and its scores."""
    group = stored_group(videos, name)
    if group is None:
        raise DataError("is not a group: replay again")
    arrays = {}
    for field in ("scores", "labels", "scored"):
        data = stored_dataset(group, field)
        if data is None:
            raise DataError(f"field {field!r} is missing: replay again")
        try:
            arrays[field] = data[:]
        except MemoryError as error:
            raise DataError(f"field {field!r}: shape {data.shape}: does not fit in memory: replay again") from error
    scores, scored = arrays["scores"].astype(np.float64), arrays["scored"].astype(bool)
    return int(group.attrs["index"]), VideoScores(name, scores, arrays["labels"], scored)
