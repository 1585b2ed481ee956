"""Read pickles that hold arrays and nothing else.

A pickle is a program: loading one can import and call anything. The reader here resolves a short list of
names, and gives its own stand-ins for those of NumPy, so that a file can describe plain arrays, text, numbers
and containers. Any other name is refused before it is looked up.

The stand-ins matter: NumPy lets the pickle of a dtype set its internal flags, by which a crafted file
could pass raw bytes off as Python objects. Here a dtype is rebuilt from its short code and byte order alone.
"""

from __future__ import annotations

import collections
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from coadtr.errors import DataError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["load_object_npy", "load_pickle"]

# Booleans, integers, floats, complex numbers, text, bytes and Python objects; each with its size in bytes.
_DTYPE_CODE = re.compile(r"^(\?|[biufcUSO]\d*)$")


class _Dtype:
    """Stand-in for ``numpy.dtype`` in a pickle."""

    def __init__(self, code: object, _align: object = False, _copy: object = False) -> None:
        if not isinstance(code, str) or not _DTYPE_CODE.match(code):
            raise DataError(f"array type {code!r} is not supported: store plain numeric or text arrays")
        self.dtype: np.dtype[Any] = np.dtype("O") if code.startswith("O") else np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, order, *rest = state
        if any(part is not None for part in rest[:3]):
            raise DataError("structured arrays are not supported: store plain numeric or text arrays")
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray[Any, Any]):
    """Array that takes its contents from a pickle without trusting the type that the pickle brings."""

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        # Python 2 wrote bytes that Python 3 reads as text.
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        sizes = tuple(int(size) for size in shape)
        # NumPy takes a plain bool here, and only that; its type stub says otherwise.
        super().__setstate__((1, sizes, _plain_dtype(dtype), bool(fortran), raw))  # type: ignore[arg-type]


def _plain_dtype(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise DataError(f"array type {dtype!r} is not supported: store plain numeric or text arrays")
    return dtype.dtype


def _reconstruct(*_arguments: object) -> _Array:
    return _Array((0,), np.int8)


def _from_buffer(buffer: Any, dtype: object, shape: Any, order: str = "C") -> NDArray[Any]:
    plain = _plain_dtype(dtype)
    if plain.hasobject:
        raise DataError("an array of Python objects cannot come from raw bytes: the file is damaged")
    return np.frombuffer(buffer, dtype=plain).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: object, raw: Any) -> Any:
    return _from_buffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype, (1,))[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    # Protocol 2 writes bytes as latin1 text; other codecs have no place in a data file.
    if encoding not in ("latin1", "latin-1", "iso-8859-1"):
        raise DataError(f"text encoding {encoding!r} is not supported: write the pickle with protocol 4")
    return text.encode("latin1")


class _Sealed:
    """A function that a pickle may call but, unlike a plain function, not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise DataError(f"the pickle tries to change a function ({state!r}): do not use this file")


def _numpy_names() -> dict[tuple[str, str], object]:
    # `numpy.ndarray` is only ever handed to `_reconstruct`, which does not look at it: a name will do.
    names: dict[tuple[str, str], object] = {("numpy", "dtype"): _Dtype, ("numpy", "ndarray"): "numpy.ndarray"}
    for core in ("numpy.core", "numpy._core"):  # NumPy 1 and NumPy 2
        names[f"{core}.multiarray", "_reconstruct"] = _Sealed(_reconstruct)
        names[f"{core}.multiarray", "scalar"] = _Sealed(_scalar)
        names[f"{core}.numeric", "_frombuffer"] = _Sealed(_from_buffer)
    return names


_ALLOWED: Final[dict[tuple[str, str], object]] = {
    **_numpy_names(),
    ("_codecs", "encode"): _Sealed(_encode),
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{
        (module, kind.__name__): kind
        for module in ("builtins", "__builtin__")
        for kind in (list, dict, tuple, set, frozenset, bytes, bytearray, complex)
    },
}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that resolves the names in ``_ALLOWED`` and refuses all others."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _ALLOWED:
            # A hostile name could carry terminal codes; then it is shown quoted.
            wanted = f"{module}.{name}"
            wanted = wanted if wanted.isprintable() else ascii(wanted)
            raise UnsafeFileError(
                f"{self._path}: the pickle asks for {wanted}, which is not array data, and nothing was run: "
                "do not use this file, or store its arrays as .npz"
            )
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any, /) -> Any:
        raise UnsafeFileError(f"{self._path}: the pickle refers to outside object {pid!r}: store its arrays as .npz")


def _unpickle(file: BinaryIO, path: Path) -> Any:
    try:
        return _ArrayUnpickler(file, path).load()
    except UnsafeFileError:
        raise
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except MemoryError as error:
        raise DataError(
            f"{path}: does not fit into memory: import it on a larger machine, if the file is sound"
        ) from error
    except Exception as error:
        text = str(error) if str(error).isprintable() else ascii(str(error))
        cause = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise DataError(f"{path}: is not a whole pickle ({cause}): copy or download it again") from error


def load_pickle(path: str | Path) -> Any:
    """Load a pickle of arrays, text, numbers and containers; run nothing.

    Arrays come back as a subclass of ``numpy.ndarray`` (``numpy.asarray`` gives the plain class).
    Files written by Python 2 are read with their text as Latin-1.

    Args:
        path: File to read.

    Returns:
        The object in the file.

    Raises:
        UnsafeFileError: If the pickle asks for anything but data; the message names it. Nothing was run.
        DataError: If the file is missing or damaged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "anno.pickle"
        >>> _ = path.write_bytes(pickle.dumps({"video": np.eye(2)}))
        >>> load_pickle(path)["video"].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    path = Path(path)
    with _opened(path) as file:
        return _unpickle(file, path)


def load_object_npy(path: str | Path) -> NDArray[Any]:
    """Load a ``.npy`` file whose payload is a pickled array of Python objects; run nothing.

    Args:
        path: File to read.

    Returns:
        The array of objects.

    Raises:
        UnsafeFileError: If the pickle inside asks for anything but data.
        DataError: If the file is missing, damaged, or holds plain numbers (which ``numpy.load`` reads).

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "objects.npy"
        >>> np.save(path, np.array({"rate": 50}, dtype=object), allow_pickle=True)
        >>> load_object_npy(path).item()
        {'rate': 50}
    """
    path = Path(path)
    with _opened(path) as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _fortran, dtype = read(file)
        except (ValueError, EOFError) as error:
            raise DataError(f"{path}: is not a .npy file ({error}): copy or download it again") from error
        if not dtype.hasobject:
            raise DataError(f"{path}: holds {dtype} numbers, not objects: read it with numpy.load")
        array = _unpickle(file, path)
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise DataError(f"{path}: header and contents differ in shape: copy or download it again")
    return np.asarray(array)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): correct the path") from error
