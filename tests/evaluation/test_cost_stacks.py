"""Multiply-accumulates of stacked single-output blocks: the count of the dispatcher is the formula at any sizes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coadtr.evaluation import executed_macs_by_block, macs_by_block
from coadtr.models import ModelConfig, build_model, config_from_dict, preset


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Draw small sizes of all kinds."""
    heads = draw(st.sampled_from([1, 2, 4]))
    sizes: dict[str, Any] = {
        "input_dim": draw(st.integers(1, 9)),
        "num_classes": draw(st.integers(2, 5)),
        "window": draw(st.integers(1, 9)),
        "embed_dim": heads * draw(st.sampled_from([1, 2, 3])),
        "num_heads": heads,
        "ff_dim": draw(st.integers(1, 9)),
        "depth": draw(st.integers(1, 3)),
        "positions": "learned",
        "in_bias": draw(st.booleans()),
    }
    if draw(st.booleans()):
        return config_from_dict({"kind": "nystroem", "num_landmarks": draw(st.integers(1, 5)), **sizes})
    return config_from_dict({"kind": "deepcot", "attention": draw(st.sampled_from(["softmax", "soft"])), **sizes})


@given(configs())
@settings(max_examples=40, deadline=None)
def test_the_formula_is_the_count_of_the_dispatcher(config: ModelConfig) -> None:
    counted = macs_by_block(build_model(config))
    assert counted == executed_macs_by_block(config)
    assert list(counted) == list(executed_macs_by_block(config))


def test_low_rank_attention_by_hand() -> None:
    """N = 4, E = 8, H = 2, F = 12, m = 3: no query and no key is projected, logits of landmarks are."""
    sizes: dict[str, Any] = {"embed_dim": 8, "ff_dim": 12, "num_heads": 2, "window": 4, "num_landmarks": 3}
    assert macs_by_block(build_model(preset("nystroem", input_dim=6, num_classes=3, **sizes))) == {
        "inputs": 6 * 8,
        # two rows of in_proj a landmark and head, values, output; the inverse; the mix of weights; sums of values
        "encoder 1 attention": 8 * (2 * 2 * 3) + 8 * 8 + 8 * 8 + 2 * 3 * 3 + 2 * 3 * 4 + 4 * 8,
        "encoder 1 feed-forward": 8 * 12 + 12 * 8,
        "head": 8 * 3,
    }


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_each_block_of_deepcot_costs_what_cooadtr_b1s_does(depth: int) -> None:
    sizes: dict[str, Any] = {"input_dim": 6, "num_classes": 3, "embed_dim": 8, "ff_dim": 12, "num_heads": 2}
    deep = executed_macs_by_block(preset("deepcot", depth=depth, window=4, **sizes))
    alone = executed_macs_by_block(preset("cooadtr_b1", window=4, **sizes))
    for number in range(1, depth + 1):
        for part in ("attention", "feed-forward"):
            assert deep[f"encoder {number} {part}"] == alone[f"encoder 1 {part}"]
