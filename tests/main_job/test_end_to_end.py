"""Train, export and replay on real recordings through the command line; and a run that was killed on the way."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

import coadtr
from coadtr.data import FeatureStore
from coadtr.training import TrainingSettings, train
from tests.cli.calling import succeed
from tests.forking import command, forked
from tests.main_job.conftest import EPOCHS, RUN


def test_the_report_shows_what_was_learnt(finished: Path) -> None:
    report = json.loads((finished / "run/replay/report.json").read_text())
    assert report["videos"] == 4
    assert report["frames_scored"] == report["frames_total"] == 10_424
    assert len(report["per_class_AP"]) == 7
    # Scores that know nothing get the share of the class, 0.14 in the mean; a linear classifier of frames gets 0.46.
    assert report["mAP"] > 0.5
    assert min(report["per_class_AP"].values()) > 0.3
    assert report["accuracy"] > 0.4
    assert report["state_bytes_per_stream"] > 2 * 64 * 32 * 4


def test_the_best_epoch_was_chosen_on_the_validation_videos(finished: Path) -> None:
    best, last = (coadtr.load(finished / name / "checkpoint").origin["metric"] for name in ("run", "last"))
    assert best["split"] == "validation"
    assert best["value"] >= last["value"]
    assert last["epoch"] == 2


def test_a_killed_run_goes_on_to_the_same_weights(finished: Path) -> None:
    words = ("train", *RUN, EPOCHS, "out=killed")
    last = finished / "killed/lightning/last.ckpt"
    with forked(command, *words, folder=finished) as training:
        deadline = time.monotonic() + 300
        while not last.exists():
            assert training.process.is_alive(), "training ended without a last epoch"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        training.process.kill()
        assert training.wait().code == -signal.SIGKILL
    assert not (finished / "killed/checkpoint").exists()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the killed process
    try:
        resumed = succeed(*words, folder=finished)
    finally:
        torch.set_num_threads(threads)
    metric, wanted = (coadtr.load(finished / name / "checkpoint").origin["metric"] for name in ("killed", "run"))
    assert metric == wanted
    assert f"validation mAP {wanted['value']:.4f} in epoch {wanted['epoch']}" in resumed
    succeed("export", "run=killed", "which=last", "out=killed/last", folder=finished)
    for one, other in (("killed/checkpoint", "run/checkpoint"), ("killed/last", "last/checkpoint")):
        expected = coadtr.load(finished / other).model.state_dict()
        for name, tensor in coadtr.load(finished / one).model.state_dict().items():
            assert torch.equal(tensor, expected[name]), f"{one}: {name}"


class Interrupt(Callback):
    """Press Ctrl-C in the first epoch."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_run_says_so_and_leaves_the_signal_alone(exercises: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    model = {"kind": "cooadtr", "window": 8, "embed_dim": 8, "ff_dim": 8, "num_heads": 2}
    settings = TrainingSettings(max_epochs=1, batch_size=8, accelerator="cpu")
    with FeatureStore.open(exercises / "data/exercises.h5") as store, pytest.raises(KeyboardInterrupt):
        train(store, model, settings, exercises / "interrupted", progress=False, callbacks=[Interrupt()])
    assert signal.getsignal(signal.SIGINT) is before
    assert not (exercises / "interrupted/checkpoint").exists()
