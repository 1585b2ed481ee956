"""Lightning's trainer, set up as a run needs it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.accelerators.cpu import CPUAccelerator
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from coadtr.errors import ConfigError
from coadtr.training.averaging import WeightAverage
from coadtr.training.module import MONITOR
from coadtr.training.settings import TrainingSettings
from coadtr.training.trainer_state import SafeCheckpointIO

__all__ = ["make_trainer"]

# TensorBoard takes this module, which need not exist, for the wish to write without TensorFlow. Where that is installed
# it would load it otherwise, for seconds and with messages of its own, to write the same files.
sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))


class _Patience(EarlyStopping):
    """End a run that gets no better, and one that is gone on with after it ended so."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop again: the trainer restores the count, but not that the run was to stop."""
        del pl_module
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


def make_trainer(settings: TrainingSettings, out: Path, callbacks: Sequence[Callback], *, progress: bool) -> pl.Trainer:
    """Make the trainer of a run.

    Args:
        settings: How to train.
        out: Folder of the run.
        callbacks: What watches the run, beside that which keeps epochs, averages weights and ends early.
        progress: Show progress bars.

    Raises:
        ConfigError: If the accelerator or the precision is not to be had.
    """
    # Nothing here reads memory before it is written: filling it first would cost a tenth of a step and change nothing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    chosen = [*_kept_epochs(out), *_ways(settings), *callbacks]
    try:
        with warnings.catch_warnings():
            # Refused below: the trainer would take another precision.
            warnings.filterwarnings("ignore", message=".*AMP with fp16 is not supported on CPU")
            trainer = pl.Trainer(
                accelerator=settings.accelerator,
                devices=settings.devices,
                num_nodes=settings.nodes,
                strategy="ddp" if settings.devices * settings.nodes > 1 else "auto",
                use_distributed_sampler=False,  # `RankBatches` gives each process its part
                accumulate_grad_batches=settings.accumulate,
                check_val_every_n_epoch=settings.validate_every,
                precision=settings.precision,  # type: ignore[arg-type]
                max_epochs=settings.max_epochs,
                gradient_clip_val=settings.gradient_clip or None,
                deterministic=settings.deterministic,
                callbacks=chosen,
                logger=[CSVLogger(out / "logs", "csv"), TensorBoardLogger(out / "logs", "tensorboard", version="")],
                plugins=[SafeCheckpointIO()],
                enable_progress_bar=progress,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                reload_dataloaders_every_n_epochs=1,
                log_every_n_steps=1,
                default_root_dir=out,
            )
    except (ValueError, MisconfigurationException) as error:  # what an accelerator or precision that is not there gives
        raise ConfigError(f"{' '.join(str(error).split())}: choose another accelerator or precision") from error
    if settings.precision == "16-mixed" and isinstance(trainer.accelerator, CPUAccelerator):
        raise ConfigError("precision=16-mixed needs a GPU: use bf16-mixed or 32-true on a CPU")
    return trainer


def _kept_epochs(out: Path) -> list[Callback]:
    folder = out / "lightning"
    best = ModelCheckpoint(folder, filename="best", monitor=MONITOR, mode="max", enable_version_counter=False)
    # `save_last` would write only when the best changes; going on needs the last epoch, whatever its score.
    last = ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    return [best, last]


def _ways(settings: TrainingSettings) -> list[Callback]:
    ways: list[Callback] = []
    if settings.ema_decay:
        ways.append(WeightAverage(settings.ema_decay))
    if settings.patience:
        ways.append(_Patience(MONITOR, patience=settings.patience, mode="max"))
    return ways
