"""The frames that were taken since the last snapshot, so that a server that was killed can take them again.

A journal is a file: one line of JSON that says what it is, then one entry after the other, each with its length and a
checksum. An entry is written before the answer to its frame is sent. So a frame whose answer anybody has seen is in the
snapshot or in the journal. What a kill leaves half written at the end was answered to nobody.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from coadtr.errors import CheckpointError, StorageError
from coadtr.runtime.snapshots import settle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Entry", "Journal", "read_journal"]

FORMAT: Final = "coadtr-journal"
VERSION: Final = 1

_PREFIX: Final = struct.Struct("<II")  # bytes of the body, and their CRC-32
_BODY: Final = struct.Struct("<BBQd")  # kind, bytes of the stream's name, number of the frame, its time
_FRAME, _TIMED, _DROPPED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Entry:
    """A frame that a stream took, or the end of the stream.

    Attributes:
        stream: Name of the stream.
        number: Number of the frame in the stream, from 0; how many it had, at its end.
        frame: ``(D,)``; None where the stream was dropped: ended, forgotten, or begun anew.
        time: Its time in seconds; None on a stream whose frames bring none.
    """

    stream: str
    number: int
    frame: NDArray[np.float32] | None
    time: float | None = None

    def to_bytes(self) -> bytes:
        """Write it as the file has it."""
        kind = _DROPPED if self.frame is None else _FRAME if self.time is None else _TIMED
        name = self.stream.encode()
        values = b"" if self.frame is None else self.frame.astype("<f4").tobytes()
        body = _BODY.pack(kind, len(name), self.number, self.time or 0.0) + name + values
        return _PREFIX.pack(len(body), zlib.crc32(body)) + body


class Journal:
    """Append entries to a new file.

    Args:
        path: The file; one that is there is replaced.
        channels: Values D of a frame.
        fsync: Whether `append` waits for the disk. Without it the entries outlive the process, with it the machine.

    Attributes:
        path: The file.
        size: Its bytes.

    Raises:
        StorageError: If it cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> journal = Journal(Path(tempfile.mkdtemp()) / "journal", 2)
        >>> journal.append([Entry("door", 0, np.ones(2, np.float32)), Entry("door", 1, None)])
        >>> journal.close()
        >>> [(entry.stream, entry.number) for entry in read_journal(journal.path, 2)]
        [('door', 0), ('door', 1)]
    """

    def __init__(self, path: Path, channels: int, *, fsync: bool = False) -> None:
        self.path = path
        self._fsync = fsync
        header = json.dumps({"format": FORMAT, "version": VERSION, "channels": channels}).encode() + b"\n"
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise _unwritable(path, error) from error
        self.size = 0
        try:
            self._write(header)
        except StorageError:
            self._file.close()
            raise
        if fsync:  # entries would be lost with the name of their file
            settle(path.parent)

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries, all or none.

        Raises:
            StorageError: If they cannot be written.
        """
        if entries:
            self._write(b"".join(entry.to_bytes() for entry in entries))

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
            if self._fsync:
                os.fsync(self._file.fileno())
        except OSError as error:
            self._take_back()
            raise _unwritable(self.path, error) from error
        self.size += len(data)

    def _take_back(self) -> None:
        """Cut off what was written in part; what cannot be cut off is the end of the file, and is not read."""
        try:
            self._file.truncate(self.size)
            self._file.seek(self.size)
        except OSError:
            self._file.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_journal(path: Path, channels: int, *, mend: bool = False) -> list[Entry]:
    """Read a journal up to its end, or to where a kill cut it off.

    Args:
        path: The file.
        channels: Values D of a frame.
        mend: Whether it was the last to be written: an end in the middle of an entry is cut off then, else refused.

    Raises:
        CheckpointError: If it is no journal of such frames, or an entry in it is damaged.
    """
    data = _read(path)
    header, newline, _ = data[:256].partition(b"\n")
    if not newline and mend:  # killed while it was made
        return []
    try:
        told = json.loads(header) if newline else None
    except ValueError:
        told = None
    if told != {"format": FORMAT, "version": VERSION, "channels": channels}:
        raise _damaged(path, 0, f"it does not begin as a journal of frames of {channels} values")
    entries, place = [], len(header) + 1
    while place < len(data):
        body = _body(data, place)
        if body is None:
            if not mend:
                raise _damaged(path, place, "an entry is cut off or changed")
            _cut(path, place)
            break
        entries.append(_entry(body, channels, path, place))
        place += _PREFIX.size + len(body)
    return entries


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _body(data: bytes, place: int) -> bytes | None:
    """Return the bytes of the entry at ``place``; None if they are not whole."""
    start = place + _PREFIX.size
    if start > len(data):
        return None
    size, checksum = _PREFIX.unpack_from(data, place)
    body = data[start : start + size]
    return body if len(body) == size >= _BODY.size and zlib.crc32(body) == checksum else None


def _entry(body: bytes, channels: int, path: Path, place: int) -> Entry:
    kind, length, number, time = _BODY.unpack_from(body)
    end = _BODY.size + length
    values = 0 if kind == _DROPPED else 4 * channels
    if kind not in (_FRAME, _TIMED, _DROPPED) or len(body) != end + values:
        raise _damaged(path, place, "an entry is of an unknown kind")
    frame = None if kind == _DROPPED else np.frombuffer(body, "<f4", channels, end).astype(np.float32)
    name = body[_BODY.size : end].decode("ascii", errors="replace")
    return Entry(name, number, frame, time if kind == _TIMED else None)


def _cut(path: Path, size: int) -> None:
    try:
        os.truncate(path, size)
    except OSError as error:
        raise _unwritable(path, error) from error


def _damaged(path: Path, place: int, what: str) -> CheckpointError:
    return CheckpointError(f"{path}: is damaged at byte {place} ({what}); move its folder away to start afresh")


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path}: cannot be written ({error.strerror}); free some space or choose another folder")
