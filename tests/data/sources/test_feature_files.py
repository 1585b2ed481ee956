"""Feature files of all kinds give the arrays that were written, and none of them is trusted."""

from __future__ import annotations

import pickle
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch

from coadtr.data.sources.feature_files import FeatureFile, find_feature_files, find_feature_streams, is_feature_store
from coadtr.errors import DataError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from coadtr.data import FeatureStore

ARRAY = np.random.default_rng(1).standard_normal((7, 3)).astype(np.float32)


def _write_csv(path: Path, array: NDArray[Any], heading: str = "") -> None:
    rows = [",".join(repr(float(value)) for value in row) for row in array]
    path.write_text("\n".join([*([heading] if heading else []), *rows, ""]))


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "npy": (".npy", lambda path: np.save(path, ARRAY)),
    "npy, Fortran order": (".npy", lambda path: np.save(path, np.asfortranarray(ARRAY))),
    "npy, batch of one": (".npy", lambda path: np.save(path, ARRAY[None])),
    "npy, big endian": (".npy", lambda path: np.save(path, ARRAY.astype(">f4"))),
    "npz": (".npz", lambda path: np.savez_compressed(path, anything=ARRAY)),
    "npz, Fortran order": (".npz", lambda path: np.savez(path, np.asfortranarray(ARRAY))),
    "pt": (".pt", lambda path: torch.save(torch.from_numpy(ARRAY), path)),
    "pt, dict": (".pt", lambda path: torch.save({"feats": torch.from_numpy(ARRAY)}, path)),
    "pth, old format": (
        ".pth",
        lambda path: torch.save(torch.from_numpy(ARRAY), path, _use_new_zipfile_serialization=False),
    ),
    "pt, parameter": (".pt", lambda path: torch.save(torch.nn.Parameter(torch.from_numpy(ARRAY)), path)),
    "csv": (".csv", lambda path: _write_csv(path, ARRAY)),
    "csv, heading": (".csv", lambda path: _write_csv(path, ARRAY, "x,y,z")),
    "csv, byte order mark": (".csv", lambda path: _write_csv(path, ARRAY, "\ufeffx,y,z")),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_what_was_written_is_read(tmp_path: Path, kind: str) -> None:
    suffix, write = WRITERS[kind]
    write(tmp_path / f"walk{suffix}")
    files = find_feature_files(tmp_path)
    assert list(files) == ["walk"]
    assert (files["walk"].shape, files["walk"].width) == ((7, 3), 3)
    array = files["walk"].read()
    assert array.dtype.kind == "f"
    np.testing.assert_array_equal(array, ARRAY)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u1", "i4"])
def test_types(tmp_path: Path, dtype: str) -> None:
    array = np.arange(12).reshape(4, 3).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    torch.save(torch.from_numpy(array), tmp_path / "b.pt")
    torch.save(torch.from_numpy(array).to(torch.bfloat16), tmp_path / "c.pt")
    for name, file in find_feature_files(tmp_path).items():
        read = file.read()
        assert read.dtype == (dtype if dtype[0] == "f" and name != "c" else np.float32)
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("first", "heading"),
    [
        ("0,1", False),
        ("1.0,2.0", False),
        ("0,1,2,3,4,5,6", False),
        ("0,1,2,3,4,5,6,7", True),
        ("1,2,3,4,5,6,7,8", True),
        ("1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0", False),
        ("2,3,4,5,6,7,8,9", False),
        ("x,1", True),
    ],
)
def test_a_first_frame_is_no_heading(tmp_path: Path, first: str, heading: bool) -> None:
    width = len(first.split(","))
    (tmp_path / "a.csv").write_text("\n".join([first, ",".join(["7"] * width), ""]))
    (file,) = find_feature_files(tmp_path).values()
    assert file.shape == (1 if heading else 2, width)


def test_folders_of_streams_and_what_lies_about(tmp_path: Path) -> None:
    for stream in ("rgb", "flow"):
        (tmp_path / stream).mkdir()
        for name in ("b", "a", "v1.5"):
            np.save(tmp_path / stream / f"{name}.npy", ARRAY)
        (tmp_path / stream / "._a.npy").write_text("left behind by a copy")
        (tmp_path / stream / "notes.txt").write_text("notes")
    (tmp_path / "empty").mkdir()
    streams = find_feature_streams(tmp_path)
    assert [(stream, *files) for stream, files in streams.items()] == [
        ("flow", "a", "b", "v1.5"),
        ("rgb", "a", "b", "v1.5"),
    ]
    assert find_feature_files(tmp_path, stream="rgb")["a"].path == tmp_path / "rgb" / "a.npy"
    with pytest.raises(DataError, match="holds several streams: name one out of 'flow', 'rgb'"):
        find_feature_files(tmp_path)
    with pytest.raises(DataError, match="has no stream 'depth': name one out of 'flow', 'rgb'"):
        find_feature_files(tmp_path, stream="depth")


def test_files_beside_folders_of_streams_are_refused(tmp_path: Path) -> None:
    for stream in ("rgb", "flow"):
        (tmp_path / stream).mkdir()
        np.save(tmp_path / stream / "a.npy", ARRAY)
    (tmp_path / "segments.csv").write_text("video,start,end,label\n")
    with pytest.raises(
        DataError, match=r"holds feature files \('segments\.csv'\) and folders .*\('flow', 'rgb'\): give"
    ):
        find_feature_streams(tmp_path)
    streams = find_feature_streams(tmp_path, leave_out=[tmp_path / "rgb" / ".." / "segments.csv"])
    assert list(streams) == ["flow", "rgb"]
    assert list(find_feature_files(tmp_path / "rgb", leave_out=[tmp_path / "segments.csv"])) == ["a"]


def test_hdf5_with_a_dataset_for_each_video(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "all.hdf5", "w") as file:
        file["a"], file["b"], file["rates"] = ARRAY, ARRAY[None].astype("f2"), np.ones(2)
        file.create_dataset("c", data=ARRAY, chunks=(2, 3), compression="gzip")
    files = find_feature_files(tmp_path / "all.hdf5")
    assert {name: file.shape for name, file in files.items()} == dict.fromkeys("abc", (7, 3))
    np.testing.assert_array_equal(files["b"].read(), ARRAY.astype("f2"))
    np.testing.assert_array_equal(files["c"].read(), ARRAY)


def test_hdf5_with_a_group_for_each_video(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "all.h5", "w") as file:
        for name in ("a", "b"):
            file[f"{name}/rgb"], file[f"{name}/flow"] = ARRAY, ARRAY[:, :2]
            file[f"{name}/labels"] = np.zeros(7)
    streams = find_feature_streams(tmp_path / "all.h5")
    assert {stream: [file.shape for file in files.values()] for stream, files in streams.items()} == {
        "flow": [(7, 2)] * 2,
        "rgb": [(7, 3)] * 2,
    }
    np.testing.assert_array_equal(streams["flow"]["b"].read(), ARRAY[:, :2])


def test_a_feature_store_keeps_order_and_types(tmp_path: Path, store: FeatureStore) -> None:
    assert is_feature_store(store.path)
    streams = find_feature_streams(store.path)
    assert (list(streams), list(streams["rgb"])) == (["rgb", "flow"], ["d", "a", "c", "b"])
    assert [str(streams[stream]["a"].read().dtype) for stream in ("rgb", "flow")] == ["float16", "float32"]
    np.testing.assert_array_equal(streams["flow"]["a"].read(), store.features("a", streams=["flow"]))


def _npy(path: Path, shape: str, dtype: str = "'<f4'", content: bytes = b"\0" * 84) -> None:
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (118 - len(header) - 1) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content)


def _zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _npz_with_absurd_shape(path: Path) -> None:
    _npy(path.with_suffix(".part"), "(1000000000, 3)")
    content = path.with_suffix(".part").read_bytes()
    path.with_suffix(".part").unlink()
    _zip(path, {"a.npy": content})


def _cut(path: Path, write: Callable[[], object]) -> None:
    write()
    path.write_bytes(path.read_bytes()[:-100])


class _Opens:
    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("mark", "w")


def _text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


FAULTS: dict[str, tuple[str, Callable[[Path], object], type[DataError], str]] = {
    "npy cut short": (
        ".npy",
        lambda path: _npy(path, "(7, 3)", content=b"\0" * 83),
        DataError,
        r"a\.npy: declares shape \(7, 3\) of float32, 84 bytes, but holds 83: copy or download it again",
    ),
    "npy of absurd shape": (".npy", lambda path: _npy(path, "(10**15, 3)"), DataError, "is not a .npy file"),
    "npy of huge shape": (
        ".npy",
        lambda path: _npy(path, "(1000000000000000, 3)"),
        DataError,
        "declares shape .1000000000000000, 3. of float32, 12000000000000000 bytes, but holds 84",
    ),
    "npy of negative shape": (".npy", lambda path: _npy(path, "(-7, 3)"), DataError, r"declares shape \(-7, 3\)"),
    "npy with objects": (
        ".npy",
        lambda path: np.save(path, np.array([{}, 1], dtype=object), allow_pickle=True),
        UnsafeFileError,
        "holds pickled objects, and nothing was loaded",
    ),
    "npy that is a pickle": (".npy", lambda path: path.write_bytes(pickle.dumps(ARRAY)), DataError, "is not a .npy"),
    "npy of text": (".npy", lambda path: np.save(path, np.array([["a"]])), DataError, "holds <U1, not real numbers"),
    "npy of records": (
        ".npy",
        lambda path: np.save(path, np.zeros((2, 2), [("x", "f4")])),
        DataError,
        "not real numbers: write features as float32",
    ),
    "npy of one dimension": (".npy", lambda path: np.save(path, ARRAY[0]), DataError, r"has shape \(3,\): features"),
    "npy of two clips": (".npy", lambda path: np.save(path, np.ones((2, 7, 3))), DataError, r"has shape \(2, 7, 3\)"),
    "npy empty": (".npy", lambda path: path.write_bytes(b""), DataError, "is not a .npy file"),
    "npz of zeros": (
        ".npz",
        lambda path: np.savez_compressed(path, np.zeros((20_000, 500), "f4")),
        UnsafeFileError,
        "unpacks to 40000128 bytes, more than 200 times its size, and was not unpacked",
    ),
    "npz of absurd shape": (".npz", _npz_with_absurd_shape, DataError, r"declares shape \(1000000000, 3\)"),
    "npz of two": (".npz", lambda path: np.savez(path, x=ARRAY, y=ARRAY), DataError, r"holds 2 arrays \('x\.npy'"),
    "npz with objects": (
        ".npz",
        lambda path: np.savez(path, np.array([None], dtype=object), allow_pickle=True),
        UnsafeFileError,
        "holds pickled objects",
    ),
    "npz cut short": (
        ".npz",
        lambda path: _cut(path, lambda: np.savez(path, ARRAY)),
        DataError,
        r"is not a whole \.npz file",
    ),
    "pt that runs code": (
        ".pt",
        lambda path: torch.save({"a": _Opens()}, path),
        UnsafeFileError,
        "holds more than tensors .*, and nothing was run",
    ),
    "pt of two": (
        ".pt",
        lambda path: torch.save({"a": torch.ones(2, 2), "b": 1}, path),
        DataError,
        "holds a dict of 2",
    ),
    "pt of a list": (".pt", lambda path: torch.save([1.0], path), DataError, "holds a list: save one tensor"),
    "pt that repeats one number": (
        ".pt",
        lambda path: torch.save(torch.zeros(1).expand(10**9, 2048), path),
        DataError,
        r"declares shape \(1000000000, 2048\) but holds less: save tensor\.contiguous\(\)",
    ),
    "pt sparse": (
        ".pt",
        lambda path: torch.save(torch.eye(3).to_sparse(), path),
        DataError,
        "of layout torch.sparse_coo",
    ),
    "pt cut short": (
        ".pt",
        lambda path: _cut(path, lambda: torch.save(torch.ones(9, 9), path)),
        DataError,
        r"a\.pt: ",
    ),
    "pt of complex numbers": (
        ".pt",
        lambda path: torch.save(torch.ones(2, 2, dtype=torch.complex64), path),
        DataError,
        "holds complex64",
    ),
    "csv with a word": (
        ".csv",
        _text("x,y\n1,2\n3,four\n"),
        DataError,
        r"a\.csv: line 3, column 2: 'four' is not a number",
    ),
    "csv with a long row": (".csv", _text("1,2\n3,4,5\n"), DataError, "is not a table .*give every frame 2"),
    "csv empty": (".csv", _text(""), DataError, "is empty: write one row of numbers a frame"),
    "csv of bytes": (
        ".csv",
        lambda path: path.write_bytes(b"\xff\xfe1,2\n"),
        DataError,
        "is damaged and cannot be read",
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_of_array_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    suffix, write, error, message = FAULTS[kind]
    monkeypatch.chdir(tmp_path)
    write(tmp_path / f"a{suffix}")
    file = find_feature_files(tmp_path)["a"]
    with pytest.raises(error, match=message) as caught:
        file.read()
    assert str(caught.value).startswith(f"a{suffix}: ")
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_faults_of_hdf5_files(tmp_path: Path) -> None:
    path = tmp_path / "all.h5"

    def refuse(write: Callable[[Any], object], error: type[DataError], message: str) -> None:
        with h5py.File(path, "w") as file:
            write(file)
        with pytest.raises(error, match=message) as caught:
            find_feature_files(path)["a"].read()
        assert "all.h5" in str(caught.value)

    refuse(lambda file: file.__setitem__("a", h5py.SoftLink("/b")), UnsafeFileError, "is a soft link")
    refuse(lambda file: file.__setitem__("a", h5py.ExternalLink("x.h5", "/b")), UnsafeFileError, "is an external link")
    refuse(lambda file: file.__setitem__("a/b", h5py.SoftLink("/b")), UnsafeFileError, "field 'b': is a soft link")
    refuse(
        lambda file: file.create_dataset("a", (10**9, 2048), "f4", chunks=(64, 2048)),
        DataError,
        r"declares shape \(1000000000, 2048\) but holds less",
    )
    refuse(
        lambda file: file.create_dataset("a", (4, 2), "f4", external=[("/etc/hostname", 0, 32)]),
        UnsafeFileError,
        "is stored in another file",
    )
    refuse(
        lambda file: file.create_dataset("a", data=np.zeros((20_000, 500), "f4"), compression="gzip"),
        UnsafeFileError,
        r"all\.h5: field 'a': unpacks to 40000000 bytes, more than 200 times its size, and was not unpacked",
    )
    layout = h5py.VirtualLayout((4, 2), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4, 2))
    refuse(lambda file: file.create_virtual_dataset("a", layout), UnsafeFileError, "put together from other datasets")
    refuse(lambda file: file.__setitem__("a", np.ones((2, 4, 2))), DataError, r"field 'a': has shape \(2, 4, 2\)")
    refuse(lambda file: file.__setitem__("a", np.array([[b"x"]])), DataError, "not real numbers")
    refuse(lambda file: file.__setitem__("rates", np.ones(3)), DataError, "holds no features")


def test_sources_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder: give the one with the features"):
        find_feature_files(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match=r"a\.txt: is neither a folder nor an HDF5 file"):
        find_feature_files(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"holds no features \(\.npy, \.npz, \.pt, \.pth, \.csv\)"):
        find_feature_files(tmp_path)
    (tmp_path / "all.h5").write_bytes(b"")
    with pytest.raises(DataError, match=r"holds HDF5 files \('all\.h5'\): give one of them"):
        find_feature_files(tmp_path)
    np.save(tmp_path / "a.npy", ARRAY)
    _write_csv(tmp_path / "a.csv", ARRAY)
    with pytest.raises(DataError, match=r"a\.csv and a\.npy are of one video: drop one"):
        find_feature_files(tmp_path)


def test_files_that_go_away_are_named(tmp_path: Path) -> None:
    for file in (FeatureFile(tmp_path / "a.npy"), FeatureFile(tmp_path / "a.h5", ("a",))):
        with pytest.raises(DataError, match=rf"^{file.path.name}.*is damaged and cannot be read"):
            file.read()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["b"] = ARRAY
    with pytest.raises(DataError, match="field 'a': is no longer there"):
        FeatureFile(tmp_path / "a.h5", ("a",)).read()


def test_large_files_are_mapped_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ARRAY)
    array = find_feature_files(tmp_path)["a"].read()
    assert isinstance(array.base if array.base is not None else array, np.memmap)
    assert not array.flags.writeable
