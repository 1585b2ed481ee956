"""Attention to a memory: against loops and torch, frame by frame, empty rows, refusals. (Large logits: tests/laws.)"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers import MemoryAttention, causal_mask, sinusoidal_table
from coadtr.layers.memory import weights_or_zeros
from tests.laws import models_memory as reference

WIDTH, QUERIES, FRAMES = 8, 3, 7


def layer_of(heads: int = 2, *, dropout: float = 0.0) -> MemoryAttention:
    """A layer whose biases, zero when drawn, have an effect."""
    torch.manual_seed(3)
    layer = MemoryAttention(WIDTH, heads, dropout=dropout)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer.double().eval()


def tokens(count: int, *, rows: int = 2) -> Tensor:
    return torch.randn(rows, count, WIDTH, dtype=torch.float64)


def mask_of(seen: list[slice], count: int) -> Tensor:
    mask = torch.zeros(1, 1, len(seen), count, dtype=torch.bool)
    for query, part in enumerate(seen):
        mask[:, :, query, part] = True
    return mask


@pytest.mark.parametrize("dim", [1, 2, 5, 8])
def test_the_sinusoidal_code_is_that_of_its_formula(dim: int) -> None:
    table = sinusoidal_table(50, dim)
    assert table.shape == (50, dim)
    for position in range(50):
        for channel in range(dim):
            angle = position / 10000 ** (2 * (channel // 2) / dim)
            expected = math.cos(angle) if channel % 2 else math.sin(angle)
            assert float(table[position, channel]) == pytest.approx(expected, abs=1e-5)


def test_a_token_attends_itself_and_those_before_it_that_exist() -> None:
    exists = torch.tensor([[True] * 4, [False, False, True, True], [True, False, True, False], [False] * 4])
    mask = causal_mask(exists)
    assert mask.shape == (4, 1, 4, 4)
    for row in range(4):
        for asking in range(4):
            for asked in range(4):
                wanted = asked == asking or (asked < asking and bool(exists[row, asked]))
                assert bool(mask[row, 0, asking, asked]) == wanted


def test_weights_are_zero_where_nothing_may_be_attended_and_their_gradients_are_finite() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, False, True, False], [False] * 4, [True] * 4])
    weights, values = weights_or_zeros(logits, mask), logits.tolist()
    for row in range(3):
        terms = [math.exp(values[row][key]) if mask[row, key] else 0.0 for key in range(4)]
        expected = [term / (sum(terms) or 1) for term in terms]
        assert weights[row].tolist() == pytest.approx(expected, abs=1e-12)
    weights.square().sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[1].any()


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attending_equals_a_loop_over_queries_and_heads(heads: int) -> None:
    layer, queries, memory = layer_of(heads), tokens(QUERIES), tokens(FRAMES)
    seen = [slice(None), slice(1, FRAMES, 2), slice(0, 0)]  # all, some that are not neighbours, none
    with torch.no_grad():
        answers = layer.attend(queries, memory, mask_of(seen, FRAMES))
    for row in range(2):
        expected = reference.attention(layer, queries[row].numpy(), memory[row].numpy(), seen)
        np.testing.assert_allclose(answers[row].numpy(), expected, atol=1e-12, rtol=0)


def test_attending_is_torchs_attention() -> None:
    layer, queries, memory = layer_of(), tokens(QUERIES), tokens(FRAMES)
    twin = nn.MultiheadAttention(WIDTH, layer.num_heads, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        twin.in_proj_weight.copy_(torch.cat([layer.q_proj.weight, layer.kv_proj.weight]))
        twin.in_proj_bias.copy_(torch.cat([layer.q_proj.bias, layer.kv_bias]))
        twin.out_proj.load_state_dict(layer.out_proj.state_dict())
        exists = torch.rand(2, FRAMES) < 0.7
        exists[:, 0] = True
        expected, _ = twin(queries, memory, memory, key_padding_mask=~exists, need_weights=False)
        answers = layer.attend(queries, memory, exists[:, None, None])
    torch.testing.assert_close(answers, expected, atol=1e-12, rtol=0)


def test_weights_are_drawn_as_torch_draws_them_and_biases_are_zero() -> None:
    torch.manual_seed(0)
    layer, bound = MemoryAttention(64, 4), math.sqrt(6 / (64 + 3 * 64))
    for weight in (layer.q_proj.weight, *layer.kv_proj.weight.chunk(2)):
        assert 0.95 * bound < weight.abs().max().item() <= bound
    for bias in (layer.q_proj.bias, layer.kv_bias, layer.out_proj.bias):
        assert not bias.any()


def test_frames_offered_one_by_one_are_recalled_as_the_window_is_attended() -> None:
    """A frame is offered once; what its age adds is added at each step, while it moves through the window."""
    window, length = 4, 11
    layer, queries, frames = layer_of(), tokens(QUERIES, rows=1), tokens(length)
    positions = tokens(window, rows=1)  # the newest frame has the last
    with torch.no_grad():
        q = layer.ask(queries)
        shares = layer.shares(positions, q)
        products = torch.zeros(2, layer.num_heads, window, QUERIES, dtype=torch.float64)
        values = torch.zeros(2, layer.num_heads, window, layer.head_dim, dtype=torch.float64)
        for t in range(length):
            offered = layer.offer(frames[:, t : t + 1], q)
            products, values = (
                torch.cat([kept[:, :, 1:], new], 2) for kept, new in zip((products, values), offered, strict=True)
            )
            count = min(window, t + 1)
            exists = torch.arange(window).expand(2, -1) >= window - count
            recalled = layer.recall(products, values, *shares, exists)
            seen = frames[:, t + 1 - count : t + 1] + positions[:, window - count :]
            for row in range(2):
                expected = reference.attention(layer, queries[0].numpy(), seen[row].numpy(), [slice(None)] * QUERIES)
                np.testing.assert_allclose(recalled[row].numpy(), expected, atol=1e-12, rtol=0)


def test_offers_with_biases_are_those_of_frames_without_a_position() -> None:
    layer, frames = layer_of(), tokens(FRAMES)
    with torch.no_grad():
        q = layer.ask(tokens(QUERIES, rows=1))
        nowhere = layer.shares(torch.zeros(1, FRAMES, WIDTH, dtype=torch.float64), q)
        for whole, part, share in zip(layer.offer(frames, q, bias=True), layer.offer(frames, q), nowhere, strict=True):
            torch.testing.assert_close(whole, part + share, atol=1e-12, rtol=0)


def test_a_row_without_frames_answers_the_output_bias_and_the_others_as_before() -> None:
    """What is left in the storage of a row that was reset has no effect."""
    layer, frames = layer_of(), tokens(FRAMES, rows=3)
    exists = torch.ones(3, FRAMES, dtype=torch.bool)
    reset = torch.tensor([False, True, False])
    with torch.no_grad():
        q = layer.ask(tokens(QUERIES, rows=1))
        offered = *layer.offer(frames, q), *layer.shares(tokens(FRAMES, rows=1), q)
        before = layer.recall(*offered, exists)
        after = layer.recall(*offered, exists & ~reset.unsqueeze(1))
        assert torch.equal(after[~reset], before[~reset])
        torch.testing.assert_close(after[1], layer.out_proj.bias.expand(QUERIES, -1), atol=1e-12, rtol=0)
        # The first frame after the reset is then all that the row remembers.
        exists[1] = torch.arange(FRAMES) == FRAMES - 1
        begun = layer.recall(*offered, exists)
        products, values, product_shares, value_shares = (part[:, :, -1:] for part in offered)
        alone = layer.recall(products, values, product_shares, value_shares, exists[:, -1:])
    torch.testing.assert_close(begun[1], alone[1], atol=1e-12, rtol=0)


def test_values_of_frames_that_do_not_exist_have_no_effect() -> None:
    layer, queries, memory = layer_of(), tokens(QUERIES), tokens(FRAMES)
    exists = torch.arange(FRAMES) >= 2
    other = torch.where(exists.unsqueeze(1), memory, 1e6)
    with torch.no_grad():
        assert torch.equal(layer.attend(queries, memory, exists), layer.attend(queries, other, exists))


def test_dropout_is_for_training_only() -> None:
    layer, queries, memory = layer_of(dropout=0.5), tokens(QUERIES), tokens(FRAMES)
    everything = torch.ones(1, 1, 1, FRAMES, dtype=torch.bool)
    assert torch.equal(layer.attend(queries, memory, everything), layer.attend(queries, memory, everything))
    layer.train()
    assert not torch.equal(layer.attend(queries, memory, everything), layer.attend(queries, memory, everything))


@pytest.mark.parametrize("shape", [(FRAMES, WIDTH), (2, FRAMES, WIDTH + 1), (2, 1, FRAMES, WIDTH)])
def test_tokens_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    layer, bad = layer_of(), torch.zeros(shape, dtype=torch.float64)
    q, everything = layer.ask(tokens(QUERIES)), torch.ones(1, 1, 1, FRAMES, dtype=torch.bool)
    message = rf"^MemoryAttention takes tokens \(B, n, 8\); got \({', '.join(map(str, shape))}\)$"
    for refused in (
        lambda: layer.ask(bad),
        lambda: layer.offer(bad, q),
        lambda: layer.shares(bad, q),
        lambda: layer.attend(bad, tokens(FRAMES), everything),
        lambda: layer.attend(tokens(QUERIES), bad, everything),
    ):
        with pytest.raises(ShapeError, match=message):
            refused()


def test_a_width_that_the_heads_do_not_share_evenly_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^embed_dim must be a multiple of num_heads, got 8 and 3$"):
        MemoryAttention(WIDTH, 3)
