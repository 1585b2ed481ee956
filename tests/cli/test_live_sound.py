"""``coadtr live`` on sound: the answers of the checkpoint on the features of the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from coadtr.audio import log_mel_preset, read_audio
from coadtr.checkpoint import CheckpointSpec, OnlineDetector, save_checkpoint
from coadtr.models import build_model
from tests.audio.writing import chirp, write_wav
from tests.cli.calling import refuse, succeed
from tests.models.sizes import small
from tests.video.writing import write_video

CLASSES = ("zero", "one", "two")
FRONT_END = log_mel_preset("telephone")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a recording, a checkpoint that hears, and one that hears and sees."""
    folder = tmp_path_factory.mktemp("live")
    write_wav(folder / "speech.wav", chirp(0.9, 22050, channels=2), 22050)
    write_video(folder / "film.mp4", frames=9)
    record = FRONT_END.describe()
    for name, streams in (("checkpoint", {"audio": 64}), ("both", {"rgb": 1280, "audio": 64})):
        torch.manual_seed(1)
        model = build_model(small("cooadtr_b1", input_dim=sum(streams.values()))).eval()
        spec = CheckpointSpec(
            model=model.config,
            class_names=CLASSES,
            background=None,
            ignored=None,
            streams=streams,
            rate_hz=100.0,
            extractors={"audio": record},
        )
        save_checkpoint(folder / name, model, spec, {})
    return folder


def test_answers_are_those_of_the_checkpoint_on_the_whole_file(folder: Path) -> None:
    words = ("source=speech.wav", "checkpoint=checkpoint", "realtime=false", "json=out.jsonl", "overwrite=true")
    said = succeed("live", *words, folder=folder)
    *rows, last = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    features = FRONT_END.features(read_audio(folder / "speech.wav", rate_hz=8000)[0])
    scores = OnlineDetector.load(folder / "checkpoint").push_many(features)
    np.testing.assert_allclose([[row["scores"][name] for name in CLASSES] for row in rows], scores, atol=1e-4)
    np.testing.assert_allclose([row["time"] for row in rows], [FRONT_END.complete_s(at) for at in range(len(rows))])
    assert last["end"] == len(rows) == len(features) == 88
    assert "blocks, 88 answers (0 held, 0 left out)" in said
    assert "listening to speech.wav: 100 answers a second" in said
    assert ", features 0." in said
    assert "networks" not in said
    (folder / "out.jsonl").unlink()


def test_a_microphone_at_its_own_speed(folder: Path, tmp_path: Path) -> None:
    place = "source=microphone:lavfi:sine=frequency=440:duration=0.4"
    succeed("live", place, "checkpoint=checkpoint", f"json={tmp_path}/out.jsonl", "late=wait", folder=folder)
    rows = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["end"] == 38


@pytest.mark.parametrize(
    ("words", "code", "names"),
    [
        ("checkpoint=checkpoint source=nothing.wav", 1, ("nothing.wav: cannot be opened", "give a sound file")),
        ("checkpoint=checkpoint source=film.mp4", 1, ("film.mp4: has no sound (it holds video)",)),
        ("checkpoint=checkpoint source=checkpoint/spec.json", 1, ("checkpoint/spec.json: ",)),
        ("checkpoint=checkpoint source=camera:0", 2, ("camera:0 is not heard", "microphone:0")),
        ("checkpoint=checkpoint source=speech.wav video=out.mp4", 2, ("video=out.mp4: the checkpoint takes sound",)),
        ("checkpoint=both source=speech.wav", 2, ("takes 'rgb', 'audio', and 'rgb' is not made of sound",)),
        ("checkpoint=checkpoint source=microphone:alsa:nobody_has_it", 1, ("check that it is connected",)),
    ],
)
def test_what_cannot_be_heard_ends_with_one_line(folder: Path, words: str, code: int, names: tuple[str, ...]) -> None:
    refuse("live", *words.split(), folder=folder, code=code, names=names)
