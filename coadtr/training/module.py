"""The Lightning module: one training step, one validation score, in one process or in several."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule
from torch import Tensor, distributed

from coadtr.errors import TrainingError
from coadtr.evaluation import mean_average_precision, per_frame_average_precision
from coadtr.models import LearningAnswers, OnlineModel
from coadtr.scoring import Head, probabilities
from coadtr.training.augmentation import Augmentation
from coadtr.training.batches import carries_loss
from coadtr.training.losses import FrameLoss
from coadtr.training.settings import TrainingSettings, mix_seed
from coadtr.types import Task

if TYPE_CHECKING:
    from coadtr.training.datamodule import FeatureDataModule

__all__ = ["CLIP_ACCURACY", "MONITOR", "DetectionModule"]

MONITOR = "val_mAP"
CLIP_ACCURACY = "val_clip_accuracy"

Learn = Callable[[Tensor, Tensor], LearningAnswers]


class _Span(NamedTuple):
    """Answers of one validation span: number of its video, first frame, its scored frames, and their summed loss."""

    video: int
    first_frame: int
    logits: NDArray[np.float32]
    labels: NDArray[Any]
    loss: float


class DetectionModule(LightningModule):
    """Train an online model on clips or on sequences, and score it on the validation videos.

    Several processes average their losses over the frames of the whole batch, so that they learn what one process
    would learn from the joint batch.

    Args:
        model: The model.
        settings: Optimiser, schedule and augmentation.
        loss: Of a frame.
        sequences: Whether training batches are spans with a label a frame.
        class_names: Names of the classes.
        background: Index of the background class, or None.
        ignored: Index of the class that is never scored, or None.
        task: ``"audio"`` learns the starts of recordings from clips too, and logs how many recordings are right at
            their end.
    """

    def __init__(
        self,
        model: OnlineModel,
        settings: TrainingSettings,
        loss: FrameLoss,
        *,
        sequences: bool,
        class_names: tuple[str, ...],
        background: int | None,
        ignored: int | None,
        task: Task = "oad",
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.loss = loss
        self.class_names = class_names
        self.background = background
        self.sequences = sequences
        self.ignored = ignored
        self.augment = Augmentation(settings.augmentation, model.num_classes)
        self.task = task
        clips: Learn = model.learn_start if task == "audio" else model.learn_clip
        learn: Learn = model.learn_sequence if sequences else clips
        self.learn: Learn = torch.compile(learn) if settings.compile else learn
        self._state: Any = None
        self._spans: list[_Span] = []
        self._score: float | None = None

    @property
    def head(self) -> Head:
        """What makes scores of logits."""
        return self.loss.head

    def on_train_epoch_start(self) -> None:
        """Forget the score of an earlier epoch: this one's weights may never be validated."""
        self._score = None

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_index: int) -> None:  # noqa: ARG002
        """Set the learning rate by the progress alone, so that there is no schedule to resume."""
        rate = self.settings.rate(self.current_epoch + batch_index / max(1, int(self.trainer.num_training_batches)))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
        if batch_index == 0:
            self.log("learning_rate", rate, on_step=False, on_epoch=True)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Return the loss of one batch of clips or spans."""
        # Dropout and augmentation by seed and step alone: a resumed run repeats an uninterrupted one, whatever else
        # drew numbers.
        accumulate = self.settings.accumulate
        step = self.global_step * accumulate + batch_index % accumulate
        seed = mix_seed(self.settings.seed, step) + self.global_rank * 7_368_787
        torch.manual_seed(seed)
        carries = carries_loss(batch)
        size = (int(carries.any(1).sum()), int(carries.sum()))
        batch = self.augment(batch, torch.Generator().manual_seed(seed))
        answers: LearningAnswers = self.learn(batch["frames"], batch["first_frame"])
        labels, mask = batch["labels"], batch.get("mask")
        parts = [(1.0, self.loss(answers.now, labels, mask))]
        if answers.ahead is not None:
            later = slice(-answers.ahead.shape[1], None)
            ahead_mask = None if mask is None else batch["ahead_mask"][:, later]
            ahead = self.loss(answers.ahead, batch["ahead_labels"][:, later], ahead_mask)
            parts.append((self.settings.loss.ahead_weight, ahead))
        parts += [(weight, self.loss(logits, labels, mask)) for weight, logits in answers.drafts]
        return self._mean(parts, batch_index, size=size)

    def on_train_epoch_end(self) -> None:
        """Refuse weights that are not finite before the epoch is kept."""
        self._check_weights()

    def on_validation_epoch_start(self) -> None:
        """Refuse weights that are not finite before they are scored."""
        self._check_weights()

    def _check_weights(self) -> None:
        for name, weights in self.model.named_parameters():
            if not bool(weights.isfinite().all()):
                raise self._not_finite(f"the weights {name} are not finite in epoch {self.current_epoch}")

    def _not_finite(self, found: str) -> TrainingError:
        rate = self.settings.learning_rate
        return TrainingError(f"{found}: lower the learning rate ({rate:g}), clip gradients, or normalise the features")

    def _mean(
        self, weighted: list[tuple[float, tuple[Tensor, Tensor]]], batch_index: int, *, size: tuple[int, int]
    ) -> Tensor:
        """Average each sum over the frames that all processes count, and add them up by their weights.

        ``size`` is the number of samples with loss, and of frames with loss, in the batch of this process.
        """
        ranks, sums = self.trainer.world_size, [pair for _, pair in weighted]
        counts = [_number(number, sums[0][0]) for number in size]
        told = torch.stack([part.detach().double() for pair in sums for part in pair] + counts)
        if ranks > 1:
            distributed.all_reduce(told)
        found = zip(weighted, told[:-2].view(-1, 2), strict=True)
        parts = [(weight, total, other, max(1.0, count.item())) for (weight, (total, _)), (other, count) in found]
        loss = sum((weight * total / count for weight, total, _, count in parts), torch.zeros_like(sums[0][0]))
        together = sum(weight * other.item() / count for weight, _, other, count in parts)
        if not np.isfinite(together):
            raise self._not_finite(f"the loss is {together} in epoch {self.current_epoch}, batch {batch_index}")
        samples, frames = told[-2:].tolist()
        self.log("train_loss", together, on_step=False, on_epoch=True, prog_bar=True, batch_size=round(samples))
        data = cast("FeatureDataModule", self.trainer.datamodule)  # type: ignore[attr-defined]
        weight = data.batch_weight(frames, int(self.trainer.num_training_batches))
        # Gradients are averaged over the processes, and this is their sum.
        return loss * (ranks * weight * self._share(batch_index))

    def _share(self, batch_index: int) -> float:
        """Make up for the trainer, which divides by ``accumulate`` where fewer batches are left for a step too."""
        accumulate = self.settings.accumulate
        left = int(self.trainer.num_training_batches) - batch_index // accumulate * accumulate
        return accumulate / min(accumulate, left)

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:  # noqa: ARG002
        """Answer one span of a validation video, going on from the span before it."""
        first = int(batch["first_frame"])
        if first == 0:
            self._state = self.model.init_state(1)
        # In the weights' own precision: a state that is handed on does not change its dtype on the way.
        with torch.autocast(self.device.type, enabled=False):
            frames = batch["frames"].to(self.model.input_dtype)
            logits, self._state = self.model.steps(frames, self._state)
        labels, mask = batch["labels"], batch.get("mask")
        counted = carries_loss(batch)
        scored, known = logits[counted].float().cpu().numpy(), labels[counted].cpu().numpy()
        total, _ = self.loss(logits, labels, mask)
        self._spans.append(_Span(int(batch["video"]), first, scored, known, total.item()))

    def on_validation_epoch_end(self) -> None:
        """Log loss and mean average precision over all validation frames of all processes."""
        by_place = {(span.video, span.first_frame): span for span in self._gathered()}
        spans = [by_place[place] for place in sorted(by_place)]
        self._spans.clear()
        self._state = None
        logits, labels = (np.concatenate(parts) for parts in zip(*((s.logits, s.labels) for s in spans), strict=True))
        if not np.isfinite(logits).all():
            raise self._not_finite(f"the validation answers are not finite in epoch {self.current_epoch}")
        per_class = per_frame_average_precision(
            labels.astype(np.uint8 if self.head == "sigmoid" else np.int64),
            probabilities(logits, self.ignored, head=self.head),
            class_names=self.class_names,
            background=self.background,
            ignored=self.ignored,
        )
        self._score = mean_average_precision(per_class)
        self.log("val_loss", sum(span.loss for span in spans) / max(1, len(labels)), prog_bar=True)
        self.log(MONITOR, self._score, prog_bar=True)
        if self.task == "audio":
            self.log(CLIP_ACCURACY, _right_at_the_end(spans), prog_bar=True)

    def _gathered(self) -> list[_Span]:
        if self.trainer.world_size == 1:
            return list(self._spans)
        found: list[list[_Span]] = [[] for _ in range(self.trainer.world_size)]
        distributed.all_gather_object(found, self._spans)
        return [span for spans in found for span in spans]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the validation score of the epoch, if it has one, beside its weights."""
        checkpoint[MONITOR] = self._score

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimiser; its learning rate is set anew before each batch."""
        made = torch.optim.Adam if self.settings.optimizer == "adam" else torch.optim.AdamW
        return made(self.model.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay)


def _right_at_the_end(spans: list[_Span]) -> float:
    """Return the share of recordings whose last frame is answered right; spans come in their order."""
    last = {span.video: span for span in spans}
    return float(np.mean([span.logits[-1].argmax() == span.labels[-1] for span in last.values()]))


def _number(value: float, like: Tensor) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device=like.device)
