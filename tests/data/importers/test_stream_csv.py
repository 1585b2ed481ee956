"""Recordings in CSV files become a store; every fault is told with file, row and column."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.data import FeatureStore, import_features
from coadtr.data.importers.stream_csv import plan_stream_csv
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PHASES = ("Rest", "Preparation", "Stroke", "Hold", "Retraction")
FRAMES = {"a1": 9, "a2": 7, "b1": 8, "c1": 6}


def _rows(name: str) -> list[list[str]]:
    rng = np.random.default_rng(sum(name.encode()))
    values = rng.standard_normal((FRAMES[name], 2)).round(6)
    labels = ["rest" if frame % 4 < 2 else "lift" for frame in range(FRAMES[name])]
    return [[*map(str, row), str(1000 + 40 * frame), labels[frame]] for frame, row in enumerate(values)]


def _write(folder: Path, name: str, rows: list[list[str]], heading: str = "x,y,t,phase") -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.csv").write_text("\n".join([heading, *(",".join(row) for row in rows), ""]), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four recordings of two coordinates at 25 Hz."""
    for name in FRAMES:
        _write(tmp_path / "raw", name, _rows(name))
    return tmp_path / "raw"


def _import(source: Path, **options: Any) -> FeatureStore:
    options = {"label": "phase", "timestamp": "t", **options}
    report = import_features("stream-csv", source, source.parent / "out.h5", **options)
    assert report.path is not None
    return FeatureStore(report.path)


def test_recordings_come_through(folder: Path) -> None:
    with _import(folder, test=["b1", "c*"], stream="hands", background="REST") as store:
        assert (store.class_names, store.background, store.ignored) == (("rest", "lift"), 0, None)
        assert (store.streams, store.label_kind) == ({"hands": 2}, "index")
        assert {video.rate_hz for video in store.videos()} == {25.0}
        assert [video.name for video in store.videos("test")] == ["b1", "c1"]
        assert (len(store.videos("train")), len(store.videos("validation"))) == (1, 1)
        for name in FRAMES:
            rows = _rows(name)
            np.testing.assert_array_equal(store.features(name), np.array([row[:2] for row in rows], np.float32))
            assert [store.class_names[index] for index in store.labels(name)] == [row[3] for row in rows]


def test_columns_in_any_order_blanks_and_a_byte_order_mark(folder: Path) -> None:
    rows = _rows("a2")
    turned = [[f" {phase} ", t, y, f"{x} ", "note"] for x, y, t, phase in rows]
    _write(folder, "a2", [*turned[:3], [""], *turned[3:], [""]], heading="\ufeffphase, t,y ,x,remark")
    for name in ("a1", "b1", "c1"):
        _write(folder, name, [[*row, ""] for row in _rows(name)], heading="x,y,t,phase,remark")
    with _import(folder, drop=["remark"], classes=["lift", "sit", "rest"], rate_hz=12.5) as store:
        assert store.class_names == ("lift", "sit", "rest")
        assert store.video("a2").rate_hz == 12.5
        np.testing.assert_array_equal(store.features("a2"), np.array([row[:2] for row in rows], np.float32))
        assert [store.class_names[index] for index in store.labels("a2")] == [row[3] for row in rows]


def test_one_file_is_a_source_too(folder: Path) -> None:
    with _import(folder / "a1.csv", test_fraction=0, validation_fraction=0) as store:
        assert [(video.name, video.split) for video in store.videos()] == [("a1", "train")]


def test_seeded_splits(folder: Path) -> None:
    plans = [plan_stream_csv(folder, label="phase", timestamp="t", seed=seed) for seed in (0, 0, 1, 2, 3)]
    splits = [tuple(video.split for video in plan.videos) for plan in plans]
    assert splits[0] == splits[1]
    assert len(set(splits)) > 1
    assert {tuple(sorted(split)) for split in splits} == {("test", "train", "train", "validation")}


def test_gaps_are_warnings(folder: Path) -> None:
    rows = _rows("a1")
    for row in rows[4:]:
        row[2] = str(int(row[2]) + 400)
    _write(folder, "a1", rows)
    plan = plan_stream_csv(folder, label="phase", timestamp="t")
    assert plan.warnings == ("a1.csv: row 6, column 't': gap of 0.44 s, where the median step is 0.04 s",)
    assert not plan.problems


def _cell(name: str, row: int, column: int, text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        rows = _rows(name)
        rows[row][column] = text
        _write(folder, name, rows)

    return damage


def _heading(heading: str) -> Callable[[Path], None]:
    return lambda folder: _write(folder, "b1", _rows("b1"), heading)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "word": (_cell("a2", 3, 1, "high"), r"a2\.csv: row 5, column 'y': 'high' is not a number: correct it or leave"),
    "empty cell": (_cell("a2", 0, 0, ""), r"a2\.csv: row 2, column 'x': is empty"),
    "NaN": (_cell("a2", 0, 0, "nan"), r"a2\.csv: row 2, column 'x': 'nan' is not a number"),
    "infinity": (_cell("a2", 0, 0, "-inf"), r"row 2, column 'x': '-inf' is not a number"),
    "no label": (_cell("c1", 5, 3, ""), r"c1\.csv: row 7, column 'phase': is empty: fill in the class"),
    "unknown label": (
        _cell("c1", 5, 3, "lifd"),
        r"c1\.csv: row 7, column 'phase': unknown label 'lifd': did you mean 'lift'\?; correct it or give aliases",
    ),
    "time that is no number": (_cell("c1", 5, 2, "noon"), r"row 7, column 't': 'noon' is not a number"),
    "time that runs back": (_cell("c1", 3, 2, "990"), r"c1\.csv: row 5, column 't': runs back by 0\.09 s: put rows"),
    "time that stands": (
        lambda folder: _write(folder, "c1", [[x, y, "5", phase] for x, y, _, phase in _rows("c1")]),
        r"c1\.csv: column 't': has no step to derive a rate from: give rate_hz",
    ),
    "label column missing": (_heading("x,y,t,class"), r"b1\.csv: column 'phase' \(label\) is missing: the columns are"),
    "time column missing": (_heading("x,y,z,phase"), r"b1\.csv: column 't' \(timestamp\) is missing"),
    "other columns": (_heading("x,z,t,phase"), r"b1\.csv: lacks columns 'y', unlike a1\.csv.*also has columns 'z'"),
    "column twice": (_heading("x,x,t,phase"), r"b1\.csv: column 'x' is there twice"),
    "heading too short": (
        _heading("x,t,phase"),
        r"b1\.csv: row 2 has 4 cells where|b1\.csv: has rows with more",
    ),
    "no rows": (lambda folder: _write(folder, "b1", []), r"b1\.csv: has no row below the heading: leave the file out"),
    "empty file": (lambda folder: (folder / "b1.csv").write_bytes(b""), r"b1\.csv: is empty"),
    "not text": (lambda folder: (folder / "b1.csv").write_bytes(b"\xff\xfe\x00x"), r"b1\.csv: is not UTF-8 text"),
    "no features": (
        lambda folder: _write(folder, "b1", [row[2:] for row in _rows("b1")], "t,phase"),
        r"b1\.csv: has no column of features",
    ),
    "climbing name": (lambda folder: _write(folder, "b\\up", _rows("b1")), r"video .b.*up.: .*cannot be stored"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults(folder: Path, kind: str) -> None:
    damage, message = FAULTS[kind]
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        _import(folder, classes=["rest", "lift"])
    assert len(str(caught.value).splitlines()) == 1
    assert not (folder.parent / "out.h5").exists()


def test_all_faults_are_told_at_once(folder: Path) -> None:
    rows = _rows("a1")
    for row in rows:
        row[0], row[3] = "-", "lit"
    _write(folder, "a1", rows)
    _cell("b1", 2, 1, "low")(folder)
    _write(folder, "c1", [])
    with pytest.raises(DataError) as caught:
        _import(folder, classes=["rest", "lift"])
    text = str(caught.value)
    for part in (
        "a1.csv: row 2, column 'x': '-' is not a number",
        "a1.csv: column 'x': 4 more cells are not numbers",
        "a1.csv: row 2, column 'phase': unknown label 'lit' (9 rows): did you mean 'lift'?",
        "b1.csv: row 4, column 'y': 'low' is not a number",
        "c1.csv: has no row below the heading",
    ):
        assert part in text


def test_options_and_sources_that_are_wrong(folder: Path) -> None:
    for options, message in (
        ({"timestamp": None}, "give rate_hz, the frames a second, or timestamp"),
        ({"rate_hz": 0.0}, r"rate_hz=0\.0"),
        ({"timestamp_unit": "min"}, "timestamp_unit='min': use one of 's', 'ms', 'us', 'ns'"),
        ({"test": ["d*"]}, r"test='d\*' is the name of no video: the videos are 'a1', 'a2'"),
        ({"ignored": "LIFD"}, "ignored='LIFD' is no class: did you mean 'lift'?"),
        ({"background": "lifd"}, "background='lifd' is no class: did you mean 'lift'?"),
        ({"ignored": "none"}, "ignored='none' is no class: the classes are"),
        ({"aliases": ["lifd"]}, "aliases='lifd': give spelling=name"),
        ({"validation_fraction": 2.0}, r"validation_fraction=2\.0"),
    ):
        with pytest.raises(ConfigError, match=message):
            _import(folder, **options)
    with pytest.raises(DataError, match="no such file or folder: give the one with the recordings"):
        _import(folder / "nowhere")
    with pytest.raises(DataError, match=r"holds no \.csv file"):
        _import(folder.parent)


def test_gesture_phase(shared_data: Path, tmp_path: Path) -> None:
    """7 recordings, 9,901 frames, 18 coordinates, 5 phases; one row spells its phase in Portuguese."""
    source = shared_data / "gesture_phase" / "raw"
    options: dict[str, Any] = {"label": "phase", "timestamp": "timestamp", "test": ["c*"], "classes": list(PHASES)}
    with pytest.raises(DataError, match="unknown label 'Preparação': did you mean 'Preparation'") as caught:
        import_features("stream-csv", source, tmp_path / "out.h5", **options)
    assert str(caught.value).count("unknown label") == 1
    report = import_features("stream-csv", source, tmp_path / "out.h5", aliases=["Preparação=Preparation"], **options)
    with FeatureStore(tmp_path / "out.h5") as store:
        assert (store.class_names, store.streams) == (PHASES, {"features": 18})
        assert [len(store.videos(split)) for split in ("train", "validation", "test")] == [4, 1, 2]
        assert sum(video.frames for video in store.videos()) == 9901
        counts = sum(np.bincount(store.labels(video.name), minlength=5) for video in store.videos())
        assert dict(zip(PHASES, np.atleast_1d(counts).tolist(), strict=True)) == {
            "Rest": 2769,
            "Preparation": 2097,
            "Stroke": 2950,
            "Hold": 998,
            "Retraction": 1087,
        }
        for video in store.videos():
            assert 25 < video.rate_hz < 35
            with (source / f"{video.name}.csv").open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
            columns = [column for column in rows[0] if column not in ("timestamp", "phase")]
            values = np.array([[float(row[column]) for column in columns] for row in rows])
            np.testing.assert_array_equal(store.features(video.name), values.astype(np.float32))
    # Five recordings stand still for 40 s, in the middle of a file.
    still = [warning.split("_")[0] for warning in report.warnings if "gap of 40 s" in warning]
    assert still == ["a1", "a3", "b1", "c1", "c3"]
    assert "a1_raw.csv: row 1551, column 'timestamp': gap of 40 s, where the median step is 0.031 s" in report.warnings
