"""Look-ahead: parity with torch under the shifted band mask, the answers that are not due yet, refusals.

(Steps, chunks, states: tests/laws.)
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers import (
    ContinualEncoder,
    LookAheadAttention,
    LookAheadBlock,
    LookAheadBlockState,
    RetroactiveBlockState,
    SingleOutputAttention,
    clone_state,
    state_tensors,
)

WIDTH, HEADS, HIDDEN, WINDOW = 8, 2, 12, 5

every_lookahead = pytest.mark.parametrize("lookahead", range(WINDOW))
every_depth = pytest.mark.parametrize("depth", [1, 2, 3])


def attention(lookahead: int, *, bias: bool = True) -> LookAheadAttention:
    layer = LookAheadAttention(WIDTH, HEADS, WINDOW, lookahead=lookahead, in_bias=bias, out_bias=bias).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def block(lookahead: int, *, norm_first: bool = False) -> LookAheadBlock:
    return LookAheadBlock(attention(lookahead), ff_dim=HIDDEN, norm_first=norm_first).double().eval()


def encoder(depth: int, lookahead: int) -> ContinualEncoder:
    return ContinualEncoder(depth, WIDTH, HEADS, WINDOW, ff_dim=HIDDEN, lookahead=lookahead).double().eval()


def run(module: Any, frames: Tensor) -> Tensor:
    state, answers = module.init_state(len(frames)), []
    with torch.no_grad():
        for frame in frames.unbind(1):
            answer, state = module.step(frame, state)
            answers.append(answer)
    return torch.stack(answers, 1)


@every_lookahead
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("length", [1, 3, WINDOW, 4 * WINDOW + 3])
def test_attention_is_torchs_under_the_band_mask_of_the_step(lookahead: int, bias: bool, length: int) -> None:
    layer = attention(lookahead, bias=bias)
    twin = nn.MultiheadAttention(WIDTH, HEADS, bias=bias, batch_first=True, dtype=torch.float64)
    names = {"in_proj.weight": "in_proj_weight", "in_proj.bias": "in_proj_bias"}
    twin.load_state_dict({names.get(name, name): weight for name, weight in layer.state_dict().items()})
    frames = torch.randn(2, length, WIDTH, dtype=torch.float64)
    expected = torch.zeros_like(frames)
    if length > lookahead:
        asked = frames[:, : length - lookahead]
        t = torch.arange(lookahead, length).view(-1, 1)  # the step that answers
        s = torch.arange(length).view(1, -1)
        forbidden = (t - s < 0) | (t - s >= WINDOW)
        expected[:, lookahead:] = twin(asked, frames, frames, attn_mask=forbidden, need_weights=False)[0]
    torch.testing.assert_close(layer(frames), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(run(layer, frames), expected, atol=1e-12, rtol=0)


@every_lookahead
def test_a_step_costs_what_is_stated(lookahead: int) -> None:
    layer = attention(lookahead)
    with FlopCounterMode(display=False) as counter:
        layer.step(torch.zeros(1, WIDTH, dtype=torch.float64), layer.init_state())
    assert counter.get_total_flops() == 2 * (4 * WIDTH**2 + 2 * WINDOW * WIDTH)


def test_without_look_ahead_it_is_single_output_attention() -> None:
    layer, plain = attention(0), SingleOutputAttention(WIDTH, HEADS, WINDOW, in_bias=True, out_bias=True).double()
    plain.load_state_dict(layer.state_dict())
    frames = torch.randn(2, 3 * WINDOW, WIDTH, dtype=torch.float64)
    assert torch.equal(layer(frames), plain(frames))
    assert torch.equal(run(layer, frames), run(plain, frames))


@every_lookahead
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_block_answers_for_an_older_row_of_the_clip(lookahead: int, norm_first: bool) -> None:
    layer = block(lookahead, norm_first=norm_first)
    frames = torch.randn(2, 12, WIDTH, dtype=torch.float64)
    answers = run(layer, frames)
    assert not answers[:, :lookahead].any()
    for t in range(lookahead, 12):
        clip = frames[:, max(0, t + 1 - WINDOW) : t + 1]
        torch.testing.assert_close(layer.attend_clip(clip)[:, -1 - lookahead], answers[:, t], atol=1e-12, rtol=0)


@every_depth
@every_lookahead
def test_an_encoder_answers_for_an_older_row_of_the_clip(depth: int, lookahead: int) -> None:
    layers = encoder(depth, lookahead)
    assert layers.delay == lookahead
    frames = torch.randn(2, 12, WIDTH, dtype=torch.float64)
    answers = run(layers, frames)
    assert not answers[:, :lookahead].any()
    for t in range(12):
        clip = frames[:, max(0, t + 1 - WINDOW) : t + 1]
        torch.testing.assert_close(layers.answer_clip(clip), answers[:, t], atol=1e-12, rtol=0)
        padded = nn.functional.pad(clip, (0, 0, WINDOW - clip.shape[1], 0), value=9.0)
        mask = (torch.arange(WINDOW) >= WINDOW - clip.shape[1]).expand(2, -1)
        torch.testing.assert_close(layers.answer_clip(padded, mask), answers[:, t], atol=1e-12, rtol=0)


@every_depth
def test_weights_trained_without_look_ahead_fit(depth: int) -> None:
    plain, ahead = encoder(depth, 0), encoder(depth, 2)
    ahead.load_state_dict(plain.state_dict())
    assert plain.delay == 0
    clip = torch.randn(2, WINDOW, WIDTH, dtype=torch.float64)
    assert not torch.allclose(ahead.answer_clip(clip), plain.answer_clip(clip))
    turned = torch.cat([clip[:, :2], clip[:, 3:], clip[:, 2:3]], 1)  # nothing but the row that asks tells order
    torch.testing.assert_close(ahead.answer_clip(clip), plain.answer_clip(turned), atol=1e-12, rtol=0)


@every_depth
def test_rows_wait_for_their_own_first_answer(depth: int) -> None:
    layers = encoder(depth, 2)
    state = layers.init_state(2)
    _, state = layers.steps(torch.randn(2, WINDOW + 1, WIDTH, dtype=torch.float64), state)
    assert isinstance(state, LookAheadBlockState if depth == 1 else RetroactiveBlockState)
    state = layers.reset_rows(state, torch.tensor([False, True]))
    assert layers.frames_seen(state).tolist() == [WINDOW + 1, 0]
    answered = []
    for frame in torch.randn(3, 2, WIDTH, dtype=torch.float64):
        answer, state = layers.step(frame, state)
        answered.append(answer.ne(0).any(1).tolist())
    assert answered == [[True, False], [True, False], [True, True]]


@pytest.mark.parametrize("norm_first", [False, True])
def test_gradients_are_finite_and_frames_of_answers_not_due_have_their_share(norm_first: bool) -> None:
    layer = block(2, norm_first=norm_first)
    frames = torch.randn(1, 9, WIDTH, dtype=torch.float64, requires_grad=True)
    layer(frames)[..., 0].sum().backward()  # the sum over channels is the norm's, and constant
    assert frames.grad is not None
    assert torch.isfinite(frames.grad).all()
    assert frames.grad.ne(0).any(2).all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_printed_form_shows_the_sizes() -> None:
    assert "window=5, heads=2, lookahead=3" in repr(block(3))


@pytest.mark.parametrize("build", [attention, lambda k: encoder(1, k), lambda k: encoder(2, k)])
def test_a_look_ahead_beyond_the_window_is_refused(build: Any) -> None:
    with pytest.raises(ConfigError, match="lookahead=5 needs a window of at least 6 frames, got 5; look less far"):
        build(5)
    with pytest.raises(ConfigError, match="at least 0; got -1"):
        build(-1)


@pytest.mark.parametrize("build", [attention, block, lambda k: block(k, norm_first=True)])
@pytest.mark.parametrize("shape", [(WIDTH,), (2, WIDTH + 1), (3, WIDTH), (2, 1, WIDTH)])
def test_a_frame_of_another_shape_is_refused_and_the_state_stays(build: Any, shape: tuple[int, ...]) -> None:
    layer = build(2)
    state = layer.init_state(2)
    before = clone_state(state)
    with pytest.raises(ShapeError, match=rf"{type(layer).__name__}\.step takes one frame per stream, \(B, 8\); got \("):
        layer.step(torch.ones(shape, dtype=torch.float64), state)
    for leaf, kept in zip(state_tensors(state), state_tensors(before), strict=True):
        assert torch.equal(leaf, kept)


@pytest.mark.parametrize("build", [attention, block, lambda k: block(k, norm_first=True)])
@pytest.mark.parametrize("shape", [(2, WIDTH), (2, 3, WIDTH - 1), (2, 0, WIDTH)])
def test_a_sequence_of_another_shape_is_refused(build: Any, shape: tuple[int, ...]) -> None:
    layer, frames = build(2), torch.ones(shape, dtype=torch.float64)
    with pytest.raises(ShapeError, match=rf"{type(layer).__name__}\.forward takes a sequence per stream"):
        layer(frames)
    with pytest.raises(ShapeError, match=rf"{type(layer).__name__}\.steps takes a sequence per stream"):
        layer.steps(frames, layer.init_state(2))
