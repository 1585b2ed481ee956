"""What streams remember, in a file: written whole or not at all, and trusted in nothing when it is read."""

from __future__ import annotations

import contextlib
import json
import math
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.errors import CheckpointError, DataError, StorageError
from coadtr.runtime.memory import Block, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from coadtr.runtime.description import Description

__all__ = ["FORMAT", "VERSION", "Capture", "read_snapshot", "settle", "write_snapshot"]

FORMAT: Final = "coadtr-snapshot"
VERSION: Final = 1
_COUNTS: Final = ("seen", "masked", "missing", "held", "restarts")


@dataclass(frozen=True, eq=False)
class Capture:
    """What streams remembered at one moment. They are values: no push changes them, so any thread may write them.

    Attributes:
        description: Of what the streams were stepped by.
        streams: The streams by name.
    """

    description: Description
    streams: Mapping[str, Stream]

    def write(self, path: str | Path, *, extras: Mapping[str, Any] | None = None) -> None:
        """Write them to a file: see :meth:`coadtr.runtime.OnlineDetector.snapshot`."""
        write_snapshot(path, self.description, self.streams, extras or {})


def write_snapshot(
    path: str | Path, description: Description, streams: Mapping[str, Stream], extras: Mapping[str, Any]
) -> None:
    """Write streams to one ``.npz`` file, beside ``path`` at first, and give it that name when the disk has it.

    Args:
        path: The file. Folders that are missing are made.
        description: Of what the streams were stepped by: only the same weights go on with them.
        streams: The streams by name.
        extras: What the caller wants to find again, JSON-ready.

    Raises:
        DataError: If ``extras`` is not JSON-ready.
        StorageError: If the file cannot be written.
    """
    target, kept = Path(path).absolute(), list(streams.values())
    arrays = {
        f"state.{index}": np.stack([stream.block.leaves[index][stream.row] for stream in kept])
        if kept
        else np.empty((0, *leaf.fresh.shape), leaf.fresh.dtype)
        for index, leaf in enumerate(description.state)
    }
    last = [stream.last for stream in kept if stream.last is not None]
    arrays["last"] = np.stack(last) if last else np.empty((0, description.input_dim), np.float32)
    header = {**_identity(description), "streams": [_told(name, stream) for name, stream in streams.items()]}
    try:
        text = json.dumps({**header, "extras": dict(extras)})
    except (TypeError, ValueError) as error:
        raise DataError(f"extras of a snapshot must be JSON-ready ({error}); give texts, numbers, lists") from error
    arrays["header"] = np.frombuffer(text.encode(), np.uint8)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        settle(target.parent)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error.strerror or error}); free some space, or name a file that you may write"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # it is gone already, or was never made
            part.unlink()


def read_snapshot(path: str | Path, description: Description) -> tuple[dict[str, Stream], dict[str, Any]]:
    """Read what `write_snapshot` wrote.

    Args:
        path: The file.
        description: Of what is to go on with the streams.

    Returns:
        The streams by name, and the extras.

    Raises:
        CheckpointError: If the file is missing, damaged, of another version, or of other weights.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: there is no such file; give a snapshot")
    try:
        arrays = _read_arrays(Path(path))
        header = json.loads(arrays["header"].tobytes())
        _compare(header, description)
        return _read_streams(header["streams"], arrays, description), dict(header["extras"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # on damaged files zipfile, numpy and json raise more kinds than can be listed
        raise CheckpointError(f"{path}: is damaged ({type(error).__name__}: {error}); give another snapshot") from error


def _identity(description: Description) -> dict[str, Any]:
    """Say what must agree so that a stream goes on as it was."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "weights_sha256": description.digest,
        "precision": description.precision,
        "channels": description.input_dim,
        "state": [leaf.layout for leaf in description.state],
    }


def _compare(header: Mapping[str, Any], description: Description) -> None:
    wanted = _identity(description)
    for key, value in wanted.items():
        if (found := header.get(key)) == value and not isinstance(found, bool):
            continue
        if key == "format":
            raise CheckpointError(f"is not of the format {FORMAT!r}; give a snapshot")
        if key == "state":
            raise CheckpointError("its state is laid out otherwise; restore it with the export that it was taken on")
        short = (text[:12] if isinstance(text, str) else text for text in (found, value))
        raise CheckpointError(
            "{} is {!r}, not {!r}; restore it with the export that it was taken on".format(key, *short)
        )


def _told(name: str, stream: Stream) -> dict[str, Any]:
    counts = {key: getattr(stream, key) for key in _COUNTS}
    return {"name": name, "time": stream.time, "last": stream.last is not None, **counts}


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    # Opened here, because numpy leaves a file open that turns out not to be what it reads.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        # Nothing in it is compressed: what claims to be larger than the file is no snapshot.
        if sum(entry.file_size for entry in archive.zip.infolist()) > path.stat().st_size:
            raise CheckpointError("holds more than its size; give another snapshot")
        return {name: archive[name] for name in archive.files}


def _read_streams(
    entries: Sequence[Mapping[str, Any]], arrays: Mapping[str, NDArray[Any]], description: Description
) -> dict[str, Stream]:
    leaves = [
        _checked(arrays[f"state.{index}"], (len(entries), *leaf.fresh.shape), leaf.fresh.dtype)
        for index, leaf in enumerate(description.state)
    ]
    with_last = sum(entry["last"] is True for entry in entries)
    last = _checked(arrays["last"], (with_last, description.input_dim), np.dtype(np.float32))
    if not np.isfinite(last).all():
        raise ValueError("a frame is not finite")
    block, frames = Block(leaves, len(entries)), iter(last)
    streams: dict[str, Stream] = {}
    for row, entry in enumerate(entries):
        name, time, counts = entry["name"], entry["time"], {key: entry[key] for key in _COUNTS}
        if not isinstance(name, str) or name in streams:
            raise ValueError(f"stream {name!r}")
        if time is not None and not (type(time) in (int, float) and math.isfinite(time)):
            raise ValueError(f"time {time!r}")
        if any(type(count) is not int or count < 0 for count in counts.values()):
            raise ValueError(f"counts {counts}")
        kept = next(frames) if entry["last"] is True else None
        streams[name] = Stream(block, row, time=time, last=kept, **counts)
    return streams


def _checked(found: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    if found.shape != shape or found.dtype != dtype:
        raise ValueError(f"an array is {found.dtype} {found.shape}, not {dtype} {shape}")
    return np.ascontiguousarray(found) if found.ndim else found


def settle(folder: Path) -> None:
    """Wait until the disk has the new names in a folder, where folders can be opened for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
