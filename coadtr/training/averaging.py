"""A moving average of the weights, which is what is validated and exported."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

__all__ = ["WeightAverage"]


class WeightAverage(WeightAveraging):
    """Keep an exponential moving average of the weights beside them.

    After step t the average is ``a = d a + (1 - d) w`` with ``d = min(decay, (1 + t) / (10 + t))``, so that it follows
    the weights closely in the first steps. Validation, the kept epochs and the exported checkpoint hold the average;
    a run that goes on has both.

    Args:
        decay: Largest decay of one step, at least 0 and below 1.

    Source: Polyak and Juditsky, SIAM J. Control Optim. 30(4), 1992; the rising decay as TensorFlow's
    ``ExponentialMovingAverage`` has it.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: Tensor, current: Tensor, steps: Any) -> Tensor:
            share = 1 - min(decay, (1 + float(steps)) / (10 + float(steps)))
            return averaged + share * (current - averaged)

        # Statistics of the input are set before the first step, and never learnt.
        super().__init__(use_buffers=False, avg_fn=average)
