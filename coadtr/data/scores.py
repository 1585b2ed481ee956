"""Scores of a replay in HDF5: what a detector answered to every frame, beside the labels.

Scores are kept in float64, as they were scored: in float32 sure answers round to 1 and become ties, and the
average precision of the file would not be that of the report.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from coadtr.data.atomic import replacing
from coadtr.data.storage import schema
from coadtr.data.storage.opening import own_videos
from coadtr.data.storage.stored import stored_dataset, stored_group
from coadtr.errors import DataError, SchemaError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from coadtr.data.storage.schema import Labels

__all__ = ["ScoreFile", "VideoScores", "read_scores", "write_scores"]

_FORMAT: Final = "coadtr-scores"
_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class VideoScores:
    """The answers to one video.

    Attributes:
        name: Name of the video.
        scores: ``(T, C)`` float64, one row a frame.
        labels: ``(T,)`` class indices (int64), or ``(T, C)`` zeros and ones (uint8).
        scored: ``(T,)`` which frames the metric counts.
        rate_hz: Frames a second, or None if unknown.
        ahead: ``(T, K, C)`` float64: row t holds the scores of the frames t + 1 .. t + K; None if the detector
            does not predict ahead.
    """

    name: str
    scores: NDArray[np.float64]
    labels: Labels
    scored: NDArray[np.bool_]
    rate_hz: float | None = None
    ahead: NDArray[np.float64] | None = None


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
    videos: Iterable[VideoScores],
) -> Path:
    """Write scores; the file appears when it is complete.

    Args:
        path: File to write (``.h5``).
        class_names: The C class names.
        attributes: Where the scores come from; any JSON object.
        videos: The answers to each video.

    Returns:
        The path.

    Raises:
        DataError: If shapes differ, a score is NaN, or a name cannot be stored.
        StorageError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = write_scores(
        ...     Path(tempfile.mkdtemp()) / "scores.h5", class_names=["rest", "lift"], attributes={"seed": 0},
        ...     videos=[VideoScores("a", np.eye(2), np.array([0, 1]), np.array([True, True]))],
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
            for index, video in enumerate(videos):
                fault = next(_faults(video, len(class_names), parent), None)
                if fault is not None:
                    raise DataError(f"{path}: video {video.name!r}: {fault}")
                _add(parent, index, video)
    except (OSError, RuntimeError) as error:
        # HDF5 adds internals to what the system says.
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise StorageError(f"{path}: cannot be written ({why}): free some space and try again") from error
    return path


def _faults(video: VideoScores, classes: int, written: Any) -> Iterator[str]:
    """Yield what is wrong with a video."""
    schema.check_name(video.name, what="video")
    scores, labels, scored, ahead = video.scores, video.labels, video.scored, video.ahead
    frames = len(scores) if scores.ndim else 0
    if video.name in written:
        yield "is there already: give every video its own name"
    if scores.shape != (frames, classes):
        yield f"field 'scores': shape {scores.shape}: give (T, {classes})"
    if labels.shape not in ((frames,), (frames, classes)) or labels.dtype.kind not in "iub":
        wanted = f"({frames},) or ({frames}, {classes}) whole numbers"
        yield f"field 'labels': shape {labels.shape} of {labels.dtype}: give {wanted}"
    if scored.shape != (frames,) or scored.dtype != bool:
        yield f"field 'scored': shape {scored.shape} of {scored.dtype}: give ({frames},) bool"
    if video.rate_hz is not None and not 0 < video.rate_hz < float("inf"):
        yield f"field 'rate_hz': {video.rate_hz}: give frames a second above 0, or None"
    if ahead is not None and (ahead.ndim != 3 or ahead.shape != (frames, ahead.shape[1], classes)):
        yield f"field 'ahead': shape {ahead.shape}: give ({frames}, K, {classes})"
    for field, values in (("scores", scores), ("ahead", ahead)):
        if values is not None and np.isnan(values).any():
            yield f"field {field!r}: NaN at frame {np.argwhere(np.isnan(values))[0][0]}: the model is at fault"


def _add(parent: Any, index: int, video: VideoScores) -> None:
    group = parent.create_group(video.name)
    group.attrs["index"] = index
    group["scores"] = video.scores.astype(np.float64)
    group["labels"] = video.labels.astype(np.uint8 if video.labels.ndim == 2 else np.int64)
    group["scored"] = video.scored
    if video.rate_hz is not None:
        group.attrs["rate_hz"] = video.rate_hz
    if video.ahead is not None:
        group["ahead"] = video.ahead.astype(np.float64)


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
    for field in ("scores", "labels", "scored", "ahead"):
        data = stored_dataset(group, field)
        if data is None:
            if field == "ahead":
                continue
            raise DataError(f"field {field!r} is missing: replay again")
        try:
            arrays[field] = data[:]
        except MemoryError as error:
            raise DataError(f"field {field!r}: shape {data.shape}: does not fit in memory: replay again") from error
    rate = group.attrs.get("rate_hz")
    return int(group.attrs["index"]), VideoScores(
        name,
        arrays["scores"].astype(np.float64),
        arrays["labels"],
        arrays["scored"].astype(bool),
        None if rate is None else float(rate),
        arrays.get("ahead"),
    )
