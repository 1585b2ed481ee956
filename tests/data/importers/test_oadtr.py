"""Importing the pickles of OadTR: they come through unchanged, and all that is wrong is told at once."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.data import IMPORTERS, FeatureStore, import_features, load_pickle
from coadtr.data.importers import pickled_videos
from coadtr.data.importers.oadtr import plan_oadtr
from coadtr.errors import ConfigError, DataError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


V0, V1, T0 = "video_validation_0000000", "video_validation_0000001", "video_test_0000000"


def _edit(path: Path, change: Callable[[Any], object]) -> None:
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))


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


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_oadtr_with_real_lists_and_annotations(shared_data: Path, tmp_path: Path, every: int) -> None:
    folder = tmp_path / "thumos"
    folder.mkdir()
    info = json.loads((shared_data / "thumos14_annotations" / "data_info_new.json").read_text())
    labels: dict[str, Any] = {}
    for subset, listed in (("val", "train_session_set"), ("test", "test_session_set")):
        info["THUMOS"][listed] = info["THUMOS"][listed][::every]
        with np.load(shared_data / "thumos14_annotations" / f"{subset}_perframe.npz") as file:
            own = dict(zip(map(str, file["names"]), np.split(file["labels"], file["offsets"][1:-1]), strict=True))
        own = {name: own[name] for name in info["THUMOS"][listed]}
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
    (folder / "lists.json").write_text(json.dumps(info))
    report = import_features("oadtr", folder, tmp_path / "out.h5", features="kin", info="lists.json")
    # A tenth of the training videos does not show all classes.
    untrained = [warning for warning in report.warnings if warning.startswith("no training frame shows ")]
    assert [warning.partition(" where")[0] for warning in report.warnings] == [
        "stream 'rgb' has 2 channels",
        "stream 'flow' has 1 channels",
        *untrained,
    ]
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.class_names[21] == "Ambiguous"
        held = {video.name for split in ("train", "validation") for video in store.videos(split)}
        assert held == set(info["THUMOS"]["train_session_set"])
        for video in store.videos():
            np.testing.assert_array_equal(store.labels(video.name), labels[video.name])
        if every == 1:
            assert [len(store.videos(split)) for split in ("train", "validation", "test")] == [170, 30, 213]
            assert sum(video.frames for video in store.videos()) == 428_585


def test_oadtr_extractors_warnings_and_rates_of_single_videos(tmp_path: Path, write_oadtr: Callable[..., Any]) -> None:
    folder, out = tmp_path / "thumos", tmp_path / "out.h5"
    write_oadtr(folder)
    (folder / "rates.json").write_text(json.dumps({T0: 4.17, V1: 4}))
    report = import_features("oadtr", folder, out, rates="rates.json")
    assert report.path == out
    assert report.warnings == ()
    assert report.summary.streams == {"rgb": 2048, "flow": 1024}
    with FeatureStore(out) as store:
        rates = {video.name: video.rate_hz for video in store.videos()}
        assert (rates[T0], rates[V1], rates[V0]) == (4.17, 4.0, 5.0)
        assert str(store.attributes["rate_rule"]).endswith("but for 2 videos that rates.json lists")
        extractors: Any = store.attributes["extractors"]
        assert extractors["flow"]["backbone"] == "BN-Inception"
    (folder / "rates.json").write_text(json.dumps({"video_test": 5, T0: 0, V1: "5"}))
    with pytest.raises(DataError, match=r"'video_test' is on no list.*rate 0: .*rate '5': give the frames a second"):
        import_features("oadtr", folder, tmp_path / "other.h5", rates="rates.json")
    (folder / "rates.json").write_text("[5")
    with pytest.raises(DataError, match=r"rates\.json: is not a whole JSON file"):
        import_features("oadtr", folder, tmp_path / "other.h5", rates="rates.json")


def test_oadtr_reads_one_subset_at_a_time(
    tmp_path: Path, write_oadtr: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_oadtr(tmp_path / "thumos")
    loaded: list[str] = []
    held: list[int] = []

    def load(path: Path) -> Any:
        loaded.append(path.name)
        return load_pickle(path)

    monkeypatch.setattr(pickled_videos, "load_pickle", load)
    plan = plan_oadtr(tmp_path / "thumos")
    for video in plan.videos:
        features, labels = video.read()
        assert len(features["rgb"]) == len(labels)
        cells = {key: cell.cell_contents for key, cell in zip(*_closure(video.read), strict=True)}
        held.append(len(cells["arrays"]._videos))
    assert loaded[2:] == ["thumos_anet_val.pickle", "thumos_anet_test.pickle"]
    assert held == [7, 6, 5, 4, 3, 2, 1, 0, 2, 1, 0]


def _closure(read: Any) -> tuple[tuple[str, ...], Any]:
    return read.func.__code__.co_freevars, read.func.__closure__


def test_a_dry_run_writes_nothing(tmp_path: Path, write_oadtr: Callable[..., Any]) -> None:
    write_oadtr(tmp_path / "thumos")
    report = import_features("oadtr", tmp_path / "thumos", tmp_path / "out.h5", dry_run=True)
    assert (report.path, report.summary.label_kind) == (None, "index")
    assert [path.name for path in tmp_path.iterdir()] == ["thumos"]


def test_oadtr_lengths_that_differ_are_cut_when_asked(tmp_path: Path, write_oadtr: Callable[..., Any]) -> None:
    written = write_oadtr(tmp_path / "thumos")
    path = tmp_path / "thumos" / "thumos_anet_val.pickle"
    _edit(path, lambda c: c[V0].update(flow=c[V0]["flow"][:-2]))
    with pytest.raises(DataError, match=rf"video '{V0}': lengths differ .*: say align=trim to cut them to"):
        import_features("oadtr", tmp_path / "thumos", tmp_path / "out.h5")
    report = import_features("oadtr", tmp_path / "thumos", tmp_path / "out.h5", align="trim")
    assert len(report.warnings) == 1
    with FeatureStore(tmp_path / "out.h5") as store:
        features, labels = written[V0]
        np.testing.assert_array_equal(store.labels(V0), labels[:-2])
        np.testing.assert_array_equal(store.features(V0, streams=["rgb"]), features["rgb"][:-2])


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


OADTR_FAULTS: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "features short": (
        "thumos_anet_val.pickle",
        lambda c: c[V0].update(flow=c[V0]["flow"][:4]),
        rf"video '{V0}': lengths differ \(rgb ([0-9]+), flow 4, labels \1 frames\) by more than 2",
    ),
    "features of one video missing": (
        "thumos_anet_test.pickle",
        lambda c: c.pop(T0),
        rf"video '{T0}': thumos_anet_test\.pickle: has no features of it",
    ),
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
        f"video '{V0}': .* has no features of it.*video '{V1}': .* has no features of it",
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
    (folder / "data_info_new.json").write_text(json.dumps({"HDD": {}}))
    with pytest.raises(ConfigError, match="has no data set 'THUMOS': choose one with dataset=, out of 'HDD'"):
        import_features("oadtr", folder, out)
    refuse(json.dumps({"THUMOS": {**part, "class_index": 22}}), "class_index is not a list of names")
    refuse(json.dumps({"THUMOS": {**part, "train_session_set": [T0]}}), "on the train and the test list")
    refuse(json.dumps({"THUMOS": {**part, "test_session_set": [T0, T0]}}), "lists 'video_test_0000000' twice: drop one")
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
    assert {"sequence-npz", "oadtr", "tvseries", "exercises"} <= set(IMPORTERS)
    with pytest.raises(ConfigError, match=r"unknown format 'npz': use one of .*'exercises', .*'sequence-npz'"):
        import_features("npz", tmp_path, tmp_path / "out.h5")
    with pytest.raises(
        ConfigError, match="has no option 'fps': its options are 'validation_fraction', 'seed', 'stream'"
    ):
        import_features("sequence-npz", tmp_path, tmp_path / "out.h5", fps=3)
    with pytest.raises(ConfigError, match="needs a source"):
        import_features("oadtr", None, tmp_path / "out.h5")
    with pytest.raises(ConfigError, match="features='i3d': use one of 'anet', 'kin'"):
        import_features("oadtr", tmp_path, tmp_path / "out.h5", features="i3d")
