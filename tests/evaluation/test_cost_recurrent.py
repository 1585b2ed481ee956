"""Multiply-accumulates of the recurrent models: the count of the dispatcher and the formula."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coadtr.evaluation import executed_macs, executed_macs_by_block, macs_by_block, macs_per_step
from coadtr.models import build_model, config_from_dict, preset

SIZE = st.integers(1, 9)


@given(
    st.sampled_from(["miniroad", "trn"]),
    st.fixed_dictionaries({"input_dim": SIZE, "embed_dim": SIZE, "hidden_dim": SIZE, "window": SIZE}),
    st.integers(2, 5),
    st.integers(1, 4),
)
@settings(max_examples=30, deadline=None)
def test_the_formula_is_the_count_of_the_dispatcher(kind: str, sizes: dict[str, Any], classes: int, count: int) -> None:
    own = {"depth": count} if kind == "miniroad" else {"decoder_steps": count}
    config = config_from_dict({"kind": kind, "num_classes": classes, **sizes, **own})
    counted = macs_by_block(build_model(config))
    assert counted == executed_macs_by_block(config)
    assert list(counted) == list(executed_macs_by_block(config))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["miniroad", "trn", "grab"])
def test_the_formula_is_the_count_at_published_sizes(name: str) -> None:
    config = preset(name, input_dim=3072, num_classes=22)
    assert macs_per_step(build_model(config)) == executed_macs(config)


def test_the_published_sizes_of_cooadtr_b1_cost_more_than_grab() -> None:
    for channels in (3072, 4096):
        sizes = {"input_dim": channels, "num_classes": 22}
        assert executed_macs(preset("grab", **sizes)) < executed_macs(preset("cooadtr_b1", **sizes))


def test_one_step_of_each_by_hand() -> None:
    sizes = {"input_dim": 6, "num_classes": 3, "embed_dim": 8, "hidden_dim": 4}
    found = macs_by_block(build_model(preset("miniroad", **sizes)))
    assert found == {"inputs": 6 * 8, "gru": 8 * 12 + 4 * 12, "head": 4 * 3}
    found = macs_by_block(
        build_model(preset("grab", recurrence_dim=5, bank_dim=2, input_dim=6, num_classes=3, embed_dim=8))
    )
    assert found == {"inputs": 6 * 8, "recurrence": 3 * (8 * 5) + 5 * 8, "bank": 8 * 2 + 5 * (2 * 8), "head": 8 * 3}
    found = macs_by_block(build_model(preset("trn", decoder_steps=2, **sizes)))
    assert found == {
        "inputs": 6 * 8,
        "encoder": (8 + 8 + 4) * 16,
        "decoder": 2 * 4 * 4 + 2 * (4 + 4) * 16 + 3 * 4,  # first states, both steps, the scores fed to the second
        "head": 3 * (4 * 3),
        "future": 2 * (4 * 8),
    }
