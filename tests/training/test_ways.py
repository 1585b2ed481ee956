"""Ways of training: averaged weights, accumulated batches, early ends, schedules, processes, what ends a run."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from coadtr.checkpoint import load
from coadtr.data import FeatureStore, StoreWriter
from coadtr.errors import ConfigError, DataError, TrainingError
from coadtr.training import TrainingResult, TrainingSettings, export_run, train
from coadtr.training.augmentation import AugmentationSettings
from coadtr.training.batches import OrNothing, RankBatches
from coadtr.training.losses import LossSettings
from tests.cli.calling import spawn
from tests.forking import script, side_by_side

from .conftest import MakeStore
from .test_run import MODEL, Kill, settings, weights

OADTR = {
    "kind": "oadtr",
    "depth": 1,
    "window": 8,
    "embed_dim": 16,
    "ff_dim": 16,
    "num_heads": 2,
    "decoder": True,
    "decoder_depth": 1,
    "decoder_queries": 3,
    "decoder_heads": 2,
}

CMERT: dict[str, Any] = {
    "kind": "cmert",
    "depth": 1,
    "window": 12,
    "work_frames": 4,
    "embed_dim": 16,
    "ff_dim": 16,
    "num_heads": 2,
}
CMERT |= {"long_stride": 2, "long_queries": 3, "memory_queries": 2, "future_queries": 3, "future_depth": 1}
CMERT |= {"anticipated_frames": 2, "future_frames": 5}


def curve(out: Path) -> pd.DataFrame:
    table = pd.read_csv(out / "logs/csv/version_0/metrics.csv")
    return table.groupby("epoch").max()


class Watch(Callback):
    """Write down the learning rate and the weights of each step."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.rates: list[float] = []
        self.heads: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.epochs.append(trainer.current_epoch)
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.heads.append(pl_module.get_parameter("model.head.weight").detach().clone())


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [1, 4, 7, 12])
def test_processes_share_every_batch_that_one_alone_would_see(size: int, ranks: int) -> None:
    alone = list(RankBatches(size, batch_size=2 * ranks, seed=3, epoch=1))
    parts = [list(RankBatches(size, batch_size=2, seed=3, epoch=1, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert {len(part) for part in parts} == {len(alone)}
    for at, together in enumerate(alone):
        assert [sample for part in parts for sample in part[at] if sample >= 0] == together


def test_a_sample_of_nothing_carries_no_loss(make_store: MakeStore) -> None:
    from coadtr.data import NO_LOSS, ClipDataset  # noqa: PLC0415

    clips = ClipDataset(make_store(), "train", window=8, ahead=2)
    nothing = OrNothing(clips)[-1]
    assert (nothing["labels"] == NO_LOSS).all()
    assert (nothing["ahead_labels"] == NO_LOSS).all()
    assert torch.equal(OrNothing(clips)[3]["frames"], clips[3]["frames"])
    assert (clips[0]["labels"] != NO_LOSS).all()


def test_the_rate_warms_up_by_the_step_and_falls_by_the_epoch(make_store: MakeStore, tmp_path: Path) -> None:
    watch = Watch()
    wanted = settings(max_epochs=3, warmup_epochs=1.0, learning_rate=1.0e-3)
    train(make_store(), MODEL, wanted, tmp_path / "run", progress=False, callbacks=[watch])
    rates = [[rate for rate, at in zip(watch.rates, watch.epochs, strict=True) if at == epoch] for epoch in range(3)]
    np.testing.assert_allclose(np.diff(rates[0]), 0.99e-3 / len(rates[0]), rtol=1e-6)
    assert rates[0][0] == pytest.approx(1e-5)
    np.testing.assert_allclose(rates[1], 0.75e-3, rtol=1e-12)
    np.testing.assert_allclose(rates[2], 0.25e-3, rtol=1e-12)


@pytest.mark.parametrize("validate_every", [1, 2])
def test_the_exported_weights_are_the_average_and_the_run_goes_on_exactly(
    make_store: MakeStore, tmp_path: Path, validate_every: int
) -> None:
    store, watch = make_store(), Watch()
    wanted = settings(max_epochs=3, ema_decay=0.9, validate_every=validate_every)
    whole = train(store, MODEL, wanted, tmp_path / "whole", progress=False, callbacks=[watch])
    average = watch.heads[0]
    expected = {}
    for step, head in enumerate(watch.heads):
        share = 1.0 if step == 0 else 1 - min(0.9, (1 + step) / (10 + step))
        average = average + share * (head - average)
        expected[step] = average
    last = max(step for step, epoch in enumerate(watch.epochs) if epoch == whole.epoch)
    torch.testing.assert_close(weights(whole)["head.weight"], expected[last], atol=1e-6, rtol=0)
    assert not torch.equal(weights(whole)["head.weight"], watch.heads[last])
    with pytest.raises(ConnectionAbortedError):
        train(store, MODEL, wanted, tmp_path / "killed", progress=False, callbacks=[Kill(1, 1)])
    resumed = train(store, MODEL, wanted, tmp_path / "killed", progress=False)
    assert resumed.validation_map == whole.validation_map
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


def test_accumulated_batches_make_the_step_of_a_larger_one(make_store: MakeStore, tmp_path: Path) -> None:
    # All clips carry the same number of labels, so that the mean of means is the mean.
    model = {**MODEL, "dropout": 0.0}
    store, common = make_store(), {"sampling": "windows", "max_epochs": 1, "weight_decay": 0.0, "stride": 8}
    one = train(store, model, settings(**common, batch_size=30), tmp_path / "one", progress=False)
    two = train(store, model, settings(**common, batch_size=15, accumulate=2), tmp_path / "two", progress=False)
    assert len(Clips(store)) % 30 == 0
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(two)[name], atol=2e-6, rtol=0)


class Gradients(Callback):
    """Write down the gradient of each step."""

    def __init__(self) -> None:
        self.heads: list[torch.Tensor] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        gradient = pl_module.get_parameter("model.head.weight").grad
        assert gradient is not None
        self.heads.append(gradient.clone())


def test_batches_left_over_at_the_end_of_an_epoch_make_a_whole_step(make_store: MakeStore, tmp_path: Path) -> None:
    # Weights that stay as they are, so that gradients can be compared.
    store, found = make_store(), {}
    for accumulate in (1, 4):
        wanted = settings(
            sampling="windows", stride=8, batch_size=6, max_epochs=1, learning_rate=1e-30, accumulate=accumulate
        )
        watch = Gradients()
        model = {**MODEL, "dropout": 0.0}
        train(store, model, wanted, tmp_path / f"run{accumulate}", progress=False, callbacks=[watch])
        found[accumulate] = watch.heads
    assert [len(heads) for heads in found.values()] == [5, 2]
    torch.testing.assert_close(found[4][0], torch.stack(found[1][:4]).mean(0), atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(found[4][1], found[1][4], atol=1e-7, rtol=1e-5)


def Clips(store: FeatureStore) -> Any:  # noqa: N802
    from coadtr.data import ClipDataset  # noqa: PLC0415

    return ClipDataset(store, "train", window=8, stride=8)


def test_epochs_between_validations_have_no_score(make_store: MakeStore, tmp_path: Path) -> None:
    store, wanted, said = make_store(), settings(max_epochs=5, validate_every=2), list[str]()
    result = train(store, MODEL, wanted, tmp_path / "run", progress=False, say=said.append)
    assert ["val_mAP" in line for line in said[1:]] == [False, True, False, True, False]
    assert ["val_loss" in line for line in said[1:]] == [False, True, False, True, False]
    assert result.epoch in (1, 3)
    assert curve(tmp_path / "run")["val_mAP"].isna().tolist() == [True, False, True, False, True]
    last = export_run(tmp_path / "run", tmp_path / "last", which="last")
    assert math.isnan(last.validation_map)
    assert last.epoch == 4
    assert load(last.checkpoint).origin["metric"]["value"] is None


def test_a_run_ends_when_validation_gets_no_better(make_store: MakeStore, tmp_path: Path) -> None:
    wanted = settings(max_epochs=40, patience=2, schedule="constant", learning_rate=3e-2)
    result = train(make_store(), MODEL, wanted, tmp_path / "run", progress=False)
    scores = curve(tmp_path / "run")["val_mAP"]
    assert len(scores) < 40
    assert len(scores) - 1 - result.epoch == 2
    assert scores.max() == pytest.approx(result.validation_map)


def test_the_decoder_learns_the_frames_ahead(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    common = {"batch_size": 32, "max_epochs": 2}

    def decoder(name: str, weight: float) -> torch.Tensor:
        wanted = settings(**common, loss=LossSettings(ahead_weight=weight), weight_decay=0.0)
        return weights(train(store, OADTR, wanted, tmp_path / name, progress=False))["decoder.classifier.weight"]

    torch.manual_seed(0)
    with_loss, without = decoder("with", 0.5), decoder("without", 0.0)
    first = train(store, OADTR, settings(**common, learning_rate=1e-30), tmp_path / "first", progress=False)
    untrained = weights(first)["decoder.classifier.weight"]
    torch.testing.assert_close(without, untrained, atol=1e-6, rtol=0)
    assert (with_loss - untrained).abs().max() > 1e-3


@pytest.mark.parametrize("multi_hot", [False, True], ids=["one_hot", "multi_hot"])
def test_drafts_and_frames_ahead_count_by_their_weights(
    make_store: MakeStore, tmp_path: Path, *, multi_hot: bool
) -> None:
    """The loss of the first epoch, at a learning rate that leaves the weights as they are."""
    store = make_store(multi_hot=multi_hot)

    def loss(draft: float, generated: float, ahead: float) -> float:
        out = tmp_path / f"{draft}-{generated}-{ahead}"
        wanted = settings(max_epochs=1, batch_size=32, learning_rate=1e-30, loss=LossSettings(ahead_weight=ahead))
        train(store, {**CMERT, "draft_weight": draft, "generated_weight": generated}, wanted, out, progress=False)
        return float(curve(out)["train_loss"].iloc[0])

    alone = loss(0, 0, 0)
    parts = [loss(1, 0, 0) - alone, loss(0, 1, 0) - alone, loss(0, 0, 1) - alone]
    assert all(part > 0.1 for part in parts)
    assert len({round(part, 6) for part in parts}) == 3
    weighted = 0.25 * parts[0] + 0.5 * parts[1] + 2 * parts[2]
    assert loss(0.25, 0.5, 2.0) == pytest.approx(alone + weighted, rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": LossSettings(kind="focal", class_weights="balanced", label_smoothing=0.1)},
        {"augmentation": AugmentationSettings(noise=0.1, frame_dropout=0.1, time_mask=4, mixup=0.2, speed=0.1)},
        {"sampling": "windows", "batch_size": 32, "augmentation": AugmentationSettings(mixup=0.4, channel_dropout=0.1)},
        {"optimizer": "adamw", "precision": "bf16-mixed"},
    ],
    ids=["loss", "augmentation", "clips", "bf16"],
)
@pytest.mark.parametrize("multi_hot", [False, True], ids=["one_hot", "multi_hot"])
def test_every_way_learns(make_store: MakeStore, tmp_path: Path, changes: dict[str, Any], *, multi_hot: bool) -> None:
    result = train(make_store(multi_hot=multi_hot), MODEL, settings(**changes), tmp_path / "run", progress=False)
    losses = curve(tmp_path / "run")[["train_loss", "val_loss"]]
    assert (losses.iloc[-1] < 0.9 * losses.iloc[0]).all()
    assert result.validation_map > 0.5
    assert load(result.checkpoint).spec.head == ("sigmoid" if multi_hot else "softmax")


@pytest.mark.slow
def test_a_compiled_run_learns_what_a_plain_one_learns(make_store: MakeStore, tmp_path: Path) -> None:
    model = {**MODEL, "dropout": 0.0}
    plain = train(make_store(), model, settings(max_epochs=2), tmp_path / "plain", progress=False)
    compiled = train(make_store(), model, settings(max_epochs=2, compile=True), tmp_path / "compiled", progress=False)
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(tensor, weights(compiled)[name], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_compiling_without_a_compiler_ends_in_one_line(make_store: MakeStore, tmp_path: Path) -> None:
    from torch._inductor import config  # noqa: PLC0415 - slow to import

    torch._dynamo.reset()
    # By torch's own patch: after pytest's, the settings would be gone for every compilation that follows.
    with (
        config.patch({"cpp.cxx": (None, "no-such-compiler"), "force_disable_caches": True}),
        pytest.raises(
            TrainingError, match=r"^trainer\.compile=true needs a C\+\+ compiler .*: install one, or say"
        ) as e,
    ):
        train(make_store(), MODEL, settings(compile=True), tmp_path / "run", progress=False)
    assert "\n" not in str(e.value)


def test_half_precision_on_a_cpu_is_refused_rather_than_replaced(make_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^precision=16-mixed needs a GPU: use bf16-mixed or 32-true"):
        train(make_store(), MODEL, settings(precision="16-mixed"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


class RunOut(Callback):
    """Fail in the second epoch as torch does when there is no memory left."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.current_epoch == 1:
            raise self.error


def test_what_the_compiler_cannot_do_ends_in_one_line(make_store: MakeStore, tmp_path: Path) -> None:
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415 - slow to import

    with pytest.raises(
        TrainingError, match=r"^trainer\.compile=true .* \(InvalidCxxCompiler: none\): install one"
    ) as e:
        train(
            make_store(), MODEL, settings(), tmp_path / "run", progress=False,
            callbacks=[RunOut(TorchDynamoException("InvalidCxxCompiler: none\n\nSet TORCHDYNAMO_VERBOSE=1"))],
        )  # fmt: skip
    assert str(e.value).endswith(
        f"or say trainer.compile=false; the best epoch so far is kept: coadtr export run={tmp_path / 'run'}"
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_memory_that_runs_out_ends_in_one_line_and_keeps_the_best_epoch(
    make_store: MakeStore, tmp_path: Path, error: Exception
) -> None:
    out = tmp_path / "run"
    with pytest.raises(TrainingError) as caught:
        train(make_store(), MODEL, settings(), out, progress=False, callbacks=[RunOut(error)])
    assert str(caught.value) == (
        "out of memory: lower trainer.batch_size (2; trainer.accumulate makes up for it) or trainer.sequence_length; "
        f"the best epoch so far is kept: coadtr export run={out}"
    )
    assert (out / "lightning/best.ckpt").exists()


def test_another_error_stays_what_it_is(make_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^something else$"):
        train(
            make_store(), MODEL, settings(), tmp_path / "r", progress=False,
            callbacks=[RunOut(RuntimeError("something else"))],
        )  # fmt: skip


def test_a_loss_that_is_not_finite_says_which_epoch_is_kept(make_store: MakeStore, tmp_path: Path) -> None:
    class Spoil(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 1:
                pl_module.get_parameter("model.head.weight").data.fill_(float("nan"))

    with pytest.raises(TrainingError, match=r"^the loss is nan in epoch 1, batch 0: .*; the best epoch so far is kept"):
        train(make_store(), MODEL, settings(), tmp_path / "run", progress=False, callbacks=[Spoil()])


def lopsided(path: Path, *, action_in: str) -> FeatureStore:
    """Write a store whose class ``lift`` occurs in one split alone."""
    frames = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    with StoreWriter(path, class_names=["rest", "lift"], background=0, streams={"a": 6}) as writer:
        for split in ("train", "validation"):
            labels = np.arange(40) // 10 % 2 * (split == action_in)
            writer.add(split, split=split, rate_hz=5.0, features={"a": frames}, labels=labels)
    return FeatureStore(path)


def test_a_class_that_is_never_seen_in_training_is_named(tmp_path: Path) -> None:
    said: list[str] = []
    store = lopsided(tmp_path / "s.h5", action_in="validation")
    train(store, MODEL, settings(max_epochs=1), tmp_path / "run", progress=False, say=said.append)
    assert "no training frame shows lift: the model cannot learn to name it" in said


def test_validation_videos_without_an_action_are_refused(tmp_path: Path) -> None:
    store = lopsided(tmp_path / "s.h5", action_in="train")
    with pytest.raises(DataError, match=r"s\.h5: no validation frame shows an action, .*put videos with actions"):
        train(store, MODEL, settings(max_epochs=1), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ema_decay": 1.0}, r"^ema_decay must be below 1, got 1\.0"),
        ({"warmup_epochs": 9.0}, r"^warmup_epochs must be below 4, got 9\.0"),
        ({"patience": -1}, "^patience must be a whole number of at least 0, got -1"),
        ({"weight_decay": -1.0}, r"^weight_decay must not be negative, got -1\.0"),
        ({"accumulate": 0}, "^accumulate must be a whole number of at least 1, got 0"),
        ({"optimizer": "sgd"}, "^optimizer must be one of adam, adamw, got 'sgd'"),
        ({"batch_size": True}, "^batch_size must be a whole number of at least 1, got True"),
        ({"devices": True}, "^devices must be a whole number of at least 1, got True"),
        ({"workers": False}, "^workers must be a whole number of at least 0, got False"),
        ({"patience": "1"}, "^patience must be a whole number of at least 0, got '1'"),
        ({"compile": "no"}, "^compile must be a bool, got 'no'"),
        ({"deterministic": "no"}, "^deterministic must be a bool, got 'no'"),
        ({"learning_rate": "1e-3"}, "^learning_rate must be a number, got '1e-3'"),
        ({"loss": {"kind": "focal"}}, "^loss must be of LossSettings, got {'kind': 'focal'}"),
        ({"augmentation": None}, "^augmentation must be of AugmentationSettings, got None"),
        *(
            ({name: value}, f"^{name} must be finite, got {value}")
            for name in (
                "learning_rate",
                "weight_decay",
                "step_factor",
                "gradient_clip",
                "warmup_epochs",
                "ema_decay",
            )
            for value in (math.nan, math.inf)
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TrainingSettings(**{"max_epochs": 4, **changes})


SCRIPT = """
import json, os, signal, sys
from pytorch_lightning.callbacks import Callback
from coadtr.data import FeatureStore
from coadtr.training import TrainingSettings, train
from coadtr.training.losses import LossSettings

class Die(Callback):
    def on_train_batch_end(self, trainer, pl_module, *rest):
        if os.environ.get("DIE") == f"{trainer.global_rank} {trainer.current_epoch} {rest[2]}":
            os.kill(os.getpid(), signal.SIGKILL)

model, wanted, store, out = json.loads(sys.argv[1])
wanted["loss"] = LossSettings(**wanted.pop("loss", {}))
train(FeatureStore(store), model, TrainingSettings(**wanted), out, progress=False, callbacks=[Die()])
"""


def run_in_processes(
    folder: Path, count: int, model: Any, wanted: dict[str, Any], store: FeatureStore, *, die: str = "",
    torchrun: bool = True,
) -> Path:  # fmt: skip
    """Train in several processes, which find each other; return the run's folder. ``die``: rank, epoch, batch."""
    path, out = folder / "script.py", folder / f"run{count}"
    path.write_text(textwrap.dedent(SCRIPT))
    told = json.dumps([model, {"accelerator": "cpu", **wanted}, str(store.path), str(out)])
    if torchrun:
        words = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", str(path), told)
        ended = [spawn(*words, folder=folder, DIE=die)]
    else:
        ended = side_by_side(script, count, str(path), told, folder=folder, DIE=die)
    assert any(process.code for process in ended) == bool(die), "".join(process.err[-2000:] for process in ended)
    return out


@pytest.mark.parametrize(
    ("kind", "torchrun"),
    [
        ("sequences", False),
        pytest.param("sequences", True, marks=pytest.mark.slow),
        pytest.param("windows", True, marks=pytest.mark.slow),
    ],
    ids=["sequences", "sequences_torchrun", "windows_torchrun"],
)
def test_two_processes_learn_what_one_learns_from_the_doubled_batch(
    make_store: MakeStore, tmp_path: Path, *, kind: str, torchrun: bool
) -> None:
    model = {**MODEL, "dropout": 0.0}
    store = make_store(splits="ttttvvvx")
    size = 3 if kind == "sequences" else 16
    wanted: dict[str, Any] = {
        "max_epochs": 3, "sequence_length": 32, "learning_rate": 1e-2, "schedule": "cosine", "sampling": kind,
        "stride": 3,
    }  # fmt: skip
    two = run_in_processes(tmp_path, 2, model, {**wanted, "batch_size": size, "devices": 2}, store, torchrun=torchrun)
    alone = TrainingSettings(**{"accelerator": "cpu", **wanted, "batch_size": 2 * size})
    one = train(store, model, alone, tmp_path / "one", progress=False)
    expected, got = curve(tmp_path / "one"), curve(two)
    np.testing.assert_allclose(got["train_loss"], expected["train_loss"], rtol=1e-5)
    np.testing.assert_allclose(got[["val_loss", "val_mAP"]], expected[["val_loss", "val_mAP"]], rtol=1e-4)
    result = load(two / "checkpoint")
    assert result.origin["metric"]["epoch"] == one.epoch
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, result.model.state_dict()[name], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_two_processes_of_which_one_was_killed_end_as_one_alone_in_every_way(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store, model = make_store(splits="ttttvvvx"), {**OADTR, "dropout": 0.0}
    loss: dict[str, Any] = {"class_weights": "balanced", "label_smoothing": 0.1}
    wanted: dict[str, Any] = {
        "max_epochs": 4, "sampling": "windows", "stride": 3, "accumulate": 3, "learning_rate": 1e-2, "ema_decay": 0.9,
        "validate_every": 2, "warmup_epochs": 0.5,
    }  # fmt: skip
    both = {**wanted, "batch_size": 8, "devices": 2}
    run_in_processes(tmp_path, 2, model, {**both, "loss": loss}, store, die="1 2 1")
    assert not (tmp_path / "run2/checkpoint").exists()
    two = load(run_in_processes(tmp_path, 2, model, {**both, "loss": loss}, store) / "checkpoint")
    alone = TrainingSettings(**{"accelerator": "cpu", **wanted, "batch_size": 16, "loss": LossSettings(**loss)})
    one = train(store, model, alone, tmp_path / "one", progress=False)
    assert two.origin["metric"]["epoch"] == one.epoch
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, two.model.state_dict()[name], atol=1e-5, rtol=0)


@pytest.mark.slow  # tests/main_job kills a run of the command so, in the fast suite
def test_a_run_killed_by_the_system_in_the_middle_of_an_epoch_ends_as_an_uninterrupted_one(
    make_store: MakeStore, tmp_path: Path
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        textwrap.dedent(
            """
            import json, os, signal, sys
            from pytorch_lightning.callbacks import Callback
            from coadtr.data import FeatureStore
            from coadtr.training import TrainingSettings, train
            model, wanted, store, out = json.loads(sys.argv[1])
            class Die(Callback):
                def on_train_batch_end(self, trainer, pl_module, *rest):
                    if (trainer.current_epoch, rest[2]) == (2, 1):
                        os.kill(os.getpid(), signal.SIGKILL)
            train(FeatureStore(store), model, TrainingSettings(**wanted), out, progress=False, callbacks=[Die()])
            """
        )
    )
    store = make_store()
    plain = {
        "max_epochs": 4, "batch_size": 2, "sequence_length": 32, "learning_rate": 1e-2, "schedule": "cosine",
        "accelerator": "cpu",
    }  # fmt: skip
    told = json.dumps([MODEL, plain, str(store.path), str(tmp_path / "run")])
    done = subprocess.run([sys.executable, str(script), told], capture_output=True, check=False, timeout=300)  # noqa: S603
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    whole = train(store, MODEL, settings(), tmp_path / "whole", progress=False)
    resumed: TrainingResult = train(store, MODEL, settings(), tmp_path / "run", progress=False)
    assert (resumed.validation_map, resumed.epoch) == (whole.validation_map, whole.epoch)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name
