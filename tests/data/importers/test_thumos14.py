"""The official annotation of THUMOS14 gives the published labels, but for few frames; its faults are told at once."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from coadtr.data import FeatureStore, StoreWriter, import_features
from coadtr.data.importers import planner
from coadtr.data.importers.thumos14_annotation import CLASS_NAMES, read_annotation
from coadtr.data.sources.perframe import read_perframe
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VALIDATION = [f"video_validation_{index:07d}" for index in range(4)]
TEST = ["video_test_0000004"]
FPS = {**dict.fromkeys(VALIDATION, 30.0), VALIDATION[1]: 24.0, TEST[0]: 25.0}
FRAMES = 40
# A cliff dive is a dive too; the frames of the second dive are ambiguous as well.
SEGMENTS = {
    "CliffDiving": (1.0, 2.0),
    "Diving": (1.0, 3.2),
    "Ambiguous": (2.5, 4.6),
}


def write_annotation(folder: Path) -> None:
    """Write the text files of the official release, one a class and subset; all videos have the same segments."""
    folder.mkdir(parents=True)
    for subset, videos in (("val", VALIDATION), ("test", TEST)):
        for label in CLASS_NAMES[1:]:
            start, end = SEGMENTS.get(label, (0, 0))
            lines = [f"{video}  {start:.1f} {end:.1f}\n" for video in videos if label in SEGMENTS]
            (folder / f"{label}_{subset}.txt").write_text("".join(lines))


def write_source(folder: Path) -> dict[str, Any]:
    """Write annotation, features and frame rates; return the features by video."""
    write_annotation(folder / "annotation")
    rng = np.random.default_rng(2)
    features = {name: rng.standard_normal((FRAMES, 6)).astype(np.float32) for name in FPS}
    (folder / "rgb_kinetics_resnet50").mkdir()
    for name, array in features.items():
        np.save(folder / "rgb_kinetics_resnet50" / f"{name}.npy", array)
    (folder / "fps.json").write_text(json.dumps(FPS))
    return features


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_source(tmp_path / "thumos")
    return tmp_path / "thumos"


OPTIONS: dict[str, Any] = {"features": "rgb_kinetics_resnet50", "fps": "fps.json"}


def _span(name: str, label: str) -> slice:
    start, end = SEGMENTS[label]
    rate = FPS[name] / 6
    return slice(int(start * rate), int(end * rate + 0.5))


def test_text_files_come_through(tmp_path: Path) -> None:
    features = write_source(tmp_path / "thumos")
    import_features("thumos14", tmp_path / "thumos", tmp_path / "out.h5", **OPTIONS)
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.class_names == CLASS_NAMES
        assert (store.background, store.ignored, dict(store.streams)) == (0, 21, {"rgb": 6})
        assert store.attributes["label_rule"] == "oadtr"
        assert store.attributes["extractors"] == {"rgb": {"backbone": "resnet50", "weights": "kinetics"}}
        assert [video.name for video in store.videos("test")] == TEST
        assert (len(store.videos("train")), len(store.videos("validation"))) == (3, 1)
        for name, array in features.items():
            assert store.video(name).rate_hz == FPS[name] / 6
            np.testing.assert_array_equal(store.features(name), array)
            expected = np.zeros(FRAMES, int)
            for label in ("Ambiguous", "Diving", "CliffDiving"):  # a class that comes first covers those after it
                expected[_span(name, label)] = CLASS_NAMES.index(label)
            np.testing.assert_array_equal(store.labels(name), expected)


def test_overlaps_are_kept_when_asked(source: Path, tmp_path: Path) -> None:
    import_features("thumos14", source, tmp_path / "out.h5", overlap="multi-hot", **OPTIONS)
    with FeatureStore(tmp_path / "out.h5") as store:
        assert store.attributes["overlap"] == "multi-hot"
        labels = store.labels(TEST[0])
        for label in SEGMENTS:
            assert np.flatnonzero(labels[:, CLASS_NAMES.index(label)]).tolist() == list(
                range(*_span(TEST[0], label).indices(FRAMES))
            )
        assert labels[-1].nonzero()[0].tolist() == [0]
    with pytest.raises(DataError, match="overlap: correct one, or choose overlap=multi-hot"):
        import_features("thumos14", source, tmp_path / "again.h5", overlap="error", **OPTIONS)


def test_annotations_of_one_content_are_equal(source: Path, tmp_path: Path) -> None:
    text = read_annotation(source / "annotation").segments
    rows = {name: [[label, *times] for label, times in SEGMENTS.items()] for name in FPS}
    (tmp_path / "official_segments.json").write_text(json.dumps({"class_names": CLASS_NAMES, "segments": rows}))
    assert read_annotation(tmp_path / "official_segments.json").segments == text
    database = {
        name: {"subset": "test", "annotations": [{"label": label, "segment": times} for label, *times in found]}
        for name, found in rows.items()
    }
    (tmp_path / "activitynet.json").write_text(json.dumps({"database": database}))
    assert read_annotation(tmp_path / "activitynet.json").segments == text
    plan = planner("thumos14")(tmp_path / "activitynet.json", features=str(source / "rgb_kinetics_resnet50"), fps=30)
    assert (len(plan.videos), plan.problems) == (5, ())


@pytest.mark.parametrize("kind", ["csv", "npz", "number", "lstr"])
def test_frame_rates(source: Path, kind: str) -> None:
    (source / "fps.csv").write_text("video,fps\n" + "".join(f"{name},{fps}\n" for name, fps in FPS.items()))
    offsets = np.arange(6)
    fields: dict[str, Any] = {"labels": np.zeros(5, int), "offsets": offsets, "class_names": list(CLASS_NAMES)}
    rates = [np.nan if name == TEST[0] else FPS[name] for name in FPS]
    np.savez(source / "val_perframe.npz", names=list(FPS), video_fps=rates, **fields)
    options: dict[str, dict[str, Any]] = {
        "csv": {"fps": "fps.csv"},
        "npz": {"missing_fps": 25},
        "number": {"fps": "30"},
        "lstr": {"rule": "lstr"},
    }
    expected = {"number": dict.fromkeys(FPS, 30.0), "lstr": dict.fromkeys(FPS, 24.0)}.get(kind, FPS)
    plan = planner("thumos14")(source, features="rgb_kinetics_resnet50", **options[kind])
    assert {video.name: video.rate_hz for video in plan.videos} == {name: fps / 6 for name, fps in expected.items()}
    if kind == "npz":
        plan = planner("thumos14")(source, features="rgb_kinetics_resnet50")
        assert [problem for problem in plan.problems if "missing_fps=30" in problem] == list(plan.problems)
        assert len(plan.problems) == 1


def test_features_in_hdf5_and_in_a_store(tmp_path: Path) -> None:
    features = write_source(tmp_path / "thumos")
    with h5py.File(tmp_path / "thumos" / "flow.h5", "w") as file:
        for name, array in features.items():
            file[name] = array[:, :3]
    made = {"rgb": {"backbone": "efficientnet_lite0", "weights": "imagenet"}}
    with StoreWriter(
        tmp_path / "own.h5", class_names=["none", "some"], streams={"rgb": 6}, attributes={"extractors": made}
    ) as writer:
        for name, array in features.items():
            writer.add(name, split="test", rate_hz=5, features={"rgb": array}, labels=np.zeros(FRAMES, int))
    streams = {"rgb": str(tmp_path / "own.h5"), "flow": "flow.h5"}
    import_features("thumos14", tmp_path / "thumos", tmp_path / "out.h5", features=streams, fps="fps.json")
    with FeatureStore(tmp_path / "out.h5") as store:
        assert list(store.streams.items()) == [("rgb", 6), ("flow", 3)]
        assert store.attributes["extractors"] == made
        for name, array in features.items():
            np.testing.assert_array_equal(store.features(name), np.hstack([array, array[:, :3]]))


def test_lists_decide_before_names(source: Path) -> None:
    lists = {"class_index": list(CLASS_NAMES), "train_session_set": VALIDATION[:3], "test_session_set": VALIDATION[3:]}
    (source / "data_info_new.json").write_text(json.dumps({"THUMOS": lists, "HDD": {}}))
    plan = planner("thumos14")(source, **OPTIONS)
    assert [video.name for video in plan.videos if video.split == "test"] == VALIDATION[3:]
    assert plan.warnings[:1] == (f"1 videos with features are not annotated or listed, left out: '{TEST[0]}'",)


def _line(text: str) -> Callable[[Path], object]:
    def apply(source: Path) -> None:
        with (source / "annotation" / "Diving_val.txt").open("a") as file:
            file.write(text + "\n")

    return apply


def _features(array: Any) -> Callable[[Path], object]:
    return lambda source: np.save(source / "rgb_kinetics_resnet50" / f"{VALIDATION[2]}.npy", array)


LINE = r"Diving_val\.txt: line 5"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "two cells": (_line("video_validation_0000001 3.0"), rf"{LINE} is 'video_validation_0000001 3\.0': give video"),
    "text": (_line("video_validation_0000001 3.0 end"), rf"{LINE}: start '3\.0' and end 'end' are not both numbers"),
    "backwards": (_line("video_validation_0000001 3.0 2.0"), rf"{LINE}: end 2 is not after start 3"),
    "negative": (_line("video_validation_0000001 -3.0 2.0"), rf"{LINE}: start '-3\.0' and end '2\.0': give seconds"),
    "not a number": (_line("video_validation_0000001 nan 2.0"), rf"{LINE}: start 'nan'"),
    "repeated": (
        _line(f"{VALIDATION[3]} 1.0 3.2"),
        rf"{LINE}: repeats annotation/Diving_val\.txt: line 4: drop one of the two",
    ),
    "unknown class": (
        lambda source: (source / "annotation" / "Juggling_val.txt").write_text("video_validation_0000001 1 2"),
        r"Juggling_val\.txt: line 1: unknown class 'Juggling'",
    ),
    "missing class": (
        lambda source: (source / "annotation" / "Shotput_val.txt").unlink(),
        r"no file 'Shotput_val\.txt': add it, or its actions would count as background",
    ),
    "no rate": (
        lambda source: (source / "fps.json").write_text(json.dumps({**FPS, VALIDATION[2]: "NaN"})),
        f"video '{VALIDATION[2]}': its frames a second are not known",
    ),
    "wrong rate": (
        lambda source: (source / "fps.json").write_text(json.dumps(dict.fromkeys(FPS, 300.0))),
        r"15 of 15 segments run past the end of their video .*: check that fps is that of the videos",
    ),
    "no features": (
        lambda source: [
            (source / "data_info.json").write_text(
                json.dumps(
                    {
                        "THUMOS": {
                            "class_names": list(CLASS_NAMES),
                            "train_session_set": VALIDATION,
                            "test_session_set": ["a"],
                        }
                    }
                )
            )
        ],
        "video 'a': has no features of stream 'rgb'.*video 'a': has no segment",
    ),
    "shape": (_features(np.ones(7, "f4")), rf"video '{VALIDATION[2]}': .* has shape \(7,\)"),
    "pickled": (_features(np.array([None])), rf"video '{VALIDATION[2]}': .* holds pickled objects"),
    "width": (_features(np.ones((FRAMES, 5), "f4")), rf"video '{VALIDATION[2]}': .*the store declares \(T, 6\)"),
    "NaN": (_features(np.full((FRAMES, 6), np.nan, "f4")), f"video '{VALIDATION[2]}': .*value nan at frame 0"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults(source: Path, tmp_path: Path, kind: str) -> None:
    change, message = FAULTS[kind]
    change(source)
    with pytest.raises(DataError, match=message) as caught:
        import_features("thumos14", source, tmp_path / "out.h5", **OPTIONS)
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thumos"]


def test_all_faults_are_told_at_once(source: Path, tmp_path: Path) -> None:
    told = ["two cells", "unknown class", "missing class", "no rate", "width"]
    for kind in told:
        FAULTS[kind][0](source)
    np.save(source / "rgb_kinetics_resnet50" / f"{VALIDATION[3]}.npy", np.full((FRAMES, 6), np.inf, "f4"))
    with pytest.raises(DataError) as caught:
        import_features("thumos14", source, tmp_path / "out.h5", **OPTIONS)
    for text in ("line 5", "Juggling", "Shotput_val.txt", "missing_fps=30", "value inf at frame 0"):
        assert text in str(caught.value)


def test_one_of_several_folders_must_be_chosen(source: Path) -> None:
    (source / "all").mkdir()
    (source / "rgb_kinetics_resnet50").rename(source / "all" / "rgb_kinetics_resnet50")
    shutil.copytree(source / "all" / "rgb_kinetics_resnet50", source / "all" / "rgb_anet_resnet200")
    options = {**OPTIONS, "features": "all"}
    message = (
        r"all: several folders for stream 'rgb' \('rgb_anet_resnet200', 'rgb_kinetics_resnet50'\): "
        r"choose with features, as \{rgb: all/rgb_anet_resnet200\}"
    )
    with pytest.raises(DataError, match=message):
        planner("thumos14")(source, **options)
    plan = planner("thumos14")(source, **{**options, "features": {"rgb": "all/rgb_anet_resnet200"}})
    assert (plan.problems, dict(plan.streams)) == ((), {"rgb": 6})


def test_segments_shorter_than_a_frame_are_told(source: Path) -> None:
    _line(f"{VALIDATION[0]} 6.01 6.02")(source)
    plan = planner("thumos14")(source, **OPTIONS)
    assert plan.warnings[0] == (
        "1 of 16 segments are shorter than a frame and cover none (rule oadtr): annotation/Diving_val.txt: line 5, "
        f"video '{VALIDATION[0]}', 6.01 to 6.02 s, 'Diving': use features at a higher rate, or another rule"
    )
    assert plan.warnings[1].startswith("no frame has the classes 'BaseballPitch', ")


def test_what_is_not_there_is_named(source: Path, tmp_path: Path) -> None:
    for options, error, message in (
        ({"features": None}, ConfigError, "needs features: give a folder or HDF5 file as features="),
        ({"features": "flow"}, DataError, "no folder or file flow: correct features="),
        ({"segments": "other"}, DataError, "no annotation other: correct segments="),
        ({"fps": "rates.json"}, DataError, r"no file rates\.json: give fps=, a number or a file"),
        ({"fps": None}, DataError, "the frame rates of the videos are not here: give fps="),
        ({"fps": -30}, ConfigError, "fps=-30: give the video frames a second"),
        ({"rule": "thumos"}, ConfigError, "rule='thumos': use one of 'oadtr', 'lstr', 'centre'"),
        ({"overlap": "both"}, ConfigError, "overlap='both': use one of"),
        ({"info": "lists.json"}, DataError, r"no list file lists\.json"),
    ):
        with pytest.raises(error, match=message):
            import_features("thumos14", source, tmp_path / "out.h5", **{**OPTIONS, **options})
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no annotation \(text files such as Diving_val\.txt"):
        import_features("thumos14", tmp_path / "empty", tmp_path / "out.h5", **OPTIONS)
    for name, text, message in (
        ("fps.json", "{", "is not a whole JSON file"),
        ("fps.json", "[30]", "holds a list: give"),
        ("fps.json", '{"a": "fast"}', "video 'a': fps is 'fast': give a number"),
        ("fps.csv", "name,rate\na,3\n", "has columns 'name', 'rate': give the columns video and fps"),
        (
            "fps.csv",
            "video,fps\nv,30\nv,25\n",
            r"fps\.csv: row 3: video 'v' is there twice, with 30\.0 before: drop one",
        ),
        ("fps.json", '{"v": 30, "v": 25}', "lists 'v' twice: drop one of the two"),
        ("fps.csv", "", r"is not a CSV file \(No columns"),
        ("fps.npz", "PK", r"is not a whole \.npz file"),
    ):
        (source / name).write_text(text)
        with pytest.raises(DataError, match=message):
            import_features("thumos14", source, tmp_path / "out.h5", **{**OPTIONS, "fps": name})
    (source / "segments.json").write_text("[]")
    with pytest.raises(DataError, match="has neither 'segments' nor 'database'"):
        import_features("thumos14", source, tmp_path / "out.h5", segments="segments.json", **OPTIONS)


def test_real_annotation_gives_the_published_labels(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "thumos14_annotations"
    published: dict[str, Any] = {}
    for subset in ("val", "test"):
        published |= read_perframe(folder / f"{subset}_perframe.npz").labels
    (tmp_path / "features").mkdir()
    for name, labels in published.items():
        np.save(tmp_path / "features" / f"{name}.npy", np.ones((len(labels), 2), np.float16))
    options: dict[str, Any] = {"features": str(tmp_path / "features"), "missing_fps": 30}
    figures = {}
    for overlap in ("first", "last"):
        plan = planner("thumos14")(folder, overlap=overlap, **options)
        assert plan.problems == ()
        # Five videos of the official annotation have segments past their end.
        (warning,) = plan.warnings
        assert warning.startswith("30 of 6553 segments run past the end of their video (in 'video_validation_0000364'")
        found = {video.name: video.read()[1] for video in plan.videos}
        assert {video.split for video in plan.videos} == {"train", "validation", "test"}
        assert all((labels.sum(axis=1) == 1).all() for labels in found.values())
        figures[overlap] = sum(int((found[name].argmax(axis=1) != labels).sum()) for name, labels in published.items())
    assert sum(map(len, published.values())) == 428_585
    # 1.14 % and 2.48 % of the frames.
    assert figures == {"first": 4869, "last": 10_631}
