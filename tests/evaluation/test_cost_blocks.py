"""Multiply-accumulates by block: the count of the dispatcher, the formula, and the published convention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.evaluation import (
    executed_macs,
    executed_macs_by_block,
    macs_by_block,
    macs_per_step,
    published_macs,
    published_macs_by_block,
)
from coadtr.models import PRESETS, CoOadTRConfig, ModelConfig, build_model, config_from_dict, preset
from coadtr.types import Detector
from tests.models.sizes import COUNTED, small


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Draw small sizes of both kinds, on both sides of where a layer changes how it computes."""
    heads, per_head = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([1, 2, 3, 6]))
    sizes: dict[str, Any] = {
        "input_dim": draw(st.integers(1, 9)),
        "num_classes": draw(st.integers(2, 5)),
        "window": draw(st.integers(1, 9)),
        "embed_dim": heads * per_head,
        "num_heads": heads,
        "ff_dim": draw(st.integers(1, 9)),
        "depth": draw(st.integers(1, 4)),
    }
    flags = {name: draw(st.booleans()) for name in ("one", "other")}
    if draw(st.booleans()):
        own = {"kind": "cooadtr", "positions": "learned", "in_bias": flags["one"], "norm_first": flags["other"]}
    else:
        counts = {"decoder_depth": draw(st.integers(1, 3)), "decoder_queries": draw(st.integers(1, 4))}
        own = {"kind": "oadtr", "decoder": flags["one"], "decoder_heads": heads, **counts}
    return config_from_dict({**sizes, **own})


@given(configs())
@settings(max_examples=60, deadline=None)
def test_the_formula_is_the_count_of_the_dispatcher(config: ModelConfig) -> None:
    counted = macs_by_block(build_model(config))
    assert counted == executed_macs_by_block(config)
    assert list(counted) == list(executed_macs_by_block(config))
    assert sum(counted.values()) == executed_macs(config)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_the_formula_is_the_count_at_published_sizes(name: str) -> None:
    config = preset(name, input_dim=3072, num_classes=22)
    model = build_model(config)
    assert macs_by_block(model) == executed_macs_by_block(config)
    assert macs_per_step(model) == executed_macs(config)


@pytest.mark.parametrize("name", PRESETS)
def test_the_formula_is_the_count_of_every_preset(name: str) -> None:
    config = small(name, num_heads=4)
    assert macs_by_block(build_model(config)) == executed_macs_by_block(config)


def test_two_blocks_by_hand() -> None:
    """N = 4, E = 8, H = 2, F = 12: 4 (2 - 1) < 8, so the first block folds and the last one absorbs."""
    found = macs_by_block(build_model(small("cooadtr_b2")))
    assert found == {
        "inputs": 6 * 8,
        "encoder 1 attention": 3 * 64 + 64 + 2 * 4 * 8 + 4 * (2 * 4) * 8,  # qkv, folding, row and column, sums
        "encoder 1 feed-forward": 4 * (8 * 12 + 12 * 8),
        "encoder 2 attention": 4 * 64 + 2 * 4 * 2 * 8,  # q, into keys, out of values, output; logits and sums
        "encoder 2 feed-forward": 8 * 12 + 12 * 8,
        "head": 8 * 3,
    }


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("channels", [3072, 4096])
def test_published_blocks_add_up_and_cover_those_executed(name: str, channels: int) -> None:
    config = preset(name, input_dim=channels, num_classes=22)
    published = published_macs_by_block(config)
    assert sum(published.values()) == published_macs(config)
    assert set(executed_macs_by_block(config)) <= set(published)
    more = set(published) - set(executed_macs_by_block(config))
    assert all("norm" in block or block == "unused classifier" for block in more)
    assert (not more) == isinstance(config, CoOadTRConfig)


def test_what_has_no_formula_is_named() -> None:
    class Other(ModelConfig):
        kind = "other"

    with pytest.raises(ConfigError, match="no formula for other: count its step by macs_per_step"):
        executed_macs(Other(input_dim=4, num_classes=2))


class Loose(nn.Module):
    """A part that is called, one whose other methods are, one used by its weights, and a product of its own."""

    input_dim, num_classes, window = 4, 3, 2

    def __init__(self) -> None:
        super().__init__()
        self.called = nn.Linear(4, 5)
        self.nested = nn.ModuleDict({"inner": Asked()})
        self.weights = nn.Linear(5, 3, bias=False)

    def init_state(self, batch_size: int = 1) -> Tensor:
        return torch.zeros(batch_size, 1)

    def step(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        inner: Any = self.nested["inner"]
        return inner.ask(self.called(frame)) @ self.weights.weight.T, state

    def reset_rows(self, state: Tensor, rows: Tensor) -> Tensor:
        return state.masked_fill(rows[:, None], 0)

    def forward(self, frames: Tensor) -> Tensor:
        return frames


class Asked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.second = nn.Linear(7, 5)

    def ask(self, x: Tensor) -> Tensor:
        return self.back(self.first(x)) @ torch.ones(5, 5)

    def back(self, x: Tensor) -> Tensor:
        answer: Tensor = self.second(x)
        return answer


def test_any_module_is_counted_and_left_as_it_was() -> None:
    model = Loose()
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    assert macs_by_block(model) == {"called": 20, "nested": 35 + 35 + 25, "outside blocks": 15}
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_step_that_fails_leaves_the_model_as_it_was() -> None:
    model = Loose()
    model.window, before = 0, set(vars(model.called))
    model.weights = nn.Linear(9, 3)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        macs_by_block(model)
    assert set(vars(model.called)) == before


def test_a_detector_that_is_no_module_is_one_block(window_mean: Detector[Any]) -> None:
    class Plain:
        input_dim, num_classes, window = window_mean.input_dim, window_mean.num_classes, window_mean.window
        init_state, step = window_mean.init_state, window_mean.step
        reset_rows, forward = window_mean.reset_rows, window_mean.forward

    assert macs_by_block(Plain()) == {"outside blocks": 6 * 5}
