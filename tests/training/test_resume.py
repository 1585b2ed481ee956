"""Runs that are interrupted at awkward moments, spoilt, or old: what is kept, and that going on changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from coadtr.errors import ConfigError, TrainingError
from coadtr.training import TrainingResult, export_run, train
from coadtr.training.augmentation import AugmentationSettings

from .conftest import MakeStore
from .test_run import MODEL, Kill, settings, weights


def assert_same_end(first: Path, second: Path) -> None:
    """Check that two runs have the same last epoch, with the same weights."""
    last: list[TrainingResult] = [export_run(run, run / "last", which="last") for run in (first, second)]
    assert last[0].epoch == last[1].epoch
    for name, tensor in weights(last[0]).items():
        assert torch.equal(tensor, weights(last[1])[name]), name


@pytest.mark.parametrize("validate_every", [1, 2])
def test_a_run_killed_after_its_patience_ran_out_does_not_train_on(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validate_every: int
) -> None:
    store = make_store()
    wanted = settings(max_epochs=40, patience=1, schedule="constant", learning_rate=3e-2, validate_every=validate_every)
    whole = train(store, MODEL, wanted, tmp_path / "whole", progress=False)

    def die(*_: Any, **__: Any) -> TrainingResult:
        raise ConnectionAbortedError

    with monkeypatch.context() as patched:
        patched.setattr("coadtr.training.run.export_run", die)
        with pytest.raises(ConnectionAbortedError):
            train(store, MODEL, wanted, tmp_path / "killed", progress=False)
    resumed = train(store, MODEL, wanted, tmp_path / "killed", progress=False)
    assert (resumed.validation_map, resumed.epoch) == (whole.validation_map, whole.epoch)
    assert whole.epoch < 39
    assert_same_end(tmp_path / "whole", tmp_path / "killed")


class SpoilLastUpdate(Callback):
    """Make weights nan by the last update of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.current_epoch == self.epoch and args[2] == trainer.num_training_batches - 1:
            pl_module.get_parameter("model.head.weight").data[0, 0] = float("nan")


@pytest.mark.parametrize(("validate_every", "which"), [(1, ""), (3, " which=last")])
def test_weights_spoilt_by_the_last_update_of_an_epoch_are_not_kept(
    make_store: MakeStore, tmp_path: Path, validate_every: int, which: str
) -> None:
    store, wanted, out = make_store(), settings(validate_every=validate_every), tmp_path / "run"
    with pytest.raises(TrainingError) as caught:
        train(store, MODEL, wanted, out, progress=False, callbacks=[SpoilLastUpdate(1)])
    assert str(caught.value).startswith(
        "the weights head.weight are not finite in epoch 1: lower the learning rate (0.01), clip gradients, or"
    )
    assert str(caught.value).endswith(f"is kept: coadtr export run={out}{which}")
    assert export_run(out, tmp_path / "kept", which="last").epoch == 0
    whole = train(store, MODEL, wanted, tmp_path / "whole", progress=False)
    resumed = train(store, MODEL, wanted, out, progress=False)
    assert (resumed.validation_map, resumed.epoch) == (whole.validation_map, whole.epoch)
    assert_same_end(tmp_path / "whole", out)


def test_answers_that_are_not_finite_end_in_a_line_with_a_remedy(make_store: MakeStore, tmp_path: Path) -> None:
    class Overflow(Callback):
        def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            pl_module.get_parameter("model.head.weight").data.fill_(3e38)

    with pytest.raises(TrainingError, match=r"^the validation answers are not finite in epoch 0: lower the learning r"):
        train(make_store(), MODEL, settings(), tmp_path / "run", progress=False, callbacks=[Overflow()])


def test_without_a_validated_epoch_the_last_one_is_named(make_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(ConnectionAbortedError):
        train(make_store(), MODEL, settings(validate_every=3), tmp_path / "run", progress=False, callbacks=[Kill(1, 0)])
    with pytest.raises(ConfigError, match=r"has no best epoch yet: .*`coadtr train`, or export which=last$"):
        export_run(tmp_path / "run", tmp_path / "out")


def test_everything_together_goes_on_exactly(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    wanted = settings(
        sampling="windows", batch_size=16, stride=3, accumulate=3, warmup_epochs=1.5, ema_decay=0.9, validate_every=2,
        augmentation=AugmentationSettings(noise=0.1, frame_dropout=0.1, mixup=0.2, speed=0.1),
    )  # fmt: skip
    whole = train(store, MODEL, wanted, tmp_path / "whole", progress=False)
    with pytest.raises(ConnectionAbortedError):
        train(store, MODEL, wanted, tmp_path / "killed", progress=False, callbacks=[Kill(2, 1)])
    resumed = train(store, MODEL, wanted, tmp_path / "killed", progress=False)
    assert (resumed.validation_map, resumed.epoch) == (whole.validation_map, whole.epoch)
    assert_same_end(tmp_path / "whole", tmp_path / "killed")


def test_a_run_from_before_a_setting_was_there_is_gone_on_with_at_its_default(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store, out = make_store(), tmp_path / "run"
    with pytest.raises(ConnectionAbortedError):
        train(store, MODEL, settings(), out, progress=False, callbacks=[Kill(1, 0)])
    run = json.loads((out / "run.json").read_text())
    del run["training"]["accumulate"], run["training"]["loss"]["ahead_weight"], run["training"]["augmentation"]
    del run["model"]["input_dropout"]
    (out / "run.json").write_text(json.dumps(run))
    with pytest.raises(ConfigError, match=r"started with training\.accumulate=1, not 2: go on with the same settings"):
        train(store, MODEL, settings(accumulate=2), out, progress=False)
    with pytest.raises(ConfigError, match=r"started with model\.input_dropout=0\.0, not 0\.5: go on with the same"):
        train(store, {**MODEL, "input_dropout": 0.5}, settings(), out, progress=False)
    resumed = train(store, MODEL, settings(), out, progress=False)
    assert resumed.validation_map == train(store, MODEL, settings(), tmp_path / "w", progress=False).validation_map
