"""Training runs: they learn, resume exactly, choose on validation, export, and refuse what cannot work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from coadtr.checkpoint import load
from coadtr.errors import CheckpointError, ConfigError, DataError, TrainingError
from coadtr.training import TrainingResult, TrainingSettings, export_run, train

from .conftest import MakeStore

MODEL = {
    "kind": "cooadtr",
    "depth": 1,
    "window": 8,
    "embed_dim": 16,
    "ff_dim": 16,
    "num_heads": 2,
    "normalise": True,
}


def settings(**changes: Any) -> TrainingSettings:
    base = {"max_epochs": 4, "batch_size": 2, "sequence_length": 32, "learning_rate": 1e-2, "schedule": "cosine"}
    return TrainingSettings(**{**base, "accelerator": "cpu", **changes})


class Kill(Callback):
    """Die in the middle of an epoch, as a killed process does."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.when = (epoch, batch)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if (trainer.current_epoch, args[2]) == self.when:
            raise ConnectionAbortedError


def weights(result: TrainingResult) -> dict[str, torch.Tensor]:
    return load(result.checkpoint).model.state_dict()


def test_training_learns_and_exports_a_checkpoint_that_says_where_it_came_from(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store = make_store()
    result = train(store, MODEL, settings(max_epochs=8), tmp_path / "run", command="coadtr train x", progress=False)
    assert result.validation_map > 0.6
    checkpoint = load(result.checkpoint)
    assert checkpoint.spec.streams == {"a": 4, "b": 2}
    assert checkpoint.origin["command"] == "coadtr train x"
    assert checkpoint.origin["metric"] == {
        "name": "mAP", "split": "validation", "value": result.validation_map, "epoch": result.epoch,
    }  # fmt: skip
    assert (tmp_path / "run/logs/csv/version_0/metrics.csv").exists()
    assert list((tmp_path / "run/logs/tensorboard").glob("events*"))


@pytest.mark.parametrize("kind", ["sequences", "windows"])
def test_a_killed_run_ends_as_an_uninterrupted_one(make_store: MakeStore, tmp_path: Path, kind: str) -> None:
    store, wanted = make_store(), settings(sampling=kind, batch_size=2 if kind == "sequences" else 32)
    whole = train(store, MODEL, wanted, tmp_path / "whole", progress=False)
    with pytest.raises(ConnectionAbortedError):
        train(store, MODEL, wanted, tmp_path / "killed", progress=False, callbacks=[Kill(2, 1)])
    assert not (tmp_path / "killed/checkpoint").exists()
    resumed = train(store, MODEL, wanted, tmp_path / "killed", progress=False)
    assert (resumed.validation_map, resumed.epoch) == (whole.validation_map, whole.epoch)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name
    last = [export_run(tmp_path / run, tmp_path / run / "last", which="last") for run in ("whole", "killed")]
    for name, tensor in weights(last[0]).items():
        assert torch.equal(tensor, weights(last[1])[name]), name


def test_a_killed_run_may_be_moved(make_store: MakeStore, tmp_path: Path) -> None:
    # The best epoch comes before the kill: a run that forgot it would choose a later one.
    store, wanted = make_store(), settings(learning_rate=3e-2, schedule="step", step_factor=30.0, gradient_clip=0.0)
    whole = train(store, MODEL, wanted, tmp_path / "whole", progress=False)
    with pytest.raises(ConnectionAbortedError):
        train(store, MODEL, wanted, tmp_path / "killed", progress=False, callbacks=[Kill(2, 1)])
    (tmp_path / "killed").rename(tmp_path / "moved")
    resumed = train(store, MODEL, wanted, tmp_path / "moved", progress=False)
    assert (resumed.validation_map, resumed.epoch) == (whole.validation_map, whole.epoch)
    assert whole.epoch < 2


def test_an_unfinished_run_may_be_exported_and_gone_on_with(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    whole = train(store, MODEL, settings(), tmp_path / "whole", progress=False)
    with pytest.raises(ConnectionAbortedError):
        train(store, MODEL, settings(), tmp_path / "run", progress=False, callbacks=[Kill(2, 1)])
    early = export_run(tmp_path / "run", tmp_path / "run/checkpoint", which="last")
    assert early.epoch == 1
    resumed = train(store, MODEL, settings(), tmp_path / "run", progress=False)
    assert (resumed.validation_map, resumed.epoch) == (whole.validation_map, whole.epoch)


def test_streams_in_another_order_are_another_run(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    with pytest.raises(ConnectionAbortedError):
        train(store, MODEL, settings(), tmp_path / "run", progress=False, streams=["a", "b"], callbacks=[Kill(1, 0)])
    with pytest.raises(ConfigError, match=r"started with data\.streams="):
        train(store, MODEL, settings(), tmp_path / "run", progress=False, streams=["b", "a"])


def test_a_run_that_learnt_nothing_yet_may_change_its_settings(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    with pytest.raises(TrainingError):
        train(store, MODEL, settings(learning_rate=1e30, gradient_clip=0.0), tmp_path / "run", progress=False)
    assert train(store, MODEL, settings(max_epochs=1), tmp_path / "run", progress=False).epoch == 0


@pytest.mark.parametrize("record", ["{}", "[]", '{"format": "coadtr-run", "version": 1}', "x"])
def test_a_damaged_record_is_refused(tmp_path: Path, record: str) -> None:
    (tmp_path / "run.json").write_text(record)
    with pytest.raises(ConfigError, match=r"run\.json (is not|lacks)"):
        export_run(tmp_path, tmp_path / "out")


def test_an_epoch_of_another_model_is_refused(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    for name, width in (("small", 16), ("wide", 32)):
        train(store, {**MODEL, "embed_dim": width}, settings(max_epochs=1), tmp_path / name, progress=False)
    shutil.copy(tmp_path / "small/lightning/best.ckpt", tmp_path / "wide/lightning/best.ckpt")
    with pytest.raises(CheckpointError, match=r"best\.ckpt is not an epoch of this run \(.*size mismatch"):
        export_run(tmp_path / "wide", tmp_path / "out")
    torch.save({"epoch": 1}, tmp_path / "wide/lightning/best.ckpt")
    with pytest.raises(CheckpointError, match=r"best\.ckpt is not an epoch of this run \('state_dict'\)"):
        export_run(tmp_path / "wide", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
@pytest.mark.parametrize("multi_hot", [False, True])
def test_other_precisions_train(make_store: MakeStore, tmp_path: Path, precision: str, multi_hot: bool) -> None:
    result = train(
        make_store(multi_hot=multi_hot), MODEL, settings(precision=precision), tmp_path / "run", progress=False
    )
    assert result.validation_map > 0.5


def test_a_run_killed_before_its_first_epoch_ended_starts_again(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    with pytest.raises(ConnectionAbortedError):
        train(store, MODEL, settings(), tmp_path / "run", progress=False, callbacks=[Kill(0, 0)])
    resumed = train(store, MODEL, settings(), tmp_path / "run", progress=False)
    whole = train(store, MODEL, settings(), tmp_path / "whole", progress=False)
    assert resumed.validation_map == whole.validation_map


def test_the_best_epoch_on_validation_is_exported(make_store: MakeStore, tmp_path: Path) -> None:
    # A learning rate that grows absurd after the first steps: the best epoch is not the last.
    wanted = settings(max_epochs=4, learning_rate=3e-2, schedule="step", step_factor=30.0, gradient_clip=0.0)
    result = train(make_store(), MODEL, wanted, tmp_path / "run", progress=False)
    last = export_run(tmp_path / "run", tmp_path / "last", which="last")
    assert result.epoch < last.epoch == 3
    assert not torch.equal(weights(result)["head.weight"], weights(last)["head.weight"])


def test_another_seed_gives_another_model(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    runs = [
        train(store, MODEL, settings(seed=seed, max_epochs=1), tmp_path / f"run{seed}", progress=False)
        for seed in (0, 1)
    ]
    assert not torch.equal(weights(runs[0])["head.weight"], weights(runs[1])["head.weight"])


@pytest.mark.parametrize("kind", ["sequences", "windows"])
def test_multi_hot_labels_train_with_sigmoids(make_store: MakeStore, tmp_path: Path, kind: str) -> None:
    wanted = settings(sampling=kind, max_epochs=6, batch_size=2 if kind == "sequences" else 16)
    result = train(make_store(multi_hot=True), MODEL, wanted, tmp_path / "run", progress=False)
    assert load(result.checkpoint).spec.head == "sigmoid"
    assert result.validation_map > 0.5


@pytest.mark.parametrize(
    "model",
    [
        {**MODEL, "depth": 2},
        {**MODEL, "kind": "oadtr"},
        {**MODEL, "kind": "oadtr", "decoder": True, "decoder_heads": 2, "decoder_depth": 1},
    ],
    ids=["cooadtr_b2", "oadtr_b1", "oadtr"],
)
def test_window_exact_models_train_on_clips(make_store: MakeStore, tmp_path: Path, model: dict[str, Any]) -> None:
    result = train(make_store(), model, settings(max_epochs=2, batch_size=32), tmp_path / "run", progress=False)
    assert 0 < result.validation_map <= 1
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["training"]["sampling"] == "auto"


def test_streams_can_be_chosen(make_store: MakeStore, tmp_path: Path) -> None:
    result = train(make_store(), MODEL, settings(max_epochs=1), tmp_path / "run", streams=["b"], progress=False)
    assert load(result.checkpoint).spec.streams == {"b": 2}
    with pytest.raises(DataError, match=r"flow.*'a', 'b'"):
        train(make_store("again.h5"), MODEL, settings(), tmp_path / "other", streams=["flow"], progress=False)
    assert not (tmp_path / "other").exists()


def test_sequences_are_refused_where_they_are_not_exact(make_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="depth 2 is window-exact: use sampling=windows or auto"):
        train(make_store(), {**MODEL, "depth": 2}, settings(sampling="sequences"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("splits", "missing"), [("vx", "train"), ("ttx", "validation")])
def test_a_store_without_the_needed_split_is_refused(
    make_store: MakeStore, tmp_path: Path, splits: str, missing: str
) -> None:
    with pytest.raises(DataError, match=missing):
        train(make_store(splits=splits), MODEL, settings(), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["sequences", "windows"])
def test_features_read_from_the_file_train_the_same_model(make_store: MakeStore, tmp_path: Path, kind: str) -> None:
    common = {"max_epochs": 1, "sampling": kind, "batch_size": 2 if kind == "sequences" else 16}
    runs = [
        train(make_store(), MODEL, settings(**common, preload_mib=mib), tmp_path / name, progress=False)
        for name, mib in (("memory", 2048), ("file", 0))
    ]
    first, second = (weights(run) for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert runs[0].validation_map == runs[1].validation_map


def test_a_finished_run_is_not_overwritten(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    train(store, MODEL, settings(max_epochs=1), tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match=r"has finished; its checkpoint is .*choose another out"):
        train(store, MODEL, settings(max_epochs=1), tmp_path / "run", progress=False)


def test_a_run_is_gone_on_with_under_its_own_settings_only(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    with pytest.raises(ConnectionAbortedError):
        train(store, MODEL, settings(), tmp_path / "run", progress=False, callbacks=[Kill(1, 0)])
    with pytest.raises(ConfigError, match=r"training\.learning_rate=0\.01, not 0\.02"):
        train(store, MODEL, settings(learning_rate=2e-2), tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match="say resume=true"):
        train(store, MODEL, settings(), tmp_path / "run", progress=False, resume=False)


def test_a_loss_that_is_not_finite_ends_with_a_clear_line(make_store: MakeStore, tmp_path: Path) -> None:
    wanted = settings(learning_rate=1e30, gradient_clip=0.0)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) in epoch \d+, batch \d+: lower the learning rate"):
        train(make_store(), MODEL, wanted, tmp_path / "run", progress=False)
    assert not (tmp_path / "run/checkpoint").exists()


def test_export_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no training run"):
        export_run(tmp_path, tmp_path / "out")
    with pytest.raises(ConfigError, match="which must be best or last, got 'first'"):
        export_run(tmp_path, tmp_path / "out", which="first")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_epochs": 0}, "max_epochs must be a whole number of at least 1, got 0"),
        ({"batch_size": 1.5}, r"batch_size must be a whole number of at least 1, got 1\.5"),
        ({"learning_rate": 0.0}, r"learning_rate must be positive, got 0\.0"),
        ({"weight_decay": -1.0}, r"weight_decay must not be negative, got -1\.0"),
        ({"sampling": "frames"}, "sampling must be one of auto, sequences, windows, got 'frames'"),
        ({"precision": "16-true"}, "precision must be one of 32-true, bf16-mixed, 16-mixed, 64-true, got '16-true'"),
        ({"seed": 2**32}, "seed must be a whole number of at most 4294967295, got 4294967296"),
        ({"schedule": "linear"}, "schedule must be one of constant, cosine, step, got 'linear'"),
    ],
)
def test_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**change)


def test_a_finished_run_whose_epochs_were_deleted_is_not_overwritten(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    train(store, MODEL, settings(max_epochs=1), tmp_path / "run", progress=False)
    shutil.rmtree(tmp_path / "run/lightning")
    with pytest.raises(ConfigError, match="has finished"):
        train(store, MODEL, settings(max_epochs=1), tmp_path / "run", progress=False)


def test_a_run_says_what_it_does_line_by_line(make_store: MakeStore, tmp_path: Path) -> None:
    store, wanted = make_store(), settings(max_epochs=2)
    started: list[str] = []
    resumed: list[str] = []
    with pytest.raises(ConnectionAbortedError):
        train(store, MODEL, wanted, tmp_path / "run", progress=False, say=started.append, callbacks=[Kill(1, 0)])
    assert started[0].startswith("training cooadtr of depth 1 (E=16, N=8) on ")
    assert "in whole sequences, 2 epochs, seed 0 ->" in started[0]
    assert [line.split(":")[0] for line in started[1:]] == ["epoch 0 of 0..1"]
    train(store, MODEL, wanted, tmp_path / "run", progress=False, say=resumed.append)
    assert resumed[0].startswith("going on with cooadtr of depth 1")
    assert [line.split(":")[0] for line in resumed[1:]] == ["epoch 1 of 0..1"]
    assert "val_mAP" in resumed[1]
