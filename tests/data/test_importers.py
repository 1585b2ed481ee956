"""Importers: each published layout comes through unchanged, and faults in a source are told all at once."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.data import IMPORTERS, FeatureStore, import_features
from coadtr.errors import ConfigError, DataError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Callable
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


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("names", ["thumos_anet_{}.pickle", "thumos_all_feature_{}_tsn_v2.pickle"])
def test_oadtr_comes_through(tmp_path: Path, write_oadtr: Callable[..., Any], names: str, protocol: int) -> None:
    written = write_oadtr(tmp_path / "thumos", names=names, protocol=protocol)
    import_features("oadtr", tmp_path / "thumos", tmp_path / "out.h5")
    with FeatureStore(tmp_path / "out.h5") as store:
        assert list(store.streams.items()) == [("rgb", 2048), ("flow", 1024)]
        assert (len(store.class_names), store.background, store.ignored) == (22, 0, 21)
        assert {video.rate_hz for video in store.videos()} == {5.0}
        assert len(store.videos("train")) == 7
        assert len(store.videos("validation")) == 1
        assert {video.name for video in store.videos("test")} == {f"video_test_{index:07d}" for index in range(3)}
        for video in store.videos():
            features, labels = written[video.name]
            np.testing.assert_array_equal(store.features(video.name, streams=["rgb"]), features["rgb"])
            np.testing.assert_array_equal(store.features(video.name, streams=["flow"]), features["flow"])
            np.testing.assert_array_equal(store.labels(video.name), labels)


def test_oadtr_with_real_lists_and_annotations(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "thumos"
    folder.mkdir()
    info = shared_data / "thumos14_annotations" / "data_info_new.json"
    labels: dict[str, Any] = {}
    for subset in ("val", "test"):
        with np.load(shared_data / "thumos14_annotations" / f"{subset}_perframe.npz") as file:
            own = dict(zip(map(str, file["names"]), np.split(file["labels"], file["offsets"][1:-1]), strict=True))
        annotations = {
            name: {"anno": np.eye(22)[frames], "feature_length": len(frames)} for name, frames in own.items()
        }
        features = {
            name: {"rgb": np.ones((len(frames), 2), "f4"), "flow": np.ones((len(frames), 1), "f4")}
            for name, frames in own.items()
        }
        (folder / f"thumos_{subset}_anno.pickle").write_bytes(pickle.dumps(annotations))
        (folder / f"thumos_kin_{subset}.pickle").write_bytes(pickle.dumps(features))
        labels |= own
    import_features("oadtr", folder, tmp_path / "out.h5", features="kin", info=str(info.resolve()))
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.class_names[21] == "Ambiguous"
        assert [len(store.videos(split)) for split in ("train", "validation", "test")] == [170, 30, 213]
        lists = json.loads(info.read_text())["THUMOS"]
        held = {video.name for split in ("train", "validation") for video in store.videos(split)}
        assert held == set(lists["train_session_set"])
        for video in store.videos():
            np.testing.assert_array_equal(store.labels(video.name), labels[video.name])
        assert sum(video.frames for video in store.videos()) == 428_585


def test_oadtr_frames_with_several_classes_stay_multi_hot(tmp_path: Path, write_oadtr: Callable[..., Any]) -> None:
    write_oadtr(tmp_path / "thumos")
    path = tmp_path / "thumos" / "thumos_val_anno.pickle"
    content = pickle.loads(path.read_bytes())
    anno = content["video_validation_0000003"]["anno"]
    anno[2, [5, 8]] = 1
    path.write_bytes(pickle.dumps(content))
    import_features("oadtr", tmp_path / "thumos", tmp_path / "out.h5")
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.label_kind == "multi-hot"
        np.testing.assert_array_equal(store.labels("video_validation_0000003"), anno)
        assert store.labels("video_test_0000000").sum(axis=1).tolist() == [1] * store.video("video_test_0000000").frames


def _edit(path: Path, change: Callable[[Any], object]) -> None:
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))


V0, V1, T0 = "video_validation_0000000", "video_validation_0000001", "video_test_0000000"
OADTR_FAULTS: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "features short": (
        "thumos_anet_val.pickle",
        lambda c: c[V0].update(flow=c[V0]["flow"][:4]),
        f"video '{V0}': field 'flow' has 4 frames but there are [0-9]+ labels",
    ),
    "features of one video missing": ("thumos_anet_test.pickle", lambda c: c.pop(T0), f"video '{T0}' has no features"),
    "annotation missing": ("thumos_val_anno.pickle", lambda c: c.pop(V0), f"video '{V0}': has no annotation"),
    "feature_length": (
        "thumos_test_anno.pickle",
        lambda c: c[T0].update(feature_length=3),
        "field 'feature_length' is 3 but 'anno' has [0-9]+ frames",
    ),
    "classes": (
        "thumos_val_anno.pickle",
        lambda c: c[V0].update(anno=np.ones((5, 21))),
        r"field 'anno' is float64 of shape \(5, 21\): give \(T, 22\)",
    ),
    "soft labels": (
        "thumos_val_anno.pickle",
        lambda c: c[V0]["anno"].__setitem__((0, 0), 0.5),
        "field 'anno' has values other than 0 and 1",
    ),
    "unlabelled": (
        "thumos_val_anno.pickle",
        lambda c: c[V0]["anno"].__setitem__(3, 0),
        "field 'anno' has no class at frame 3",
    ),
    "NaN": (
        "thumos_anet_test.pickle",
        lambda c: c[T0]["rgb"].__setitem__((1, 7), np.nan),
        f"video '{T0}': field 'rgb': value nan at frame 1, channel 7",
    ),
    "width of one video": (
        "thumos_anet_test.pickle",
        lambda c: c[T0].update(rgb=c[T0]["rgb"][:, :9]),
        f"video '{T0}': field 'rgb': shape",
    ),
    "stream missing": (
        "thumos_anet_test.pickle",
        lambda c: c[T0].pop("flow"),
        f"video '{T0}': has streams 'rgb' but the store declares 'rgb', 'flow'",
    ),
    "rank": (
        "thumos_anet_val.pickle",
        lambda c: c[V0].update(rgb=np.zeros(4)),
        r"field 'rgb' has shape \(4,\): give \(T, D\)",
    ),
    "two videos at once": (
        "thumos_anet_val.pickle",
        lambda c: (c.pop(V0), c.pop(V1)),
        f"video '{V0}' has no features.*video '{V1}' has no features",
    ),
}


@pytest.mark.parametrize("kind", OADTR_FAULTS)
def test_oadtr_faults(tmp_path: Path, write_oadtr: Callable[..., Any], kind: str) -> None:
    file, change, message = OADTR_FAULTS[kind]
    write_oadtr(tmp_path / "thumos")
    _edit(tmp_path / "thumos" / file, change)
    with pytest.raises(DataError, match=message) as caught:
        import_features("oadtr", tmp_path / "thumos", tmp_path / "out" / "out.h5")
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thumos"]


def test_oadtr_lists_and_files_that_are_wrong(tmp_path: Path, write_oadtr: Callable[..., Any]) -> None:
    folder, out = tmp_path / "thumos", tmp_path / "out.h5"
    write_oadtr(folder)
    info = json.loads((folder / "data_info_new.json").read_text())

    def refuse(content: str, message: str) -> None:
        (folder / "data_info_new.json").write_text(content)
        with pytest.raises(DataError, match=message):
            import_features("oadtr", folder, out)

    part = info["THUMOS"]
    refuse("{", "is not a whole JSON file")
    refuse(json.dumps({"HDD": {}}), "has no entry 'THUMOS'")
    refuse(json.dumps({"THUMOS": {**part, "class_index": 22}}), "class_index is not a list of names")
    refuse(json.dumps({"THUMOS": {**part, "train_session_set": [T0]}}), "on the train and the test list")
    refuse(json.dumps({"THUMOS": {**part, "test_session_set": [T0, T0]}}), "lists a name twice")
    (folder / "thumos_val_anno.pickle").write_bytes(pickle.dumps([1, 2]))
    refuse(json.dumps(info), "holds a list, not a dict of videos")
    for name in ("thumos_anet_val.pickle", "data_info_new.json"):
        (folder / name).unlink()
    with pytest.raises(DataError, match=r"no file data_info_new\.json or .*info=.*no file thumos_anet_val\.pickle or"):
        import_features("oadtr", folder, out)
    assert not out.exists()


def test_oadtr_pickle_that_imports_something(tmp_path: Path, write_oadtr: Callable[..., Any]) -> None:
    write_oadtr(tmp_path / "thumos")
    (tmp_path / "thumos" / "thumos_anet_test.pickle").write_bytes(b"cos\nsystem\n(S'echo unsafe > mark'\ntR.")
    with pytest.raises(UnsafeFileError, match=r"thumos_anet_test\.pickle: the pickle asks for os\.system"):
        import_features("oadtr", tmp_path / "thumos", tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["thumos"]


def test_unknown_formats_and_options_name_what_is_known(tmp_path: Path) -> None:
    assert set(IMPORTERS) == {"sequence-npz", "oadtr", "exercises"}
    with pytest.raises(ConfigError, match="unknown format 'npz': use one of 'sequence-npz', 'oadtr', 'exercises'"):
        import_features("npz", tmp_path, tmp_path / "out.h5")
    with pytest.raises(
        ConfigError, match="has no option 'fps': its options are 'validation_fraction', 'seed', 'stream'"
    ):
        import_features("sequence-npz", tmp_path, tmp_path / "out.h5", fps=3)
    with pytest.raises(ConfigError, match="needs a source"):
        import_features("oadtr", None, tmp_path / "out.h5")
    with pytest.raises(ConfigError, match="features='i3d': use one of 'anet', 'kin'"):
        import_features("oadtr", tmp_path, tmp_path / "out.h5", features="i3d")
