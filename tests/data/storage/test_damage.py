"""Bad input: each kind has one clear error on one line, and nothing is left behind."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from coadtr.data import FeatureStore, StoreWriter
from coadtr.errors import DataError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _rewrite(file: Any, field: str, values: Any) -> None:
    del file[field]
    file[field] = values


DAMAGE_ON_OPEN: dict[str, tuple[Callable[[Any], object], type[DataError], str]] = {
    "other format": (lambda f: f.attrs.modify("format", "photos"), SchemaError, "format is 'photos'"),
    "no format": (lambda f: f.attrs.pop("format"), SchemaError, "format is None"),
    "later version": (lambda f: f.attrs.modify("version", 2), SchemaError, "schema version 2, this coadtr reads"),
    "no classes": (lambda f: f.attrs.pop("class_names"), SchemaError, "attribute 'class_names' is missing"),
    "no videos group": (lambda f: f.move("videos", "films"), SchemaError, "group 'videos' is missing"),
    "videos gone": (lambda f: (f.pop("videos"), f.create_group("videos")), DataError, "holds no video"),
    "background out of range": (lambda f: f.attrs.modify("background", 9), SchemaError, "background class 9"),
    "classes not text": (lambda f: f.attrs.create("class_names", 5), SchemaError, "class_names is 5"),
    "dims and streams differ": (lambda f: f.attrs.create("dims", [6]), SchemaError, "header is damaged"),
    "attributes not JSON": (lambda f: f.attrs.create("attributes", "{"), SchemaError, "header is damaged"),
    "label kind unknown": (lambda f: f.attrs.modify("label_kind", "soft"), SchemaError, "label_kind is 'soft'"),
    "stream missing": (lambda f: f.pop("videos/a/flow"), DataError, "video 'a': field 'flow' is missing"),
    "stream is a group": (
        lambda f: (f.pop("videos/a/flow"), f.create_group("videos/a/flow")),
        DataError,
        "video 'a': field 'flow' is missing",
    ),
    "labels missing": (lambda f: f.pop("videos/c/labels"), DataError, "video 'c': field 'labels' is missing"),
    "wrong width": (
        lambda f: _rewrite(f, "videos/a/flow", np.zeros((25, 4), "f4")),
        DataError,
        r"video 'a': field 'flow': shape \(25, 4\) of float32: the header declares \(T, 3\)",
    ),
    "wrong type": (
        lambda f: _rewrite(f, "videos/a/flow", np.zeros((25, 3), "i4")),
        DataError,
        r"video 'a': field 'flow': shape \(25, 3\) of int32",
    ),
    "streams of two lengths": (
        lambda f: _rewrite(f, "videos/a/flow", np.zeros((24, 3), "f4")),
        DataError,
        r"video 'a': fields differ in frames \('rgb' 25, 'flow' 24, 'labels' 25\)",
    ),
    "labels of another length": (
        lambda f: _rewrite(f, "videos/a/labels", np.zeros(20, "u1")),
        DataError,
        r"video 'a': fields differ in frames .*'labels' 20",
    ),
    "class out of range": (
        lambda f: f["videos/b/labels"].__setitem__(7, 4),
        DataError,
        r"video 'b': field 'labels': class 4 at frame 7 is outside 0\.\.3",
    ),
    "labels not whole numbers": (
        lambda f: _rewrite(f, "videos/b/labels", np.zeros(12, "f4")),
        DataError,
        r"video 'b': field 'labels': shape \(12,\) of float32",
    ),
    "split unknown": (
        lambda f: f["videos/b"].attrs.modify("split", "dev"),
        DataError,
        "video 'b': unknown split 'dev': use one of 'train', 'validation', 'test'",
    ),
    "rate missing": (
        lambda f: f["videos/b"].attrs.pop("rate_hz"),
        DataError,
        "video 'b': attribute 'rate_hz' is missing",
    ),
    "rate not positive": (
        lambda f: f["videos/b"].attrs.modify("rate_hz", -5.0),
        DataError,
        r"video 'b': attribute 'rate_hz': -5\.0",
    ),
    "index twice": (
        lambda f: f["videos/b"].attrs.modify("index", 0),
        DataError,
        r"video '.': attribute 'index' 0 is also that of '.'",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE_ON_OPEN)
def test_damage_is_found_on_opening(store: FeatureStore, kind: str) -> None:
    damage, error, message = DAMAGE_ON_OPEN[kind]
    store.close()
    with h5py.File(store.path, "r+") as file:
        damage(file)
    with pytest.raises(error, match=message) as caught:
        FeatureStore(store.path)
    assert str(caught.value).startswith(f"{store.path}: ")
    assert "\n" not in str(caught.value)
    assert type(caught.value) is error


def test_missing_file_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.h5: no such file: write it with `coadtr data import`"):
        FeatureStore(tmp_path / "gone.h5")
    with pytest.raises(DataError, match="no such file"):
        FeatureStore(tmp_path)
    (tmp_path / "note.h5").write_text("not HDF5")
    with pytest.raises(SchemaError, match="is not an HDF5 file"):
        FeatureStore(tmp_path / "note.h5")


@pytest.mark.parametrize("part", [0.02, 0.3, 0.9, 0.999])
def test_truncated_file(store: FeatureStore, part: float) -> None:
    store.close()
    content = store.path.read_bytes()
    store.path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(DataError, match="is damaged and cannot be read"):
        FeatureStore(store.path)


def test_overwritten_bytes_never_give_a_bare_error(store: FeatureStore, tmp_path: Path) -> None:
    store.close()
    content, rng = store.path.read_bytes(), np.random.default_rng(0)
    messages = []
    for trial in range(60):
        broken = bytearray(content)
        for at in rng.integers(0, len(content), 40):
            broken[at] = rng.integers(0, 256)
        path = tmp_path / f"broken-{trial}.h5"
        path.write_bytes(bytes(broken))
        try:
            with FeatureStore(path) as opened:
                opened.check()
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all(len(message.splitlines()) == 1 for message in messages)


def test_damaged_features_fail_their_checksum(store: FeatureStore, make_video: Callable[..., Any]) -> None:
    store.close()
    raw = make_video("d")[0]["flow"].tobytes()
    content = store.path.read_bytes()
    at = content.index(raw)
    store.path.write_bytes(content[: at + 10] + b"\x55\xaa" + content[at + 12 :])
    with FeatureStore(store.path) as opened, pytest.raises(DataError, match=r"video 'd': field 'flow': is damaged"):
        opened.features("d")


def test_nan_that_another_program_wrote_is_found_by_check(store: FeatureStore) -> None:
    store.close()
    with h5py.File(store.path, "r+") as file:
        file["videos/c/flow"][4, 1] = np.nan
    with (
        FeatureStore(store.path) as opened,
        pytest.raises(DataError, match=r"video 'c': field 'flow': value nan at frame 4, channel 1"),
    ):
        opened.check()


def _with(array: Any, at: tuple[int, ...], value: float) -> Any:
    array = array.copy()
    array[at] = value
    return array


ZEROS = np.zeros((5, 3), np.float32)
DAMAGE_ON_WRITE: dict[str, tuple[dict[str, Any], str]] = {
    "NaN": ({"features": {"imu": _with(ZEROS, (2, 1), np.nan)}}, "field 'imu': value nan at frame 2, channel 1"),
    "infinity": ({"features": {"imu": _with(ZEROS, (4, 0), -np.inf)}}, "value -inf at frame 4, channel 0"),
    "beyond float32": ({"features": {"imu": np.full((5, 3), 1e300)}}, "value inf at frame 0, channel 0"),
    "width": ({"features": {"imu": np.zeros((5, 4), "f4")}}, r"shape \(5, 4\): the store declares \(T, 3\)"),
    "rank": ({"features": {"imu": np.zeros(5, "f4")}}, r"shape \(5,\)"),
    "integers": ({"features": {"imu": np.zeros((5, 3), int)}}, "type int64: features are floating-point"),
    "no frames": ({"features": {"imu": np.zeros((0, 3), "f4")}, "labels": []}, "holds no frame"),
    "other streams": ({"features": {"rgb": ZEROS}}, "has streams 'rgb' but the store declares 'imu'"),
    "few labels": ({"labels": [0, 1]}, "has 5 frames of features but 2 labels"),
    "class too high": ({"labels": [0, 1, 2, 0, 0]}, r"class 2 at frame 2 is outside 0\.\.1"),
    "class below zero": ({"labels": [0, -1, 0, 0, 0]}, "class -1 at frame 1"),
    "labels with fractions": ({"labels": [0.5] * 5}, "labels are whole numbers"),
    "multi-hot width": ({"labels": np.zeros((5, 3), int)}, r"shape \(5, 3\): give \(T,\) or \(T, 2\)"),
    "multi-hot values": ({"labels": np.full((5, 2), 2)}, "multi-hot labels are 0 or 1"),
    "kind changes": ({"labels": np.ones((5, 2), int)}, "is multi-hot but the videos before it are index"),
    "split": ({"split": "dev"}, "unknown split 'dev': use one of 'train', 'validation', 'test'"),
    "rate": ({"rate_hz": 0.0}, r"field 'rate_hz': 0\.0"),
    "rate not finite": ({"rate_hz": float("nan")}, "field 'rate_hz': nan"),
    "name again": ({"name": "video-0"}, "is there already"),
    "name with slash": ({"name": "a/b"}, "cannot be stored"),
    "name climbs": ({"name": ".."}, "cannot be stored"),
    "name climbs further": ({"name": "../../x"}, "cannot be stored"),
    "name empty": ({"name": ""}, "give a text that is not empty"),
    "name with newline": ({"name": "a\nb"}, "cannot be stored"),
}


def _write(path: Path, *videos: dict[str, Any], multi_hot: bool = False) -> None:
    """Write videos, each given by what differs from a good one."""
    good = {"split": "test", "rate_hz": 5.0, "features": {"imu": ZEROS}, "labels": [0, 1, 1, 0, 0]}
    if multi_hot:
        good["labels"] = np.eye(2, dtype=int)[[0, 1, 1, 0, 0]]
    with StoreWriter(path, class_names=["rest", "lift"], streams={"imu": 3}) as writer:
        for index, change in enumerate(videos):
            writer.add(**{"name": f"video-{index}", **good, **change})


@pytest.mark.parametrize("kind", DAMAGE_ON_WRITE)
def test_damage_is_refused_on_writing_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    change, message = DAMAGE_ON_WRITE[kind]
    path = tmp_path / "deep" / "er" / "store.h5"
    with pytest.raises(DataError, match=message) as caught:
        _write(path, {}, change, multi_hot=kind.startswith("multi-hot"))
    assert str(caught.value).startswith(f"{path}: video ")
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "one class": ({"class_names": ["rest"]}, "class_names holds 1 classes"),
    "class twice": ({"class_names": ["rest", "rest"]}, "lists 'rest' more than once"),
    "class without name": ({"class_names": ["rest", " "]}, r"class_names\[1\] is ' '"),
    "background": ({"background": 2}, "background class 2 is not one of the 2 classes"),
    "both": ({"background": 1, "ignored": 1}, "cannot be background and ignored at once"),
    "no stream": ({"streams": {}}, "streams is empty"),
    "stream named labels": ({"streams": {"labels": 3}}, "stream name 'labels' is taken"),
    "stream climbs": ({"streams": {"../rgb": 3}}, "cannot be stored"),
    "no channels": ({"streams": {"rgb": 0}}, "stream 'rgb' has 0 channels"),
    "attributes": ({"attributes": {"when": object()}}, "cannot be written as JSON"),
    "attributes too long": ({"attributes": {"log": "x" * 70_000}}, "keep them below 60000"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_that_contradict_themselves(tmp_path: Path, kind: str) -> None:
    change, message = HEADERS[kind]
    with pytest.raises(DataError, match=message):
        StoreWriter(tmp_path / "s.h5", **{"class_names": ["rest", "lift"], "streams": {"imu": 3}, **change})
    assert list(tmp_path.iterdir()) == []


def test_failure_keeps_the_store_that_was_there(store: FeatureStore, tmp_path: Path) -> None:
    before = store.path.read_bytes()
    store.close()

    def interrupted(writer: StoreWriter) -> None:
        with writer:
            writer.add("v", split="test", rate_hz=5, features={"imu": ZEROS}, labels=[0] * 5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(StoreWriter(store.path, class_names=["x", "y"], streams={"imu": 3}))
    assert store.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [store.path.name]


def test_empty_store_and_unwritable_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no video: add one"):
        _write(tmp_path / "s.h5")
    with pytest.raises(DataError, match="is a folder"):
        _write(tmp_path, {})
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be made"):
        _write(tmp_path / "file" / "s.h5", {})
    with pytest.raises(DataError, match="cannot be written"):
        _write(tmp_path / ("long" * 70 + ".h5"), {})
    closed = StoreWriter(tmp_path / "s.h5", class_names=["x", "y"], streams={"imu": 3})
    with pytest.raises(DataError, match="is not open for writing"):
        closed.add("v", split="test", rate_hz=1, features={}, labels=[])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coadtr.data.storage.writer.write_array", full)
    with pytest.raises(DataError, match=r"video 'video-0': cannot be written \(.*No space left"):
        _write(tmp_path / "s.h5", {})
    assert list(tmp_path.iterdir()) == []

    def insist(writer: StoreWriter) -> None:
        with writer, contextlib.suppress(DataError):
            writer.add("v", split="test", rate_hz=5, features={"imu": ZEROS}, labels=[0] * 5)

    with pytest.raises(DataError, match="a video could not be written"):
        insist(StoreWriter(tmp_path / "s.h5", class_names=["x", "y"], streams={"imu": 3}))
    assert list(tmp_path.iterdir()) == []
