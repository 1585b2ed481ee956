"""The learning rate at every point of a run, against sums by hand and against the rate by the epoch."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from coadtr.errors import ConfigError
from coadtr.training.schedule import SCHEDULES, Schedule, learning_rate


def rate_of_epoch(epoch: int, schedule: Schedule, epochs: int) -> float:
    """Compute the rate as published runs did, by the epoch alone."""
    if schedule == "step":
        return 1.7e-4 * 0.3 ** (epoch // 3)
    return 1.7e-4 * (1 + math.cos(math.pi * epoch / epochs)) / 2 if schedule == "cosine" else 1.7e-4


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 4, 30])
def test_without_warm_up_the_rate_follows_from_the_epoch_alone(schedule: Schedule, epochs: int) -> None:
    values: dict[str, Any] = {"schedule": schedule, "max_epochs": epochs, "step_epochs": 3, "step_factor": 0.3}
    for epoch in range(epochs):
        for part in (0.0, 0.25, 0.999):
            assert learning_rate(epoch + part, rate=1.7e-4, **values) == rate_of_epoch(epoch, schedule, epochs)


def test_the_warm_up_is_a_straight_line_to_the_rate() -> None:
    rates = [
        learning_rate(step / 10, rate=2.0, schedule="constant", max_epochs=9, warmup_epochs=1.5) for step in range(20)
    ]
    rises = [after - before for before, after in itertools.pairwise(rates[:16])]
    assert rates[0] == 0.02
    assert rises == pytest.approx([1.98 / 15] * 15)
    assert rates[15:] == [2.0] * 5


@pytest.mark.parametrize(
    ("schedule", "after"), [("constant", 1.0), ("cosine", math.cos(math.pi / 16) ** 2), ("step", 0.5)]
)
def test_after_the_warm_up_epochs_count_from_the_start_of_the_run(schedule: Schedule, after: float) -> None:
    def rate(progress: float) -> float:
        return learning_rate(
            progress, rate=1.0, schedule=schedule, max_epochs=8, warmup_epochs=0.5, step_epochs=1, step_factor=0.5
        )

    assert rate(0.5) == rate(0.99) == 1.0
    assert rate(1.0) == rate(1.99) == pytest.approx(after)


def test_the_cosine_falls_to_zero() -> None:
    rates = [learning_rate(epoch, rate=3.0, schedule="cosine", max_epochs=6) for epoch in range(7)]
    assert rates[0] == pytest.approx(3.0)
    assert rates[3] == pytest.approx(1.5)
    assert rates[6] == pytest.approx(0.0)
    assert rates == sorted(rates, reverse=True)


def test_bad_values_are_named() -> None:
    with pytest.raises(ConfigError, match=r"progress must not be negative, got -1: count epochs from 0"):
        learning_rate(-1, rate=1.0, schedule="step", max_epochs=4)
    with pytest.raises(ConfigError, match=r"progress must not be negative, got nan"):
        learning_rate(math.nan, rate=1.0, schedule="step", max_epochs=4)
    unknown: Any = "linear"
    with pytest.raises(ConfigError, match="schedule must be one of constant, cosine, step, got 'linear'"):
        learning_rate(0, rate=1.0, schedule=unknown, max_epochs=4)
