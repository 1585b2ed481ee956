"""One training run in one folder: start it, resume it, export its best checkpoint.

Layout of the folder::

    run.json            settings, data and their fingerprint; decides whether a later call may resume
    lightning/          last.ckpt and best.ckpt, the trainer's own (weights, optimiser, progress)
    logs/               CSV and TensorBoard
    checkpoint/         the exported checkpoint, present once training has finished
"""

from __future__ import annotations

import logging
import math
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from coadtr.checkpoint import save_checkpoint
from coadtr.data import FeatureStore, class_counts, feature_statistics
from coadtr.errors import ConfigError, DataError
from coadtr.models import OnlineModel, TransformerConfig, build_model
from coadtr.training.datamodule import FeatureDataModule
from coadtr.training.failures import explained
from coadtr.training.losses import FrameLoss
from coadtr.training.module import MONITOR, DetectionModule
from coadtr.training.progress import EpochBar, EpochLines, opening_line
from coadtr.training.record import describe_run, last_epoch, mark_finished, read_run, settle_run, spec_of_run
from coadtr.training.settings import TrainingSettings
from coadtr.training.trainer import make_trainer
from coadtr.training.trainer_state import load_epoch, read_trainer_state

__all__ = ["TrainingResult", "export_run", "train"]


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run gave.

    Attributes:
        checkpoint: Folder of the exported checkpoint.
        validation_map: Mean average precision on the validation videos of the epoch that the checkpoint holds; nan if
            it is an epoch that was not validated.
        epoch: That epoch, from 0.
    """

    checkpoint: Path
    validation_map: float
    epoch: int


def _nothing(_: str) -> None:
    """Say nothing."""


def train(
    store: FeatureStore,
    model: Mapping[str, Any],
    settings: TrainingSettings,
    out: str | Path,
    *,
    streams: Sequence[str] | None = None,
    task: str | None = None,
    resume: bool = True,
    command: str = "",
    progress: bool = True,
    say: Callable[[str], None] = _nothing,
    callbacks: Sequence[Callback] = (),
) -> TrainingResult:
    """Train a model, choose its best epoch on the validation videos, and export that as a checkpoint.

    A run that was interrupted goes on from its last whole epoch and ends as an uninterrupted one does.

    Args:
        store: Features and labels, with videos in the splits ``train`` and ``validation``.
        model: Settings of the model (``kind`` and so on) without ``input_dim`` and ``num_classes``: the store has
            these.
        settings: How to train.
        out: Folder of the run.
        streams: Feature streams to use, in this order; None for all.
        task: ``"oad"``: the class of each frame; ``"audio"``: of each recording, which has one class; None for what the
            store says.
        resume: Go on with an interrupted run in ``out``; if false, refuse a folder that holds one.
        command: Command line to keep with the checkpoint.
        progress: Show progress bars.
        say: Takes a line at the start and, without progress bars, one an epoch; says nothing by default.
        callbacks: More Lightning callbacks.

    Returns:
        Where the checkpoint is, and its validation score.

    Raises:
        ConfigError: If settings contradict each other or the run that ``out`` holds.
        DataError: If the store has no training or validation videos, or not the wanted streams.
        TrainingError: If loss or weights are not finite, memory runs out, or the model cannot be compiled.
    """
    out = Path(out)
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    run = describe_run(store, model, settings, streams, task)
    module, data = _prepare(store, run, settings, streams)
    watch = EpochBar(leave=True) if progress else EpochLines(say)
    trainer = make_trainer(settings, out, [watch, *callbacks], progress=progress)
    _check_validation(store)
    if trainer.is_global_zero:
        last = settle_run(out, run, resume=resume)
        say(opening_line(run, out, sequences=module.sequences, last=last))
        if absent := _absent(store, module.loss):
            say(absent)
    else:
        last = last_epoch(out)
    with explained(out, batch_size=settings.batch_size):
        _fit(trainer, module, data, last)
    if trainer.is_global_zero:
        # An export of this run's own, made while it was unfinished, may lie there.
        export_run(out, out / "checkpoint", command=command, overwrite=True)
        mark_finished(out, run)
    trainer.strategy.barrier("exported")
    saved = read_trainer_state(out / "lightning" / "best.ckpt")
    return TrainingResult(out / "checkpoint", float(saved[MONITOR]), int(saved["epoch"]))


def _prepare(
    store: FeatureStore, run: Mapping[str, Any], settings: TrainingSettings, streams: Sequence[str] | None
) -> tuple[DetectionModule, FeatureDataModule]:
    """Make the model, by the seed, its loss, and the batches that it learns from."""
    torch.manual_seed(settings.seed)
    detector = build_model(run["model"])
    sequences = _use_sequences(detector, settings)
    loss = FrameLoss(
        settings.loss,
        counts=class_counts(store, "train", with_loss=True),
        head=run["data"]["head"],
        ignored=store.ignored,
    )
    task = run["data"].get("task", "oad")
    data = FeatureDataModule(store, model=detector, sequences=sequences, settings=settings, streams=streams, task=task)
    if detector.config.normalise:
        mean, deviation = feature_statistics(store, "train", streams)
        detector.inputs.set_statistics(torch.from_numpy(mean), torch.from_numpy(deviation))
    module = DetectionModule(
        detector,
        settings,
        loss,
        sequences=sequences,
        class_names=store.class_names,
        background=store.background,
        ignored=store.ignored,
        task=task,
    )
    return module, data


def _fit(trainer: pl.Trainer, module: DetectionModule, data: FeatureDataModule, last: Path | None) -> None:
    """Train to the end of the run, from its last epoch if it has one."""
    with warnings.catch_warnings():
        # Going on with a run means that its folder is not empty.
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        # What is logged has been summed over the processes already.
        warnings.filterwarnings("ignore", message="It is recommended to use .*sync_dist=True")
        handler = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
        except SystemExit:  # how the trainer answers Ctrl-C, to which it is deaf from then on
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None


def _check_validation(store: FeatureStore) -> None:
    """Check that the validation videos show a class that is scored."""
    unscored = {store.background, store.ignored}
    counts = class_counts(store, "validation", with_loss=True)
    if not any(count for index, count in enumerate(counts) if index not in unscored):
        raise DataError(
            f"{store.path}: no validation frame shows an action, so that no epoch can be chosen: "
            "put videos with actions into the split 'validation'"
        )


def _absent(store: FeatureStore, loss: FrameLoss) -> str:
    """Name the classes that cannot be learnt."""
    missing = ", ".join(store.class_names[index] for index in loss.absent)
    return f"no training frame shows {missing}: the model cannot learn to name it" if missing else ""


def _use_sequences(model: OnlineModel, settings: TrainingSettings) -> bool:
    exact = model.exactness in ("both", "sequence")
    if settings.sampling == "sequences" and not exact:
        size = f" of depth {model.config.depth}" if isinstance(model.config, TransformerConfig) else ""
        raise ConfigError(
            f"sampling=sequences needs a model whose step is sequence-exact, and {model.config.kind}{size} is "
            "window-exact: use sampling=windows or auto"
        )
    return exact and settings.sampling != "windows"


def export_run(
    run_folder: str | Path, out: str | Path, *, which: str = "best", command: str = "", overwrite: bool = False
) -> TrainingResult:
    """Export a training run as a checkpoint that loads without Lightning and without Hydra.

    Args:
        run_folder: Folder that :func:`train` wrote.
        out: Folder of the checkpoint.
        which: ``"best"`` epoch on the validation videos, or the ``"last"``.
        command: Command line to keep with the checkpoint.
        overwrite: Replace a checkpoint that is there.

    Returns:
        Where the checkpoint is, and the validation score of its epoch.

    Raises:
        ConfigError: If the folder holds no run, or ``which`` is unknown.
        CheckpointError: If ``out`` exists and may not be replaced, or the epoch's file is damaged.
    """
    if which not in ("best", "last"):
        raise ConfigError(f"which must be best or last, got {which!r}")
    folder = Path(run_folder)
    run = read_run(folder)
    spec = spec_of_run(run, folder)
    path = folder / "lightning" / f"{which}.ckpt"
    if not path.exists():
        instead = ", or export which=last" if which == "best" and last_epoch(folder) is not None else ""
        raise ConfigError(f"the run in {folder} has no {which} epoch yet: go on with `coadtr train`{instead}")
    saved = read_trainer_state(path)
    model = build_model(spec.model)
    score, epoch = load_epoch(model, saved, path)
    origin = {
        "command": command,
        "data": {name: run["data"].get(name) for name in ("path", "fingerprint")},
        "training": run["training"],
        "metric": {"name": "mAP", "split": "validation", "value": score, "epoch": epoch},
    }
    save_checkpoint(out, model, spec, origin, overwrite=overwrite)
    return TrainingResult(Path(out), math.nan if score is None else score, epoch)
