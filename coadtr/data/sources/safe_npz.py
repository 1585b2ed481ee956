"""Read ``.npz`` files that hold plain arrays, after a look at what they declare.

A zip file states the size of each member, and a ``.npy`` header the shape of its array. Both are held against
each other and against the size of the file before anything is unpacked, so that a small file cannot fill the
memory. Nothing is ever unpacked to disk.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from coadtr.data.importers.problems import raise_problems
from coadtr.errors import DataError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["NpzArray", "NpzFile"]

# What unpacks to less is let through; beyond, real features do not shrink to a hundredth.
_FREE_BYTES: Final = 1 << 28
_MOST_TIMES: Final = 100
_DAMAGE: Final = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class NpzArray:
    """One array of a file, as its header declares it.

    Attributes:
        member: Its name inside the zip file.
        shape: Shape.
        dtype: Type of the elements.
    """

    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class NpzFile:
    """An ``.npz`` file whose declared sizes have been checked; arrays are read one at a time.

    Args:
        path: The file.
        fields: Arrays that are needed; others are left alone.

    Raises:
        UnsafeFileError: If a field holds pickled objects, or would unpack to far more than the file can hold.
        DataError: If the file is missing, damaged, another format, or lacks a field.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "tiny.npz"
        >>> np.savez(path, features=np.ones((3, 2), "f2"), notes=np.array("left alone"))
        >>> file = NpzFile(path, ["features"])
        >>> file.arrays["features"].shape, file.read("features").sum()
        ((3, 2), np.float16(6.0))
    """

    def __init__(self, path: Path, fields: Sequence[str]) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.arrays: Mapping[str, NpzArray] = self._look(file, fields)
        except DataError:
            raise
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def read(self, field: str) -> NDArray[Any]:
        """Unpack one array.

        Args:
            field: Name of the array.

        Returns:
            The array.

        Raises:
            DataError: If the file is damaged.
        """
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.arrays[field].member) as member:
                array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
                member.read()  # to the end, where the checksum is
        except _DAMAGE as error:
            raise self._damaged(error) from error
        return array

    def require(self, arrays: Mapping[str, tuple[int, str]]) -> None:
        """Check what the headers declare, before anything is unpacked.

        Args:
            arrays: Rank, and kinds as `numpy.dtype.kind` writes them, of each array.

        Raises:
            DataError: If arrays are others; all of them in one message.
        """
        raise_problems(
            self.path,
            [
                f"field {field!r} is {array.dtype} of shape {array.shape}: "
                f"give an array of {rank} dimensions and a kind out of {kinds!r}"
                for field, (rank, kinds) in arrays.items()
                if len((array := self.arrays[field]).shape) != rank or array.dtype.kind not in kinds
            ],
        )

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self.path}: is not a whole .npz file ({error}): copy or download it again")

    def _look(self, file: BinaryIO, fields: Sequence[str]) -> dict[str, NpzArray]:
        magic = file.read(6)
        if magic == b"\x93NUMPY":
            raise DataError(f"{self.path}: is a single array, not an .npz file: give an .npz file")
        if not magic.startswith((b"PK\x03\x04", b"PK\x05\x06")) or not zipfile.is_zipfile(file):
            raise DataError(
                f"{self.path}: is not a whole .npz file (another format, or cut short): "
                "copy or download it again, or give another .npz file"
            )
        size = file.seek(0, 2)
        with zipfile.ZipFile(file) as archive:
            members = [info for info in archive.infolist() if info.filename.removesuffix(".npy") in fields]
            held = {info.filename.removesuffix(".npy"): info for info in members}
            raise_problems(self.path, self._faults(members, fields, size))
            return {field: self._header(archive, held[field], field) for field in fields}

    def _faults(self, members: Sequence[zipfile.ZipInfo], fields: Sequence[str], size: int) -> Iterator[str]:
        names = [info.filename.removesuffix(".npy") for info in members]
        for field in fields:
            if names.count(field) != 1:
                told = (
                    f"is there {names.count(field)} times: keep one"
                    if field in names
                    else "is missing: add it to the file"
                )
                yield f"field {field!r} {told}"
        unpacked, packed = sum(info.file_size for info in members), sum(info.compress_size for info in members)
        if unpacked > max(_FREE_BYTES, _MOST_TIMES * min(size, packed)) or packed > size:
            raise UnsafeFileError(
                f"{self.path}: {size} bytes would unpack to {unpacked}: do not use this file, "
                "or store its arrays uncompressed (numpy.savez) if you trust it"
            )

    def _header(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, field: str) -> NpzArray:
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _fortran, dtype = read(member)
            start = member.tell()
        if dtype.hasobject:
            raise UnsafeFileError(
                f"{self.path}: field {field!r} holds pickled objects: store it as plain numbers or text"
            )
        needed, declared = math.prod(shape) * dtype.itemsize, info.file_size - start
        if needed != declared or any(size < 0 for size in shape) or max(shape, default=0) > max(declared, 1 << 20):
            raise DataError(
                f"{self.path}: field {field!r} declares {dtype} of shape {shape}, {needed} bytes, "
                f"but the file holds {declared}: copy or download it again"
            )
        return NpzArray(info.filename, shape, dtype)
