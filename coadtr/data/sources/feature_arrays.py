"""Read the features of one video out of an array file, without trusting what the file says of itself.

A header can declare any shape, and a zip archive any size. Both are held against the bytes that are there before
memory is taken. Nothing is unpickled, but tensors by PyTorch's weights-only reader.
"""

from __future__ import annotations

import math
import pickle
import warnings
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import pandas as pd

from coadtr.data.sources.text_tables import strict_rows
from coadtr.errors import DataError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

__all__ = ["ARRAY_READERS", "ARRAY_SUFFIXES", "MOST_EXPANSION", "check_expansion", "check_numbers", "csv_width"]

MOST_EXPANSION: Final = 200
"""How many times larger than its file an archive may be; features hardly shrink, so more than that is a trap."""

# Features that are constant shrink further, and do no harm as long as they are small.
_FREE_BYTES: Final = 1 << 24

# Fewer numbers that count up from 0 or 1 may as well be a frame.
_LEAST_NUMBERED: Final = 8

_DAMAGED: Final = "copy or download it again"


def check_numbers(dtype: np.dtype[Any]) -> None:
    """Raise `DataError` if an array of that type cannot be features: they are floats or whole numbers.

    Example:
        >>> check_numbers(np.dtype("c8"))
        Traceback (most recent call last):
        coadtr.errors.DataError: holds complex64, not real numbers: write features as float32
    """
    if dtype.kind not in "fiu" or dtype.hasobject:
        raise DataError(f"holds {dtype}, not real numbers: write features as float32")


def _npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, EOFError, TypeError, SyntaxError) as error:
        raise DataError(f"is not a .npy file ({' '.join(str(error).split())}): {_DAMAGED}") from error
    if dtype.hasobject:
        raise UnsafeFileError("holds pickled objects, and nothing was loaded: write its features as float32")
    check_numbers(dtype)
    if any(length < 0 for length in shape):
        raise DataError(f"declares shape {shape}: {_DAMAGED}")
    return shape, fortran, dtype


def _check_size(shape: tuple[int, ...], dtype: np.dtype[Any], held: int) -> None:
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > held:
        raise DataError(f"declares shape {shape} of {dtype}, {wanted} bytes, but holds {held}: {_DAMAGED}")


def _read_npy(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        shape, fortran, dtype = _npy_header(file)
        start = file.tell()
    _check_size(shape, dtype, path.stat().st_size - start)
    if not math.prod(shape):
        return np.empty(shape, dtype)
    # Pages are read as they are needed, and count as cache, not as memory of the process.
    return np.memmap(path, dtype, mode="r", offset=start, shape=shape, order="F" if fortran else "C")


def check_expansion(declared: int, held: int) -> None:
    """Raise `UnsafeFileError` if packed data claim to be absurdly larger than what is stored.

    Args:
        declared: Bytes that they unpack to.
        held: Bytes that they take in the file.

    Example:
        >>> check_expansion(10**9, 10**6)
        Traceback (most recent call last):
        coadtr.errors.UnsafeFileError: unpacks to 1000000000 bytes, more than 200 times its size, and was not \
unpacked: do not use this file, or store its array as .npy
    """
    if declared > max(_FREE_BYTES, MOST_EXPANSION * held):
        raise UnsafeFileError(
            f"unpacks to {declared} bytes, more than {MOST_EXPANSION} times its size, and was not unpacked: "
            "do not use this file, or store its array as .npy"
        )


def _check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    check_expansion(sum(member.file_size for member in archive.infolist()), path.stat().st_size)


def _read_npz(path: Path) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        _check_archive(archive, path)
        members = archive.infolist()
        if len(members) != 1:
            names = ", ".join(repr(member.filename) for member in members[:5])
            raise DataError(f"holds {len(members)} arrays ({names}): store one array a file")
        with archive.open(members[0]) as file:
            stream = cast("BinaryIO", file)
            shape, fortran, dtype = _npy_header(stream)
            _check_size(shape, dtype, members[0].file_size - file.tell())
            content = stream.read()
    return np.frombuffer(content, dtype, math.prod(shape)).reshape(shape, order="F" if fortran else "C")


def _read_pt(path: Path) -> NDArray[Any]:
    import torch  # noqa: PLC0415 - seconds to import, and only these files need it

    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            _check_archive(archive, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes on the age of the file
            content: Any = torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise UnsafeFileError(
            "holds more than tensors (PyTorch's weights-only reader refuses it), and nothing was run: "
            "save a tensor, or its array as .npy"
        ) from error
    tensors = list(content.values()) if isinstance(content, dict) else [content]
    if len(tensors) != 1 or not isinstance(tensors[0], torch.Tensor):
        what = f"a dict of {len(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise DataError(f"holds {what}: save one tensor, or a dict with one tensor")
    tensor = tensors[0].detach()
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise DataError(f"holds a tensor of layout {tensor.layout} on {tensor.device}: save a dense one")
    # A view can repeat one stored number a billion times.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise DataError(f"declares shape {tuple(tensor.shape)} but holds less: save tensor.contiguous()")
    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    check_numbers(array.dtype)
    return array


def _csv_header(path: Path) -> tuple[int, int]:
    """Return the columns of a CSV file, and how many lines of heading it has, none or one.

    The first line is a heading if one of its cells is not a number, or if it numbers 8 or more columns: whole numbers,
    written without a point, from 0 or 1 upwards. Any other line of numbers is the first frame.
    """
    with path.open(encoding="utf-8-sig") as file:
        cells = [cell.strip().strip('"') for cell in file.readline().rstrip("\r\n").split(",")]
    if cells == [""]:
        raise DataError("is empty: write one row of numbers a frame")
    try:
        _ = [float(cell) for cell in cells]
    except ValueError:
        return len(cells), 1
    counted = [[str(index) for index in range(first, first + len(cells))] for first in (0, 1)]
    return len(cells), int(len(cells) >= _LEAST_NUMBERED and cells in counted)


def csv_width(path: Path) -> int:
    """Return the columns of a CSV file of features; only its first line is read, a heading or a frame.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text("x,y,z" + chr(10) + "1,2,3" + chr(10))
        >>> csv_width(path)
        3
    """
    return _csv_header(path)[0]


def _read_csv(path: Path) -> NDArray[Any]:
    width, heading = _csv_header(path)
    options: dict[str, Any] = {"header": None, "skiprows": heading, "encoding": "utf-8-sig", "skip_blank_lines": False}
    try:
        with strict_rows():
            table = pd.read_csv(path, dtype=np.float32, index_col=False, names=range(width), **options)
    except pd.errors.EmptyDataError:
        return np.empty((0, width), np.float32)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise DataError(f"is not a table ({' '.join(str(error).split())}): give every frame {width} numbers") from error
    except ValueError as error:
        texts = pd.read_csv(path, dtype=str, index_col=False, names=range(width), **options)
        wrong = np.argwhere((texts.notna() & texts.apply(pd.to_numeric, errors="coerce").isna()).to_numpy())
        if not len(wrong):
            raise DataError(f"holds numbers that cannot be read ({error}): write plain decimal numbers") from error
        row, column = wrong[0]
        raise DataError(
            f"line {row + 1 + heading}, column {column + 1}: {texts.iat[row, column]!r} is not a number: correct it"
        ) from error
    array: NDArray[Any] = table.to_numpy()
    return array


def _guarded(read: Callable[[Path], NDArray[Any]]) -> Callable[[Path], NDArray[Any]]:
    """Turn what the libraries raise for a damaged file into one `DataError`, without the file's name."""

    def guarded(path: Path) -> NDArray[Any]:
        try:
            return read(path)
        except DataError:
            raise
        except MemoryError as error:
            raise DataError("does not fit into memory: cut the video, or import it on a larger machine") from error
        except (OSError, ValueError, RuntimeError, EOFError, KeyError, NotImplementedError, TypeError) as error:
            cause = " ".join(str(error).split())[:200]
            raise DataError(f"is damaged and cannot be read ({cause}): {_DAMAGED}") from error
        except (zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, AttributeError, IndexError) as error:
            raise DataError(f"is not a whole {path.suffix} file ({error}): {_DAMAGED}") from error

    return guarded


ARRAY_READERS: Final[dict[str, Callable[[Path], NDArray[Any]]]] = {
    ".npy": _guarded(_read_npy),
    ".npz": _guarded(_read_npz),
    ".pt": _guarded(_read_pt),
    ".pth": _guarded(_read_pt),
    ".csv": _guarded(_read_csv),
}
ARRAY_SUFFIXES: Final = tuple(ARRAY_READERS)
