from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coadtr.errors import ConfigError
from coadtr.evaluation import macs_per_step, measure_cost, parameters, state_bytes, step_latency
from coadtr.models import PRESETS, build_model
from tests.models.sizes import small

if TYPE_CHECKING:
    from collections.abc import Callable

    from coadtr.types import Detector

E, T = 8, 6


class Stateless(nn.Module):
    """One operation on the frame, to see whether its products are counted."""

    input_dim = num_classes = E
    window = 2

    def __init__(self, operation: Callable[[Tensor], Tensor], part: nn.Module | None = None) -> None:
        super().__init__()
        self.part = part
        self.operation = operation
        self.steps = 0
        self.modes: list[bool] = []

    def init_state(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, 3)

    def step(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.steps += 1
        self.modes.append(self.training)
        return self.operation(frame), state

    def reset_rows(self, state: Tensor, rows: Tensor) -> Tensor:
        return state.masked_fill(rows[:, None], 0)

    def forward(self, frames: Tensor) -> Tensor:
        return self.operation(frames)


linear = nn.Linear(E, E)
lstm = nn.LSTM(E, E, batch_first=True)
gru = nn.GRUCell(E, E)
mha = nn.MultiheadAttention(E, 2, batch_first=True)
encoder = nn.TransformerEncoderLayer(E, 2, dim_feedforward=16, batch_first=True)
matrix = torch.ones(E, E)
heads = torch.ones(1, 2, T, E)


def tokens(frame: Tensor) -> Tensor:
    return frame[:, None].expand(1, T, E)


def attend(frame: Tensor) -> Tensor:
    """Four projections of T tokens; queries with keys and weights with values, all heads together."""
    answers: Tensor = mha(tokens(frame), tokens(frame), tokens(frame))[0]
    return answers[:, 0]


def heads_attend(frame: Tensor) -> Tensor:
    keys = heads * frame
    return F.scaled_dot_product_attention(keys, keys, keys)[:, 0, 0]


@pytest.mark.parametrize(
    ("part", "operation", "expected"),
    [
        (linear, linear, E * E),
        (gru, gru, 2 * 3 * E * E),
        (lstm, lambda frame: lstm(frame[:, None])[0][:, 0], 2 * 4 * E * E),
        (mha, attend, 4 * T * E * E + 2 * T * T * E),
        (encoder, lambda frame: encoder(tokens(frame))[:, 0], 4 * T * E * E + 2 * T * T * E + 2 * T * E * 16),
        (None, heads_attend, 2 * 2 * T * T * E),
        (None, lambda frame: torch.einsum("be,ne->bn", frame, matrix), E * E),
        (None, lambda frame: (matrix @ frame[0])[None], E * E),
        (None, lambda frame: torch.addmv(frame[0], matrix, frame[0])[None], E * E),
        (None, lambda frame: frame * torch.dot(frame[0], frame[0]), E),
        (None, torch.tanh, 0),
    ],
)  # fmt: skip
def test_products_are_counted_also_in_fused_kernels(
    part: nn.Module | None, operation: Callable[[Tensor], Tensor], expected: int
) -> None:
    fast = torch.backends.mha.get_fastpath_enabled()
    assert macs_per_step(Stateless(operation, part)) == expected
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_step_is_measured_on_a_full_window_in_evaluation_mode() -> None:
    model = Stateless(torch.tanh)
    macs_per_step(model)
    assert model.steps == model.window + 1
    step_latency(model, warmup=3, steps=5)
    assert model.steps == model.window + 1 + model.window + 3 + 5
    assert not any(model.modes)
    assert model.training


class State(NamedTuple):
    ring: Tensor
    nested: Any


def test_state_bytes_add_up_over_any_nesting() -> None:
    state = State(
        torch.zeros(1, 4, 2),
        [
            OrderedDict(a=torch.zeros(1, dtype=torch.int64), b=None),
            (torch.zeros(1, 3, dtype=torch.bfloat16), 7),
        ],
    )
    assert state_bytes(state) == 8 * 4 + 8 + 6
    with pytest.raises(ConfigError, match="SimpleNamespace"):
        state_bytes((SimpleNamespace(),))


def test_parameters_count_shared_ones_once() -> None:
    first = nn.Linear(3, 3)
    assert parameters(nn.Sequential(first, first)) == 12
    assert parameters(object()) == 0


def test_cost_of_a_detector(window_mean: Detector[Any]) -> None:
    generator, threads = torch.get_rng_state(), torch.get_num_threads()
    cost = measure_cost(window_mean, warmup=2, steps=30, threads=1)
    assert cost.parameters == 6 * 5 + 5
    assert cost.macs_per_frame == 6 * 5
    assert cost.state_bytes_per_stream == 8 * 6 * 4 + 8
    latency = cost.step_latency_ms
    assert latency is not None
    assert 0 < latency.p50 <= latency.p95 <= latency.p99
    assert latency.mean > 0
    assert latency.steps == 30
    assert (cost.threads, cost.device, cost.dtype) == (1, "cpu", "float32")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), generator)
    assert cost.to_dict()["step_latency_ms"]["p95"] == latency.p95


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"warmup": -1}, {"threads": 0}])
def test_bad_settings_are_named(window_mean: Detector[Any], wrong: dict[str, int]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        step_latency(window_mean, **wrong)


@pytest.mark.parametrize("name", PRESETS)
def test_every_model_of_the_project_is_counted_and_keeps_its_gradients(name: str) -> None:
    model = build_model(small(name))
    dense = 6 * 8 + 8 * 3  # embedding, and a head that is no narrower
    assert macs_per_step(model) > dense
    assert all(parameter.requires_grad for parameter in model.parameters())
