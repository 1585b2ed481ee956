"""The feature store gives back what was written, span by span, in any process."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from coadtr.data import FeatureStore, StoreWriter, VideoRecord, choose_validation
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VIDEOS = ("d", "a", "c", "b")


def test_header_comes_back(store: FeatureStore) -> None:
    assert store.class_names == ("background", "cut", "mix", "ambiguous")
    assert (store.background, store.ignored) == (0, 3)
    assert list(store.streams.items()) == [("rgb", 6), ("flow", 3)]
    assert store.attributes == {"origin": "made for a test", "numbers": [1, 2]}
    assert store.label_kind == "index"
    assert store.splits == ("train", "validation", "test")


def test_videos_come_in_the_order_written(store: FeatureStore) -> None:
    assert tuple(video.name for video in store.videos()) == VIDEOS
    assert store.videos("train") == (VideoRecord("a", "train", 25, 5.0), VideoRecord("b", "train", 12, 5.0))
    assert store.videos("test")[0].seconds == pytest.approx(31 / 5)


@pytest.mark.parametrize("multi_hot", [False, True])
def test_features_and_labels_come_back(
    tmp_path: Path, make_store: Callable[..., FeatureStore], make_video: Callable[..., Any], *, multi_hot: bool
) -> None:
    with make_store(tmp_path / "store.h5", multi_hot=multi_hot) as store:
        for name in VIDEOS:
            features, labels = make_video(name, multi_hot=multi_hot)
            joined = np.concatenate([features["rgb"].astype(np.float32), features["flow"]], axis=1)
            read, targets = store.features(name), store.labels(name)
            assert read.dtype == np.dtype(np.float32)
            assert targets.dtype == np.dtype(np.uint8 if multi_hot else np.int64)
            np.testing.assert_array_equal(read, joined)
            np.testing.assert_array_equal(targets, labels)
            np.testing.assert_array_equal(store.features(name, 2, 6, ["flow", "rgb"])[:, 3:], joined[2:6, :6])
            np.testing.assert_array_equal(store.labels(name, 2, 6), labels[2:6])
        assert store.features("a", 4, 4).shape == (0, 9)
        assert store.check() == 25 + 12 + 7 + 31


def test_types_are_kept_and_float64_becomes_float32(tmp_path: Path, store: FeatureStore) -> None:
    with h5py.File(store.path) as file:
        assert file["videos/a/rgb"].dtype == np.float16
        assert file["videos/a/flow"].dtype == np.float32
        assert file["videos/a/rgb"].fletcher32
    assert store.stored_dtype("train", ["rgb"]) == np.float16
    assert store.stored_dtype() == np.float32
    with StoreWriter(tmp_path / "wide.h5", class_names=["x", "y"], streams={"imu": 2}) as writer:
        writer.add("v", split="test", rate_hz=1, features={"imu": np.full((3, 2), 1 / 3)}, labels=[0, 1, 0])
    np.testing.assert_array_equal(FeatureStore(tmp_path / "wide.h5").features("v"), np.float32(1 / 3))


def test_span_reads_do_not_load_the_video(tmp_path: Path) -> None:
    long = np.zeros((20_000, 32), np.float32)
    with StoreWriter(tmp_path / "long.h5", class_names=["x", "y"], streams={"rgb": 32}) as writer:
        writer.add("v", split="test", rate_hz=5, features={"rgb": long}, labels=np.zeros(len(long), int))
    with h5py.File(tmp_path / "long.h5") as file:
        chunk = file["videos/v/rgb"].chunks
    assert chunk[0] * chunk[1] * 4 <= 64 * 1024
    assert chunk[0] < len(long) / 10


def test_store_is_a_value_that_can_be_pickled_and_closed(store: FeatureStore) -> None:
    before = store.features("a")
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.features("a"), before)
    store.close()
    np.testing.assert_array_equal(store.features("a"), before)
    assert copy.fingerprint() == store.fingerprint()
    assert "videos=4" in repr(copy)


def test_fingerprint_tells_data_apart(tmp_path: Path, make_store: Callable[..., FeatureStore]) -> None:
    same = {make_store(tmp_path / name).fingerprint() for name in ("one.h5", "two.h5")}
    assert len(same) == 1
    assert len(same.pop()) == 16
    with h5py.File(tmp_path / "two.h5", "r+") as file:
        file["videos/a/labels"][3] = (file["videos/a/labels"][3] + 1) % 4
    assert FeatureStore(tmp_path / "one.h5").fingerprint() != FeatureStore(tmp_path / "two.h5").fingerprint()


def test_store_that_is_replaced_is_not_mixed_with_the_old_one(
    tmp_path: Path, make_store: Callable[..., FeatureStore]
) -> None:
    store = make_store(tmp_path / "store.h5")
    store.close()
    make_store(tmp_path / "store.h5", multi_hot=True).close()
    with pytest.raises(DataError, match="has changed since it was opened: open it again"):
        store.features("a")


def test_asking_for_what_is_not_there_names_what_is(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split 'tset' holds no video: it has 'train', 'validation', 'test'"):
        store.videos("tset")
    with pytest.raises(DataError, match=r"has no video 'z': it has 'd', 'a', 'c', 'b'"):
        store.labels("z")
    with pytest.raises(DataError, match=r"unknown stream 'audio': name each once, out of 'rgb', 'flow'"):
        store.features("a", streams=["audio"])
    with pytest.raises(DataError, match=r"unknown class 'fry': the classes are 'background', 'cut', 'mix'"):
        store.class_index("fry")
    with pytest.raises(DataError, match=r"video 'b': span 0:13 is outside its frames 0:12"):
        store.features("b", 0, 13)
    assert store.class_index("mix") == 2
    with StoreWriter(tmp_path / "t.h5", class_names=["x", "y"], streams={"imu": 2}) as writer:
        writer.add("v", split="test", rate_hz=1, features={"imu": np.zeros((3, 2))}, labels=[0, 1, 0])
    with pytest.raises(DataError, match=r"split 'validation' holds no video: it has 'test'$"):
        FeatureStore.open(tmp_path / "t.h5").videos("validation")


def test_validation_split_is_seeded_and_does_not_depend_on_the_order() -> None:
    names = [f"v{index}" for index in range(40)]
    chosen = choose_validation(names, fraction=0.15, seed=0)
    assert len(chosen) == 6
    assert chosen == choose_validation(names[::-1], fraction=0.15, seed=0)
    assert chosen != choose_validation(names, fraction=0.15, seed=1)
    assert len(choose_validation(names[:2], fraction=0.9, seed=0)) == 1
    assert len(choose_validation(names[:3], fraction=0.01, seed=0)) == 1
    with pytest.raises(ConfigError, match=r"validation_fraction=1\.5"):
        choose_validation(names, fraction=1.5, seed=0)
    with pytest.raises(DataError, match="1 training videos"):
        choose_validation(names[:1], fraction=0.5, seed=0)


def test_data_does_not_load_torch_until_windows_are_needed() -> None:
    code = (
        "import sys, coadtr.data as d; d.FeatureStore, d.StoreWriter, d.IMPORTERS, d.summarise; "
        "assert 'torch' not in sys.modules; d.ClipDataset; assert 'torch' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
