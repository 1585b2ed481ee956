"""Carrying out an import plan: all problems at once, lengths aligned on demand, nothing written by a dry run."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.data import FeatureStore, StoreJournal, import_features
from coadtr.data.importers.engine import carry_out
from coadtr.data.importers.plan import ImportPlan, PlannedVideo
from coadtr.errors import ConfigError, DataError, SourceError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from coadtr.data.importers.plan import VideoArrays

CLASSES = ("background", "cut", "mix")


def _arrays(frames: int = 6, *, flow: int | None = None, labels: int | None = None, seed: int = 0) -> VideoArrays:
    rng = np.random.default_rng(seed)
    features = {
        "rgb": rng.standard_normal((frames, 4), np.float32),
        "flow": rng.standard_normal((frames if flow is None else flow, 2), np.float32),
    }
    return features, np.eye(3, dtype=np.uint8)[rng.integers(0, 3, frames if labels is None else labels)]


def _plan(source: Path, videos: dict[str, Callable[[], VideoArrays]], **changes: Any) -> ImportPlan:
    planned = tuple(
        PlannedVideo(name=name, split="test" if name == "z" else "train", rate_hz=4.0, read=read)
        for name, read in videos.items()
    )
    values: dict[str, Any] = {
        "source": source,
        "class_names": CLASSES,
        "background": 0,
        "ignored": None,
        "streams": {"rgb": 4, "flow": 2},
        "attributes": {"origin": "a test", "label_rule": "centre"},
        "videos": planned,
    }
    return ImportPlan(**{**values, **changes})


def test_videos_come_through_in_order(tmp_path: Path) -> None:
    plan = _plan(tmp_path, {name: functools.partial(_arrays, 5 + i, seed=i) for i, name in enumerate("zax")})
    report = carry_out(plan, tmp_path / "a.h5", dtype="float16")
    assert report.path == tmp_path / "a.h5"
    assert (report.warnings, report.kept, report.summary.videos, report.summary.frames) == ((), 0, 3, 18)
    with FeatureStore(tmp_path / "a.h5") as store:
        assert [video.name for video in store.videos()] == ["z", "a", "x"]
        assert store.label_kind == "index"
        assert store.stored_dtype() == np.float16
        features, labels = _arrays(6, seed=1)
        joined = np.concatenate([features["rgb"], features["flow"]], axis=1).astype(np.float16)
        np.testing.assert_array_equal(store.features("a"), joined.astype(np.float32))
        np.testing.assert_array_equal(store.labels("a"), labels.argmax(axis=1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_all_problems_of_a_source_are_told_at_once(tmp_path: Path) -> None:
    def nan() -> VideoArrays:
        features, labels = _arrays()
        features["rgb"][3, 2] = np.nan
        return features, labels

    def unreadable() -> VideoArrays:
        raise DataError("x.npy: is cut short: copy it again")

    plan = _plan(
        tmp_path,
        {
            "good": _arrays,
            "nan": nan,
            "gone": unreadable,
            "long": lambda: _arrays(10, flow=20),
            "near": lambda: _arrays(10, labels=9),
            "empty": lambda: _arrays(0),
            "wide": lambda: ({"rgb": np.ones((4, 5), "f4"), "flow": np.ones((4, 2), "f4")}, _arrays(4)[1]),
            "bad/name": _arrays,
        },
        problems=("list.json: video 'k' is listed twice: drop one",),
    )
    with pytest.raises(DataError) as caught:
        carry_out(plan, tmp_path / "a.h5")
    text = str(caught.value)
    for wanted in (
        "list.json: video 'k' is listed twice",
        "video 'nan': field 'rgb': value nan at frame 3, channel 2",
        "video 'gone': x.npy: is cut short",
        "video 'long': lengths differ (rgb 10, flow 20, labels 10 frames) by more than 2",
        "video 'near': lengths differ (rgb 10, flow 10, labels 9 frames): say align=trim to cut them to 9",
        "video 'empty': field 'rgb': holds no frame",
        "video 'wide': field 'rgb': shape (4, 5): the store declares (T, 4)",
        "video 'bad/name': video name 'bad/name' cannot be stored",
    ):
        assert wanted in text
    assert len(text.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_problem_late_in_the_source_leaves_nothing(tmp_path: Path) -> None:
    plan = _plan(tmp_path, {"a": _arrays, "b": _arrays, "c": lambda: _arrays(8, labels=3)})
    with pytest.raises(DataError, match="video 'c': lengths differ"):
        carry_out(plan, tmp_path / "deep" / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_name_twice_is_a_problem(tmp_path: Path) -> None:
    plan = _plan(tmp_path, {"a": _arrays})
    twice = ImportPlan(**{**vars(plan), "videos": plan.videos * 2})
    for dry_run in (False, True):
        with pytest.raises(DataError, match="video 'a': is there already"):
            carry_out(twice, tmp_path / "a.h5", dry_run=dry_run)


def test_lengths_are_trimmed_when_asked_and_it_is_noted(tmp_path: Path) -> None:
    plan = _plan(tmp_path, {"a": lambda: _arrays(10, labels=8), "b": lambda: _arrays(7, flow=6), "c": _arrays})
    report = carry_out(plan, tmp_path / "a.h5", align="trim")
    assert report.warnings == (
        "video 'a': cut to 8 frames (rgb 10, flow 10, labels 8)",
        "video 'b': cut to 6 frames (rgb 7, flow 6, labels 7)",
    )
    with FeatureStore(tmp_path / "a.h5") as store:
        assert [video.frames for video in store.videos()] == [8, 6, 6]
        features, labels = _arrays(10, labels=8)
        np.testing.assert_array_equal(store.features("a", streams=["rgb"]), features["rgb"][:8])
        np.testing.assert_array_equal(store.labels("a"), labels.argmax(axis=1))
        trimmed = store.attributes["trimmed"]
    assert trimmed == {
        "videos": 2,
        "first": {
            "a": "cut to 8 frames (rgb 10, flow 10, labels 8)",
            "b": "cut to 6 frames (rgb 7, flow 6, labels 7)",
        },
    }
    assert carry_out(plan, tmp_path / "b.h5", align="trim", dry_run=True).warnings == report.warnings


def test_a_dry_run_checks_everything_and_writes_nothing(tmp_path: Path) -> None:
    plan = _plan(
        tmp_path, {"a": lambda: _arrays(40), "z": lambda: _arrays(9, seed=4)}, warnings=("no row for video 'q'",)
    )
    report = carry_out(plan, tmp_path / "a.h5", dry_run=True)
    assert report.path is None
    assert list(tmp_path.iterdir()) == []
    written = carry_out(plan, tmp_path / "a.h5")
    assert report.summary.splits == written.summary.splits
    assert report.summary.label_kind == written.summary.label_kind == "index"
    assert report.warnings == written.warnings == ("no row for video 'q'",)
    with pytest.raises(DataError, match="lengths differ"):
        carry_out(_plan(tmp_path, {"a": lambda: _arrays(9, labels=3)}), tmp_path / "b.h5", dry_run=True)


def test_an_import_that_was_stopped_goes_on(tmp_path: Path) -> None:
    read: list[str] = []
    source = tmp_path / "source.txt"
    source.write_text("first")

    def plan(*, stop: bool) -> ImportPlan:
        def reader(name: str) -> Callable[[], VideoArrays]:
            def take() -> VideoArrays:
                if stop and name == "c":
                    raise KeyboardInterrupt
                read.append(name)
                return _arrays(5 + ord(name) % 4, labels=4 + ord(name) % 4, seed=ord(name))

            return take

        return _plan(source, {name: reader(name) for name in "abcd"}, files=(source,))

    def stopped() -> None:
        with pytest.raises(KeyboardInterrupt):
            carry_out(plan(stop=True), tmp_path / "a.h5", align="trim")

    stopped()
    assert read == ["a", "b"]
    report = carry_out(plan(stop=False), tmp_path / "a.h5", align="trim")
    assert read == ["a", "b", "c", "d"]
    assert (report.kept, report.summary.videos, len(report.warnings)) == (2, 4, 4)
    whole = carry_out(plan(stop=False), tmp_path / "b.h5", align="trim")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert whole.warnings == report.warnings
    (tmp_path / "a.h5").unlink()
    stopped()
    source.write_text("a source that has changed")
    read.clear()
    assert carry_out(plan(stop=False), tmp_path / "a.h5", align="trim").kept == 0
    assert read == ["a", "b", "c", "d"]


def test_a_full_disk_ends_the_import_and_keeps_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add, added = StoreJournal.add, list[str]()

    def fill(journal: StoreJournal, name: str, **video: Any) -> None:
        if len(added) == 2:
            raise StorageError("cannot be written (No space left on device): free some space and try again")
        added.append(name)
        add(journal, name, **video)

    plan = _plan(tmp_path, dict.fromkeys("abc", _arrays))
    monkeypatch.setattr(StoreJournal, "add", fill)
    with pytest.raises(StorageError, match="No space left"):
        carry_out(plan, tmp_path / "a.h5")
    monkeypatch.undo()
    assert carry_out(plan, tmp_path / "a.h5").kept == 2


def test_all_faults_of_a_video_are_told(tmp_path: Path) -> None:
    def read() -> VideoArrays:
        features, labels = _arrays()
        features["rgb"][0, 1] = np.inf
        return {"rgb": features["rgb"], "flow": np.ones((6, 3), "f4")}, labels * 2

    with pytest.raises(SourceError, match=r"'rgb': value inf.*'flow': shape \(6, 3\).*'labels': value 2") as caught:
        carry_out(_plan(tmp_path, {"a": read, **{f"v{index}": read for index in range(24)}}), tmp_path / "a.h5")
    assert len(caught.value.problems) == 25
    assert "and 5 more (dry_run=true prints all)" in str(caught.value)


def _stop_after(monkeypatch: pytest.MonkeyPatch, videos: int) -> None:
    add, added = StoreJournal.add, list[str]()

    def stop(journal: StoreJournal, name: str, **video: Any) -> None:
        if len(added) == videos:
            raise KeyboardInterrupt
        added.append(name)
        add(journal, name, **video)

    monkeypatch.setattr(StoreJournal, "add", stop)


def test_an_import_with_other_options_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "recordings"
    source.mkdir()
    for name in "abcd":
        rows = "".join(f"{index},{-index},{'rest' if index < 3 else 'lift'}\n" for index in range(6))
        (source / f"{name}.csv").write_text(f"x,y,label\n{rows}")
    options: dict[str, Any] = {"rate_hz": 4.0, "test": ["d"]}
    _stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        import_features("stream-csv", source, tmp_path / "a.h5", drop=["x"], **options)
    monkeypatch.undo()
    # The width is the same, and nothing in the header tells which column was dropped.
    report = import_features("stream-csv", source, tmp_path / "a.h5", drop=["y"], **options)
    assert report.kept == 0
    with FeatureStore(tmp_path / "a.h5") as store:
        for name in "abcd":
            assert store.features(name)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    _stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        import_features("stream-csv", source, tmp_path / "b.h5", drop=["y"], **options)
    monkeypatch.undo()
    assert import_features("stream-csv", source, tmp_path / "b.h5", drop=["y"], align="trim", **options).kept == 0


def test_options_and_headers_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="align='cut': use error, or trim"):
        carry_out(_plan(tmp_path, {"a": _arrays}), tmp_path / "a.h5", align="cut")
    with pytest.raises(ConfigError, match="dtype='int8'"):
        carry_out(_plan(tmp_path, {"a": _arrays}), tmp_path / "a.h5", dtype="int8", dry_run=True)
    with pytest.raises(DataError, match="holds no video that can be imported"):
        carry_out(_plan(tmp_path, {}), tmp_path / "a.h5")
    with pytest.raises(DataError, match=r"list is empty$"):
        carry_out(_plan(tmp_path, {}, class_names=("one",), problems=("list is empty",)), tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []
