"""Decoder layers over a memory: against loops, the newest token alone, masks, rows, learning, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers import MemoryLayer, MemoryStack, causal_mask
from tests.laws import models_memory as reference

WIDTH, HEADS, HIDDEN, TOKENS, FRAMES = 8, 2, 12, 5, 7

every_depth = pytest.mark.parametrize("depth", [1, 2, 3])


def stack_of(depth: int, *, dropout: float = 0.0, attention_dropout: float = 0.0) -> MemoryStack:
    """A stack whose biases and norms, trivial when drawn, have an effect."""
    torch.manual_seed(5)
    stack = MemoryStack(
        depth, WIDTH, HEADS, ff_dim=HIDDEN, dropout=dropout, attention_dropout=attention_dropout
    ).double()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.normal_()
    return stack.eval()


def tokens(count: int, *, rows: int = 2) -> Tensor:
    return torch.randn(rows, count, WIDTH, dtype=torch.float64)


def all_exist(rows: int, count: int) -> Tensor:
    return torch.ones(rows, count, dtype=torch.bool)


@every_depth
@pytest.mark.parametrize("causal", [False, True])
def test_a_stack_equals_a_loop_over_its_layers_tokens_and_heads(depth: int, causal: bool) -> None:
    stack, asking, memory = stack_of(depth), tokens(TOKENS), tokens(FRAMES)
    mask = causal_mask(all_exist(2, TOKENS)) if causal else None
    with torch.no_grad():
        answers = stack(asking, memory, mask)
    for row in range(2):
        expected = reference.stack(stack, asking[row].numpy(), memory[row].numpy(), causal=causal)
        np.testing.assert_allclose(answers[row].numpy(), expected, atol=1e-11, rtol=0)


@every_depth
def test_a_mask_over_the_memory_lets_each_token_attend_its_own_part(depth: int) -> None:
    """The memory is followed by the tokens as they came, of which each attends those up to itself."""
    stack, asking, memory = stack_of(depth), tokens(TOKENS), tokens(FRAMES)
    causal = causal_mask(all_exist(2, TOKENS))
    whole = torch.cat([torch.ones(2, 1, TOKENS, FRAMES, dtype=torch.bool), causal], 3)
    with torch.no_grad():
        answers = stack(asking, torch.cat([memory, asking], 1), causal, whole)
    for row in range(2):
        expected = reference.stack(stack, asking[row].numpy(), memory[row].numpy(), causal=True, itself=True)
        np.testing.assert_allclose(answers[row].numpy(), expected, atol=1e-11, rtol=0)


@every_depth
def test_one_token_after_the_other_is_answered_as_all_at_once(depth: int) -> None:
    """With causal masks the newest token of each prefix is answered as the whole sequence answers it."""
    stack, asking, memory = stack_of(depth), tokens(TOKENS), tokens(FRAMES)
    with torch.no_grad():
        at_once = stack(asking, memory, causal_mask(all_exist(2, TOKENS)))
        for count in range(1, TOKENS + 1):
            newest = stack(asking[:, :count], memory, causal_mask(all_exist(2, count)), newest=True)
            assert newest.shape == (2, 1, WIDTH)
            torch.testing.assert_close(newest[:, 0], at_once[:, count - 1], atol=1e-11, rtol=0)


@pytest.mark.parametrize("asking", [1, 2, TOKENS])
@pytest.mark.parametrize("masks", ["none", "of each token", "of the memory"])
def test_the_last_tokens_of_a_layer_are_answered_as_among_all(asking: int, masks: str) -> None:
    layer, x, memory = stack_of(1).layer(0), tokens(TOKENS), tokens(FRAMES)
    own, shared = torch.rand(2, 1, TOKENS, FRAMES) < 0.5, torch.rand(2, 1, 1, FRAMES) < 0.5
    causal = causal_mask(all_exist(2, TOKENS))
    given = {"none": (None, None), "of each token": (causal, own), "of the memory": (causal, shared)}[masks]
    with torch.no_grad():
        answers = layer(x, memory, *given, asking=asking)
        torch.testing.assert_close(answers, layer(x, memory, *given)[:, -asking:], atol=1e-12, rtol=0)


@every_depth
def test_tokens_that_were_mixed_beforehand_go_the_same_way(depth: int) -> None:
    stack, memory = stack_of(depth), tokens(FRAMES)
    learned = tokens(TOKENS, rows=1)
    with torch.no_grad():
        mixed = stack.layer(0).mix(learned).expand(2, -1, -1)
        expected = stack(learned.expand(2, -1, -1), memory)
        torch.testing.assert_close(stack.after_mixing(mixed, memory), expected, atol=1e-12, rtol=0)


@every_depth
def test_a_row_whose_memory_is_emptied_answers_as_without_one_and_the_others_as_before(depth: int) -> None:
    stack, asking, memory = stack_of(depth), tokens(TOKENS, rows=3), tokens(FRAMES, rows=3)
    kept = torch.tensor([True, False, True])
    with torch.no_grad():
        before = stack(asking, memory)
        after = stack(asking, memory, memory_mask=kept.view(3, 1, 1, 1).expand(3, 1, 1, FRAMES))
    torch.testing.assert_close(after[kept], before[kept], atol=1e-12, rtol=0)
    expected = reference.stack(stack, asking[1].numpy(), np.zeros((0, WIDTH)))
    np.testing.assert_allclose(after[1].numpy(), expected, atol=1e-11, rtol=0)


def test_rows_are_independent() -> None:
    stack, asking, memory = stack_of(2), tokens(TOKENS), tokens(FRAMES)
    with torch.no_grad():
        before = stack(asking, memory)
        asking[1], memory[1] = tokens(TOKENS, rows=1)[0], tokens(FRAMES, rows=1)[0]
        after = stack(asking, memory)
    torch.testing.assert_close(after[0], before[0], atol=1e-12, rtol=0)
    assert not torch.allclose(after[1], before[1])


def test_neither_tokens_nor_memory_are_changed() -> None:
    stack, asking, memory = stack_of(2), tokens(TOKENS), tokens(FRAMES)
    copies = asking.clone(), memory.clone()
    stack(asking, memory, newest=True)
    assert torch.equal(asking, copies[0])
    assert torch.equal(memory, copies[1])


@pytest.mark.parametrize("dropout", ["dropout", "attention_dropout"])
def test_dropout_is_for_training_only(dropout: str) -> None:
    stack, asking, memory = stack_of(1, **{dropout: 0.5}), tokens(TOKENS), tokens(FRAMES)
    assert torch.equal(stack(asking, memory), stack(asking, memory))
    stack.train()
    assert not torch.equal(stack(asking, memory), stack(asking, memory))


def test_every_parameter_learns() -> None:
    stack = stack_of(2).train()
    (stack(tokens(TOKENS), tokens(FRAMES)) * tokens(TOKENS)).sum().backward()
    for name, parameter in stack.named_parameters():
        assert parameter.grad is not None
        # What a key's bias adds to the logits of a query is the same for all keys.
        learnt = parameter.grad[WIDTH:] if name.endswith("kv_bias") else parameter.grad
        assert torch.isfinite(parameter.grad).all()
        assert learnt.abs().sum() > 1e-6, name


@pytest.mark.parametrize("shape", [(TOKENS, WIDTH), (2, TOKENS, WIDTH + 1), (2, 1, TOKENS, WIDTH)])
@pytest.mark.parametrize("newest", [False, True])
def test_tokens_or_a_memory_of_another_shape_are_refused(shape: tuple[int, ...], newest: bool) -> None:
    stack, bad = stack_of(2), torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"^MemoryAttention takes tokens \(B, n, 8\); got \("):
        stack(bad, tokens(FRAMES), newest=newest)
    with pytest.raises(ShapeError, match=r"^MemoryAttention takes tokens \(B, n, 8\); got \("):
        stack(tokens(TOKENS), bad, newest=newest)


def test_a_width_that_the_heads_do_not_share_evenly_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^embed_dim must be a multiple of num_heads, got 8 and 3$"):
        MemoryLayer(WIDTH, 3, ff_dim=HIDDEN)
