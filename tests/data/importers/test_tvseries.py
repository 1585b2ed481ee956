"""Importing TVSeries: class names decide, whatever the order of the source."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.data import FeatureStore, import_features
from coadtr.errors import DataError
from tests.data.importers.tvseries_source import (
    ALPHABETICAL,
    CLASSES,
    FRAMES,
    SPLIT_FILES,
    TEST,
    TRAIN,
    action_row,
    multi_hot,
    write_tvseries,
)

if TYPE_CHECKING:
    from pathlib import Path


def _named(store: FeatureStore, video: str, frame: int) -> set[str]:
    return {store.class_names[index] for index in np.flatnonzero(store.labels(video)[frame])}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(("class_order", "order"), [("published", CLASSES), ("alphabetical", ALPHABETICAL)])
def test_pickles_come_through(tmp_path: Path, class_order: str, order: list[str], protocol: int) -> None:
    labels = multi_hot(order)
    features = write_tvseries(tmp_path / "tv", labels=labels, protocol=protocol)
    report = import_features("tvseries", tmp_path / "tv", tmp_path / "out.h5", class_order=class_order)
    assert report.warnings == ()
    with FeatureStore(tmp_path / "out.h5") as store:
        assert list(store.class_names) == CLASSES
        assert (store.background, store.ignored, store.label_kind) == (0, None, "multi-hot")
        assert store.streams == {"rgb": 2048, "flow": 2048}
        assert [video.name for video in store.videos()] == [*TRAIN, *TEST]
        assert {video.name for video in store.videos("test")} == set(TEST)
        assert len(store.videos("validation")) == 1
        assert {video.rate_hz for video in store.videos()} == {5.0}
        columns = [order.index(name) for name in CLASSES]
        for video in store.videos():
            np.testing.assert_array_equal(store.labels(video.name), labels[video.name][:, columns])
            for stream, array in features[video.name].items():
                np.testing.assert_array_equal(store.features(video.name, streams=[stream]), array)
        extractors: Any = store.attributes["extractors"]
        assert extractors["rgb"]["backbone"] == "ResNet-50"


def test_columns_named_by_a_file(tmp_path: Path) -> None:
    order = CLASSES[::-1]
    labels = multi_hot(order)
    write_tvseries(tmp_path / "tv", labels=labels)
    names = [name.replace(" ", "_").replace("/", "-").upper() for name in order]
    (tmp_path / "tv" / "columns.txt").write_text("\n".join(names))
    import_features("tvseries", tmp_path / "tv", tmp_path / "out.h5", class_order="columns.txt")
    with FeatureStore(tmp_path / "out.h5") as store:
        np.testing.assert_array_equal(store.labels("24_ep1"), labels["24_ep1"][:, ::-1])
    (tmp_path / "tv" / "columns.txt").write_text("\n".join(["Throw", *names[1:]]))
    with pytest.raises(DataError, match="row 1: class 'Throw' is not on the list: the nearest known name is 'Throw so"):
        import_features("tvseries", tmp_path / "tv", tmp_path / "other.h5", class_order="columns.txt")
    (tmp_path / "tv" / "columns.txt").write_text("\n".join(names[1:]))
    with pytest.raises(DataError, match=r"lists 30 classes, without \['Fire weapon'\]"):
        import_features("tvseries", tmp_path / "tv", tmp_path / "other.h5", class_order="columns.txt")


def test_columns_of_the_cooadtr_parser(tmp_path: Path) -> None:
    """Its actions are numbered from 0 by name, and column 0 marks the background too."""
    actions = ALPHABETICAL[1:]
    labels = {name: np.zeros((FRAMES, 31), bool) for name in (*TRAIN, *TEST)}
    for hot in labels.values():
        hot[3:6, actions.index("Drink")] = True
        hot[5:9, actions.index("Answer phone")] = True
        hot[hot.sum(1) == 0, 0] = True
    write_tvseries(tmp_path / "tv", labels=labels)
    report = import_features("tvseries", tmp_path / "tv", tmp_path / "out.h5")
    assert len(report.warnings) == 1
    assert "its first column stands for the background and for 'Answer phone' at once" in report.warnings[0]
    with FeatureStore(tmp_path / "out.h5") as store:
        told = [_named(store, "24_ep4", frame) for frame in (0, 3, 5, 7)]
        assert told == [{"background"}, {"Drink"}, {"Drink", "Answer phone"}, {"background"}]
        assert "cooadtr" in str(store.attributes["label_rule"])


@pytest.mark.parametrize("place", [".", "splits", "elsewhere"])
def test_text_comes_through_by_name(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "tv"
    features = write_tvseries(folder, text=True, labels=multi_hot(CLASSES))
    (folder / place).mkdir(exist_ok=True)
    for file in SPLIT_FILES:
        (folder / file).rename(folder / place / file)
    named: dict[str, Any] = {"anno": place} if place == "elsewhere" else {}
    report = import_features("tvseries", folder, tmp_path / "out.h5", **named)
    warning, untrained = report.warnings
    assert warning.startswith("no frame has the classes 'Pick something up', 'Point', 'Drink'")
    assert untrained.startswith("no training frame shows ")
    with FeatureStore(tmp_path / "out.h5") as store:
        assert list(store.class_names) == CLASSES
        assert [video.split for video in store.videos()] == ["train"] * 3 + ["validation"] + ["test"] * 2
        assert (store.attributes["label_rule"], store.attributes["overlap"]) == ("oadtr", "multi-hot")
        assert [_named(store, "24_ep1", frame) for frame in (4, 5, 12, 14, 15)] == [
            {"background"},
            {"Answer phone"},
            {"Answer phone", "Stand up"},
            {"Answer phone", "Stand up"},
            {"background"},
        ]
        assert _named(store, "24_ep4", 5) == {"Get in/out of car"}
        # 0.53 s to 1.1 s are frames 2.65 to 5.5.
        falls = np.flatnonzero(store.labels("Modern_Family_ep1")[:, CLASSES.index("Fall/trip")])
        assert falls.tolist() == [2, 3, 4, 5]
        np.testing.assert_array_equal(store.features("24_ep4", streams=["flow"]), features["24_ep4"]["flow"])


def test_rule_and_overlap_can_be_chosen(tmp_path: Path) -> None:
    write_tvseries(tmp_path / "tv", text=True)
    import_features("tvseries", tmp_path / "tv", tmp_path / "out.h5", rule="centre", overlap="last")
    with FeatureStore(tmp_path / "out.h5") as store:
        assert (store.attributes["label_rule"], store.label_kind) == ("centre", "index")
        assert store.labels("Modern_Family_ep1")[:6].tolist() == [0, 0, 0, 26, 26, 0]
        assert store.class_names[store.labels("24_ep1")[12]] == "Stand up"


def test_segments_past_the_end_are_cut_and_short_ones_told(tmp_path: Path) -> None:
    write_tvseries(tmp_path / "tv", text=True)
    with (tmp_path / "tv" / "GT-train.txt").open("a") as file:
        file.write(action_row("24_ep1", "Drink", 7, 60) + "\n" + action_row("24_ep1", "Eat", 5.0, 5.01))
    report = import_features("tvseries", tmp_path / "tv", tmp_path / "out.h5", outside="cut")
    assert report.warnings[0] == (
        "1 of 9 segments are shorter than a frame and cover none (rule oadtr): GT-train.txt: row 6, video '24_ep1', "
        "5 to 5.01 s, 'Eat': use features at a higher rate, or another rule"
    )
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.attributes["outside"] == "cut"
        assert np.flatnonzero(store.labels("24_ep1")[:, CLASSES.index("Drink")]).tolist() == [35, 36, 37, 38, 39]


def test_the_real_list(shared_data: Path, tmp_path: Path) -> None:
    info = shared_data / "thumos14_annotations" / "data_info_new.json"
    lists = json.loads(info.read_text())["TVSERIES"]
    assert lists["class_index"] == CLASSES
    names = [*lists["train_session_set"], *lists["test_session_set"]]
    features = {name: {"rgb": np.ones((20, 4), "f2"), "flow": np.ones((20, 3), "f2")} for name in names}
    labels = {name: np.eye(31)[np.arange(20) + index % 12] for index, name in enumerate(names)}
    folder = tmp_path / "tv"
    folder.mkdir()
    (folder / "tvseries_kin_features.pickle").write_bytes(pickle.dumps(features))
    (folder / "tvseries_anno.pickle").write_bytes(pickle.dumps(labels))
    report = import_features(
        "tvseries", folder, tmp_path / "out.h5", features="kin", class_order="published", info=str(info.resolve())
    )
    assert len(report.warnings) == 1
    with FeatureStore(tmp_path / "out.h5") as store:
        assert [len(store.videos(split)) for split in ("train", "validation", "test")] == [17, 3, 7]
        assert store.label_kind == "index"
        for index, name in enumerate(names):
            np.testing.assert_array_equal(store.labels(name), np.arange(20) + index % 12)
        assert "extractors" not in store.attributes
