"""The layout of LSTR, TeSTra, MAT, MiniROAD and CMeRT comes through unchanged, and its faults are told all at once."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.data import FeatureStore, import_features
from coadtr.data.importers import planner
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLASSES = ["Background", "Pitch", "Dunk", "Dive", "Ambiguous"]
TRAIN = [f"video_validation_{index:07d}" for index in range(6)]
TEST = ["video_test_0000004", "video_test_0000011"]
RGB, FLOW = "rgb_kinetics_resnet50", "flow_kinetics_bninception"
LISTS = {"train_session_set": TRAIN, "test_session_set": TEST}
LSTR_ENTRY = {
    "data_root": "data/THUMOS",
    "class_names": CLASSES,
    "num_classes": 5,
    "ignore_index": 4,
    "metrics": "AP",
    "fps": 4,
    **LISTS,
}
Written = dict[str, tuple[dict[str, Any], Any]]


def write_tree(folder: Path, *, info: dict[str, Any] | None = None, name: str = "data_info.json") -> Written:
    """Write a folder in the shared layout: ``(T, D)`` floats by stream and ``(T, C)`` float zeros and ones."""
    rng = np.random.default_rng(5)
    written: Written = {}
    for video in [*TRAIN, *TEST]:
        frames = int(rng.integers(8, 15))
        arrays = {
            "rgb": rng.standard_normal((frames, 8)).astype(np.float32),
            "flow": rng.standard_normal((frames, 4)).astype(np.float32),
        }
        labels = rng.integers(0, 5, frames)
        for place, array in ((RGB, arrays["rgb"]), (FLOW, arrays["flow"]), ("target_perframe", np.eye(5)[labels])):
            (folder / place).mkdir(parents=True, exist_ok=True)
            np.save(folder / place / f"{video}.npy", array)
        written[video] = (arrays, labels)
    (folder / name).write_text(json.dumps({"THUMOS": LSTR_ENTRY} if info is None else info))
    return written


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tree(tmp_path / "THUMOS")
    return tmp_path / "THUMOS"


@pytest.mark.parametrize(
    ("name", "entry", "rate"),
    [
        ("data_info.json", LSTR_ENTRY, 4.0),  # LSTR, TeSTra, MAT
        ("video_list.json", {"class_index": CLASSES, **LISTS}, 4.0),  # MiniROAD, OadTR
        ("data_info.json", {**LSTR_ENTRY, "fps": 3}, 3.0),  # HDD in MAT's list
    ],
)
def test_comes_through(tmp_path: Path, name: str, entry: dict[str, Any], rate: float) -> None:
    written = write_tree(tmp_path / "source", info={"THUMOS": entry}, name=name)
    report = import_features("lstr", tmp_path / "source", tmp_path / "out.h5", validation_fraction=0.3)
    assert report.warnings == ()
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.class_names == tuple(CLASSES)
        assert (store.background, store.ignored) == (0, 4)
        assert list(store.streams.items()) == [("rgb", 8), ("flow", 4)]
        assert {video.rate_hz for video in store.videos()} == {rate}
        assert [video.name for video in store.videos()] == [*TRAIN, *TEST]
        assert [video.name for video in store.videos("test")] == TEST
        assert (len(store.videos("train")), len(store.videos("validation"))) == (4, 2)
        assert store.attributes["extractors"] == {
            "rgb": {"backbone": "resnet50", "weights": "kinetics"},
            "flow": {"backbone": "bninception", "weights": "kinetics"},
        }
        rule = "published per-frame labels (target_perframe, made by rule lstr)"
        assert store.attributes["label_rule"] == rule
        for video, (arrays, labels) in written.items():
            for stream, array in arrays.items():
                np.testing.assert_array_equal(store.features(video, streams=[stream]), array)
            np.testing.assert_array_equal(store.labels(video), labels)


def test_frames_with_several_classes_stay_multi_hot(tree: Path, tmp_path: Path) -> None:
    path = tree / "target_perframe" / f"{TRAIN[2]}.npy"
    target = np.load(path)
    target[3, [1, 2]] = 1
    np.save(path, target.astype(np.uint8))
    import_features("lstr", tree, tmp_path / "out.h5")
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.label_kind == "multi-hot"
        np.testing.assert_array_equal(store.labels(TRAIN[2]), target)


def test_several_data_sets_and_streams_are_chosen_by_name(tmp_path: Path) -> None:
    other = {"class_names": ["Background", "Wave"], "ignore_index": -100, "fps": 4, **LISTS}
    folder = tmp_path / "data" / "THUMOS"
    # The list file of these repositories lies above the folder of the data set.
    written = write_tree(folder, info={"TVSeries": other, "THUMOS": LSTR_ENTRY}, name="../data_info.json")
    shutil.copytree(folder / FLOW, folder / "flow_nv_kinetics_bninception")
    with pytest.raises(ConfigError, match="several data sets: choose one with dataset=, out of 'TVSeries', 'THUMOS'"):
        import_features("lstr", folder, tmp_path / "out.h5")
    with pytest.raises(ConfigError, match="has no data set 'EK100': choose one with dataset="):
        import_features("lstr", folder, tmp_path / "out.h5", dataset="EK100")
    with pytest.raises(DataError, match=f"several folders for stream 'flow' .'{FLOW}', 'flow_nv_kinetics_bninception'"):
        import_features("lstr", folder, tmp_path / "out.h5", dataset="THUMOS")
    streams = {"flow": "flow_nv_kinetics_bninception", "rgb": RGB}
    import_features("lstr", folder, tmp_path / "out.h5", dataset="thumos", streams=streams)
    with FeatureStore(tmp_path / "out.h5") as store:
        assert list(store.streams) == ["flow", "rgb"]
        assert store.attributes["extractors"]["flow"]["weights"] == "nv_kinetics"  # type: ignore[index]
        np.testing.assert_array_equal(store.features(TEST[0], streams=["flow"]), written[TEST[0]][0]["flow"])


def test_an_ignore_index_that_is_no_class_or_the_background_ignores_nothing(tmp_path: Path) -> None:
    for number in (-100, -1, 0):
        entry = {"class_names": ["background", *CLASSES[1:4], "Wave"], "ignore_index": number, **LISTS}
        write_tree(tmp_path / str(number), info={"FINEACTION": entry})
        plan = planner("lstr")(tmp_path / str(number))
        assert (plan.background, plan.ignored) == (0, None)
        assert plan.attributes["label_rule"] == "published per-frame labels (target_perframe)"
    plan = planner("lstr")(tmp_path / "0", background="wave", ignored="Pitch")
    assert (plan.background, plan.ignored) == (4, 1)
    with pytest.raises(ConfigError, match="ignored='Kick': FINEACTION has no such class: it has 'background', 'Pitch'"):
        planner("lstr")(tmp_path / "0", ignored="Kick")


def test_frames_without_class_are_background_only_when_asked(tree: Path, tmp_path: Path) -> None:
    path = tree / "target_perframe" / f"{TEST[0]}.npy"
    target = np.load(path)
    target[5:7] = 0
    np.save(path, target)
    with pytest.raises(DataError, match=r"video_test_0000004.npy has no class at frame 5: .*unlabelled=background"):
        import_features("lstr", tree, tmp_path / "out.h5")
    import_features("lstr", tree, tmp_path / "out.h5", unlabelled="background")
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.labels(TEST[0])[5:7].tolist() == [0, 0]


def test_one_stream_and_unlisted_videos_are_told(tree: Path, tmp_path: Path) -> None:
    shutil.rmtree(tree / FLOW)
    np.save(tree / "target_perframe" / "video_test_0000270.npy", np.eye(5))
    report = import_features("lstr", tree, tmp_path / "out.h5")
    assert report.warnings == (
        "no flow features: the store has none",
        "1 videos are on neither list and left out: 'video_test_0000270'",
    )


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _absurd(path: Path) -> None:
    header = path.read_bytes()
    start = header.index(b"(")
    stop = header.index(b")", start)
    new = b"(90000000000, 8"
    path.write_bytes(header[:start] + new + header[stop : -(len(new) - (stop - start))])


def _save(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        np.save(path, change(np.load(path)), allow_pickle=True)

    return apply


def _with(array: Any, index: Any, value: float) -> Any:
    array[index] = value
    return array


TARGETS = "target_perframe"
FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": (RGB, lambda path: path.unlink(), f"no file {RGB}/{TRAIN[1]}.npy: add it, or take the video off"),
    "missing labels": (TARGETS, lambda path: path.unlink(), f"no file {TARGETS}/{TRAIN[1]}.npy"),
    "cut short": (FLOW, _cut, f"{FLOW}/{TRAIN[1]}.npy: declares shape .* but holds"),
    "absurd shape": (RGB, _absurd, r"declares shape \(90000000000, 8\) of float32, 2880000000000 bytes"),
    "no array": (RGB, lambda path: path.write_text("<html>"), r"is not a .npy file"),
    "empty file": (RGB, lambda path: path.write_bytes(b""), r"is not a .npy file"),
    "pickled": (FLOW, _save(lambda array: array.astype(object)), "holds pickled objects, and nothing was loaded"),
    "one dimension": (RGB, _save(lambda array: array[:, 0]), r"has shape \(\d+,\): features are \(T, D\)"),
    "width": (RGB, _save(lambda array: array[:, :5]), r"field 'rgb': shape \(\d+, 5\): the store declares \(T, 8\)"),
    "length": (FLOW, _save(lambda array: array[:-4]), "lengths differ"),
    "one frame": (FLOW, _save(lambda array: array[:-1]), r"lengths differ .* say align=trim to cut them to"),
    "no frame": (RGB, _save(lambda array: array[:0]), "field 'rgb': holds no frame"),
    "NaN": (RGB, _save(lambda array: _with(array, (3, 2), np.nan)), "field 'rgb': value nan at frame 3, channel 2"),
    "classes": (TARGETS, _save(lambda array: array[:, :4]), r"has shape \(\d+, 4\): give \(T, 5\) zeros and ones"),
    "probabilities": (TARGETS, _save(lambda array: array * 0.5), r"has value 0.5 at frame 0, class \d: give zeros"),
    "counts": (TARGETS, _save(lambda array: _with(array, (1, 3), 2)), "has value 2.0 at frame 1, class 3"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults(tree: Path, tmp_path: Path, kind: str) -> None:
    place, change, message = FAULTS[kind]
    change(tree / place / f"{TRAIN[1]}.npy")
    with pytest.raises(DataError, match=f"video '{TRAIN[1]}': .*{message}") as caught:
        import_features("lstr", tree, tmp_path / "out.h5")
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["THUMOS"]


def test_all_faults_are_told_at_once(tree: Path, tmp_path: Path) -> None:
    for (place, change, _), video in zip(FAULTS.values(), [*TRAIN, *TEST], strict=False):
        change(tree / place / f"{video}.npy")
    with pytest.raises(DataError) as caught:
        import_features("lstr", tree, tmp_path / "out.h5")
    assert all(f"video '{video}'" in str(caught.value) for video in [*TRAIN, *TEST])


LIST_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no classes": ({"class_names": []}, r"THUMOS\.class_names is not a list of names"),
    "count": ({"num_classes": 22}, r"THUMOS\.num_classes is 22 but class_names lists 5"),
    "twice": ({"test_session_set": [*TEST, TEST[0]]}, rf"test_session_set lists '{TEST[0]}' twice"),
    "both": ({"test_session_set": [*TEST, TRAIN[0]]}, rf"videos '{TRAIN[0]}' are on the train and the test list"),
    "climbing": ({"test_session_set": ["../../etc/passwd"]}, "'../../etc/passwd' cannot be stored"),
    "rate": ({"fps": "24"}, r"THUMOS\.fps is '24'"),
}


@pytest.mark.parametrize("kind", LIST_FAULTS)
def test_list_faults(tree: Path, tmp_path: Path, kind: str) -> None:
    change, message = LIST_FAULTS[kind]
    (tree / "data_info.json").write_text(json.dumps({"THUMOS": {**LSTR_ENTRY, **change}}))
    with pytest.raises(DataError, match=rf"data_info\.json: .*{message}"):
        import_features("lstr", tree, tmp_path / "out.h5")


def test_names_of_videos_never_become_paths(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if a name from a list came through the check of names, only what lies in the folder is read."""
    for folder in (RGB, FLOW, "target_perframe"):
        (tree / folder / "outside").mkdir()
        (tree / folder / f"{TRAIN[0]}.npy").rename(tree / folder / "outside" / "a.npy")
    lists = {**LISTS, "train_session_set": ["outside/a", *TRAIN[1:]]}
    (tree / "data_info.json").write_text(json.dumps({"THUMOS": {**LSTR_ENTRY, **lists}}))
    monkeypatch.setattr("coadtr.data.storage.schema.check_name", lambda *_, **__: None)
    with pytest.raises(DataError, match=f"video 'outside/a': no file {RGB}/outside/a.npy: add it, or take"):
        import_features("lstr", tree, tmp_path / "out.h5")


def test_what_is_not_there_is_named(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    for options, error, message in (
        ({"info": "list.json"}, DataError, r"no list file list\.json: add it, or name it with info="),
        ({"targets": "verb_perframe"}, DataError, "no folder verb_perframe: add it, or name it with targets="),
        ({"streams": {"rgb": "rgb_anet"}}, DataError, "no folder rgb_anet for stream 'rgb'"),
        ({"streams": {}}, ConfigError, "name the folder of each stream"),
        ({"rate_hz": 0.0}, ConfigError, r"rate_hz=0\.0: give the frames a second"),
        ({"unlabelled": "skip"}, ConfigError, "unlabelled='skip': use one of 'error', 'background'"),
    ):
        with pytest.raises(error, match=message):
            import_features("lstr", tree, out, **options)
    (tree / "data_info.json").write_text("{'THUMOS'")
    with pytest.raises(DataError, match="is not a whole JSON file"):
        import_features("lstr", tree, out)
    for folder in (RGB, FLOW):
        shutil.rmtree(tree / folder)
    (tree / "data_info.json").write_text(json.dumps({"THUMOS": LSTR_ENTRY}))
    with pytest.raises(DataError, match=r"no folder rgb_\* or flow_\*"):
        import_features("lstr", tree, out)
    assert not out.exists()
