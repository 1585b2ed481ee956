"""Stores made of stores: converted, split and merged, equal where they should be, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from coadtr.data import FeatureStore, StoreJournal, StoreWriter
from coadtr.data.rewriting.merge import merge_stores
from coadtr.data.rewriting.rewrite import convert_store
from coadtr.data.rewriting.splitting import split_store
from coadtr.errors import ConfigError, DataError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def _write(
    path: Path, videos: Sequence[str], *, classes: Sequence[str] = ("rest", "cut", "mix"), **header: Any
) -> FeatureStore:
    """Write videos of six frames whose features say which class they carry, by name."""
    multi_hot = header.pop("multi_hot", False)
    labels = np.array([0, 1, 1, 2, 0, 2]) % len(classes)
    values = np.array([sum(classes[label].encode()) for label in labels], np.float32)
    header = {"background": 0, "streams": {"imu": 1}, "attributes": {"origin": "test"}, **header}
    with StoreWriter(path, class_names=classes, **header) as writer:
        for name in videos:
            hot = np.eye(len(classes), dtype=np.uint8)[labels]
            features = dict.fromkeys(header["streams"], values[:, None])
            writer.add(name, split="train", rate_hz=2, features=features, labels=hot if multi_hot else labels)
    return FeatureStore(path)


def _same_videos(one: FeatureStore, two: FeatureStore) -> None:
    assert one.videos() == two.videos()
    for record in one.videos():
        np.testing.assert_array_equal(one.labels(record.name), two.labels(record.name))
        for stream in one.streams:
            a, b = (store.stored_features(record.name, stream) for store in (one, two))
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("multi_hot", [False, True])
@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_conversion_keeps_what_it_should(
    tmp_path: Path, make_store: Callable[..., FeatureStore], compression: str | None, *, multi_hot: bool
) -> None:
    source = make_store(tmp_path / "a.h5", multi_hot=multi_hot)
    assert convert_store(source.path, tmp_path / "b.h5", compression=compression) is None
    with FeatureStore(tmp_path / "b.h5") as made:
        _same_videos(made, source)
        assert made.fingerprint() == source.fingerprint()
        with h5py.File(made.path) as file:
            assert file["videos/a/rgb"].compression == compression
            assert file["videos/a/rgb"].fletcher32
    assert {path.name for path in tmp_path.iterdir()} == {"a.h5", "b.h5"}


def test_conversion_to_float16_says_what_it_cost(store: FeatureStore, tmp_path: Path) -> None:
    worst = convert_store(store.path, tmp_path / "half.h5", dtype="float16")
    assert worst is not None
    with FeatureStore(tmp_path / "half.h5") as half:
        errors = {
            record.name: np.abs(store.features(record.name) - half.features(record.name)) for record in store.videos()
        }
        assert worst.error == max(error.max() for error in errors.values()) > 0
        # Channels of rgb, which is float16 already, come before those of flow.
        assert errors[worst.video][worst.frame, 6 + worst.channel] == worst.error
        assert worst.stream == "flow"
        assert worst.value == store.features(worst.video)[worst.frame, 6 + worst.channel]
        assert half.stored_dtype() == np.float16
        assert half.attributes["origin"] == "made for a test"
        assert half.attributes["converted"] == {
            "from": {"file": "store.h5", "fingerprint": store.fingerprint()},
            "dtype": "float16",
            "largest_rounding_error": worst.error,
        }
    assert convert_store(tmp_path / "half.h5", tmp_path / "full.h5", dtype="float32") is None
    with FeatureStore(tmp_path / "full.h5") as full:
        assert full.stored_dtype() == np.float32
        np.testing.assert_array_equal(full.features("a"), FeatureStore(tmp_path / "half.h5").features("a"))


@pytest.mark.parametrize(("value", "fits"), [(65504.0, True), (65519.0, True), (65520.0, False), (-1e30, False)])
def test_values_beyond_float16_are_named(tmp_path: Path, value: float, *, fits: bool) -> None:
    features = np.zeros((9000, 3), np.float32)
    features[8123, 2] = value
    with StoreWriter(tmp_path / "a.h5", class_names=["x", "y"], streams={"imu": 3}) as writer:
        writer.add("good", split="test", rate_hz=1, features={"imu": features[:5]}, labels=[0] * 5)
        writer.add("v", split="test", rate_hz=1, features={"imu": features}, labels=[0] * 9000)
    if fits:
        worst = convert_store(tmp_path / "a.h5", tmp_path / "b.h5", dtype="float16")
        assert worst is not None
        assert (worst.error, worst.value) == (value - 65504, value if value > 65504 else 0.0)
        return
    with pytest.raises(DataError, match=r"a\.h5: video 'v': field 'imu': value .* at frame 8123, channel 2: beyond"):
        convert_store(tmp_path / "a.h5", tmp_path / "b.h5", dtype="float16")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, StorageError], ids=["interrupted", "disk full"])
def test_conversion_that_was_interrupted_goes_on(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    added: list[str] = []
    add = StoreJournal.add

    def interrupted(journal: StoreJournal, name: str, **video: Any) -> None:
        if len(added) == 2:
            raise stop
        added.append(name)
        add(journal, name, **video)

    with monkeypatch.context() as patch:
        patch.setattr(StoreJournal, "add", interrupted)
        with pytest.raises(stop):
            convert_store(store.path, tmp_path / "b.h5", dtype="float16")
    assert not (tmp_path / "b.h5").exists()
    again: list[str] = []

    def noted(journal: StoreJournal, name: str, **video: Any) -> None:
        again.append(name)
        add(journal, name, **video)

    monkeypatch.setattr(StoreJournal, "add", noted)
    worst = convert_store(store.path, tmp_path / "b.h5", dtype="float16")
    assert (added, again) == (["d", "a"], ["c", "b"])
    assert worst == convert_store(store.path, tmp_path / "c.h5", dtype="float16")
    assert (tmp_path / "b.h5").read_bytes() == (tmp_path / "c.h5").read_bytes()


def test_some_videos_and_streams_are_taken(store: FeatureStore, tmp_path: Path) -> None:
    split_store(store.path, tmp_path / "b.h5", videos=["[ab]", "c"], streams=["flow"])
    with FeatureStore(tmp_path / "b.h5") as made:
        assert made.streams == {"flow": 3}
        assert made.videos() == tuple(record for record in store.videos() if record.name != "d")
        for name in "abc":
            np.testing.assert_array_equal(made.features(name), store.features(name, streams=["flow"]))
            np.testing.assert_array_equal(made.labels(name), store.labels(name))
        assert (made.class_names, made.background, made.ignored) == (store.class_names, 0, 3)
        assert made.attributes["split"] == {
            "from": {"file": "store.h5", "fingerprint": store.fingerprint()},
            "videos": ["[ab]", "c"],
        }


def test_splits_by_name(tmp_path: Path) -> None:
    names = [f"{person}_{day}" for person in "pq" for day in (1, 2)]
    attributes = {"validation": {"seed": 0}, "extractors": {"imu": {"backbone": "x"}, "rgb": {"backbone": "y"}}}
    source = _write(tmp_path / "a.h5", names, attributes=attributes, streams={"imu": 1, "rgb": 1})
    split_store(source.path, tmp_path / "b.h5", assign={"test": ["q_*"], "validation": ["p_2"]}, streams=["imu"])
    with FeatureStore(tmp_path / "b.h5") as made:
        assert {record.name: record.split for record in made.videos()} == {
            "p_1": "train",
            "p_2": "validation",
            "q_1": "test",
            "q_2": "test",
        }
        assert "validation" not in made.attributes
        assert made.attributes["extractors"] == {"imu": {"backbone": "x"}}


def test_splits_by_fractions_are_seeded_and_do_not_depend_on_the_order(tmp_path: Path) -> None:
    names = [f"v{index:02d}" for index in range(17)]
    fractions = {"train": 0.7, "validation": 0.1, "test": 0.2}

    def chosen(path: Path, seed: int) -> dict[str, str]:
        split_store(path, tmp_path / f"{path.stem}{seed}.h5", fractions=fractions, seed=seed)
        with FeatureStore(tmp_path / f"{path.stem}{seed}.h5") as made:
            assert [len(made.videos(split)) for split in fractions] == [12, 2, 3]
            return {record.name: record.split for record in made.videos()}

    forwards, backwards = _write(tmp_path / "f.h5", names), _write(tmp_path / "b.h5", names[::-1])
    assert chosen(forwards.path, 0) == chosen(backwards.path, 0)
    assert chosen(forwards.path, 0) != chosen(forwards.path, 1)


def test_merged_classes_are_matched_by_name(tmp_path: Path) -> None:
    one = _write(tmp_path / "one.h5", ["a", "b"])
    two = _write(tmp_path / "two.h5", ["c"], classes=["mix", "rest", "cut"], background=1)
    merge_stores([one.path, two.path], tmp_path / "both.h5")
    with FeatureStore(tmp_path / "both.h5") as both:
        assert both.class_names == ("rest", "cut", "mix")
        assert both.background == 0
        assert [record.name for record in both.videos()] == ["a", "b", "c"]
        for name in "abc":
            # The features of `_write` spell the class.
            spelt = [sum(both.class_names[label].encode()) for label in both.labels(name)]
            np.testing.assert_array_equal(both.features(name)[:, 0], spelt)
        assert both.attributes == {
            "origin": "test",
            "sources": [
                {"file": "one.h5", "fingerprint": one.fingerprint()},
                {"file": "two.h5", "fingerprint": two.fingerprint()},
            ],
        }


@pytest.mark.parametrize("multi_hot", [False, True])
def test_merged_classes_may_be_the_union(tmp_path: Path, *, multi_hot: bool) -> None:
    one = _write(tmp_path / "one.h5", ["a"], classes=["cut", "rest"], background=1, ignored=None)
    two = _write(tmp_path / "two.h5", ["c"], classes=["fry", "cut", "odd"], background=None, ignored=2)
    if multi_hot:
        two = _write(
            tmp_path / "two.h5",
            ["c"],
            classes=["fry", "cut", "odd"],
            background=None,
            ignored=2,
            multi_hot=True,
        )
    merge_stores([one.path, two.path], tmp_path / "both.h5", classes="union")
    with FeatureStore(tmp_path / "both.h5") as both:
        assert (both.class_names, both.background, both.ignored) == (("cut", "rest", "fry", "odd"), 1, 3)
        assert both.label_kind == ("multi-hot" if multi_hot else "index")
        for name in "ac":
            labels = both.labels(name)
            if multi_hot:
                np.testing.assert_array_equal(labels.sum(axis=1), 1)
                labels = labels.argmax(axis=1)
            spelt = [sum(both.class_names[label].encode()) for label in labels]
            np.testing.assert_array_equal(both.features(name)[:, 0], spelt)


def test_merged_names_may_get_a_prefix_and_rules_are_told(tmp_path: Path) -> None:
    one = _write(tmp_path / "one.h5", ["a"], attributes={"label_rule": "oadtr"})
    two = _write(tmp_path / "two.h5", ["a"], attributes={"label_rule": "lstr"})
    merge_stores([one.path, two.path], tmp_path / "both.h5", prefix=True)
    with FeatureStore(tmp_path / "both.h5") as both:
        assert [record.name for record in both.videos()] == ["one_a", "two_a"]
        assert both.attributes["label_rule"] == "oadtr (one.h5) and lstr (two.h5)"


MERGES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "videos twice": ({}, {}, r"two\.h5: video 'a' is also in .*one\.h5: say prefix=true"),
    "classes": (
        {"classes": ["rest", "cut", "fry"]},
        {},
        r"two\.h5: lacks the classes|one\.h5: lacks the classes 'fry'",
    ),
    "widths": ({"streams": {"imu": 1, "rgb": 1}}, {}, r"two\.h5: has streams 'imu' 1, 'rgb' 1 but .* has 'imu' 1"),
    "background": ({"background": 1}, {}, r"two\.h5: its background class is 'cut' but that of .* is 'rest'"),
    "no background": ({"background": None}, {}, r"two\.h5: its background class is None but that of .* is 'rest'"),
    "ignored": ({"ignored": 2}, {}, r"one\.h5: its ignored class is None but that of .*two\.h5 is 'mix'"),
    "extractors": (
        {"attributes": {"extractors": {"imu": {"backbone": "resnet50"}}}},
        {},
        r"two\.h5: stream 'imu' was made by \{'backbone': 'resnet50'\} but that of .*one\.h5 by \{.* 'lite0'\}",
    ),
    "choice of classes": ({}, {"classes": "all"}, "classes='all': use one of same, union"),
}


@pytest.mark.parametrize("kind", MERGES)
def test_merges_that_are_refused(tmp_path: Path, kind: str) -> None:
    header, options, message = MERGES[kind]
    one = _write(tmp_path / "one.h5", ["a"], attributes={"extractors": {"imu": {"backbone": "lite0"}}})
    two = _write(tmp_path / "two.h5", ["a"], **header)
    with pytest.raises((DataError, ConfigError), match=message) as caught:
        merge_stores([one.path, two.path], tmp_path / "new" / "both.h5", **options)
    assert len(str(caught.value).splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"one.h5", "two.h5"}


SPLITS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "nothing is to be changed: give videos, streams, fractions or assign"),
    "both": ({"fractions": {"train": 1.0}, "assign": {"test": ["a"]}}, "give one of them"),
    "no such video": ({"videos": ["a", "x*"]}, r"videos: 'x\*' fits no video: the videos are 'd', 'a', 'c', 'b'"),
    "no such stream": ({"streams": ["audio"]}, "unknown stream 'audio'"),
    "two splits": ({"assign": {"train": ["a"], "test": ["*"]}}, "video 'a' is named for train and for test"),
    "unknown split": ({"assign": {"dev": ["a"]}}, "unknown split 'dev': use one of 'train', 'validation', 'test'"),
    "sum": ({"fractions": {"train": 0.5, "test": 0.4}}, r"fractions add up to 0\.9, not 1"),
    "range": ({"fractions": {"train": 1.5, "test": -0.5}}, r"fractions\.train=1\.5: give a number from 0 to 1"),
    "less than a video": ({"fractions": {"train": 0.95, "test": 0.05}}, r"fractions\.test=0\.05 of 4 videos is less"),
    "seed": ({"fractions": {"train": 1.0}, "seed": -1}, "seed=-1"),
}


@pytest.mark.parametrize("kind", SPLITS)
def test_splits_that_are_refused(store: FeatureStore, tmp_path: Path, kind: str) -> None:
    options, message = SPLITS[kind]
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        split_store(store.path, tmp_path / "new.h5", **options)
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["store.h5"]


def test_other_calls_that_are_refused(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is also read from: choose another out"):
        convert_store(store.path, tmp_path / "." / "store.h5", dtype="float32")
    with pytest.raises(ConfigError, match="dtype='int8': use float16 or float32"):
        convert_store(store.path, tmp_path / "b.h5", dtype="int8")
    with pytest.raises(ConfigError, match="compression='zip': use one of gzip, lzf"):
        convert_store(store.path, tmp_path / "b.h5", compression="zip")
    with pytest.raises(ConfigError, match="paths names 1 stores: give two or more"):
        merge_stores([store.path], tmp_path / "b.h5")
    with pytest.raises(DataError, match=r"gone\.h5: no such file"):
        convert_store(tmp_path / "gone.h5", tmp_path / "b.h5")
    store.close()
    with h5py.File(store.path, "r+") as file:
        file["videos/c/flow"][4, 1] = np.nan
    for dtype in (None, "float16"):
        with pytest.raises(
            DataError, match=r"store\.h5: video 'c': field 'flow': value nan at frame 4, channel 1: feat"
        ):
            convert_store(store.path, tmp_path / "b.h5", dtype=dtype)
    assert [path.name for path in tmp_path.iterdir()] == ["store.h5"]


def test_recordings_to_classify_are_not_merged_with_streams(tmp_path: Path) -> None:
    for name, attributes in (("a", {"task": "audio"}), ("b", {})):
        with StoreWriter(
            tmp_path / f"{name}.h5", class_names=["x", "y"], streams={"audio": 2}, attributes=attributes
        ) as writer:
            writer.add(name, split="test", rate_hz=1, features={"audio": np.ones((3, 2), "f4")}, labels=[0] * 3)
    with pytest.raises(DataError, match=r"b\.h5: its videos are recordings to classify where those of .*a\.h5"):
        merge_stores([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()
