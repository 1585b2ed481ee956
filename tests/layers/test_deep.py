"""Stacks of single-output blocks: parity with torch, their reach, refusals. (Their steps: tests/laws.)"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers import ContinualEncoder, RingState, SingleOutputBlock, SingleOutputStack, clone_state, state_tensors

WIDTH, HEADS, HIDDEN, WINDOW = 8, 2, 12, 5

every_depth = pytest.mark.parametrize("depth", [1, 2, 4])


def stack(depth: int, window: int = WINDOW, **settings: Any) -> SingleOutputStack:
    return SingleOutputStack(depth, WIDTH, HEADS, window, ff_dim=HIDDEN, **settings).double().eval()


def run(module: Any, frames: Tensor) -> Tensor:
    state, answers = module.init_state(len(frames)), []
    with torch.no_grad():
        for frame in frames.unbind(1):
            answer, state = module.step(frame, state)
            answers.append(answer)
    return torch.stack(answers, 1)


def torch_twin(layers: SingleOutputStack, *, norm_first: bool) -> nn.TransformerEncoder:
    """Torch's own stack with the same weights."""
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, activation="gelu", batch_first=True, norm_first=norm_first, dtype=torch.float64
    )
    twin = nn.TransformerEncoder(layer, layers.depth, enable_nested_tensor=False).eval()
    names = {
        "self_attn.in_proj_weight": "attention.in_proj.weight",
        "self_attn.in_proj_bias": "attention.in_proj.bias",
        "self_attn.out_proj": "attention.out_proj",
        "linear1": "feed_forward.0",
        "linear2": "feed_forward.3",
        "norm1": "attention_norm",
        "norm2": "feed_forward_norm",
    }
    ours, theirs = layers.state_dict(), {}
    for name in twin.state_dict():
        mine = name.replace("layers.", "blocks.", 1)
        for part, other in names.items():
            mine = mine.replace(part, other)
        theirs[name] = ours[mine]
    twin.load_state_dict(theirs)
    return twin


@every_depth
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_stack_is_torchs_under_the_band_mask_in_every_layer(depth: int, norm_first: bool) -> None:
    layers = stack(depth, norm_first=norm_first, in_bias=True, out_bias=True)
    length = 3 * layers.receptive_field
    frames = torch.randn(2, length, WIDTH, dtype=torch.float64)
    t, s = torch.arange(length).view(-1, 1), torch.arange(length).view(1, -1)
    forbidden = (t - s < 0) | (t - s >= WINDOW)
    with torch.no_grad():
        expected = torch_twin(layers, norm_first=norm_first)(frames, mask=forbidden)
        torch.testing.assert_close(layers(frames), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(run(layers, frames), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("norm_first", [False, True])
def test_one_block_is_the_encoder_of_depth_one(norm_first: bool) -> None:
    layers = stack(1, norm_first=norm_first)
    encoder = ContinualEncoder(1, WIDTH, HEADS, WINDOW, ff_dim=HIDDEN, norm_first=norm_first).double().eval()
    encoder.last.load_state_dict(layers.blocks[0].state_dict())
    frames = torch.randn(2, 3 * WINDOW, WIDTH, dtype=torch.float64)
    assert torch.equal(layers(frames), encoder(frames))
    assert torch.equal(run(layers, frames), run(encoder, frames))


@every_depth
@pytest.mark.parametrize("window", [1, 2, WINDOW])
def test_answers_depend_on_the_receptive_field_and_on_nothing_before_it(depth: int, window: int) -> None:
    layers = stack(depth, window)
    assert layers.receptive_field == depth * (window - 1) + 1
    frames = torch.randn(1, layers.receptive_field + 4, WIDTH, dtype=torch.float64, requires_grad=True)
    layers(frames)[0, -1, 0].backward()  # the sum over channels is the norm's, and constant
    assert frames.grad is not None
    reached = frames.grad[0].abs().amax(1) > 0
    assert reached.tolist() == [False] * 4 + [True] * layers.receptive_field


@every_depth
def test_a_step_costs_what_is_stated(depth: int) -> None:
    layers = stack(depth)
    with FlopCounterMode(display=False) as counter:
        layers.step(torch.zeros(1, WIDTH, dtype=torch.float64), layers.init_state())
    stated = depth * (4 * WIDTH**2 + 2 * WINDOW * WIDTH + 2 * WIDTH * HIDDEN)
    assert counter.get_total_flops() == 2 * stated  # a multiply-accumulate is two operations


def test_a_state_holds_one_ring_for_each_block_and_counts_frames() -> None:
    layers = stack(3)
    state = layers.init_state(3)
    assert len(state.blocks) == len(layers.blocks) == 3
    assert all(isinstance(ring, RingState) for ring in state.blocks)
    assert all(isinstance(block, SingleOutputBlock) for block in layers.blocks)
    _, state = layers.step(torch.zeros(3, WIDTH, dtype=torch.float64), state)
    _, state = layers.steps(torch.zeros(3, 2, WIDTH, dtype=torch.float64), state)
    assert layers.frames_seen(layers.reset_rows(state, torch.tensor([False, True, False]))).tolist() == [3, 0, 3]


def test_settings_reach_every_block() -> None:
    layers = stack(
        2, activation="relu", norm_first=True, in_bias=True, out_bias=True, dropout=0.1, attention_dropout=0.2
    )
    for block in layers.blocks:
        assert isinstance(block, SingleOutputBlock)
        assert isinstance(block.feed_forward[1], nn.ReLU)
        assert block.norm_first
        assert block.attention.in_bias
        assert block.attention.out_bias
        assert (block.drop.p, block.attention.dropout) == (0.1, 0.2)


def test_a_stack_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one block, got depth=0"):
        stack(0)


@pytest.mark.parametrize("shape", [(WIDTH,), (2, WIDTH + 1), (3, WIDTH), (2, 1, WIDTH)])
def test_a_frame_of_another_shape_is_refused_and_the_state_stays(shape: tuple[int, ...]) -> None:
    layers = stack(2)
    state = layers.init_state(2)
    before = clone_state(state)
    with pytest.raises(ShapeError, match=r"SingleOutputStack\.step takes one frame per stream, \(B, 8\); got \("):
        layers.step(torch.ones(shape, dtype=torch.float64), state)
    for leaf, kept in zip(state_tensors(state), state_tensors(before), strict=True):
        assert torch.equal(leaf, kept)


@pytest.mark.parametrize("shape", [(2, WIDTH), (2, 3, WIDTH - 1), (2, 0, WIDTH)])
def test_a_sequence_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    layers, frames = stack(2), torch.ones(shape, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"SingleOutputStack\.forward takes a sequence per stream"):
        layers(frames)
    with pytest.raises(ShapeError, match=r"SingleOutputStack\.steps takes a sequence per stream"):
        layers.steps(frames, layers.init_state(2))
