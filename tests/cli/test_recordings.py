"""Whole recordings through the commands: train, replay, report; and the feature streams by their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coadtr.checkpoint import load
from coadtr.data import StoreWriter, read_scores
from tests.cli.calling import SMALL, refuse, succeed

REPLAY = ("replay", "checkpoint=run/checkpoint", "data=clips.h5", "latency=null", "details.resamples=50")


def write_recordings(path: Path, *, record: dict[str, str] | None = None) -> Path:
    """Write 36 recordings of two streams, each of one of three classes."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(3, 6)) * 1.5
    told: dict[str, object] = {"task": "audio"} | ({"extractors": {"audio": record}} if record else {})
    streams = {"audio": 4, "extra": 2}
    with StoreWriter(path, class_names=["yes", "no", "stop"], streams=streams, attributes=told) as writer:
        for number in range(36):
            split = ("train", "train", "validation", "test")[number % 4]
            frames, label = int(generator.integers(4, 20)), number % 3
            noisy = (centres[label] + 1.5 * generator.normal(size=(frames, 6))).astype(np.float32)
            features = {"audio": noisy[:, :4], "extra": noisy[:, 4:]}
            writer.add(f"r{number}", split=split, rate_hz=10.0, features=features, labels=np.full(frames, label))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store of recordings, and a run on it."""
    folder = tmp_path_factory.mktemp("recordings")
    write_recordings(folder / "clips.h5", record={"window_s": "0.4", "hop_s": "0.1", "patch_frames": "1"})
    words = ("dataset.path=clips.h5", "trainer.max_epochs=3", "trainer.sequence_length=20", "out=run")
    told = succeed("train", *SMALL, *words, "trainer.shortest_clip=2", folder=folder)
    assert "val_clip_accuracy" in told
    assert "at the end" in " ".join(told.split()) or "right at" in told
    return folder


def clips_of(folder: Path, out: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / out / "report.json").read_text())
    found: dict[str, Any] = report["clips"]
    return found


def test_a_replay_scores_the_recordings(place: Path) -> None:
    told = succeed(*REPLAY, "out=last", folder=place)
    assert "right at their end, of 9" in " ".join(told.split())
    assert "by share listened" in told
    words = " ".join(told.replace("│", " ").split())
    clips, videos = clips_of(place, "last"), read_scores(place / "last/scores.h5").videos
    right = [video.scores[-1].argmax() == video.labels[-1] for video in videos]
    assert clips["accuracy"] == pytest.approx(np.mean(right))
    assert (clips["recordings"], clips["answer"]) == (9, "last")
    # The first feature takes in 0.4 s, so that no answer is there before.
    curve = dict(zip(clips["by_seconds"]["seconds"], clips["by_seconds"]["accuracy_all"], strict=True))
    assert {at for at, value in curve.items() if value == 0} >= {at for at in curve if at < 0.4 - 1e-9} != set()
    assert max(curve) == pytest.approx(0.4 + (max(len(video.labels) for video in videos) - 1) / 10)
    assert curve[max(curve)] == clips["accuracy"]
    assert f"{100 * clips['accuracy']:.2f} % at {max(curve):.4g} s" in words, "the last of the times listened"
    assert np.array(clips["confusion"]).trace() == sum(right)


def test_sound_that_was_joined_to_frames_is_known_with_the_frame(place: Path, tmp_path: Path) -> None:
    record = {"window_s": "0.025", "hop_s": "0.01", "patch_frames": "1", "align": "mean"}
    write_recordings(tmp_path / "joined.h5", record=record)
    words = ("dataset.path=joined.h5", "trainer.max_epochs=1", "trainer.sequence_length=20", "out=run")
    succeed("train", *SMALL, *words, folder=tmp_path)
    succeed(*REPLAY[:2], "data=joined.h5", *REPLAY[3:], "out=joined", folder=tmp_path)
    longest = max(len(video.labels) for video in read_scores(tmp_path / "joined/scores.h5").videos)
    assert clips_of(tmp_path, "joined")["by_seconds"]["seconds"][-1] == pytest.approx(longest / 10)


def test_a_detector_of_actions_has_no_answer_of_recordings(place: Path, tmp_path: Path) -> None:
    words = ("trainer.max_epochs=1", "trainer.sequence_length=20", "task=oad", f"out={tmp_path / 'frames'}")
    succeed("train", *SMALL, "dataset.path=clips.h5", *words, folder=place)
    replay = ("replay", f"checkpoint={tmp_path / 'frames/checkpoint'}", *REPLAY[2:], "out=new", "clips.answer=mean")
    refuse(*replay, folder=place, code=2, names=("clips.answer=mean", "task=oad", "clips.answer=last"))


def test_a_finished_run_of_an_earlier_version_is_kept_by_a_sweep(place: Path, tmp_path: Path) -> None:
    words = ("train", "-m", *SMALL, f"dataset.path={place / 'clips.h5'}", "task=oad", "trainer.max_epochs=1", "name=s")
    succeed(*words, "seed=0", folder=tmp_path)
    (path,) = (tmp_path / "runs").rglob("run.json")
    record = json.loads(path.read_text())
    del record["training"]["shortest_clip"]
    path.write_text(json.dumps(record))
    weights = path.parent / "checkpoint/model.safetensors"
    before = weights.stat().st_mtime_ns
    succeed(*words, "seed=0", folder=tmp_path)
    assert weights.stat().st_mtime_ns == before


def test_the_mean_of_the_scores_may_answer(place: Path) -> None:
    succeed(*REPLAY, "out=mean", "clips.answer=mean", folder=place)
    clips, videos = clips_of(place, "mean"), read_scores(place / "mean/scores.h5").videos
    right = [video.scores.mean(0).argmax() == video.labels[-1] for video in videos]
    assert clips["accuracy"] == pytest.approx(np.mean(right))
    refuse(
        *REPLAY, "out=new", "clips.answer=first", folder=place, code=2, names=("clips.answer", "'first'", "last, mean")
    )


def test_a_page_shows_the_time_listened(place: Path) -> None:
    pytest.importorskip("altair")
    succeed(*REPLAY, "out=paged", folder=place)
    told = succeed("report", "paged", "out=page", folder=place)
    assert "right at the end (%)" in told
    page = next((place / "page").glob("*.html")).read_text()
    assert "Accuracy by the time listened" in page
    assert "Right at the end" in page


def test_a_checkpoint_for_recordings_is_for_recordings(place: Path) -> None:
    path = place / "mixed.h5"
    with StoreWriter(path, class_names=["yes", "no", "stop"], streams={"audio": 4, "extra": 2}) as writer:
        features = {"audio": np.ones((5, 4), "f4"), "extra": np.ones((5, 2), "f4")}
        writer.add("a", split="test", rate_hz=10.0, features=features, labels=[0, 0, 1, 1, 1])
    refuse(*REPLAY[:2], "data=mixed.h5", "out=new", folder=place, code=1, names=("video 'a'", "yes", "one class"))


def test_streams_are_named_among_the_features(place: Path) -> None:
    words = ("train", *SMALL, "dataset.path=clips.h5", "trainer.max_epochs=1", "trainer.sequence_length=20")
    succeed(*words, "features.streams=[extra]", "out=one", folder=place)
    assert load(place / "one/checkpoint").spec.streams == {"extra": 2}
    new = ("dataset.streams", "features.streams")
    refuse(*words, "dataset.streams=[extra]", "out=two", folder=place, code=2, names=new)
    refuse(*words, "+dataset.streams=[extra]", "out=two", folder=place, code=2, names=new)
    refuse(*words, "features.streams=[video]", "out=two", folder=place, code=1, names=("'video'", "'audio', 'extra'"))
    empty = ("features.streams must be a list of names", "[]")
    refuse(*words, "features.streams=[]", "out=two", folder=place, code=2, names=empty)
    refuse(*words, "task=speech", "out=two", folder=place, code=2, names=("'speech'", "oad, audio"))
