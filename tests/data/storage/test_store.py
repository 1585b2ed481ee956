"""The feature store gives back what was written, span by span, in any process."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from coadtr.data import FeatureStore, StoreWriter, VideoRecord, choose_validation
from coadtr.data.storage import handle
from coadtr.data.storage.blocks import all_finite, widen
from coadtr.data.storage.fletcher import fletcher32
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

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


LAYOUTS: dict[str, tuple[dict[str, Any], bool]] = {
    "as written": ({"chunks": (16, 40), "fletcher32": True}, True),
    "large blocks": ({"chunks": (1000, 40), "fletcher32": True}, True),
    "one frame a block": ({"chunks": (1, 40), "fletcher32": True}, True),
    "no checksums": ({"chunks": (7, 40)}, True),
    "in one piece": ({}, True),
    "chunks that part the channels": ({"chunks": (16, 10), "fletcher32": True}, False),
    "gzip": ({"chunks": (16, 40), "fletcher32": True, "compression": "gzip"}, False),
    "lzf": ({"chunks": (16, 40), "compression": "lzf"}, False),
    "shuffled": ({"chunks": (16, 40), "shuffle": True}, False),
}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere HDF5 reads everything")
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_spans_are_equal_however_the_features_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, dtype: Any
) -> None:
    options, past_hdf5 = LAYOUTS[layout]
    features = np.random.default_rng(0).standard_normal((1000, 40)).astype(dtype)
    path = tmp_path / "odd.h5"
    with StoreWriter(path, class_names=["x", "y"], streams={"rgb": 40, "flow": 40}) as writer:
        both = {"rgb": features, "flow": -features}
        writer.add("v", split="test", rate_hz=5, features=both, labels=np.zeros(len(features), int))
    with h5py.File(path, "r+") as file:
        for stream, values in both.items():
            del file["videos/v"][stream]
            file["videos/v"].create_dataset(stream, data=values, **options)
    joined = np.concatenate([features, -features], axis=1).astype(np.float32)
    spans = [(0, 1000), (0, 1), (999, 1000), (5, 5), (16, 32), (15, 33), (31, 32), (3, 10), (250, 901)]
    with FeatureStore(path) as store:
        for start, stop in spans * 2:
            np.testing.assert_array_equal(store.features("v", start, stop), joined[start:stop])
            assert store.known_finite("v", start, stop, ["rgb", "flow"]) == past_hdf5
        out = np.zeros((20, 90), np.float32)
        assert store.features("v", 7, 27, out=out[:, :80]).base is out
        np.testing.assert_array_equal(out, np.pad(joined[7:27], ((0, 0), (0, 10))))

        def no_more(*_: object) -> None:
            raise OSError("HDF5 was asked")

        monkeypatch.setattr(h5py.Dataset, "__getitem__", no_more)
        if past_hdf5:
            np.testing.assert_array_equal(store.features("v", 3, 999), joined[3:999])
        else:
            with pytest.raises(DataError, match="HDF5 was asked"):
                store.features("v", 3, 999)


@pytest.mark.parametrize("shape", [(1, 3), (16, 64), (30, 100), (256, 256)])
@pytest.mark.parametrize("kind", ["random", "zeros", "ones", "largest"])
def test_checksums_are_those_of_hdf5(tmp_path: Path, shape: tuple[int, int], kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (3 * shape[0], shape[1]), np.uint16)
    values = {"random": values, "zeros": values * 0, "ones": values * 0 + 1, "largest": values * 0 + 65535}[kind]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("x", data=values, chunks=shape, fletcher32=True)
        stored = [data.id.read_direct_chunk((block * shape[0], 0))[1][-4:] for block in range(3)]
    expected = [int.from_bytes(checksum, "little") for checksum in stored]
    assert fletcher32(values.reshape(3, -1)).tolist() == expected


def test_every_half_is_widened_to_the_same_float() -> None:
    import torch  # noqa: PLC0415 - the two ways are with and without it

    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    with_torch, alone = np.empty(2**16, np.float32), np.empty(2**16, np.float32)
    assert sys.modules["torch"] is torch
    widen(halves, with_torch)
    alone[...] = halves
    np.testing.assert_array_equal(with_torch, alone)
    assert [all_finite(halves[index : index + 1]) for index in range(2**16)] == np.isfinite(halves).tolist()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere HDF5 reads everything")
def test_file_that_changes_under_an_open_store_is_noticed(
    tmp_path: Path, make_store: Callable[..., FeatureStore]
) -> None:
    store = make_store(tmp_path / "store.h5")
    before = store.features("a")
    np.testing.assert_array_equal(store.features("a"), before)
    content = store.path.read_bytes()
    for changed in (content[: len(content) // 2], content[:-1] + b"?"):
        store.path.write_bytes(changed)
        with pytest.raises(DataError, match="has changed since it was opened: open it again"):
            store.features("a")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere HDF5 reads everything")
def test_memory_is_bounded_while_everything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "_MAPPED_BYTES", 2**20)
    path = tmp_path / "large.h5"
    with StoreWriter(path, class_names=["x", "y"], streams={"rgb": 1024}) as writer:
        features = {"rgb": np.ones((4096, 1024), np.float16)}
        for name in "ab":
            writer.add(name, split="train", rate_hz=5, features=features, labels=np.zeros(4096, int))
    largest = 0
    with FeatureStore(path) as store:
        for _ in range(2):
            for name in "ab":
                for start in range(0, 4096, 64):
                    assert store.features(name, start, start + 64).min() == 1
                largest = max(largest, _resident(path))
    assert path.stat().st_size > 16 * 2**20
    assert 0 < largest <= 2**20 + 2**18


def _resident(path: Path) -> int:
    """Return how many bytes of a mapped file count as memory of this process."""
    lines, total, own = Path("/proc/self/smaps").read_text().splitlines(), 0, False
    for line in lines:
        if "-" in line.split()[0]:
            own = line.endswith(str(path))
        elif own and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


def test_mapped_file_ends_where_it_ends(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"feature")
    with (tmp_path / "short").open("rb") as file:
        memory = handle.MappedFile(file.fileno())
        assert bytes(memory.fetch(2, 5)[2:7]) == b"ature"
        with pytest.raises(EOFError, match="ends at byte 7"):
            memory.fetch(2, 6)


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
    with pytest.raises(DataError, match=r"split 'validation' holds no video: it has 'test'; make splits with"):
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
