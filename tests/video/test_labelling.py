"""Labels for extracted features: refused before the work where they can be, and taken up where a run has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra `video`")

from coadtr.data.storage.store import FeatureStore
from coadtr.data.storage.writer import StoreWriter
from coadtr.errors import ConfigError, DataError, StorageError
from coadtr.video import Extraction, ExtractionReport, Sampling, Source, VideoFeatures, extract
from coadtr.video.sources import find_videos

NAMES = ("a1", "b1", "c1", "d1")
SOUND = "video,start,end,label\n" + "".join(f"{name},1,3,wave\n" for name in NAMES)


class _Network:
    """Stand for a backbone."""

    dim, context = 3, 1

    def describe(self, sampling: Sampling) -> dict[str, str]:
        return {"backbone": "none", "weights": "none", "sampling": sampling.describe()}


class _Work:
    """Stand for the work on the videos: those named z are broken, and b1 is damaged."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, todo: Sequence[Source], *_: Any, **__: Any) -> Iterator[VideoFeatures]:
        for source in todo:
            self.seen.append(source.name)
            if source.name.startswith("z"):
                yield VideoFeatures(name=source.name, problem=f"is broken {'y' * 300}")
                continue
            features = {"rgb": np.full((40, 3), ord(source.name[0]), np.float16)}
            warnings = ("3 damaged packets",) if source.name == "b1" else ()
            yield VideoFeatures(name=source.name, features=features, rate_hz=4.0, frames=60, warnings=warnings)


Run = Callable[..., ExtractionReport]


@pytest.fixture
def work() -> _Work:
    """Return what goes through the videos, and remembers them."""
    return _Work()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: _Work) -> Run:
    """Return an extraction with a table, without videos and networks."""
    monkeypatch.setattr(Extraction, "load", lambda _: {"rgb": _Network()})

    def extracted(
        table: str | None, names: Sequence[str] = NAMES, out: str = "out.h5", preset: str = "lstr", **labels: Any
    ) -> ExtractionReport:
        if table is not None:
            (tmp_path / "segments.csv").write_text(table)
        return extract(
            [Source(name, f"{name}.mp4") for name in names],
            tmp_path / out,
            Extraction(sampling=Sampling(preset=preset)),
            segments=None if table is None else tmp_path / "segments.csv",
            labels=labels,
            work=work,
        )

    return extracted


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"overlap": "fist"}, "overlap='fist': use one of"),
        ({"outside": "trim"}, "outside='trim': use one of"),
        ({"unlisted": "drop"}, "unlisted='drop': use one of"),
        ({"missing": "drop"}, "missing='drop': use one of"),
        ({"rule": "middle"}, "rule='middle': use one of"),
        ({"unit": "minutes"}, "unit='minutes': use one of"),
        ({"fps": -1.0}, r"fps=-1\.0: give the video frames"),
        ({"ignored": "nonsense"}, "ignored='nonsense' is no class of the table"),
        ({"test_fraction": 1.5}, r"test_fraction=1\.5: give a number between 0 and 1"),
        ({"validation_fraction": -0.1}, r"validation_fraction=-0\.1: give a number between 0 and 1"),
        ({"test_fraction": 0.9}, r"segments\.csv: test_fraction=0\.9 leaves 1 of 4 videos"),
        ({"seed": -1}, "seed=-1: give 0 or a positive"),
        ({"rule": "lstr", "preset": "oadtr"}, r"labels\.rule=lstr is for 4 features a second.*sampling=oadtr"),
        ({"colour": 1}, r"labels\.colour is not an option"),
    ],
)
def test_options_are_refused_before_any_work(run: Run, work: _Work, labels: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(SOUND, **labels)
    assert work.seen == []


def test_too_few_videos_to_share_out_are_refused_before_any_work(run: Run, work: _Work) -> None:
    two = "".join(SOUND.splitlines(keepends=True)[:3])
    with pytest.raises(
        ConfigError,
        match=r"segments\.csv: 2 videos are left .*at least 3 are needed: add videos, .*column split.*, or say "
        r"test_fraction=0 or validation_fraction=0",
    ):
        run(two, NAMES[:2])
    with pytest.raises(DataError, match="video 'c1' has features but no row: add one, or say unlisted=background"):
        run(two, unlisted="error")
    assert work.seen == []
    report = run(two, NAMES[:2], test_fraction=0)
    assert [split.split for split in report.summary.splits if split.videos] == ["train", "validation"]


def test_broken_videos_that_leave_too_few_keep_the_features(run: Run, work: _Work, tmp_path: Path) -> None:
    names = (*NAMES[:2], "z1", "z2")
    table = SOUND.replace("c1", "z1").replace("d1", "z2")
    with pytest.raises(ConfigError, match=r"2 videos are left.*the features are kept: put it right and run"):
        run(table, names)
    report = run(table, names, validation_fraction=0)
    assert (len(work.seen), report.kept, sorted(report.skipped)) == (4, 2, ["z1", "z2"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "segments.csv"]


def test_a_corrected_table_gives_the_store_of_one_that_was_sound(run: Run, work: _Work, tmp_path: Path) -> None:
    names = [*NAMES, *(f"z{number:03d}" for number in range(130))]
    with pytest.raises(DataError, match=r"past the end of the video.*the features are kept: put it right"):
        run(SOUND.replace("1,3", "1,99"), names)
    work.seen.clear()
    corrected = run(SOUND, names)
    assert (work.seen, corrected.kept) == ([], 4)
    whole = run(SOUND, names, out="whole.h5")
    assert len(work.seen) == 134
    assert corrected.skipped == whole.skipped
    assert len(whole.skipped) == 130
    assert corrected.warnings == whole.warnings
    assert "video 'b1': 3 damaged packets" in whole.warnings
    assert (tmp_path / "out.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    with FeatureStore(tmp_path / "out.h5") as store:
        assert str(store.attributes["origin"]).startswith("features of 4 videos")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "segments.csv", "whole.h5"]


def test_features_without_what_was_found_are_made_again(run: Run, work: _Work, tmp_path: Path) -> None:
    for content in (None, "{", "[]", '{"identity": 1}'):
        with pytest.raises(DataError, match="the features are kept"):
            run(SOUND.replace("1,3", "1,99"))
        (found,) = tmp_path.glob(".*.json")
        if content is None:
            found.unlink()
        else:
            found.write_text(content)
        work.seen.clear()
        assert run(SOUND).kept == 0
        assert work.seen == list(NAMES)


@pytest.mark.parametrize("table", [None, SOUND])
def test_a_full_disk_ends_the_run_and_loses_nothing(
    run: Run, work: _Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str | None
) -> None:
    written = StoreWriter.put

    def full(self: StoreWriter, name: str, **arrays: Any) -> Any:
        if name == "c1":
            raise StorageError(f"{self.path}: cannot be written ([Errno 28] No space left on device): free some space")
        return written(self, name, **arrays)

    with monkeypatch.context() as patched:
        patched.setattr(StoreWriter, "put", full)
        with pytest.raises(StorageError, match=r"Errno 28.*what is done is kept: run the same command again"):
            run(table)
    assert not (tmp_path / "out.h5").exists()
    work.seen.clear()
    report = run(table)
    assert (report.kept, report.skipped, work.seen) == (2, {}, ["c1", "d1"])


def test_live_streams_without_an_end_are_refused_before_any_work(tmp_path: Path, work: _Work) -> None:
    sources = [Source("a1", "a1.mp4"), Source("door", "rtsp://camera/door"), Source("film", "http://host/film.mp4")]
    with pytest.raises(ConfigError, match=r"^rtsp://camera/door: may never end: give max_seconds$"):
        extract(sources, tmp_path / "out.h5", Extraction(), work=work)
    assert work.seen == []


def test_a_password_does_not_become_a_name() -> None:
    (source,) = find_videos("rtsp://me:p/secret@camera")
    assert "secret" not in source.name
