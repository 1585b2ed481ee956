"""``coadtr extract`` as a user calls it, and as one who kills it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coadtr.data import FeatureStore
from tests.cli.calling import call, environment, refuse, succeed

FAST = ("backbone=mobilenet_v3_small", "weights=random", "dtype=float32")


def test_extract_and_label(clips: Path, tmp_path: Path) -> None:
    out = succeed("extract", "videos=clips", "out=features.h5", *FAST, folder=tmp_path)
    assert "streams: rgb 1024 · rate: 4 Hz" in out
    assert "coadtr data import format=csv source=segments.csv options.features=features.h5" in out
    assert "186 video frames in " in out
    refuse("extract", "videos=clips", "out=features.h5", *FAST, folder=tmp_path, code=2, names=("exists",))
    (tmp_path / "segments.csv").write_text("video,start,end,label\na,0,1,lift\nb,1,2,turn\n")
    labelled = succeed(
        *("extract", "videos=clips", "out=labelled.h5", "segments=segments.csv", "labels.rule=lstr", *FAST),
        *("labels.test_fraction=0.5", "labels.validation_fraction=0.4"),
        folder=tmp_path,
    )
    assert "label_rule: lstr" in labelled
    with FeatureStore(tmp_path / "labelled.h5") as store, FeatureStore(tmp_path / "features.h5") as plain:
        assert (store.features("a") == plain.features("a")).all()
        assert store.extractors == plain.extractors
        assert store.labels("a").tolist() == [1, 1, 1, 1, 0]


def test_a_dry_run_writes_nothing(clips: Path, tmp_path: Path) -> None:
    (clips / "text.mp4").write_text("no video")
    out = succeed("extract", "videos=clips/*.mp4", "out=features.h5", "dry_run=true", folder=tmp_path)
    assert "128x96" in out
    assert "about 8 at 4 Hz" in out
    assert "skipped: " in out
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


def test_a_broken_video_is_no_failure_unless_all_are(clips: Path, tmp_path: Path) -> None:
    (clips / "text.mp4").write_text("no video")
    outcome = call("extract", "videos=clips", "out=features.h5", *FAST, "sampling=oadtr", folder=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert "skipped: video 'text': cannot be opened" in outcome.out
    refuse(
        *("extract", "videos=clips/text.mp4", "out=none.h5", *FAST),
        folder=tmp_path,
        code=1,
        names=("none of 1 videos can be used", "'text'"),
    )


@pytest.mark.parametrize(
    ("words", "code", "names"),
    [
        (("videos=nowhere", "out=a.h5"), 1, ("nowhere", "no such file or folder")),
        (("videos=clips", "out=a.h5", "backbone=resnet51"), 2, ("resnet51", "did you mean")),
        (("videos=clips", "out=a.h5", "sampling=lstm"), 2, ("sampling", "lstr, oadtr, rate")),
        (("videos=clips", "out=a.h5", "sampling=rate", "sampling.rate_hz=-1"), 2, ("rate_hz=-1",)),
        (("videos=clips", "out=a.h5", "dtype=int8"), 2, ("int8", "float16")),
        (("videos=clips", "out=a.h5", "workers=0"), 2, ("workers",)),
        (("videos=clips", "out=a.h5", "segments=none.csv"), 1, ("none.csv", "no such file")),
        (("videos=clips", "out=a.h5", "labels.seed=x"), 2, ("labels.seed",)),
        (("out=a.h5",), 2, ("videos=... must be given",)),
    ],
)
def test_bad_calls(clips: Path, tmp_path: Path, words: tuple[str, ...], code: int, names: tuple[str, ...]) -> None:
    refuse("extract", *words, folder=tmp_path, code=code, names=names)


@pytest.mark.parametrize(
    ("words", "code", "names"),
    [
        (("labels.overlap=fist",), 2, ("labels.overlap='fist'",)),
        (("labels.ignored=nonsense",), 2, ("labels.ignored='nonsense' is no class",)),
        (("labels.rule=lstr", "sampling=oadtr"), 2, ("labels.rule=lstr", "sampling=oadtr")),
        (("labels.test_fraction=2",), 2, ("labels.test_fraction=2",)),
        (("labels.unlisted=skip",), 2, ("segments.csv: 2 videos", "column split", "labels.test_fraction=0")),
        (("videos=clips/a.mp4",), 1, ("'b' is not among the videos", "labels.missing=skip")),
        (("videos=[clips,'rtsp://camera/1']",), 2, ("rtsp://camera/1: may never end: give max_seconds",)),
    ],
)
def test_what_can_be_known_is_refused_before_any_work(
    clips: Path, tmp_path: Path, words: tuple[str, ...], code: int, names: tuple[str, ...]
) -> None:
    (tmp_path / "segments.csv").write_text("video,start,end,label\na,0,1,lift\nb,1,2,turn\n")
    calls = ("videos=clips", "out=a.h5", "segments=segments.csv", *words)
    last = {word.partition("=")[0]: word for word in calls}
    for dry_run in ("true", "false"):
        refuse("extract", *last.values(), f"dry_run={dry_run}", folder=tmp_path, code=code, names=names)


def test_remedies_of_an_import_are_settings(clips: Path, tmp_path: Path) -> None:
    succeed("extract", "videos=clips", "out=features.h5", *FAST, folder=tmp_path)
    (tmp_path / "segments.csv").write_text("video,start,end,label\na,0,9,lift\nkitchen,1,2,turn\n")
    words = ("data", "import", "format=csv", "source=segments.csv", "out=out.h5", "options.features=features.h5")
    for more, code, name in (
        ((), 1, "'kitchen' (row 3) has no features: add them, drop its rows, or say options.missing=skip"),
        (("options.missing=skip",), 1, "or say options.outside=cut to drop"),
        (("options.missing=skip", "options.rate_hz=5"), 1, "made at 4 Hz: drop options.rate_hz"),
        (("options.missing=skip", "options.unlisted=error"), 1, "say options.unlisted=background"),
        (("options.missing=skip", "options.seed=-1"), 2, "options.seed=-1: give 0"),
    ):
        refuse(*words, *more, folder=tmp_path, code=code, names=(name,))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on_with_the_same_bytes(
    tmp_path: Path, write_video: Callable[..., Path], workers: int
) -> None:
    (tmp_path / "clips").mkdir()
    for name in "abcdef":
        write_video(tmp_path / "clips" / f"{name}.mp4", 400, size=(96, 128))
    words = ["-m", "coadtr.cli.main", "extract", "videos=clips", *FAST, f"workers={workers}", "batch_size=8"]
    running = subprocess.Popen(  # noqa: S603 - our own interpreter and files
        [sys.executable, *words, "out=killed.h5"], cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL
    )
    parts = tmp_path / ".killed.h5.parts"
    deadline = time.monotonic() + 240
    while len(list(parts.glob("*.h5"))) < 2 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    done = len(list(parts.glob("*.h5")))
    assert 2 <= done < 6
    assert not (tmp_path / "killed.h5").exists()
    out = succeed("extract", "videos=clips", *FAST, "batch_size=8", "out=killed.h5", folder=tmp_path)
    assert f"{done} videos were kept" in out
    succeed("extract", "videos=clips", *FAST, "batch_size=8", "out=whole.h5", folder=tmp_path)
    assert (tmp_path / "killed.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
