"""Verify a feature store as a whole: what is checked on opening, every checksum, and every value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coadtr.data.progress import progress
from coadtr.data.storage import schema
from coadtr.data.storage.blocks import all_finite
from coadtr.data.storage.handle import FileHandle
from coadtr.data.storage.opening import read_header, read_record
from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coadtr.data.storage.schema import Header, LabelKind

__all__ = ["Verification", "stream_faults", "verify"]

_VALUES_AT_ONCE: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Verification:
    """What was verified of a store, and what is wrong with it.

    Attributes:
        path: Path of the store.
        videos: Videos that were read whole.
        frames: Their frames.
        bytes: Bytes that their features and labels take in the file.
        checksums: Checksums that their blocks were held against.
        problems: All that is wrong; the store is good if there is none.
    """

    path: str
    videos: int
    frames: int
    bytes: int
    checksums: int
    problems: tuple[str, ...]


def verify(path: str | Path) -> Verification:
    """Read a store whole, one part of a video at a time, and find all that is wrong with its videos.

    Args:
        path: The feature store.

    Returns:
        What was read, and every problem.

    Raises:
        DataError: If there is no such file, or it is so damaged that no video can be found.
        SchemaError: If it is not a feature store, or its header contradicts itself.

    Example:
        >>> import tempfile
        >>> from coadtr.data import write_exercises
        >>> found = verify(write_exercises(Path(tempfile.mkdtemp()) / "exercises.h5"))
        >>> found.videos, found.frames, found.problems
        (10, 24351, ())
    """
    handle = FileHandle(Path(path))
    try:
        with handle.reading():
            header, kind = read_header(handle.file, handle.path)
            names = list(handle.file["videos"])
        return _verify_videos(handle, header, kind, names)
    finally:
        handle.close()


def _verify_videos(handle: FileHandle, header: Header, kind: LabelKind, names: list[str]) -> Verification:
    problems = [] if names else ["holds no video: import the data again"]
    places: dict[int, str] = {}
    videos = frames = stored = checksums = 0
    for name in progress(names, total=len(names), description="check"):
        try:
            index, record = read_record(handle.file["videos"], name, handle.path, header, kind)
        except DataError as error:
            problems.append(str(error).removeprefix(f"{handle.path}: "))
            continue
        twin = places.setdefault(index, name)
        if twin != name:
            problems.append(f"video {name!r}: attribute 'index' {index} is also that of {twin!r}: import again")
        videos, frames = videos + 1, frames + record.frames
        for field in (*header.streams, schema.LABEL_DATASET):
            try:
                with handle.reading(name, field):
                    data = handle.file["videos"][name][field]
                    stored += data.id.get_storage_size()
                    checksums += data.id.get_num_chunks() if data.fletcher32 else 0
                    # Labels were read, and so verified, with the record.
                    faults = list(stream_faults(data)) if field != schema.LABEL_DATASET else []
                problems += [f"video {name!r}: field {field!r}: {fault}" for fault in faults]
            except DataError as error:
                problems.append(str(error).removeprefix(f"{handle.path}: "))
    return Verification(str(handle.path), videos, frames, stored, checksums, tuple(problems))


def stream_faults(data: Any) -> Iterator[str]:
    """Read ``(T, D)`` features through HDF5, which verifies their checksums, and yield what is wrong with them.

    Args:
        data: The dataset of one stream.

    Yields:
        The first damaged block, with the number of others, and the first value that is not finite.

    Example:
        >>> import h5py, numpy as np
        >>> file = h5py.File("verify.h5", "w", driver="core", backing_store=False)
        >>> list(stream_faults(file.create_dataset("rgb", data=np.array([[1.0, np.nan]]))))
        ['value nan at frame 0, channel 1: repair the source and import it again']
    """
    block = data.chunks[0] if data.chunks else 1024
    rows = block * max(1, _VALUES_AT_ONCE // (block * max(1, data.shape[1])))
    damaged: list[str] = []
    strange: str | None = None
    for start in range(0, len(data), rows):
        try:
            pieces = [(start, data[start : start + rows])]
        except (OSError, RuntimeError):
            pieces = _whole_blocks(data, range(start, min(start + rows, len(data)), block), block, damaged)
        for first, values in pieces:
            if strange is None and not all_finite(values):
                strange = schema.non_finite(values, first_frame=first)
    if damaged:
        others = f", and {len(damaged) - 1} more blocks" if len(damaged) > 1 else ""
        yield f"is damaged and cannot be read at {damaged[0]}{others}: import or copy it again"
    if strange is not None:
        yield f"value {strange}: repair the source and import it again"


def _whole_blocks(data: Any, starts: range, block: int, damaged: list[str]) -> list[tuple[int, Any]]:
    """Return the blocks that can be read, with their first frames, and note the others."""
    whole = []
    for start in starts:
        stop = min(start + block, len(data))
        try:
            whole.append((start, data[start:stop]))
        except (OSError, RuntimeError) as error:
            damaged.append(f"frames {start} to {stop - 1} ({' '.join(str(error).split())})")
    return whole
