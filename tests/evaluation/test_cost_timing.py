"""Latency, throughput and the way from raw input, on a clock that the model itself moves; and memory."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coadtr.errors import ConfigError, ShapeError
from coadtr.evaluation import (
    end_to_end_latency,
    measure_cost,
    peak_memory_bytes,
    step_latency,
    throughput,
    weights_bytes,
)
from coadtr.types import Detector

MODULES = ("latency", "batched", "end_to_end")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 10**9

    def perf_counter_ns(self) -> int:
        return self.now

    def move(self, milliseconds: float) -> None:
        self.now += round(milliseconds * 1e6)


class Timed:
    """A detector whose k-th step takes as long as ``cost(k, B)`` says, in milliseconds."""

    input_dim, num_classes, window = 4, 2, 3

    def __init__(self, clock: Clock, cost: Any) -> None:
        self.clock, self.cost, self.steps = clock, cost, 0

    def init_state(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, 1)

    def step(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        assert len(frame) == len(state)
        self.clock.move(self.cost(self.steps, len(frame)))
        self.steps += 1
        return frame[:, :2], state

    def reset_rows(self, state: Tensor, rows: Tensor) -> Tensor:
        return state.masked_fill(rows[:, None], 0)

    def forward(self, frames: Tensor) -> Tensor:
        return frames[..., :2]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    read = SimpleNamespace(perf_counter_ns=clock.perf_counter_ns)
    for name in MODULES:
        monkeypatch.setattr(f"coadtr.evaluation.cost.{name}.time", read)
    return clock


def test_latency_leaves_out_window_and_warm_up(clock: Clock) -> None:
    model = Timed(clock, lambda step, _: 1000.0 if step < 3 + 5 else step - 7.0)  # 1, 2, ... 101 ms once it is warm
    found = step_latency(model, warmup=5, steps=101)
    assert (found.p50, found.p95, found.p99, found.mean, found.steps) == (51.0, 96.0, 100.0, 51.0, 101)


def test_throughput_counts_the_frames_of_all_streams(clock: Clock) -> None:
    found = throughput(Timed(clock, lambda _, streams: 1.0 + streams), streams=(1, 9), steps=10, rounds=3)
    assert [one.streams for one in found] == [1, 9]
    assert [one.frames_per_second.median for one in found] == [500.0, 900.0]
    assert [one.frames_per_second.low for one in found] == [500.0, 900.0]


def test_throughput_tells_the_spread_of_rounds_that_take_turns(clock: Clock) -> None:
    """Two windows and warm-ups of 3 + 1 steps; then three rounds of 2 steps, B = 1 and B = 4 in turn."""
    costs = [100.0] * 8 + [1.0] * 4 + [2.0] * 4 + [4.0] * 4
    model = Timed(clock, lambda step, _: costs[step])
    one, four = throughput(model, streams=(1, 4), warmup=1, steps=2, rounds=3)
    assert (one.frames_per_second.low, one.frames_per_second.median, one.frames_per_second.high) == (250, 500, 1000)
    assert (four.frames_per_second.low, four.frames_per_second.median, four.frames_per_second.high) == (
        1000,
        2000,
        4000,
    )
    assert model.steps == len(costs)


def test_throughput_without_streams_runs_nothing(clock: Clock) -> None:
    model = Timed(clock, lambda _, __: 1.0)
    assert throughput(model, streams=()) == ()
    assert model.steps == 0


def test_the_way_from_raw_input_is_the_sum_of_its_parts(clock: Clock) -> None:
    """Making the raw input takes 500 ms that no clock sees."""
    runs: list[int] = []

    def raw() -> list[float]:
        clock.move(500)
        runs.append(len(runs))
        return [float(len(runs))] * 4

    def prepare(values: list[float]) -> Tensor:
        clock.move(2)
        return torch.tensor([values])

    def backbone(prepared: Tensor) -> Tensor:
        clock.move(9000 if len(runs) <= 3 else 10.0 * float(prepared[0, 0] - 3))  # 10, 20, ... 50 ms once it is warm
        return prepared.double()

    model = Timed(clock, lambda _, __: 1.0)
    found = end_to_end_latency(model, raw, {"prepare": prepare, "backbone": backbone}, warmup=3, steps=5)
    assert list(found) == ["prepare", "backbone", "step", "total"]
    assert {name: (part.p50, part.mean) for name, part in found.items()} == {
        "prepare": (2.0, 2.0),
        "backbone": (30.0, 30.0),
        "step": (1.0, 1.0),
        "total": (33.0, 33.0),
    }
    assert found["total"].p99 == pytest.approx(2 + np.percentile([10, 20, 30, 40, 50], 99) + 1)
    assert (len(runs), model.steps) == (8, 3 + 8)


def test_features_reach_the_step_as_they_were_made(clock: Clock) -> None:
    seen: list[Tensor] = []

    class Keeping(Timed):
        def step(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            seen.append(frame)
            return super().step(frame, state)

    features = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    end_to_end_latency(Keeping(clock, lambda _, __: 1.0), lambda: features, {}, warmup=0, steps=1)
    assert torch.equal(seen[-1], features.float())


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"stages": {"wide": lambda _: torch.zeros(1, 9)}}, ShapeError, r"features \(1, 9\), the model takes \(1, 4\)"),
        ({"stages": {"step": lambda x: x}}, ConfigError, "a stage is named 'step'"),
        ({"steps": 0}, ConfigError, "steps=0"),
        ({"warmup": -1}, ConfigError, "warmup=-1"),
    ],
)
def test_a_way_that_cannot_be_timed_is_refused(
    clock: Clock, changes: dict[str, Any], error: type[Exception], text: str
) -> None:
    arguments = {"stages": {}, "steps": 1, "warmup": 0, **changes}
    with pytest.raises(error, match=text):
        end_to_end_latency(Timed(clock, lambda _, __: 1.0), lambda: torch.zeros(1, 4), **arguments)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"streams": (1, 0)}, r"streams=\[1, 0\]; give numbers of streams of 1 and more"),
        ({"rounds": 0}, "rounds=0; time at least 1 round"),
        ({"steps": 0}, "steps=0"),
        ({"threads": 0}, "threads=0"),
    ],
)
def test_bad_settings_of_throughput_are_named(clock: Clock, wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        throughput(Timed(clock, lambda _, __: 1.0), **wrong)


def test_cost_goes_into_json(window_mean: Detector[Any]) -> None:
    told = measure_cost(window_mean, warmup=0, steps=3, streams=[2, 3]).to_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["macs_by_block"] == {"head": 30}
    assert told["weights_bytes"] == (6 * 5 + 5) * 4
    assert [one["streams"] for one in told["throughput"]] == [2, 3]
    assert set(told["throughput"][0]["frames_per_second"]) == {"median", "low", "high"}
    assert told["peak_memory_bytes"] >= told["weights_bytes"]
    assert measure_cost(window_mean, warmup=0, steps=3).to_dict()["throughput"] == []
    with pytest.raises(ConfigError, match=r"streams=\[0\]"):
        measure_cost(window_mean, streams=[0])


def test_weights_are_counted_once_in_their_own_dtype() -> None:
    shared = nn.Linear(3, 3, bias=False).to(torch.bfloat16)
    model = nn.Sequential(shared, shared, nn.BatchNorm1d(2))
    assert weights_bytes(model) == 9 * 2 + 4 * 2 * 4 + 8
    assert weights_bytes(object()) == 0


def test_peak_memory_stays_when_what_was_held_is_gone() -> None:
    before = peak_memory_bytes()
    if before is None:
        pytest.skip("this system does not tell")
    held = np.ones(before // 8 + 2**23)  # one array of more bytes than the process ever had
    grown = peak_memory_bytes()
    assert grown is not None
    assert grown > 0.99 * held.nbytes  # the system counts pages in batches
    del held
    after = peak_memory_bytes()
    assert after is not None
    assert after > 0.99 * grown


def test_peak_memory_where_there_is_no_proc(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr("coadtr.evaluation.cost.memory._STATUS", tmp_path / "status")
    unit = {"linux": 1024, "darwin": 1}
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=5000))
    for platform, bytes_each in unit.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert peak_memory_bytes() == 5000 * bytes_each
    monkeypatch.setattr(sys, "platform", "win32")
    assert peak_memory_bytes() is None
