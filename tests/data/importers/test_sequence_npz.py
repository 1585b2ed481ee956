"""Importing sequence files: they come through unchanged, and files that are not what they declare are refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.data import FeatureStore, import_features
from coadtr.errors import DataError, UnsafeFileError

if TYPE_CHECKING:
    from pathlib import Path


def test_sequence_npz_comes_through(tmp_path: Path, sequence_source: dict[str, Any]) -> None:
    np.savez_compressed(tmp_path / "source.npz", **sequence_source)
    import_features("sequence-npz", tmp_path / "source.npz", tmp_path / "out.h5", validation_fraction=0.3, stream="rgb")
    with FeatureStore(tmp_path / "out.h5") as store:
        assert [video.name for video in store.videos()] == list(sequence_source["names"])
        assert store.class_names == ("cut", "background", "mix")
        assert (store.background, store.ignored, store.streams) == (1, None, {"rgb": 5})
        assert [video.name for video in store.videos("test")] == ["video-4", "video-5"]
        assert (len(store.videos("train")), len(store.videos("validation"))) == (3, 1)
        assert store.attributes["validation"] == {
            "fraction": 0.3,
            "seed": 0,
            "videos": [store.videos("validation")[0].name],
        }
        assert {video.rate_hz for video in store.videos()} == {3.0}
        for index, video in enumerate(store.videos()):
            rows = slice(sequence_source["offsets"][index], sequence_source["offsets"][index + 1])
            np.testing.assert_array_equal(store.features(video.name), sequence_source["features"][rows])
            np.testing.assert_array_equal(store.labels(video.name), sequence_source["labels"][rows])


@pytest.mark.parametrize(
    ("file", "expected"),
    [("50salads_mid/Split_1.npz", (18, 10, 3.0)), ("gtea/Split_1.npz", (11, 7, 15.0))],
)
def test_real_recordings_come_through(
    shared_data: Path, tmp_path: Path, file: str, expected: tuple[int, int, float]
) -> None:
    classes, test_videos, rate = expected
    import_features("sequence-npz", shared_data / file, tmp_path / "out.h5")
    with np.load(shared_data / file) as source, FeatureStore(tmp_path / "out.h5") as store:
        features, labels, offsets = source["features"], source["labels"], source["offsets"]
        assert len(store.class_names) == classes
        assert store.class_names[0] == "background"
        assert (store.background, store.ignored) == (0, None)
        for index, video in enumerate(store.videos()):
            rows = slice(offsets[index], offsets[index + 1])
            assert (video.name, video.rate_hz) == (str(source["names"][index]), rate)
            np.testing.assert_array_equal(store.features(video.name), features[rows].astype(np.float32))
            np.testing.assert_array_equal(store.labels(video.name), labels[rows])
        test = {video.name for video in store.videos("test")}
        assert test == set(source["names"][source["is_test"]])
        assert len(test) == test_videos
        rest = len(store.videos()) - test_videos
        assert len(store.videos("validation")) == round(0.15 * rest)
        assert store.check() == len(labels)


SEQUENCE_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "labels short": ({"labels": np.zeros(38, "u1")}, "features have 39 frames but labels 38"),
    "labels with fractions": ({"labels": np.zeros(39)}, r"field 'labels' is float64 of shape \(39,\)"),
    "class too high": ({"labels": np.full(39, 3)}, r"class 3 at frame 0 is outside 0\.\.2"),
    "offsets": ({"offsets": np.array([0, 4, 9, 15, 22, 30, 38])}, "it must run from 0 to 39"),
    "empty video": ({"offsets": np.array([0, 4, 4, 15, 22, 30, 39])}, "video 1 has 0 frames"),
    "is_test": ({"is_test": np.zeros(5, bool)}, "field 'is_test' has 5 entries for 6 videos"),
    "fps": ({"fps": np.float64(0)}, r"field 'fps' is 0\.0"),
    "features": ({"features": np.zeros((39, 5), int)}, "field 'features' is int64"),
    "names": ({"names": np.array(["same"] * 6)}, "is there already"),
    "climbing name": ({"names": np.array(["../a", "b", "c", "d", "e", "f"])}, "cannot be stored"),
    "NaN": ({"features": np.full((39, 5), np.nan, "f4")}, "video 'video-0': field 'features': value nan at frame 0"),
}


@pytest.mark.parametrize("kind", SEQUENCE_FAULTS)
def test_sequence_npz_faults(tmp_path: Path, sequence_source: dict[str, Any], kind: str) -> None:
    change, message = SEQUENCE_FAULTS[kind]
    np.savez(tmp_path / "source.npz", **{**sequence_source, **change})
    with pytest.raises(DataError, match=message) as caught:
        import_features("sequence-npz", tmp_path / "source.npz", tmp_path / "out.h5")
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["source.npz"]


def test_sequence_npz_tells_all_faults_at_once(tmp_path: Path, sequence_source: dict[str, Any]) -> None:
    path = tmp_path / "source.npz"
    np.savez(path, **{**sequence_source, "labels": np.full(30, 9), "fps": np.float64(-1), "is_test": np.ones(2, bool)})
    with pytest.raises(DataError, match=r"features have 39 .*'is_test' has 2 .*'fps' is -1\.0.*class 9"):
        import_features("sequence-npz", path, tmp_path / "out.h5")
    np.savez(path, features=sequence_source["features"])
    with pytest.raises(DataError, match=r"'labels' is missing.*'offsets' is missing.*'fps' is missing"):
        import_features("sequence-npz", path, tmp_path / "out.h5")


def test_sequence_npz_that_is_no_npz(tmp_path: Path, sequence_source: dict[str, Any]) -> None:
    path, out = tmp_path / "source.npz", tmp_path / "out.h5"
    with pytest.raises(DataError, match="no such file"):
        import_features("sequence-npz", path, out)
    np.savez(path, **sequence_source)
    content = path.read_bytes()
    for cut in (0, 50, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:cut])
        with pytest.raises(DataError, match=r"is not a whole \.npz file"):
            import_features("sequence-npz", path, out)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(DataError, match=r"is a single array, not an \.npz file"):
        import_features("sequence-npz", path, out)
    for other in (pickle.dumps({"features": 1}), b"some text", b"#!/bin/sh\n" + content):
        path.write_bytes(other)
        with pytest.raises(DataError, match=r"is not a whole \.npz file") as error:
            import_features("sequence-npz", path, out)
        assert "pickle" not in str(error.value)
    names = np.array(["a", None], dtype=object)
    np.savez(path, **{**sequence_source, "names": names}, allow_pickle=True)
    with pytest.raises(UnsafeFileError, match="field 'names' holds pickled objects"):
        import_features("sequence-npz", path, out)
    assert not out.exists()


def _npy(shape: tuple[int, ...], dtype: str, data: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


def _claim(path: Path, member: str, size: int) -> None:
    """Make the directory of a zip file claim another unpacked size for a member."""
    content = bytearray(path.read_bytes())
    at = content.index(member.encode(), content.index(b"PK\x01\x02")) - 46
    content[at + 24 : at + 28] = size.to_bytes(4, "little")
    path.write_bytes(bytes(content))


NPZ_BOMBS: dict[str, tuple[dict[str, bytes], str]] = {
    "shape without data": (
        {"features": _npy((10**12, 5), "<f2", b"")},
        r"field 'features' declares float16 of shape \(1000000000000, 5\), 10000000000000 bytes, but the file holds 0",
    ),
    "rows of width 0": (
        {"features": _npy((10**12, 0), "<f2", b"")},
        r"declares float16 of shape \(1000000000000, 0\), 0 bytes",
    ),
    "more than the array": ({"fps": _npy((), "<f8", b"\0" * 8_000_000)}, r"of shape \(\), 8 bytes, but the file holds"),
    "negative size": ({"labels": _npy((-4,), "|u1", b"")}, "field 'labels' declares uint8"),
    "no array at all": ({"labels": b"hello"}, r"is not a whole \.npz file"),
    "object array": ({"names": _npy((1,), "|O", pickle.dumps([1]))}, "field 'names' holds pickled objects"),
}


@pytest.mark.parametrize("kind", NPZ_BOMBS)
def test_npz_arrays_that_are_not_what_they_declare(tmp_path: Path, sequence_source: dict[str, Any], kind: str) -> None:
    members, message = NPZ_BOMBS[kind]
    path = tmp_path / "source.npz"
    np.savez(path, **{field: array for field, array in sequence_source.items() if field not in members})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for field, content in members.items():
            archive.writestr(f"{field}.npy", content)
    with pytest.raises(DataError, match=message) as caught:
        import_features("sequence-npz", path, tmp_path / "out.h5")
    assert len(str(caught.value).splitlines()) == 1
    assert [left.name for left in tmp_path.iterdir()] == ["source.npz"]


def test_zip_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, sequence_source: dict[str, Any]) -> None:
    path, out = tmp_path / "source.npz", tmp_path / "out.h5"
    np.savez_compressed(path, **sequence_source)
    _claim(path, "features.npy", 3_000_000_000)
    with pytest.raises(UnsafeFileError, match=r"[0-9]+ bytes would unpack to 30000[0-9]+: do not use this file"):
        import_features("sequence-npz", path, out)
    np.savez_compressed(path, **sequence_source)
    _claim(path, "features.npy", 200)
    with pytest.raises(DataError, match=r"Bad CRC-32 for file|field 'features' declares float16"):
        import_features("sequence-npz", path, out)
    np.savez(path, **sequence_source)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("fps.npy", _npy((), "<f8", bytes(8)))
    with pytest.raises(DataError, match="field 'fps' is there 2 times: keep one"):
        import_features("sequence-npz", path, out)
    np.savez(path, **sequence_source)
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 200] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"is not a whole \.npz file \(Bad CRC-32"):
        import_features("sequence-npz", path, out)
    assert not out.exists()
