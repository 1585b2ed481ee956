"""The scan against a loop over time, the averages of a constant, horizons at the start, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from coadtr.errors import ConfigError
from coadtr.layers import AverageBank, GatedRecurrence
from coadtr.layers.recurrence import scan


def loop(keep: Tensor, drive: Tensor, start: Tensor) -> Tensor:
    states, hidden = [], start
    for t in range(drive.shape[1]):
        hidden = keep[:, min(t, keep.shape[1] - 1)] * hidden + drive[:, t]
        states.append(hidden)
    return torch.stack(states, 1)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 9, 10, 23])
@pytest.mark.parametrize("same", [True, False], ids=["one_rate", "gates"])
def test_a_scan_and_its_gradients_are_those_of_the_loop(length: int, same: bool) -> None:
    torch.manual_seed(length)
    keep = torch.rand((1, 1, 3) if same else (2, length, 3), dtype=torch.float64)
    keep[..., 0], keep[..., 1] = 0, 1
    parts = keep, torch.randn(2, length, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    weight, results = torch.randn(2, length, 3, dtype=torch.float64), []
    for compute in (scan, loop):
        given = [part.clone().requires_grad_() for part in parts]
        answers = compute(*given)
        results.append([answers, *torch.autograd.grad((answers * weight).sum(), given)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_the_average_of_a_constant_is_this_constant_from_the_first_frame_on() -> None:
    layer = AverageBank(6, 3, horizons=4).double()
    with torch.no_grad():
        layer.out.weight[:, :3] = 0
        answers = layer(torch.randn(1, 1, 6, dtype=torch.float64).expand(1, 300, 6))
    torch.testing.assert_close(answers, answers[:, :1].expand_as(answers), atol=1e-12, rtol=0)
    assert (answers - layer.out.bias).abs().max() > 1e-3


def test_horizons_rise_geometrically_from_the_shortest_to_the_longest() -> None:
    layer = AverageBank(6, 1, horizons=4, shortest=4, longest=256).double()
    pulse = torch.zeros(1, 2, 6, dtype=torch.float64)
    with torch.no_grad():
        _, (before, _) = layer.step(pulse[:, 0], layer.init_state(1))
        layer.value.bias.fill_(-1e3)  # nothing is added: what is left after a frame is 1 - 1 / horizon
        _, (after, seen) = layer.step(pulse[:, 1], (before, torch.ones(1, dtype=torch.int64)))
    assert seen.tolist() == [2]
    expected = torch.tensor([4.0, 16.0, 64.0, 256.0], dtype=torch.float64)
    torch.testing.assert_close(1 / (1 - after / before)[0], expected, atol=0, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 0}, "width and horizons must be at least 1, got 0 and 4"),
        ({"width": 2, "horizons": 0}, "width and horizons must be at least 1, got 2 and 0"),
        ({"width": 2, "shortest": 1.0}, "horizons must rise from above 1 frame, got shortest=1.0 and longest=256.0"),
        ({"width": 2, "shortest": 8.0, "longest": 4.0}, "got shortest=8.0 and longest=4.0"),
        ({"width": 2, "longest": math.inf}, "got shortest=4.0 and longest=inf"),
    ],
)
def test_a_bank_that_cannot_be_built_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AverageBank(8, **settings)


def test_a_recurrence_without_channels_is_refused() -> None:
    with pytest.raises(ConfigError, match="width must be at least 1, got 0"):
        GatedRecurrence(8, 0)
