"""Training on recordings of one class: what carries loss, what is trimmed, what is logged, what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from coadtr.checkpoint import load
from coadtr.data import NO_LOSS, ClipDataset, FeatureStore, SequenceDataset, StoreWriter
from coadtr.errors import ConfigError, DataError
from coadtr.models import OadTR, OnlineModel, build_model, preset
from coadtr.models.registry import PRESETS
from coadtr.training import TrainingSettings, train
from coadtr.training.batches import OrNothing, trimmed
from coadtr.training.datamodule import FeatureDataModule

SIZES = {"embed_dim": 16, "num_heads": 2, "ff_dim": 16, "window": 8, "num_positions": 8, "positions": "learned"}
B1, B2 = ({"kind": "cooadtr", "depth": depth, **SIZES, "dropout": 0.0} for depth in (1, 2))
MakeRecordings = Callable[..., FeatureStore]


@pytest.fixture
def recordings(tmp_path: Path) -> MakeRecordings:
    """Return a function that writes a store of recordings of 3 to 14 frames, each of one of three classes."""

    def make(
        name: str = "clips.h5", *, attributes: dict[str, object] | None = None, mixed: bool = False
    ) -> FeatureStore:
        generator = np.random.default_rng(1)
        centres = generator.normal(size=(3, 5)) * 1.5
        told = {"task": "audio"} if attributes is None else attributes
        with StoreWriter(
            tmp_path / name, class_names=["yes", "no", "stop"], streams={"audio": 5}, attributes=told
        ) as writer:
            for number in range(40):
                split = ("train", "train", "train", "validation", "test")[number % 5]
                frames, label = int(generator.integers(3, 15)), number % 3
                noisy = (centres[label] + generator.normal(size=(frames, 5))).astype(np.float32)
                labels = np.full(frames, label)
                if mixed and number == 3:
                    labels[-1] = (label + 1) % 3
                writer.add(f"r{number:02}", split=split, rate_hz=10.0, features={"audio": noisy}, labels=labels)
        return FeatureStore(tmp_path / name)

    return make


def settings(**changes: Any) -> TrainingSettings:
    values: dict[str, Any] = {"max_epochs": 3, "batch_size": 4, "sequence_length": 16, "learning_rate": 5e-3}
    return TrainingSettings(**{**values, "schedule": "constant", "accelerator": "cpu", **changes})


@pytest.mark.parametrize("heard", [1, 2, 5])
def test_labels_before_so_many_frames_are_no_loss(recordings: MakeRecordings, heard: int) -> None:
    store = recordings()
    spans = SequenceDataset(store, "train", length=16, context=3, heard=heard)
    for item in (spans[index] for index in range(len(spans))):
        carries = (item["labels"] != NO_LOSS).numpy()
        frames = store.videos("train")[int(item["video"])].frames
        assert carries.tolist() == [heard - 1 <= place < frames for place in range(len(carries))]
    clips = ClipDataset(store, "train", window=8, learnt=3, shortest=1, heard=heard)
    lasts = [(int(clip["first_frame"]) + 7, clip["labels"].tolist()) for clip in (clips[i] for i in range(len(clips)))]
    assert len(lasts) == sum(max(0, record.frames - heard + 1) for record in store.videos("train"))
    for last, labels in lasts:
        assert [label != NO_LOSS for label in labels] == [last - 2 + place >= heard - 1 for place in range(3)]


def test_recordings_that_are_all_too_short_are_refused(recordings: MakeRecordings) -> None:
    store = recordings()
    with pytest.raises(DataError, match="no frame to learn from that comes after 29 others"):
        SequenceDataset(store, "train", length=16, context=3, heard=30)
    with pytest.raises(DataError, match="no clip of 30 frames to learn from"):
        ClipDataset(store, "train", window=8, shortest=1, heard=30)


@pytest.mark.parametrize("model", [B1, B2], ids=["sequences", "clips"])
def test_a_trimmed_batch_teaches_what_the_whole_one_does(recordings: MakeRecordings, model: dict[str, Any]) -> None:
    sequences = model["depth"] == 1
    built = build_model({**model, "input_dim": 5, "num_classes": 3}).double().eval()
    data = FeatureDataModule(recordings(), model=built, sequences=sequences, settings=settings(), task="audio")
    samples = [data.training[index] for index in range(0, 12, 2)]
    whole, part = torch.utils.data.default_collate(samples), trimmed(samples)
    assert part["frames"].shape[1] < whole["frames"].shape[1]
    learn = built.learn_sequence if sequences else built.learn_start
    full, less = (learn(batch["frames"].double(), batch["first_frame"]).now for batch in (whole, part))
    kept = whole["labels"] != NO_LOSS
    torch.testing.assert_close(full[kept], less[part["labels"] != NO_LOSS], rtol=0, atol=1e-12)
    assert whole["labels"][kept].tolist() == part["labels"][part["labels"] != NO_LOSS].tolist()


def test_a_batch_of_nothing_is_trimmed_to_a_frame(recordings: MakeRecordings) -> None:
    spans = OrNothing(SequenceDataset(recordings(), "train", length=16, context=3))
    batch = trimmed([spans[-1]])
    assert batch["frames"].shape == (1, 1, 5)
    assert (batch["labels"] == NO_LOSS).all()


@pytest.mark.parametrize("model", [B1, B2], ids=["sequences", "clips"])
def test_a_run_learns_logs_the_accuracy_at_the_end_and_keeps_its_task(
    recordings: MakeRecordings, tmp_path: Path, model: dict[str, Any]
) -> None:
    lines: list[str] = []
    store = recordings()
    result = train(store, model, settings(max_epochs=6), tmp_path / "run", progress=False, say=lines.append)
    curves = pd.read_csv(tmp_path / "run/logs/csv/version_0/metrics.csv").groupby("epoch").last()
    spec = load(result.checkpoint).spec
    assert spec.task == "audio"
    assert json.loads((tmp_path / "run/run.json").read_text())["data"]["task"] == "audio"
    assert " (task audio) in " in lines[0]
    assert "val_clip_accuracy" in lines[1]
    detector, right = load(result.checkpoint).model, []
    for record in store.videos("validation"):
        with torch.no_grad():
            logits = detector(torch.from_numpy(store.features(record.name))[None])[0, -1]
        right.append(int(logits.argmax()) == store.labels(record.name)[-1])
    assert curves["val_clip_accuracy"][result.epoch] == pytest.approx(np.mean(right))
    assert np.mean(right) > 0.7


def test_the_store_says_the_task_and_the_caller_may(recordings: MakeRecordings, tmp_path: Path) -> None:
    store = recordings()
    result = train(store, B1, settings(max_epochs=1), tmp_path / "frames", task="oad", progress=False)
    assert load(result.checkpoint).spec.task == "oad"
    assert "task" not in json.loads((tmp_path / "frames/checkpoint/config.json").read_text())
    plain = recordings("plain.h5", attributes={})
    assert plain.task == "oad"
    result = train(plain, B1, settings(max_epochs=1), tmp_path / "clips", task="audio", progress=False)
    assert load(result.checkpoint).spec.task == "audio"


def test_what_does_not_fit_is_refused_before_a_step(recordings: MakeRecordings, tmp_path: Path) -> None:
    out = tmp_path / "run"
    store = recordings()
    with pytest.raises(ConfigError, match="task must be one of oad, audio, got 'speech'"):
        train(store, B1, settings(), out, task="speech")
    with pytest.raises(ConfigError, match="shortest_clip=4 is of whole recordings, and task=oad has a class a frame"):
        train(store, B1, settings(shortest_clip=4), out, task="oad")
    with pytest.raises(ConfigError, match="shortest_clip=9 is above the window of 8 frames"):
        train(store, B2, settings(shortest_clip=9), out)
    with pytest.raises(DataError, match=r"video 'r03' shows .*, and a recording is of one class: use task=oad"):
        train(recordings("mixed.h5", mixed=True), B1, settings(), out)
    with pytest.raises(DataError, match="attribute 'task' is 'speech': it must be one of 'oad', 'audio'"):
        train(recordings("odd.h5", attributes={"task": "speech"}), B1, settings(), out)
    assert not (out / "lightning").exists()


SHRUNK: dict[str, Any] = (
    {"embed_dim": 8, "hidden_dim": 8, "ff_dim": 8, "num_heads": 2, "window": 8, "normalise": True}
    | {"dropout": 0.0, "attention_dropout": 0.0, "input_dropout": 0.0, "num_positions": 15, "num_landmarks": 4}
    | {"decoder_steps": 3, "decoder_queries": 3, "work_frames": 4, "long_stride": 2}
    | {"long_queries": 3, "memory_queries": 3}
)


def small(name: str, **changes: Any) -> OnlineModel:
    """Build a preset at a small size."""
    known = preset(name, input_dim=4, num_classes=3).to_dict()
    sizes = {key: value for key, value in {**SHRUNK, **changes}.items() if key in known}
    torch.manual_seed(0)
    model = build_model(preset(name, input_dim=4, num_classes=3, **sizes)).double().eval()
    model.inputs.set_statistics(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.0, 1.0, 1.0, 3.0]))
    return model


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_starts_of_recordings_are_learnt_as_steps_answer_them(name: str) -> None:
    model = small(name)
    window, learnt = model.window, model.frames_learnt
    least = 1 if model.learns_starts else model.shortest_clip
    exist = [window, window - 1, least, 5, least, window - 3]
    frames = torch.randn(len(exist), window, 4, dtype=torch.float64)
    samples = []
    for row, count in zip(frames, exist, strict=True):
        clip = torch.zeros(window, 4, dtype=torch.float64)
        clip[window - count :] = row[:count]
        first, labels = torch.tensor(count - window), torch.zeros(learnt, dtype=torch.int64)
        samples.append({"frames": clip, "first_frame": first, "labels": labels})
    for rows in (range(len(exist)), [2, 4], [3, 5]):  # with and without frames that none of the batch has
        batch = trimmed([samples[row] for row in rows])
        with torch.no_grad():
            found = model.learn_start(batch["frames"], batch["first_frame"])
        assert found.now.shape[:2] == batch["labels"].shape
        assert model.frames_ahead == (0 if found.ahead is None else found.ahead.shape[2])
        for place, row in enumerate(rows):
            state = model.init_state(1)
            with torch.no_grad():
                for frame in frames[row, : exist[row]]:
                    logits, state = model.step(frame[None], state)
            torch.testing.assert_close(found.now[place, -1], logits[0], rtol=0, atol=1e-9)


def test_what_is_ahead_at_the_start_of_a_recording_is_learnt_as_steps_answer_it() -> None:
    model = small("oadtr")
    assert isinstance(model, OadTR)
    frames = torch.randn(1, 3, 4, dtype=torch.float64)
    clip = torch.cat([torch.zeros(1, 5, 4, dtype=torch.float64), frames], 1)
    with torch.no_grad():
        found = model.learn_start(clip, torch.tensor([-5])).ahead
        state = model.init_state(1)
        for frame in frames[0]:
            _, ahead, state = model.step_ahead(frame[None], state)
    assert found is not None
    torch.testing.assert_close(found[:, 0], ahead, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["lstr", "testra", "cmert"])
def test_a_window_of_nothing_but_work_memory_learns_recordings(name: str) -> None:
    model = small(name, work_frames=8)
    frames = torch.randn(2, 8, 4, dtype=torch.float64)
    with torch.no_grad():
        found = model.learn_start(frames, torch.tensor([0, 3])).now
        torch.testing.assert_close(found, model.learn_clip(frames, torch.tensor([0, 3])).now)
    assert found.shape == (2, model.frames_learnt, 3)
