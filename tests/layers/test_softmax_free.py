"""Softmax-free attention: its kernel, its bounds, its gradients, refusals. (Its steps: tests/laws.)"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from coadtr.errors import ConfigError
from coadtr.interop import attention_to_torch, block_to_torch
from coadtr.layers import (
    NystroemAttention,
    SingleOutputAttention,
    SingleOutputBlock,
    SingleOutputStack,
    SoftmaxFreeAttention,
)

WIDTH, HEADS, WINDOW = 8, 2, 5


def layer(**options: Any) -> SoftmaxFreeAttention:
    torch.manual_seed(0)
    return SoftmaxFreeAttention(WIDTH, HEADS, WINDOW, **options).double().eval()


def test_equal_queries_and_keys_weigh_one_each() -> None:
    attention = layer()
    with torch.no_grad():
        attention.in_proj.weight[: 2 * WIDTH] = 0  # all queries and keys are zero: all distances are
    frames = torch.randn(1, 9, WIDTH, dtype=torch.float64)
    values = frames @ attention.in_proj.weight[2 * WIDTH :].T
    with torch.no_grad():
        answers = attention(frames)
        for t in range(9):
            total = attention.out_proj(values[0, max(0, t + 1 - WINDOW) : t + 1].sum(0))
            torch.testing.assert_close(answers[0, t], total, atol=1e-12, rtol=0)


def test_a_weight_is_the_gaussian_of_the_distance() -> None:
    attention = layer()
    q, k = torch.randn(3, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    weights = attention.weigh(q * attention.head_dim**-0.5, k, None)
    for i in range(3):
        for j in range(6):
            expected = math.exp(-float((q[i] - k[j]).square().sum()) / (2 * attention.head_dim))
            assert float(weights[i, j]) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e9])
def test_weights_stay_between_zero_and_one_at_any_scale(dtype: torch.dtype, scale: float) -> None:
    attention = layer().to(dtype)
    k = (torch.randn(1, 64, attention.head_dim) * scale).to(dtype)
    q = (k.float() * attention.head_dim**-0.5).to(dtype)
    weights = attention.weigh(q, k, None)
    assert weights.dtype == dtype
    assert ((weights >= 0) & (weights <= 1)).all()


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e6])
def test_gradients_stay_finite(scale: float) -> None:
    attention = layer().float()
    frames = (torch.randn(2, 13, WIDTH) * scale).requires_grad_()
    attention(frames).square().mean().backward()
    assert frames.grad is not None
    assert torch.isfinite(frames.grad).all()
    for parameter in attention.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_gradients_are_those_of_finite_differences() -> None:
    attention = layer()
    frames = torch.randn(1, 7, WIDTH, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attention, (frames,))


def test_a_clip_attends_like_the_band_at_its_end() -> None:
    attention = layer(in_bias=True, out_bias=True)
    clip = torch.randn(2, WINDOW, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        expected = attention(clip)[:, -1]
        torch.testing.assert_close(attention.attend_clip(clip)[:, -1], expected, atol=1e-12, rtol=0)
        torch.testing.assert_close(attention.attend_from(clip[:, -1], clip), expected, atol=1e-12, rtol=0)


def test_a_step_has_the_products_of_the_softmaxs() -> None:
    attention, counts = layer(), []
    for one in (attention, SingleOutputAttention(WIDTH, HEADS, WINDOW).double()):
        with FlopCounterMode(display=False) as counter:
            one.step(torch.zeros(1, WIDTH, dtype=torch.float64), one.init_state())
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 2 * (4 * WIDTH**2 + 2 * WINDOW * WIDTH)


def test_steps_run_under_autocast() -> None:
    attention = layer().float()
    state = attention.init_state(1)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        answer, _ = attention.step(torch.randn(1, WIDTH), state)
    assert torch.isfinite(answer).all()


def test_what_takes_its_weights_for_a_softmaxs_refuses_it() -> None:
    attention = layer()
    with pytest.raises(ConfigError, match="attention_to_torch takes softmax attention, got SoftmaxFreeAttention"):
        attention_to_torch(attention)
    with pytest.raises(ConfigError, match="takes softmax attention, got SoftmaxFreeAttention"):
        block_to_torch(SingleOutputBlock(attention, ff_dim=4))
    with pytest.raises(ConfigError, match="SoftmaxFreeAttention has no softmax to approximate"):
        NystroemAttention.from_attention(attention, torch.zeros(2, WIDTH))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"attention": "linear"}, "attention must be one of softmax, soft, nystroem, got 'linear'"),
        ({"attention": "soft", "num_landmarks": 3}, "soft attention has no landmarks, got num_landmarks=3"),
        ({"attention": "nystroem"}, "needs at least one landmark, got num_landmarks=0"),
        (
            {"attention": "nystroem", "num_landmarks": 2, "attention_dropout": 0.1},
            "low-rank attention drops no weights, got attention_dropout=0.1: set it to 0",
        ),
    ],
)
def test_options_that_do_not_suit_the_attention_of_a_stack_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        SingleOutputStack(2, WIDTH, HEADS, WINDOW, ff_dim=4, **options)
