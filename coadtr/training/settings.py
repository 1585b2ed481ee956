"""Settings of a training run: frozen, validated, written beside the run so that it can be resumed."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from coadtr.errors import ConfigError

__all__ = ["TrainingSettings", "mix_seed"]

SAMPLING = ("auto", "sequences", "windows")
SCHEDULES = ("constant", "cosine", "step")
# Weights stay in float32 or wider: Adam's small updates would round away in half precision.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")
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
        batch_size: Clips, or spans, in a batch.
        sequence_length: Frames with loss in a span.
        learning_rate: Of Adam.
        weight_decay: Of Adam (added to the gradient, as published).
        schedule: ``"step"``: times ``step_factor`` every ``step_epochs`` epochs; ``"cosine"``: to zero over the run;
            ``"constant"``.
        step_epochs: Epochs between steps of the learning rate.
        step_factor: Factor of each step.
        gradient_clip: Largest norm of the gradient; 0 for none.
        seed: Seed of weights, order, cuts and dropout.
        workers: Processes that load batches; 0 loads in the main process.
        preload_mib: Features of a split that take at most so many MiB are kept in memory; others are read from the
            file as they are needed, and memory stays bounded.
        precision: ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"`` or ``"64-true"``, as Lightning names them.
        accelerator: Lightning's accelerator.
        devices: Lightning's number of devices; 1, as validation is scored in one process.
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
    sequence_length: int = 512
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    schedule: Literal["constant", "cosine", "step"] = "step"
    step_epochs: int = 1
    step_factor: float = 0.1
    gradient_clip: float = 1.0
    seed: int = 0
    workers: int = 0
    preload_mib: int = 2048
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    deterministic: bool = True

    def __post_init__(self) -> None:
        """Refuse values that nothing can be trained with."""
        for name in ("max_epochs", "batch_size", "sequence_length", "step_epochs", "devices"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, got {getattr(self, name)!r}")
        if self.devices > 1:
            raise ConfigError(f"devices must be 1, got {self.devices}: validation is scored in one process")
        for name in ("seed", "workers", "preload_mib", "weight_decay", "gradient_clip"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)!r}")
        for name, most in (("seed", MAX_SEED), ("workers", MAX_SEED), ("preload_mib", MAX_SEED)):
            if not isinstance(getattr(self, name), int) or getattr(self, name) > most:
                raise ConfigError(f"{name} must be a whole number of at most {most}, got {getattr(self, name)!r}")
        for name in ("learning_rate", "step_factor"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)!r}")
        for name, choices in (("sampling", SAMPLING), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")

    def rate_of_epoch(self, epoch: int) -> float:
        """Compute the learning rate of an epoch, counted from 0.

        Example:
            >>> settings = TrainingSettings(learning_rate=1.0, schedule="step", step_epochs=2, step_factor=0.5)
            >>> [settings.rate_of_epoch(epoch) for epoch in range(5)]
            [1.0, 1.0, 0.5, 0.5, 0.25]
        """
        match self.schedule:
            case "step":
                return self.learning_rate * self.step_factor ** (epoch // self.step_epochs)
            case "cosine":
                return self.learning_rate * (1 + math.cos(math.pi * epoch / self.max_epochs)) / 2
            case _:
                return self.learning_rate

    def to_dict(self) -> dict[str, Any]:
        """Write the settings as a JSON object."""
        return dataclasses.asdict(self)
