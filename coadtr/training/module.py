"""The Lightning module: one training step, one validation score."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from coadtr.data import NO_LOSS
from coadtr.errors import TrainingError
from coadtr.evaluation import mean_average_precision, per_frame_average_precision
from coadtr.models import OnlineModel
from coadtr.scoring import probabilities
from coadtr.training.losses import frame_loss
from coadtr.training.settings import TrainingSettings, mix_seed

__all__ = ["MONITOR", "DetectionModule"]

MONITOR = "val_mAP"


class DetectionModule(LightningModule):
    """Train an online model on clips or on sequences, and score it on the validation videos.

    Args:
        model: The model.
        settings: Optimiser and schedule.
        sequences: Whether training batches are spans with a label a frame.
        class_names: Names of the classes.
        background: Index of the background class, or None.
        ignored: Index of the class that is never scored, or None.
    """

    def __init__(
        self,
        model: OnlineModel,
        settings: TrainingSettings,
        *,
        sequences: bool,
        class_names: tuple[str, ...],
        background: int | None,
        ignored: int | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.sequences = sequences
        self.class_names = class_names
        self.background = background
        self.ignored = ignored
        self._answers: list[tuple[Tensor, Tensor]] = []
        self._score = 0.0

    def on_train_epoch_start(self) -> None:
        """Set the learning rate by the epoch alone, so that there is no schedule to resume."""
        rate = self.settings.rate_of_epoch(self.current_epoch)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
        self.log("learning_rate", rate)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Return the loss of one batch of clips or spans."""
        # Dropout by seed and step alone: a resumed run repeats an uninterrupted one, whatever else drew numbers.
        torch.manual_seed(mix_seed(self.settings.seed, self.global_step))
        if self.sequences:
            logits = self.model(batch["frames"], batch["first_frame"])
            loss = frame_loss(logits, batch["labels"], batch.get("mask"))
        else:
            loss = frame_loss(self.model.answer_clip(batch["frames"], batch["first_frame"]), batch["label"])
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} in epoch {self.current_epoch}, batch {batch_index}: "
                f"lower the learning rate ({self.settings.learning_rate:g}), clip gradients, or normalise the features"
            )
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch["frames"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:  # noqa: ARG002
        """Answer one span of a validation video, frame by frame of the whole video."""
        labels, mask = batch["labels"], batch.get("mask")
        counted = (labels != NO_LOSS) if mask is None else mask
        logits = self.model(batch["frames"], batch["first_frame"])
        self.log("val_loss", frame_loss(logits, labels, mask), prog_bar=True, batch_size=int(counted.sum()))
        self._answers.append((logits[counted].float().cpu(), labels[counted].cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log the mean average precision over all validation frames."""
        logits = torch.cat([answer for answer, _ in self._answers])
        labels = torch.cat([label for _, label in self._answers])
        self._answers.clear()
        multi_label = labels.dtype != torch.int64
        per_class = per_frame_average_precision(
            labels.numpy().astype(np.uint8 if multi_label else np.int64),
            probabilities(logits.numpy(), self.ignored, head="sigmoid" if multi_label else "softmax"),
            class_names=self.class_names,
            background=self.background,
            ignored=self.ignored,
        )
        self._score = mean_average_precision(per_class)
        self.log(MONITOR, self._score, prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the validation score of the epoch beside its weights."""
        checkpoint[MONITOR] = self._score

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make Adam; its learning rate is set anew at the start of each epoch."""
        return torch.optim.Adam(
            self.model.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
