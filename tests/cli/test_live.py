"""``coadtr live``: answers of a video while it goes on are those of a replay of its features."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from coadtr.checkpoint import CheckpointSpec, OnlineDetector, save_checkpoint
from coadtr.cli.main import config_folder
from coadtr.models import build_model
from coadtr.runtime import EventSettings, GapPolicy
from coadtr.video import Extraction, Sampling, Source, extract_video, load_backbone
from tests.cli.calling import environment, refuse, succeed
from tests.models.sizes import small
from tests.video.writing import write_video

CLASSES = ("rest", "lift", "unclear")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a film, a checkpoint whose features its backbone makes, and one of other features."""
    folder = tmp_path_factory.mktemp("live")
    write_video(folder / "film.mp4", frames=90, size=(96, 128))
    made = {"rgb": load_backbone().describe(Sampling())}
    for name, extractors in (("checkpoint", made), ("blind", {})):
        torch.manual_seed(1)
        model = build_model(small("cooadtr_b1", input_dim=1280)).eval()
        spec = CheckpointSpec(
            model=model.config,
            class_names=CLASSES,
            background=0,
            ignored=2,
            streams={"rgb": 1280},
            rate_hz=4.0,
            extractors=extractors,
        )
        save_checkpoint(folder / name, model, spec, {})
    return folder


def test_answers_are_those_of_the_detector_on_extracted_features(folder: Path) -> None:
    words = ("source=film.mp4", "checkpoint=checkpoint", "realtime=false", "overwrite=true")
    said = succeed("live", *words, "json=out.jsonl", "video=out.mp4", folder=folder)
    *rows, last = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    features = extract_video(Source("film", str(folder / "film.mp4")), Extraction(dtype="float32")).features["rgb"]
    scores = OnlineDetector.load(folder / "checkpoint").push_many(features)
    found = [[row["scores"][name] for name in CLASSES] for row in rows]
    np.testing.assert_allclose(found, scores, atol=1e-4)
    assert [row["time"] for row in rows] == [index / 4 for index in range(len(rows))]
    assert last["end"] == len(rows) == 12
    with av.open(str(folder / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 90
    *_, counts, json_line, video_line = said.splitlines()
    assert counts.startswith("90 frames, 12 answers (0 held, 0 left out)")
    assert (json_line, video_line) == ("written to out.jsonl", "written to out.mp4")


def test_what_programs_read_is_not_mixed_with_what_people_read(folder: Path) -> None:
    outcome = subprocess.run(
        [
            sys.executable,
            "-m",
            "coadtr.cli.main",
            "live",
            "source=film.mp4",
            "checkpoint=checkpoint",
            "json=-",
            "realtime=false",
        ],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert rows[-1]["end"] == 12
    assert "90 frames, 12 answers" in outcome.stderr


def test_told_to_stop_it_brings_files_to_their_end(folder: Path, tmp_path: Path) -> None:
    # A camera that never ends; its name is taken as it is written.
    source = "source=camera:lavfi:testsrc=size=64x48:rate=24"
    words = (source, "checkpoint=checkpoint", f"json={tmp_path}/out.jsonl", f"video={tmp_path}/out.mp4")
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and words
        [sys.executable, "-m", "coadtr.cli.main", "live", *words],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    log, deadline = tmp_path / "out.jsonl", time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") >= 2):
        time.sleep(0.05)
    assert [path.name for path in tmp_path.glob("out.*")] == ["out.jsonl"]  # the video is not there yet
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "written to" in said
    assert json.loads(log.read_text().splitlines()[-1])["end"] >= 2
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) > 12


def test_the_settings_file_has_the_defaults_of_the_code() -> None:
    settings = OmegaConf.to_container(OmegaConf.load(config_folder() / "live.yaml"))
    assert isinstance(settings, dict)
    assert EventSettings.from_dict(settings["events"]) == EventSettings()
    assert GapPolicy(**settings["gaps"]) == GapPolicy()


@pytest.mark.parametrize(
    ("words", "code", "names"),
    [
        ("", 2, ("checkpoint=... must be given",)),
        ("checkpoint=checkpoint", 2, ("source=... must be given",)),
        ("checkpoint=nothing source=film.mp4", 1, ("nothing: there is no such folder",)),
        ("checkpoint=checkpoint source=nothing.mp4", 1, ("nothing.mp4: cannot be opened", "give a video file")),
        ("checkpoint=checkpoint source=checkpoint/spec.json", 1, ("checkpoint/spec.json: ",)),
        ("checkpoint=blind source=film.mp4", 2, ("does not say what made its features 'rgb'", "coadtr extract")),
        ("checkpoint=checkpoint source=film.mp4 late=never", 2, ("late must be one of hold, skip, wait",)),
        ("checkpoint=checkpoint source=film.mp4 max_lag=0", 2, ("max_lag=0.0: give seconds above 0",)),
        ("checkpoint=checkpoint source=film.mp4 max_seconds=-1", 2, ("max_seconds=-1.0: give a positive number",)),
        ("checkpoint=checkpoint source=film.mp4 video=out.txt", 2, ("out.txt: the ending says what is written",)),
        ("checkpoint=checkpoint source=film.mp4 video=film.mp4", 2, ("video=film.mp4 is there", "overwrite=true")),
        (
            "checkpoint=checkpoint source=film.mp4 video=film.mp4 overwrite=true",
            2,
            ("video=film.mp4 is the source: name another file",),
        ),
        ("checkpoint=checkpoint source=film.mp4 json=x.mp4 video=x.mp4", 2, ("json=x.mp4 is written twice",)),
        ("checkpoint=checkpoint source=film.mp4 json=no/x.jsonl", 1, ("no/x.jsonl: cannot be written",)),
        ("checkpoint=checkpoint source=nothing.mp4 json=x.jsonl", 1, ("nothing.mp4: cannot be opened",)),
        (
            "checkpoint=checkpoint source=rtsp://me:a$b,c@127.0.0.1:9/cam?channel=1&subtype=0",
            1,
            ("coadtr: error: rtsp://***@127.0.0.1:9/cam?***: cannot be opened",),
        ),
        ("checkpoint=checkpoint source=film.mp4 name=front/door page=true", 2, ("name='front/door': ",)),
        # The checkpoint says whether the source is seen or heard.
        ("checkpoint=nothing source=nothing.mp4", 1, ("nothing: there is no such folder",)),
        ("checkpoint=checkpoint source=microphone:0", 2, ("source=microphone:0 has no pictures", "give a camera")),
        ("checkpoint=checkpoint source=film.mp4 events.start=2", 2, ("events.start must be a number above 0",)),
        ("checkpoint=checkpoint source=film.mp4 device=warp", 2, ("warp",)),
        ("checkpoint=checkpoint source=film.mp4 page=true port=99999", 2, ("port must be from 0 to 65535, got 99999",)),
    ],
)
def test_what_cannot_be_watched_ends_with_one_line(folder: Path, words: str, code: int, names: tuple[str, ...]) -> None:
    for left in folder.glob("out.*"):
        left.unlink()
    refuse("live", *words.split(), folder=folder, code=code, names=names)
