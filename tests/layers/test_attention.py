"""Attention layers: parity with torch, masks, and refusals. (Their steps: tests/laws.)"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers import (
    AttentionProjections,
    RetroactiveAttention,
    SingleOutputAttention,
    attention_weights,
    state_tensors,
)

WIDTH, HEADS, WINDOW = 12, 3, 5


def torch_twin(layer: AttentionProjections, *, bias: bool) -> nn.MultiheadAttention:
    """Torch's own layer with the same weights."""
    twin = nn.MultiheadAttention(WIDTH, HEADS, bias=bias, batch_first=True, dtype=torch.float64)
    names = {"in_proj.weight": "in_proj_weight", "in_proj.bias": "in_proj_bias"}
    twin.load_state_dict({names.get(name, name): weight for name, weight in layer.state_dict().items()})
    return twin


def randomised(layer: nn.Module) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("length", [1, 2, WINDOW, WINDOW + 1, 4 * WINDOW + 3])
def test_single_output_attention_is_torch_attention_under_the_band_mask(bias: bool, length: int) -> None:
    layer = SingleOutputAttention(WIDTH, HEADS, WINDOW, in_bias=bias, out_bias=bias).double()
    randomised(layer)
    frames = torch.randn(2, length, WIDTH, dtype=torch.float64)
    t, s = torch.arange(length).view(-1, 1), torch.arange(length).view(1, -1)
    forbidden = (t - s < 0) | (t - s >= WINDOW)
    expected, _ = torch_twin(layer, bias=bias)(frames, frames, frames, attn_mask=forbidden, need_weights=False)
    torch.testing.assert_close(layer(frames), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("bias", [False, True])
def test_retroactive_attention_is_torch_attention_over_the_clip(bias: bool) -> None:
    layer = RetroactiveAttention(WIDTH, HEADS, WINDOW, in_bias=bias, out_bias=bias).double()
    randomised(layer)
    clip = torch.randn(2, WINDOW, WIDTH, dtype=torch.float64)
    twin = torch_twin(layer, bias=bias)
    torch.testing.assert_close(layer(clip), twin(clip, clip, clip, need_weights=False)[0], atol=1e-12, rtol=0)
    mask = torch.tensor([[True] * WINDOW, [False, True, False, True, True]])
    masked, _ = twin(clip, clip, clip, key_padding_mask=~mask, need_weights=False)
    torch.testing.assert_close(layer(clip, mask), masked, atol=1e-12, rtol=0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_one_query_answers_as_it_does_among_all(bias: bool, masked: bool) -> None:
    layer = AttentionProjections(WIDTH, HEADS, WINDOW, in_bias=bias, out_bias=bias).double()
    randomised(layer)
    clip = torch.randn(2, WINDOW, WIDTH, dtype=torch.float64)
    mask = torch.tensor([[False, False, True, True, True], [True] * WINDOW]) if masked else None
    among_all = layer.attend_clip(clip, mask)[:, -1]
    torch.testing.assert_close(layer.attend_from(clip[:, -1], clip, mask), among_all, atol=1e-12, rtol=0)


def test_gradients_of_forward_are_those_of_torch() -> None:
    layer = SingleOutputAttention(WIDTH, HEADS, 7, in_bias=True, out_bias=True).double()
    randomised(layer)
    twin = torch_twin(layer, bias=True)
    frames = torch.randn(1, 7, WIDTH, dtype=torch.float64)
    (layer(frames) ** 2).sum().backward()
    causal = torch.ones(7, 7, dtype=torch.bool).triu(1)
    (twin(frames, frames, frames, attn_mask=causal, need_weights=False)[0] ** 2).sum().backward()
    assert layer.in_proj.weight.grad is not None
    assert twin.in_proj_weight.grad is not None
    torch.testing.assert_close(layer.in_proj.weight.grad, twin.in_proj_weight.grad, atol=1e-9, rtol=0)


def test_weights_of_masked_keys_are_zero_and_the_rest_sum_to_one() -> None:
    weights = attention_weights(torch.tensor([1e30, 1000.0, 999.0]), torch.tensor([False, True, True]))
    expected = torch.tensor([0.0, 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))])
    torch.testing.assert_close(weights, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_summed_in_float32(dtype: torch.dtype) -> None:
    weights = attention_weights(torch.zeros(4096, dtype=dtype), None)
    assert weights.dtype == dtype
    assert weights.eq(1 / 4096).all()


def test_dropout_of_weights_is_for_training_only() -> None:
    layer = SingleOutputAttention(WIDTH, HEADS, WINDOW, dropout=0.5)
    frames = torch.randn(1, 30, WIDTH)
    assert not torch.equal(layer(frames), layer(frames))
    layer.eval()
    assert torch.equal(layer(frames), layer(frames))


def test_printed_form_shows_the_sizes() -> None:
    assert "window=5, heads=3" in repr(SingleOutputAttention(WIDTH, HEADS, WINDOW))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((10, 3, 5), "embed_dim must be a multiple of num_heads, got 10 and 3"),
        ((0, 3, 5), "embed_dim must be a multiple of num_heads, got 0 and 3"),
        ((12, 0, 5), "embed_dim must be a multiple of num_heads, got 12 and 0"),
        ((12, 3, 0), "the window must hold at least one frame, got 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AttentionProjections(*sizes)


@pytest.mark.parametrize("kind", [SingleOutputAttention, RetroactiveAttention])
@pytest.mark.parametrize("shape", [(WIDTH,), (2, WIDTH - 1), (2, WIDTH + 1), (2, 1, WIDTH)])
def test_a_frame_of_another_shape_is_refused_and_the_state_stays(
    kind: type[SingleOutputAttention | RetroactiveAttention], shape: tuple[int, ...]
) -> None:
    layer = kind(WIDTH, HEADS, WINDOW)
    state = layer.init_state(2)
    with pytest.raises(ShapeError, match=rf"{kind.__name__}\.step takes one frame per stream, \(B, 12\); got \("):
        layer.step(torch.ones(shape), state)  # type: ignore[arg-type]
    assert all(leaf.eq(0).all() for leaf in state_tensors(state))


@pytest.mark.parametrize("kind", [SingleOutputAttention, RetroactiveAttention])
@pytest.mark.parametrize("shape", [(2, WIDTH), (2, 3, WIDTH - 1), (2, 0, WIDTH), (1, 2, 3, WIDTH)])
def test_a_sequence_of_another_shape_is_refused(
    kind: type[SingleOutputAttention | RetroactiveAttention], shape: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError, match=rf"forward takes a sequence per stream, \(B, T >= 1, 12\); got \({shape[0]}"):
        kind(WIDTH, HEADS, WINDOW)(torch.ones(shape))


def test_a_clip_longer_than_the_window_is_refused() -> None:
    clip: Tensor = torch.ones(1, WINDOW + 1, WIDTH)
    with pytest.raises(ShapeError, match="a clip holds at most the window's 5 frames, got 6"):
        RetroactiveAttention(WIDTH, HEADS, WINDOW)(clip)
