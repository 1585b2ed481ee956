"""What a user sees of a run: a line at its start, then a progress bar, or a line an epoch where no person watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, TQDMProgressBar

from coadtr.training.module import CLIP_ACCURACY, MONITOR

__all__ = ["EpochBar", "EpochLines", "opening_line"]


class EpochBar(TQDMProgressBar):
    """Lightning's progress bar without the version number of its logs."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Leave out what says nothing about the run."""
        shown: dict[str, Any] = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        return shown


class EpochLines(Callback):
    """Say one line an epoch, for logs of jobs that nobody watches.

    Args:
        say: Takes a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that this epoch has values of validation: the trainer goes on telling those of an earlier one."""
        del trainer, pl_module
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say losses and, if the epoch was validated, its score."""
        del pl_module
        validated = ("val_loss", MONITOR, CLIP_ACCURACY) if self._validated else ()
        names = ("train_loss", *validated)
        self._validated = False
        if not trainer.is_global_zero:
            return
        values = {name: trainer.callback_metrics.get(name) for name in names}
        shown = ", ".join(f"{name} {float(value):.4f}" for name, value in values.items() if value is not None)
        self.say(f"epoch {trainer.current_epoch} of 0..{(trainer.max_epochs or 0) - 1}: {shown}")


def opening_line(run: Mapping[str, Any], out: Path, *, sequences: bool, last: Path | None) -> str:
    """Say what is about to be trained, on what, how, and where it goes.

    Args:
        run: Record of the run.
        out: Its folder.
        sequences: Whether it trains on whole sequences.
        last: The checkpoint that it goes on from, or None.
    """
    model, data, training = run["model"], run["data"], run["training"]
    how = "whole sequences" if sequences else "clips"
    task = " (task audio)" if data.get("task") == "audio" else ""
    depth = f" of depth {model['depth']}" if "depth" in model else ""
    verb = "going on with" if last is not None else "training"
    return (
        f"{verb} {model['kind']}{depth} (E={model['embed_dim']}, N={model['window']}) "
        f"on {data['path']}{task} in {how}, {training['max_epochs']} epochs, seed {training['seed']} -> {out}"
    )
