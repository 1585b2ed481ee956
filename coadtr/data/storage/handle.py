"""An HDF5 file that several processes read, each through a handle of its own."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from coadtr.errors import DataError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FileHandle", "MappedFile"]

_MAPPED_BYTES: Final = 64 * 1024**2
_POPULATE_READ: Final = 22  # Linux 5.14; Python has no name for it yet


class MappedFile:
    """A file as the system maps it into memory, of which little at a time counts as memory of this process.

    Args:
        number: Descriptor of the open file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile() as file:
        ...     _ = file.write(b"features"), file.flush()
        ...     bytes(MappedFile(file.fileno()).fetch(0, 8)[2:5])
        b'atu'
    """

    def __init__(self, number: int) -> None:
        self._map = mmap.mmap(number, 0, access=mmap.ACCESS_READ)
        # PyTorch warns of arrays that it may not write to; nobody writes to these.
        address = np.frombuffer(self._map, np.uint8).ctypes.data
        window = (ctypes.c_uint8 * len(self._map)).from_address(address)
        window.source = self._map  # type: ignore[attr-defined]  # whoever looks through the window keeps the map
        self._memory = memoryview(window)
        self._fetched = 0
        self._populates = True

    def fetch(self, offset: int, size: int) -> memoryview:
        """Bring bytes ``offset`` to ``offset + size - 1`` into memory, and return the whole file.

        Pages that were fetched before are let go every 64 MiB (the system may keep them cached).

        Raises:
            OSError: If they cannot be read (on systems before Linux 5.14, a disk that fails ends the process instead).
            EOFError: If the file ends before.
        """
        if offset + size > len(self._map):
            raise EOFError(f"the file ends at byte {len(self._map)}")
        self._fetched += size
        if self._fetched > _MAPPED_BYTES:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._fetched = size
        if self._populates:
            # All pages at once: faults, page by page, take about as long as the conversion that follows.
            page = offset - offset % mmap.PAGESIZE
            try:
                self._map.madvise(_POPULATE_READ, page, offset + size - page)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._populates = False
        return self._memory


class FileHandle:
    """The handle of one file, opened when it is needed and anew in every process.

    An HDF5 handle does not survive a fork in a usable way, and not a pickle at all.

    Args:
        path: The file.

    Example:
        >>> from pathlib import Path
        >>> FileHandle(Path("gone.h5")).file
        Traceback (most recent call last):
        coadtr.errors.DataError: gone.h5: no such file: write it with `coadtr data import`, or mend the path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None
        self._owner = -1
        self._stamp: tuple[int, int] | None = None
        self._map: MappedFile | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_owner": -1, "_map": None}

    def close(self) -> None:
        """Let go of the file. A later read opens it again."""
        self._map = None
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def file(self) -> Any:
        """The open file of this process.

        Raises:
            DataError: If there is none, or it is no longer the one that was opened first.
            SchemaError: If it is not an HDF5 file.
        """
        if self._file is not None and self._owner != os.getpid():
            self.close()
        if self._file is None:
            if not self.path.is_file():
                raise DataError(f"{self.path}: no such file: write it with `coadtr data import`, or mend the path")
            if not h5py.is_hdf5(self.path):
                raise SchemaError(f"{self.path}: is not an HDF5 file: give a feature store (`coadtr data import`)")
            stamp = _stamp(self.path.stat())
            if self._stamp not in (None, stamp):
                raise self._changed()
            # No chunk cache: spans lie anywhere, so a chunk is seldom wanted again, and HDF5 would keep megabytes.
            self._file = h5py.File(self.path, "r", rdcc_nbytes=0)
            self._owner, self._stamp = os.getpid(), stamp
        return self._file

    def mapped(self) -> MappedFile:
        """Return the whole file, mapped into memory.

        Raises:
            DataError: If the file has changed since it was opened, also in place.
        """
        number = self.file.id.get_vfd_handle()
        if self._stamp != _stamp(os.fstat(number)):
            raise self._changed()
        if self._map is None:
            self._map = MappedFile(number)
        return self._map

    def _changed(self) -> DataError:
        return DataError(f"{self.path}: has changed since it was opened: open it again")

    @contextmanager
    def reading(
        self, video: str | None = None, field: str | None = None, shape: tuple[int, int] | None = None
    ) -> Iterator[None]:
        """Turn what h5py raises for a damaged file into one `DataError` that says where.

        Args:
            video: Video that is read.
            field: Field that is read.
            shape: Shape that is wanted.
        """
        try:
            yield
        except DataError:
            raise
        except MemoryError as error:
            raise DataError(
                f"{self.path}: video {video!r}: field {field!r}: shape {shape}: does not fit in memory: "
                "read fewer frames at a time"
            ) from error
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, EOFError) as error:
            where = "".join(
                f" {what} {name!r}:" for what, name in (("video", video), ("field", field)) if name is not None
            )
            cause = " ".join(str(error).split())
            raise DataError(
                f"{self.path}:{where} is damaged and cannot be read ({cause}): import or copy it again"
            ) from error


def _stamp(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_mtime_ns, stat.st_size
