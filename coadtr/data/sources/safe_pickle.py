"""Read pickles that hold arrays and nothing else.

A pickle is a program: loading one can import and call anything. The reader here resolves a short list of
names, and gives its own stand-ins for those of NumPy, so that a file can describe plain arrays, text, numbers
and containers. Any other name is refused before it is looked up.

The stand-ins matter: NumPy lets the pickle of a dtype set its internal flags, by which a crafted file
could pass raw bytes off as Python objects. Here a dtype is rebuilt from its short code and byte order alone.

What a pickle may build is limited by its size (`coadtr.data.sources.pickle_limits`): it cannot fill the memory with
what it only announces.
"""

from __future__ import annotations

import collections
import pickle
import re
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from coadtr.data.sources.pickle_limits import Budget, check_shape
from coadtr.data.sources.pickle_scan import scan_pickle
from coadtr.errors import DataError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = ["check_pickle", "load_object_npy", "load_pickle"]

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
    """Array that takes its contents from a pickle without trusting the type and shape that the pickle brings."""

    def __setstate__(self, state: Any) -> None:
        budget = vars(self).pop("budget", None)
        if budget is None:
            raise DataError("an array is given its contents twice: do not use this file")
        _version, shape, dtype, fortran, raw = state
        # Python 2 wrote bytes that Python 3 reads as text.
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        sizes, plain = tuple(int(size) for size in shape), _plain_dtype(dtype)
        check_shape(sizes, plain, len(raw))
        budget.spend(len(raw) * (8 if plain.hasobject else 1))
        # NumPy takes a plain bool here, and only that; its type stub says otherwise.
        super().__setstate__((1, sizes, plain, bool(fortran), raw))  # type: ignore[arg-type]


def _plain_dtype(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise DataError(f"array type {dtype!r} is not supported: store plain numeric or text arrays")
    return dtype.dtype


def _reconstruct(budget: Budget, *_arguments: object) -> _Array:
    array = _Array((0,), np.int8)
    vars(array)["budget"] = budget
    return array


def _from_buffer(budget: Budget, buffer: Any, dtype: object, shape: Any, order: str = "C") -> NDArray[Any]:
    plain = _plain_dtype(dtype)
    if plain.hasobject:
        raise DataError("an array of Python objects cannot come from raw bytes: the file is damaged")
    sizes = tuple(int(size) for size in shape)
    check_shape(sizes, plain, len(buffer))
    budget.spend(64)
    return np.frombuffer(buffer, dtype=plain).reshape(sizes, order="F" if order == "F" else "C")


def _scalar(budget: Budget, dtype: object, raw: Any) -> Any:
    return _from_buffer(budget, raw.encode("latin1") if isinstance(raw, str) else raw, dtype, (1,))[0]


def _encode(budget: Budget, text: str, encoding: str = "latin1") -> bytes:
    # Protocol 2 writes bytes as latin1 text; other codecs have no place in a data file.
    if encoding not in ("latin1", "latin-1", "iso-8859-1"):
        raise DataError(f"text encoding {encoding!r} is not supported: write the pickle with protocol 4")
    budget.spend(len(text))
    return text.encode("latin1")


def _build(kind: type, budget: Budget, *contents: Any) -> Any:
    """Make a container or a number out of contents that the pickle holds."""
    if kind in (bytes, bytearray) and any(isinstance(part, int) for part in contents):
        raise DataError(f"the pickle asks for {contents[0]!r} empty bytes: do not use this file")
    budget.spend(sum(8 * len(part) for part in contents if hasattr(part, "__len__")))
    return kind(*contents)


class _Sealed:
    """A function that a pickle may call but, unlike a plain function, not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise DataError(f"the pickle tries to change a function ({state!r}): do not use this file")


def _allowed() -> dict[tuple[str, str], Callable[..., Any]]:
    """Return what a pickle may call, by module and name; each takes the `Budget` first."""
    names: dict[tuple[str, str], Callable[..., Any]] = {("_codecs", "encode"): _encode}
    for core in ("numpy.core", "numpy._core"):  # NumPy 1 and NumPy 2
        names[f"{core}.multiarray", "_reconstruct"] = _reconstruct
        names[f"{core}.multiarray", "scalar"] = _scalar
        names[f"{core}.numeric", "_frombuffer"] = _from_buffer
    for module in ("builtins", "__builtin__"):
        for kind in (list, dict, tuple, set, frozenset, bytes, bytearray, complex):
            names[module, kind.__name__] = partial(_build, kind)
    names["collections", "OrderedDict"] = partial(_build, collections.OrderedDict)
    return names


_ALLOWED: Final = _allowed()
_ALLOWED_TYPES: Final = frozenset({("numpy", "dtype"), ("numpy", "ndarray")})


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that resolves the names in ``_ALLOWED`` and refuses all others."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path, self._budget = path, Budget(path.stat().st_size)

    def find_class(self, module: str, name: str, /) -> Any:
        _refuse_others(module, name, self._path)
        if name == "dtype":
            return _Dtype
        # `numpy.ndarray` is only ever handed to `_reconstruct`, which does not look at it: a name will do.
        return "numpy.ndarray" if name == "ndarray" else _Sealed(partial(_ALLOWED[module, name], self._budget))

    def persistent_load(self, pid: Any, /) -> Any:
        raise UnsafeFileError(f"{self._path}: the pickle refers to outside object {pid!r}: store its arrays as .npz")


def _refuse_others(module: str, name: str, path: Path) -> None:
    if (module, name) in _ALLOWED or (module, name) in _ALLOWED_TYPES:
        return
    # A hostile name could carry terminal codes; then it is shown quoted.
    wanted = f"{module}.{name}"
    wanted = wanted if wanted.isprintable() else ascii(wanted)
    raise UnsafeFileError(
        f"{path}: the pickle asks for {wanted}, which is not array data, and nothing was run: "
        "do not use this file, or store its arrays as .npz"
    )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a pickle into one line that names the file."""
    try:
        yield
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


def _scan(file: BinaryIO, path: Path) -> None:
    for module, name in sorted(scan_pickle(file)):
        _refuse_others(module, name, path)


def _unpickle(file: BinaryIO, path: Path) -> Any:
    with _explained(path):
        _scan(file, path)
        return _ArrayUnpickler(file, path).load()


def check_pickle(path: str | Path) -> None:
    """Check that a pickle is whole and asks for data only, without reading its contents.

    Args:
        path: File to look through.

    Raises:
        UnsafeFileError: If the pickle asks for anything but data.
        DataError: If the file is missing or damaged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "bad.pickle"
        >>> _ = path.write_bytes(pickle.dumps(eval, protocol=4))
        >>> check_pickle(path)  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        coadtr.errors.UnsafeFileError: ...: the pickle asks for builtins.eval, which is not array data, ...
    """
    path = Path(path)
    with _opened(path) as file, _explained(path):
        _scan(file, path)


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
