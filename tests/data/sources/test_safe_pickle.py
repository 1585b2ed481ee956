"""The allow-listing unpickler reads arrays of every kind and runs nothing."""

from __future__ import annotations

import collections
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.data import load_object_npy, load_pickle
from coadtr.data.sources.safe_pickle import check_pickle
from coadtr.errors import DataError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ARRAYS: dict[str, Any] = {
    "float16": np.linspace(0, 1, 6, dtype=np.float16).reshape(2, 3),
    "float32": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
    "big-endian": np.arange(4, dtype=">i4"),
    "Fortran order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "text": np.array(["rest", "lift"]),
    "bytes": np.array([b"rest", b"up"]),
    "empty": np.zeros((0, 5), np.float32),
    "zero-dimensional": np.array(3.5),
    "bytes above 127": np.arange(256, dtype=np.uint8),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_come_back(tmp_path: Path, kind: str, protocol: int) -> None:
    array, path = ARRAYS[kind], tmp_path / "array.pickle"
    path.write_bytes(pickle.dumps({"video": array}, protocol=protocol))
    loaded = np.asarray(load_pickle(path)["video"])
    assert loaded.dtype == pickle.loads(path.read_bytes())["video"].dtype
    np.testing.assert_array_equal(loaded, array)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_containers_and_scalars_come_back(tmp_path: Path, protocol: int) -> None:
    content = collections.OrderedDict(
        a=[1, 2.5, None, True, "text", b"bytes"],
        b=(1, {2, 3}, frozenset({4})),
        c=np.float32(0.5),
        d=np.int64(-3),
        e=1 + 2j,
    )
    path = tmp_path / "content.pickle"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    loaded = load_pickle(path)
    assert loaded == content
    assert type(loaded) is collections.OrderedDict


def test_object_arrays_hold_other_allowed_objects(tmp_path: Path) -> None:
    ragged = np.empty(2, dtype=object)
    ragged[0], ragged[1] = np.arange(3), {"x": np.ones(2)}
    (tmp_path / "ragged.pickle").write_bytes(pickle.dumps(ragged))
    loaded = load_pickle(tmp_path / "ragged.pickle")
    np.testing.assert_array_equal(loaded[0], np.arange(3))
    np.testing.assert_array_equal(loaded[1]["x"], np.ones(2))
    np.save(tmp_path / "ragged.npy", ragged, allow_pickle=True)
    np.testing.assert_array_equal(load_object_npy(tmp_path / "ragged.npy")[0], np.arange(3))


def test_numpy_1_names_are_read(tmp_path: Path) -> None:
    old = pickle.dumps(np.arange(3.0), protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "old.pickle").write_bytes(old)
    np.testing.assert_array_equal(load_pickle(tmp_path / "old.pickle"), np.arange(3.0))


def test_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    # What Python 2 wrote for {'k': numpy.array([1., 2.])}: str opcodes, with bytes above 127.
    raw = np.array([1.0, 2.0]).tobytes()
    content = (
        b"\x80\x02}U\x01kcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U" + bytes([len(raw)]) + raw + b"tbs."
    )
    (tmp_path / "py2.pickle").write_bytes(content)
    np.testing.assert_array_equal(load_pickle(tmp_path / "py2.pickle")["k"], [1.0, 2.0])


class _Runs:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


DANGEROUS: dict[str, tuple[Callable[[str], Any], str]] = {
    "os.system": (lambda mark: _Runs(os.system, f"echo > {mark}"), r"(posix|nt)\.system"),
    "eval": (lambda mark: _Runs(eval, f"open({mark!r}, 'w')"), r"builtin(s|__)\.eval"),
    "exec": (lambda mark: _Runs(exec, f"open({mark!r}, 'w')"), r"builtin(s|__)\.exec"),
    "open": (lambda mark: _Runs(open, mark, "w"), r"(_io|io)\.open"),
    "getattr": (lambda _mark: _Runs(getattr, "text", "upper"), r"builtin(s|__)\.getattr"),
    "subprocess": (lambda mark: _Runs(subprocess.call, ["touch", mark]), r"(subprocess|commands)\.call"),
    "numpy.save": (lambda mark: _Runs(np.save, mark, np.ones(1)), r"numpy\.save"),
    "numpy.load": (lambda mark: _Runs(np.load, mark), r"numpy(\.lib\._npyio_impl)?\.load"),
    "nested": (lambda mark: {"a": [np.ones(2), {"b": _Runs(os.system, f"echo > {mark}")}]}, r"\.system"),
    "factory": (lambda _mark: collections.defaultdict(list), r"collections\.defaultdict"),
    "date type": (lambda _mark: np.array(["2020-01-01"], "M8[D]"), "array type 'M8' is not supported"),
    "structured": (lambda _mark: np.zeros(2, [("a", "f4")]), "array type 'V4' is not supported"),
}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("kind", DANGEROUS)
def test_anything_else_is_refused_and_not_run(tmp_path: Path, kind: str, protocol: int) -> None:
    make, name = DANGEROUS[kind]
    mark, path = tmp_path / "mark", tmp_path / "bad.pickle"
    path.write_bytes(pickle.dumps(make(str(mark)), protocol=protocol))
    with pytest.raises(DataError if "supported" in name else UnsafeFileError, match=name) as caught:
        load_pickle(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert not mark.exists()


def test_object_npy_is_held_to_the_same_list(tmp_path: Path) -> None:
    mark, bad = tmp_path / "mark", np.empty((), dtype=object)
    bad[()] = _Runs(os.system, f"echo > {mark}")
    np.save(tmp_path / "bad.npy", bad, allow_pickle=True)
    with pytest.raises(UnsafeFileError, match=r"\.system, which is not array data, and nothing was run"):
        load_object_npy(tmp_path / "bad.npy")
    assert not mark.exists()


def _crafted(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


CRAFTED = {
    # dtype('O8') whose state clears the flags that say "these are Python objects", then raw bytes as pointers.
    "flags of a dtype": _crafted(
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01\x85",
        b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
        b"U\x08AAAAAAAAtb",
    ),
    "objects out of bytes": _crafted(
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02O8K\x00K\x01\x87RU\x08AAAAAAAA\x86R"
    ),
    "array over foreign memory": _crafted(b"cnumpy\nndarray\nK\x01\x85R"),
    "change of a function": _crafted(b"c_codecs\nencode\n}U\x0c__defaults__Nsb"),
    "other codec": _crafted(b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R"),
    "state of a class": _crafted(b"cnumpy\ndtype\n}U\x08__init__Nsb"),
    "outside object": b"\x80\x02U\x01xQ.",
    "attribute path": b"\x80\x04\x8c\x08builtins\x8c\x0edict.fromkeys.x\x93.",
    "many bytes asked for": _crafted(b"c__builtin__\nbytearray\n\x8a\x07\x00\x00\x00\x00\x00\x00\x40\x85R"),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_crafted_pickles_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "crafted.pickle").write_bytes(CRAFTED[kind])
    with pytest.raises(DataError, match=r"crafted\.pickle: "):
        load_pickle(tmp_path / "crafted.pickle")
    (tmp_path / "good.pickle").write_bytes(pickle.dumps(np.arange(3), protocol=2))
    np.testing.assert_array_equal(load_pickle(tmp_path / "good.pickle"), np.arange(3))


def test_headers_of_object_arrays_are_not_believed(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    content = (tmp_path / "objects.npy").read_bytes()
    for shape in (b"(9,)", b"(2000000000000,)"):
        # The header is padded with blanks, which make room for the longer shape.
        longer = content.replace(b"(2,), }" + b" " * (len(shape) - 4), shape + b", }", 1)
        assert len(longer) == len(content)
        assert shape in longer
        (tmp_path / "objects.npy").write_bytes(longer)
        with pytest.raises(DataError, match="header and contents differ in shape"):
            load_object_npy(tmp_path / "objects.npy")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_checking_reads_no_contents_and_finds_what_is_asked_for(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "some.pickle"
    path.write_bytes(pickle.dumps({"a": [np.arange(5.0), {1}, {"text": "b" * 300}]}, protocol=protocol))
    check_pickle(path)
    path.write_bytes(pickle.dumps({"a": [np.arange(5.0), _Runs(os.system, "true")]}, protocol=protocol))
    with pytest.raises(UnsafeFileError, match=r"some\.pickle: the pickle asks for (posix|nt)\.system"):
        check_pickle(path)
    path.write_bytes(pickle.dumps({"a": np.arange(500.0)}, protocol=protocol)[:-700])
    with pytest.raises(DataError, match="is not a whole pickle"):
        check_pickle(path)


def test_damaged_pickles_are_one_line(tmp_path: Path) -> None:
    whole = pickle.dumps({f"v{index}": np.arange(50.0) for index in range(3)})
    path, rng = tmp_path / "damaged.pickle", np.random.default_rng(0)
    for cut in (0, 1, 30, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="is not a whole pickle"):
            load_pickle(path)
    messages = []
    for _trial in range(200):
        broken = bytearray(whole)
        broken[rng.integers(0, 100)] = rng.integers(0, 256)
        path.write_bytes(bytes(broken))
        try:
            load_pickle(path)
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all(message.isprintable() for message in messages)


def test_npy_files_that_are_not_object_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "numbers.npy", np.arange(3))
    with pytest.raises(DataError, match="holds int64 numbers, not objects"):
        load_object_npy(tmp_path / "numbers.npy")
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(DataError, match=r"is not a \.npy file"):
        load_object_npy(tmp_path / "text.npy")
    with pytest.raises(DataError, match="cannot be read"):
        load_pickle(tmp_path / "gone.pickle")


def test_loading_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "turtle.pickle").write_bytes(b"\x80\x02cturtle\nTurtle\n.")
    with pytest.raises(UnsafeFileError, match=r"turtle\.Turtle"):
        load_pickle(tmp_path / "turtle.pickle")
    assert "turtle" not in sys.modules
