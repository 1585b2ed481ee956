"""Settings of a training run: frozen, validated, written beside the run so that it can be resumed."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from coadtr.errors import ConfigError
from coadtr.models.config import check_at_least, check_one_of, check_types
from coadtr.training.augmentation import AugmentationSettings
from coadtr.training.losses import LossSettings
from coadtr.training.schedule import SCHEDULES, learning_rate

__all__ = ["TrainingSettings", "mix_seed"]

CHOICES = {
    "sampling": ("auto", "sequences", "windows"),
    "optimizer": ("adam", "adamw"),
    "schedule": SCHEDULES,
    # Weights stay in float32 or wider: Adam's small updates would round away in half precision.
    "precision": ("32-true", "bf16-mixed", "16-mixed", "64-true"),
}
MAX_SEED = 2**32 - 1


def mix_seed(seed: int, count: int) -> int:
    """Mix the seed of a run and the number of an epoch or step.

    Example:
        >>> mix_seed(0, 1) != mix_seed(1, 0)
        True
    """
    return seed * 1_000_003 + count


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a model is trained. Defaults are the published ones, where published code has them.

    Attributes:
        sampling: ``"windows"``: clips of N frames with a loss on the last frame, as published; ``"sequences"``: long
            spans in one pass with a loss on every frame, for models whose step allows it; ``"auto"``: sequences where
            that is exact.
        max_epochs: Passes over the training frames.
        batch_size: Clips, or spans, in a batch of one process.
        accumulate: Batches whose gradients are averaged for one step of the optimiser.
        sequence_length: Frames with loss in a span.
        group_by_length: Make batches of spans of like length, end each with its longest span, and weigh its loss by its
            frames with loss: less padding, where videos are not long beside the span. Clips are of one length.
        shortest_clip: Frames of a recording that have to be heard before its class is learnt; there is no
            loss before. Of the task ``audio`` alone.
        stride: Frames from one clip to the next; with a stride s, an epoch learns from every s-th clip, and the next
            epoch from the clips one frame on.
        optimizer: ``"adam"`` (weight decay is added to the gradient, as OadTR and CoOadTR have it) or ``"adamw"``
            (weight decay shrinks the weights).
        learning_rate: Of the optimiser.
        weight_decay: Of the optimiser.
        schedule: ``"step"``: times ``step_factor`` every ``step_epochs`` epochs; ``"cosine"``: to zero over the run;
            ``"constant"``.
        step_epochs: Epochs between steps of the learning rate.
        step_factor: Factor of each step.
        warmup_epochs: Epochs, or a part of one, over which the learning rate rises to its value.
        gradient_clip: Largest norm of the gradient; 0 for none.
        ema_decay: Decay, a step, of an exponential moving average of the weights, which is then what is validated and
            exported; 0 for none. The first steps average over less, as min(decay, (1 + step) / (10 + step)).
        validate_every: Epochs from one validation to the next, for models whose validation takes long. The exported
            epoch is the best of those that were validated.
        patience: End the run after so many validations without a better score; 0 to go on to the last epoch.
        loss: Of a frame.
        augmentation: Of the features, in training only.
        seed: Seed of weights, order, cuts, dropout and augmentation.
        workers: Processes that load batches; 0 loads in the main process.
        preload_mib: Features of a split that take at most so many MiB are kept in memory; others are read from the
            file as they are needed, and memory stays bounded.
        compile: Compile the training step (``torch.compile``; needs a C++ compiler). Validation is not compiled.
        precision: ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"`` or ``"64-true"``, as Lightning names them.
            Validation is in the precision of the weights.
        accelerator: Lightning's accelerator.
        devices: Processes on each machine, one a device. Each takes ``batch_size`` clips or spans of a batch.
        nodes: Machines.
        deterministic: Refuse operations that give other results from run to run.

    Source: defaults of LukasHedegaard/CoOadTR ``config.py``: Adam 1e-4, weight decay 1e-4, batch 128, step schedule,
    clip 1.0.

    Example:
        >>> TrainingSettings(max_epochs=3).learning_rate
        0.0001
    """

    sampling: Literal["auto", "sequences", "windows"] = "auto"
    max_epochs: int = 4
    batch_size: int = 128
    accumulate: int = 1
    sequence_length: int = 512
    group_by_length: bool = False
    shortest_clip: int = 1
    stride: int = 1
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    schedule: Literal["constant", "cosine", "step"] = "step"
    step_epochs: int = 1
    step_factor: float = 0.1
    warmup_epochs: float = 0.0
    gradient_clip: float = 1.0
    ema_decay: float = 0.0
    validate_every: int = 1
    patience: int = 0
    loss: LossSettings = field(default_factory=LossSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    seed: int = 0
    workers: int = 0
    preload_mib: int = 2048
    compile: bool = False
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    deterministic: bool = True

    def __post_init__(self) -> None:
        """Refuse values that nothing can be trained with."""
        check_types(self)
        for name, kind in (("loss", LossSettings), ("augmentation", AugmentationSettings)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"{name} must be of {kind.__name__}, got {getattr(self, name)!r}")
        check_at_least(self, 1, "max_epochs", "batch_size", "accumulate", "sequence_length", "stride", "step_epochs")
        check_at_least(self, 1, "shortest_clip", "validate_every", "devices", "nodes")
        whole = ("seed", "workers", "preload_mib", "patience")
        check_at_least(self, 0, *whole)
        for name in whole:
            if getattr(self, name) > MAX_SEED:
                raise ConfigError(f"{name} must be a whole number of at most {MAX_SEED}, got {getattr(self, name)!r}")
        self._check_numbers()
        for name, choices in CHOICES.items():
            check_one_of(self, name, choices)

    def _check_numbers(self) -> None:
        positive, others = ("learning_rate", "step_factor"), ("weight_decay", "gradient_clip", "warmup_epochs")
        for name in (*positive, *others, "ema_decay"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise ConfigError(f"{name} must be finite, got {value!r}")
            wanted = "be positive" if name in positive else "not be negative"
            if value < 0 or (value == 0 and name in positive):
                raise ConfigError(f"{name} must {wanted}, got {value!r}")
        bounds = (("ema_decay", 1), ("warmup_epochs", self.max_epochs), ("validate_every", self.max_epochs + 1))
        for name, bound in bounds:
            if not getattr(self, name) < bound:
                raise ConfigError(f"{name} must be below {bound}, got {getattr(self, name)!r}")

    def rate(self, progress: float) -> float:
        """Compute the learning rate at a point of the run, in epochs from 0.

        Example:
            >>> settings = TrainingSettings(learning_rate=1.0, schedule="step", step_epochs=2, step_factor=0.5)
            >>> [settings.rate(epoch) for epoch in range(5)]
            [1.0, 1.0, 0.5, 0.5, 0.25]
        """
        return learning_rate(
            progress,
            rate=self.learning_rate,
            schedule=self.schedule,
            max_epochs=self.max_epochs,
            warmup_epochs=self.warmup_epochs,
            step_epochs=self.step_epochs,
            step_factor=self.step_factor,
        )

    def to_dict(self) -> dict[str, Any]:
        """Write the settings as a JSON object."""
        return dataclasses.asdict(self)
