"""A table of segments and a folder of features become a store; every fault is told with its row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch

from coadtr.data import FeatureStore, StoreWriter, import_features
from coadtr.data.importers.segment_table import plan_segment_table
from coadtr.data.sources.segments import read_segments
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

FRAMES = {"salad": 20, "soup": 12, "stew": 16, "idle": 8}
ROWS = ("salad,0.5,2,cut", "salad,1.5,3,mix", "soup,1,3,cut", "stew,0,1.5,fry", "stew,2,4,mix")


def _features(name: str, width: int = 3) -> NDArray[np.float32]:
    rng = np.random.default_rng(sum(name.encode()) + width)
    return rng.standard_normal((FRAMES[name], width)).astype(np.float32)


def _table(folder: Path, *rows: str, heading: str = "video,start,end,label", name: str = "segments.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([heading, *rows, ""]), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four videos of features at 4 Hz, and the segments of three of them."""
    (tmp_path / "features").mkdir()
    for name in FRAMES:
        np.save(tmp_path / "features" / f"{name}.npy", _features(name))
    _table(tmp_path, *ROWS)
    return tmp_path


def _import(source: Path, **options: Any) -> FeatureStore:
    options = {"features": str(source.parent / "features"), "rate_hz": 4.0, **options}
    report = import_features("csv", source, source.parent / "out.h5", **options)
    assert report.path is not None
    return FeatureStore(report.path)


def _names(store: FeatureStore, video: str) -> list[str]:
    hot = store.labels(video)
    hot = np.eye(len(store.class_names), dtype=np.uint8)[hot] if hot.ndim == 1 else hot
    return ["+".join(store.class_names[index] for index in np.flatnonzero(row)) for row in hot]


def test_a_table_comes_through(folder: Path) -> None:
    with _import(folder / "segments.csv") as store:
        assert store.class_names == ("background", "cut", "mix", "fry")
        assert (store.background, store.ignored, store.streams, store.label_kind) == (
            0,
            None,
            {"features": 3},
            "multi-hot",
        )
        for name in FRAMES:
            np.testing.assert_array_equal(store.features(name), _features(name))
        # 4 Hz: centres at 0.125, 0.375, ... seconds
        assert _names(store, "salad") == (
            ["background"] * 2 + ["cut"] * 4 + ["cut+mix"] * 2 + ["mix"] * 4 + ["background"] * 8
        )
        assert _names(store, "idle") == ["background"] * 8
        assert store.attributes["label_rule"] == "centre"
        assert {video.rate_hz for video in store.videos()} == {4.0}
        assert sorted(video.split for video in store.videos()) == ["test", "train", "train", "validation"]


@pytest.mark.parametrize(("overlap", "both"), [("first", "cut"), ("last", "mix")])
def test_one_class_a_frame(folder: Path, overlap: str, both: str) -> None:
    with _import(folder / "segments.csv", overlap=overlap, rule="lstr") as store:
        assert store.label_kind == "index"
        assert _names(store, "salad")[5:9] == ["cut", both, both, "mix"]
        assert (store.attributes["label_rule"], store.attributes["overlap"]) == ("lstr", overlap)


def test_options_of_classes_and_of_videos(folder: Path) -> None:
    _table(folder, *ROWS, "missing,1,2,cut")
    with _import(
        folder / "segments.csv",
        classes=["fry", "none", "mix", "cut", "boil"],
        background="none",
        ignored="boil",
        unlisted="skip",
        missing="skip",
        validation_fraction=0,
    ) as store:
        assert store.class_names == ("fry", "none", "mix", "cut", "boil")
        assert (store.background, store.ignored) == (1, 4)
        assert sorted(video.name for video in store.videos()) == ["salad", "soup", "stew"]
        assert store.splits == ("train", "test")
    plan = plan_segment_table(
        folder / "segments.csv", features="features", rate_hz=4.0, background=None, missing="skip"
    )
    assert plan.class_names == ("cut", "mix", "fry")
    assert any("1 videos have no segment and are background only: 'idle'" in note for note in plan.warnings)
    assert any("1 videos of the table have no features and are left out: 'missing'" in note for note in plan.warnings)
    assert {path.name for path in plan.files} == {"segments.csv", *(f"{name}.npy" for name in FRAMES)}


def test_splits_rates_and_frames_of_the_table(folder: Path) -> None:
    source = _table(
        folder,
        "salad\t10\t40\tcut\tTraining\t20\t4",
        "soup\t25\t75\tcut\tval\t25\t4",
        "stew\t0\t30\tmix\ttest\t20\t4",
        "idle\t0\t1\tmix\ttrain\t20\t4",
        heading="\ufeffVideo\tStart\tEnd\tLabel\tsplit\tfps\trate_hz",
        name="segments.tsv",
    )
    with _import(source, unit="frames", rate_hz=None) as store:
        assert {video.name: video.split for video in store.videos()} == {
            "idle": "train",
            "salad": "train",
            "soup": "validation",
            "stew": "test",
        }
        assert _names(store, "salad") == ["background"] * 2 + ["cut"] * 6 + ["background"] * 12
        assert _names(store, "soup") == ["background"] * 4 + ["cut"] * 8
        assert "validation" not in store.attributes


@pytest.mark.parametrize(
    ("subsets", "splits"),
    [
        (("training", "training", "validation", "testing"), ["test", "train", "train", "validation"]),
        (("Validation", "Validation", "Validation", "Test"), ["test", "train", "train", "validation"]),
    ],
)
def test_json_in_the_form_of_activitynet(folder: Path, subsets: tuple[str, ...], splits: list[str]) -> None:
    database: dict[str, Any] = {
        name: {"subset": subset, "duration": FRAMES[name] / 4, "annotations": []}
        for name, subset in zip(FRAMES, subsets, strict=True)
    }
    for row in ROWS:
        name, start, end, label = row.split(",")
        database[name]["annotations"].append({"segment": [float(start), float(end)], "label": label, "label_id": 3})
    (folder / "anet.json").write_text(json.dumps({"version": "1.3", "taxonomy": [], "database": database}))
    with _import(folder / "anet.json") as store, _import(_copy(folder)) as other:
        assert store.class_names == other.class_names
        for name in FRAMES:
            np.testing.assert_array_equal(store.labels(name), other.labels(name))
        assert sorted(video.split for video in store.videos()) == splits
        assert store.videos("test")[0].name == "idle"


def _copy(folder: Path) -> Path:
    (folder / "copy").mkdir()
    (folder / "features").rename(folder / "copy" / "features")
    return _table(folder / "copy", *ROWS)


def test_features_in_several_streams_and_kinds(folder: Path) -> None:
    (folder / "flow").mkdir()
    with h5py.File(folder / "all.h5", "w") as file:
        for name in FRAMES:
            file[name] = _features(name, 2)
            torch.save(torch.from_numpy(_features(name, 5)), folder / "flow" / f"{name}.pt")
    features = {"rgb": "features", "flow": "flow", "audio": str(folder / "all.h5")}
    with _import(folder / "segments.csv", features=features) as store:
        assert store.streams == {"rgb": 3, "flow": 5, "audio": 2}
        for name in FRAMES:
            np.testing.assert_array_equal(store.features(name, streams=["flow"]), _features(name, 5))
            np.testing.assert_array_equal(store.features(name, streams=["audio"]), _features(name, 2))


def _extracted(path: Path, *, rate_hz: float = 4.0) -> Path:
    extractors = {"rgb": {"backbone": "resnet50", "weights": "imagenet"}}
    with StoreWriter(
        path, class_names=["a", "b"], streams={"rgb": 3, "flow": 2}, attributes={"extractors": extractors}
    ) as writer:
        for name, frames in FRAMES.items():
            writer.add(
                name,
                split="train",
                rate_hz=rate_hz,
                features={"rgb": _features(name).astype(np.float16), "flow": _features(name, 2)},
                labels=np.zeros(frames, int),
            )
    return path


def test_features_of_a_store_bring_rate_and_origin(folder: Path) -> None:
    path = _extracted(folder / "extracted.h5")
    with _import(folder / "segments.csv", features=str(path), rate_hz=None) as store:
        assert store.streams == {"rgb": 3, "flow": 2}
        assert store.attributes["extractors"] == {"rgb": {"backbone": "resnet50", "weights": "imagenet"}}
        assert store.stored_dtype(streams=["rgb"]) == np.float16
        np.testing.assert_array_equal(store.features("soup", streams=["flow"]), _features("soup", 2))
    plan = plan_segment_table(folder / "segments.csv", features={"flow": str(path)})
    assert (dict(plan.streams), "extractors" in plan.attributes) == ({"flow": 2}, False)
    with pytest.raises(DataError, match="video 'salad': 5 Hz, but its features were made at 4 Hz: drop rate_hz"):
        _import(folder / "segments.csv", features=str(path), rate_hz=5.0)


def _rows(*rows: str) -> Callable[[Path], object]:
    return lambda folder: _table(folder, *ROWS, *rows)


def _heading(heading: str) -> Callable[[Path], object]:
    return lambda folder: _table(folder, *ROWS, heading=heading)


def _array(name: str, array: NDArray[Any]) -> Callable[[Path], object]:
    return lambda folder: np.save(folder / "features" / f"{name}.npy", array)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "not a number": (_rows("soup,one,4,cut"), "row 7: column 'start': 'one' is not a number: correct it"),
    "infinite": (_rows("soup,1,inf,cut"), "row 7: column 'end': 'inf' is not a number"),
    "empty cell": (_rows("soup,1,2,"), "row 7: column 'label' is empty: fill it in"),
    "short row": (_rows("soup,1,2"), "row 7: column 'label' is empty"),
    "long row": (_rows("soup,1,2,cut,fine"), "row 7 has 5 cells where the heading has 4: quote cells that hold ','"),
    "ends before it begins": (_rows("soup,2,1,cut"), "row 7: start 2 is not before end 1: correct one"),
    "of no length": (_rows("soup,2,2,cut"), "row 7: start 2 is not before end 2"),
    "before the video": (_rows("soup,-1,2,cut"), "row 7: column 'start': -1 is before the video"),
    "past the end": (_rows("soup,2,9,cut"), r"video 'soup': row 7, segment 2 to 9 s: runs past the end .*3\.00 s"),
    "twice": (_rows("", "soup,1.0,3,cut"), "row 8: repeats row 4: drop one of the two"),
    "unknown label": (_rows("soup,2,3,cuts"), "row 7: unknown label 'cuts': did you mean 'cut'?"),
    "video without features": (
        _rows("salat,1,2,cut"),
        r"video 'salat' \(row 7\) has no features \(did you mean 'salad'",
    ),
    "climbing name": (_rows("../etc,1,2,cut"), r"video '\.\./etc' \(row 7\) has no features: add them"),
    "column missing": (_heading("video,begin,end,label"), r"column 'start' is missing \(there are 'video', 'begin'"),
    "semicolons": (
        _heading("video;start;end;label"),
        "has cells parted by ';': save it with ',' between cells, and points in numbers",
    ),
    "column twice": (_heading("video,start,start,end,label"), "column 'start' is there twice"),
    "table empty": (lambda folder: (folder / "segments.csv").write_text(""), "is empty: write a heading"),
    "width": (_array("soup", np.ones((12, 4), "f4")), r"video 'soup': .*shape \(12, 4\): the store declares \(T, 3\)"),
    "transposed": (_array("soup", np.ones((3, 12), "f4")), r"shape \(3, 12\) where others have \(T, 3\).*transpose it"),
    "NaN": (_array("soup", np.full((12, 3), np.nan, "f4")), "video 'soup': .*value nan at frame 0"),
    "features damaged": (
        lambda folder: (folder / "features" / "soup.npy").write_bytes(b"\x93NUMPY"),
        r"video 'soup': soup\.npy: is not a \.npy file",
    ),
    "no frame": (_array("soup", np.ones((0, 3), "f4")), "video 'soup': .*holds no frame"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults(folder: Path, kind: str) -> None:
    damage, message = FAULTS[kind]
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        _import(folder / "segments.csv", classes=["cut", "mix", "fry"])
    assert len(str(caught.value).splitlines()) == 1
    assert "segments.csv" in str(caught.value)
    assert not (folder / "out.h5").exists()


def test_all_faults_are_told_at_once(folder: Path) -> None:
    _table(folder, *ROWS, "soup,x,1,cut", "stew,3,2,mix", "stew,2,4,mix", "salat,1,2,cut")
    np.save(folder / "features" / "stew.npy", np.full((16, 3), np.inf, "f4"))
    (folder / "features" / "idle.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"row 7: .*row 8: .*row 9: .*'salat' .*'idle': idle\.npy: .*'stew': .*inf"):
        _import(folder / "segments.csv")


SPLIT_HEADING = "video,start,end,label,split,fps"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("soup,1,2,cut,dev,30", "row 3, column 'split': unknown split 'dev': use train, validation or test"),
        ("soup,1,2,cut,train,0", "row 3, column 'fps': '0' is no rate: give a positive number"),
        ("salad,1,2,mix,test,30", "row 3, column 'split': 'test' for video 'salad', but 'train' before"),
        ("soup,1,2,cut,train,", "row 3: unit=frames needs the rate of video 'soup': add a column fps, or give fps="),
    ],
)
def test_faults_of_further_columns(folder: Path, row: str, message: str) -> None:
    source = _table(folder, "salad,1,30,cut,train,30", row, heading=SPLIT_HEADING)
    assert any(message in problem for problem in read_segments(source, unit="frames").problems)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a whole JSON file"),
        ("[" * 100_000, "is not a whole JSON file"),
        ('{"videos": {}}', "has no entry 'database' with videos"),
        ('{"database": {"soup": {"annotations": []}, "soup": {"annotations": []}}}', "lists 'soup' twice"),
        ('{"database": {"soup": {}}}', "video 'soup': has no list 'annotations'"),
        ('{"database": {"soup": {"annotations": [{"segment": [1], "label": "cut"}]}}}', "'soup', annotation 0: is"),
        ('{"database": {"soup": {"annotations": [{"segment": [1, NaN], "label": "cut"}]}}}', "'nan' is not a number"),
        ('{"database": {"soup": {"annotations": [{"segment": [2, 1], "label": "cut"}]}}}', "start 2 is not before end"),
        ('{"database": {"soup": {"subset": "dev", "annotations": []}}}', "field 'subset': unknown split 'dev'"),
    ],
)
def test_faults_of_json(folder: Path, content: str, message: str) -> None:
    (folder / "anet.json").write_text(content)
    with pytest.raises(DataError, match=message):
        _import(folder / "anet.json", test_fraction=0, validation_fraction=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": None}, "features must be given"),
        ({"rate_hz": None}, "rate_hz must be given: the feature frames a second"),
        ({"rate_hz": -1.0}, r"rate_hz=-1\.0"),
        ({"rule": "tsn"}, "rule='tsn': use one of 'oadtr', 'lstr', 'centre'"),
        ({"rule": "lstr", "rate_hz": 5.0}, "rule='lstr' is for features at 4 Hz, not 5 Hz"),
        ({"overlap": "both"}, "overlap='both': use one of 'multi-hot'"),
        ({"unlisted": "drop"}, "unlisted='drop': use one of 'background', 'skip', 'error'"),
        ({"missing": "drop"}, "missing='drop': use one of 'error', 'skip'"),
        ({"unit": "ms"}, "unit='ms': use one of 'seconds', 'frames'"),
        ({"fps": 0.0}, r"fps=0\.0: give the video frames a second"),
        ({"ignored": "Mixx"}, "ignored='Mixx' is no class of the table: did you mean 'mix'"),
        ({"test_fraction": 1.5}, r"test_fraction=1\.5: give a number between 0 and 1"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_options_that_are_wrong(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _import(folder / "segments.csv", **options)


def test_videos_that_streams_or_table_lack(folder: Path) -> None:
    (folder / "flow").mkdir()
    np.save(folder / "flow" / "salad.npy", _features("salad", 2))
    with pytest.raises(DataError, match="video 'soup' has no features in stream 'flow': add or drop it"):
        _import(folder / "segments.csv", features={"rgb": "features", "flow": "flow"})
    with pytest.raises(DataError, match="video 'idle' has features but no row: add one, or say unlisted=background"):
        _import(folder / "segments.csv", unlisted="error")


def test_background_whatever_its_case(folder: Path) -> None:
    source = _table(folder, *ROWS, "soup,0,1,Background", "stew,1.5,2,Cut")
    with _import(source, ignored="FRY") as store:
        assert store.class_names == ("cut", "mix", "fry", "Background", "Cut")
        assert (store.background, store.ignored) == (3, 2)
        assert _names(store, "idle") == ["Background"] * 8
    plan = plan_segment_table(source, features="features", rate_hz=4.0)
    assert "classes 'cut', 'Cut' differ only in case: give them one spelling if they are one class" in plan.warnings


def test_what_covers_no_frame_is_told(folder: Path) -> None:
    source = _table(folder, *ROWS, "soup,2.01,2.05,boil", "stew,1,1.02,background")
    plan = plan_segment_table(source, features="features", rate_hz=4.0)
    assert plan.warnings[-2:] == (
        "1 of 6 segments are shorter than a frame and cover none (rule centre): row 7, video 'soup', 2.01 to 2.05 s, "
        "'boil': use features at a higher rate, or another rule",
        "no frame has the class 'boil': it cannot be learnt, leave it out or add segments of it",
    )


def test_a_table_beside_the_folders_of_streams(folder: Path) -> None:
    (folder / "features").rename(folder / "rgb")
    (folder / "flow").mkdir()
    for name in FRAMES:
        np.save(folder / "flow" / f"{name}.npy", _features(name, 2))
    with _import(folder / "segments.csv", features=str(folder)) as store:
        assert dict(store.streams) == {"flow": 2, "rgb": 3}
    (folder / "notes.csv").write_text("soup,is,thin\n")
    with pytest.raises(DataError, match=r"holds feature files \('notes\.csv'\) and folders of them \('flow', 'rgb'\)"):
        _import(folder / "segments.csv", features=str(folder))


def test_missing_features_are_told_before_splits_that_cannot_be(folder: Path) -> None:
    for name in FRAMES:
        (folder / "features" / f"{name}.npy").rename(folder / "features" / f"{name}_rgb.npy")
    with pytest.raises(DataError, match=r"video 'salad' \(row 2\) has no features"):
        _import(folder / "segments.csv", unlisted="skip")


def test_too_few_videos_to_share_out(folder: Path) -> None:
    for name in ("soup", "stew", "idle"):
        (folder / "features" / f"{name}.npy").unlink()
    source = _table(folder, ROWS[0])
    with pytest.raises(
        ConfigError, match=r"csv: 1 videos are left .* 3 are needed: .*column split.*say test_fraction=0"
    ):
        _import(source)
    with _import(source, test_fraction=0, validation_fraction=0) as store:
        assert store.splits == ("train",)


def test_spellings_that_people_use_are_told_with_their_remedy(folder: Path) -> None:
    _table(folder, "salad.mp4,0:30,1:00,cut")
    with pytest.raises(DataError, match=r"'0:30' is not a number: write seconds, such as 61\.5"):
        _import(folder / "segments.csv")
    _table(folder, "salad.mp4,0,2,cut", "soup,0,1,cut")
    with pytest.raises(DataError, match=r"'salad\.mp4' .*those of 'salad' are there: name it without the suffix"):
        _import(folder / "segments.csv")
    _table(folder)
    with pytest.raises(DataError, match="holds no segment"):
        _import(folder / "segments.csv")
    (folder / "segments.csv").write_bytes("video,start,end,label\nsalad,0,2,gr\xfcn\n".encode("latin1"))
    with pytest.raises(DataError, match=r"is not UTF-8 text \(byte 34\): save it as UTF-8"):
        _import(folder / "segments.csv")


def test_splits_of_the_table_are_added_to_with_a_warning_only(folder: Path) -> None:
    heading = "video,start,end,label,split"
    rows = ("salad,0.5,2,cut,train", "soup,1,3,cut,train", "stew,0,1.5,cut,train", "idle,0,1,cut,test")
    _table(folder, *rows, heading=heading)
    report = import_features(
        "csv", folder / "segments.csv", folder / "a.h5", features=str(folder / "features"), rate_hz=4.0
    )
    with FeatureStore(folder / "a.h5") as store:
        (chosen,) = store.videos("validation")
        assert [video.name for video in store.videos("test")] == ["idle"]
    assert f"no validation video is given: '{chosen.name}' is taken from the training videos by seed" in report.warnings
    # A table that names splits has chosen what to test on: no video is tested on by chance.
    _table(folder, "salad,0.5,2,cut,train", "soup,1,3,cut,validation", "stew,2,4,mix,validation", heading=heading)
    report = import_features(
        "csv", folder / "segments.csv", folder / "b.h5", features=str(folder / "features"), rate_hz=4.0
    )
    with FeatureStore(folder / "b.h5") as store:
        assert store.splits == ("train", "validation")
    assert any("no training frame shows 'mix'" in warning for warning in report.warnings)
