"""The learning rate as a function of progress alone: nothing of it needs to be saved or restored."""

from __future__ import annotations

import math
from typing import Literal

from coadtr.errors import ConfigError

__all__ = ["SCHEDULES", "Schedule", "learning_rate"]

Schedule = Literal["constant", "cosine", "step"]
SCHEDULES = ("constant", "cosine", "step")

# Where a warm-up begins, as a share of the rate.
WARMUP_START = 0.01


def learning_rate(
    progress: float,
    *,
    rate: float,
    schedule: Schedule,
    max_epochs: int,
    warmup_epochs: float = 0.0,
    step_epochs: int = 1,
    step_factor: float = 0.1,
) -> float:
    """Compute the learning rate at a point of a run.

    In the first ``warmup_epochs`` it rises linearly with progress, from a hundredth of ``rate`` to ``rate``. From there
    on it is what the schedule gives for the whole epoch, counted from the start of the run: it changes between epochs
    alone.

    Args:
        progress: Epochs done: whole ones, and the part of the current one.
        rate: The rate that the schedule starts from.
        schedule: ``"constant"``; ``"cosine"``: half a cosine wave over the run, to zero;
            ``"step"``: times ``step_factor`` every ``step_epochs`` epochs.
        max_epochs: Epochs of the run.
        warmup_epochs: Epochs of the warm-up, not necessarily whole; 0 for none.
        step_epochs: Epochs between steps.
        step_factor: Factor of each step.

    Raises:
        ConfigError: If the schedule is unknown, or ``progress`` is negative.

    Source: Goyal et al., arXiv:1706.02677, section 2.2 (linear warm-up); Loshchilov and Hutter, ICLR 2017, equation 5
    (cosine, without restarts; here by the epoch).

    Example:
        >>> def rate(progress):
        ...     return learning_rate(progress, rate=1.0, schedule="cosine", max_epochs=4, warmup_epochs=0.5)
        >>> [round(rate(progress), 3) for progress in (0, 0.25, 0.5, 1.0, 1.9, 3.0)]
        [0.01, 0.505, 1.0, 0.854, 0.854, 0.146]
    """
    if not progress >= 0:
        raise ConfigError(f"progress must not be negative, got {progress!r}: count epochs from 0")
    if progress < warmup_epochs:
        return rate * (WARMUP_START + (1 - WARMUP_START) * progress / warmup_epochs)
    epoch = math.floor(progress)
    match schedule:
        case "step":
            return rate * step_factor ** (epoch // step_epochs)
        case "cosine":
            return rate * (1 + math.cos(math.pi * epoch / max_epochs)) / 2
        case "constant":
            return rate
    raise ConfigError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
