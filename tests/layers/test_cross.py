"""Cross-attention: parity with torch for every pair of widths, asking again, refusals. (Its steps: tests/laws.)"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers import CrossAttention, SingleOutputAttention, clone_state, state_tensors

WIDTH, HEADS, WINDOW = 12, 3, 5

every_widths = pytest.mark.parametrize(
    ("key_width", "value_width"), [(None, None), (7, None), (7, 7), (7, 4), (None, 4), (4, WIDTH)]
)


def layer_of(key_width: int | None = None, value_width: int | None = None, *, bias: bool = True) -> CrossAttention:
    layer = CrossAttention(
        WIDTH, HEADS, WINDOW, key_width=key_width, value_width=value_width, in_bias=bias, out_bias=bias
    )
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer.double().eval()


def torch_twin(layer: CrossAttention, *, bias: bool) -> nn.MultiheadAttention:
    """Torch's own layer with the same weights."""
    twin = nn.MultiheadAttention(
        WIDTH,
        HEADS,
        bias=bias,
        kdim=layer.key_width,
        vdim=layer.value_width,
        batch_first=True,
        dtype=torch.float64,
    )
    attended = layer.kv_proj.weight.chunk(2) if layer.fused else (layer.k_proj.weight, layer.v_proj.weight)
    with torch.no_grad():
        if layer.key_width == layer.value_width == WIDTH:
            twin.in_proj_weight.copy_(torch.cat([layer.q_proj.weight, *attended]))
        else:
            parts = (twin.q_proj_weight, twin.k_proj_weight, twin.v_proj_weight)
            for theirs, ours in zip(parts, (layer.q_proj.weight, *attended), strict=True):
                theirs.copy_(ours)
        twin.out_proj.weight.copy_(layer.out_proj.weight)
        if bias:
            biases = [layer.kv_proj.bias] if layer.fused else [layer.k_proj.bias, layer.v_proj.bias]
            twin.in_proj_bias.copy_(torch.cat([layer.q_proj.bias, *biases]))
            twin.out_proj.bias.copy_(layer.out_proj.bias)
    return twin


def frames_for(layer: CrossAttention, length: int) -> tuple[Tensor, Tensor, Tensor]:
    def frames(width: int) -> Tensor:
        return torch.randn(2, length, width, dtype=torch.float64)

    return frames(WIDTH), frames(layer.key_width), frames(layer.value_width)


def run(layer: CrossAttention, queries: Tensor, keys: Tensor, values: Tensor | None = None) -> Tensor:
    state, answers = layer.init_state(len(queries)), []
    with torch.no_grad():
        for t in range(queries.shape[1]):
            value = None if values is None else values[:, t]
            answer, state = layer.step(queries[:, t], keys[:, t], state, value)
            answers.append(answer)
    return torch.stack(answers, 1)


@every_widths
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("length", [1, WINDOW, 4 * WINDOW + 3])
def test_it_is_torchs_attention_under_the_band_mask(
    key_width: int | None, value_width: int | None, bias: bool, length: int
) -> None:
    layer = layer_of(key_width, value_width, bias=bias)
    queries, keys, values = frames_for(layer, length)
    t, s = torch.arange(length).view(-1, 1), torch.arange(length).view(1, -1)
    forbidden = (t - s < 0) | (t - s >= WINDOW)
    expected, _ = torch_twin(layer, bias=bias)(queries, keys, values, attn_mask=forbidden, need_weights=False)
    torch.testing.assert_close(layer(queries, keys, values), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(run(layer, queries, keys, values), expected, atol=1e-12, rtol=0)
    chunked, _ = layer.steps(queries, keys, layer.init_state(2), values)
    torch.testing.assert_close(chunked, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("bias", [False, True])
def test_values_are_made_from_the_keys_frames_by_default(bias: bool) -> None:
    layer = layer_of(7, bias=bias)
    queries, keys, _ = frames_for(layer, 13)
    assert layer.fused
    torch.testing.assert_close(layer(queries, keys), layer(queries, keys, keys), atol=1e-12, rtol=0)
    torch.testing.assert_close(run(layer, queries, keys), run(layer, queries, keys, keys), atol=1e-12, rtol=0)


def test_a_stream_that_attends_itself_is_single_output_attention() -> None:
    layer, single = layer_of(), SingleOutputAttention(WIDTH, HEADS, WINDOW, in_bias=True, out_bias=True).double()
    with torch.no_grad():
        single.in_proj.weight.copy_(torch.cat([layer.q_proj.weight, layer.kv_proj.weight]))
        single.in_proj.bias.copy_(torch.cat([layer.q_proj.bias, layer.kv_proj.bias]))
    single.out_proj.load_state_dict(layer.out_proj.state_dict())
    frames = torch.randn(2, 13, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(layer(frames, frames), single(frames), atol=1e-12, rtol=0)


def test_asking_again_answers_as_the_step_did_and_leaves_the_state_as_it_is() -> None:
    layer = layer_of(7)
    queries, keys, _ = frames_for(layer, 2 * WINDOW)
    state = layer.init_state(2)
    for t in range(2 * WINDOW):
        answer, state = layer.step(queries[:, t], keys[:, t], state)
        before = clone_state(state)
        assert torch.equal(layer.attend(queries[:, t], state), answer)
        other = torch.randn(2, WIDTH, dtype=torch.float64)
        past = slice(max(0, t + 1 - WINDOW), t + 1)
        count = past.stop - past.start
        expected = layer(other.unsqueeze(1).expand(-1, count, -1), keys[:, past])[:, -1]
        torch.testing.assert_close(layer.attend(other, state), expected, atol=1e-12, rtol=0)
        for leaf, kept in zip(state_tensors(state), state_tensors(before), strict=True):
            assert torch.equal(leaf, kept)


@every_widths
def test_a_step_costs_what_is_stated(key_width: int | None, value_width: int | None) -> None:
    layer = layer_of(key_width, value_width)
    query, key, value = (part[:1, 0] for part in frames_for(layer, 1))
    with FlopCounterMode(display=False) as counter:
        _, state = layer.step(query, key, layer.init_state(), value)
    asking = 2 * WIDTH**2 + 2 * WINDOW * WIDTH
    assert counter.get_total_flops() == 2 * (asking + WIDTH * (layer.key_width + layer.value_width))
    with FlopCounterMode(display=False) as counter:
        layer.attend(query, state)
    assert counter.get_total_flops() == 2 * asking


def test_where_no_frame_was_seen_there_is_no_answer() -> None:
    layer = layer_of(7)
    queries, keys, _ = frames_for(layer, 3)
    _, state = layer.steps(queries, keys, layer.init_state(2))
    state = layer.reset_rows(state, torch.tensor([True, False]))
    answer = layer.attend(queries[:, 0], state)
    assert not answer[0].any()
    assert answer[1].all()


def test_gradients_of_forward_are_those_of_torch() -> None:
    layer = layer_of(7, 4)
    twin = torch_twin(layer, bias=True)
    queries, keys, values = frames_for(layer, WINDOW)
    causal = torch.ones(WINDOW, WINDOW, dtype=torch.bool).triu(1)
    (layer(queries, keys, values) ** 2).sum().backward()
    (twin(queries, keys, values, attn_mask=causal, need_weights=False)[0] ** 2).sum().backward()
    assert layer.v_proj.weight.grad is not None
    assert twin.v_proj_weight.grad is not None
    torch.testing.assert_close(layer.v_proj.weight.grad, twin.v_proj_weight.grad, atol=1e-9, rtol=0)


def test_weights_start_in_the_range_of_their_own_widths_and_biases_at_zero() -> None:
    layer = CrossAttention(64, 4, WINDOW, key_width=32, value_width=16, in_bias=True, out_bias=True)
    for projection, width in ((layer.q_proj, 64), (layer.k_proj, 32), (layer.v_proj, 16)):
        bound = math.sqrt(6 / (64 + width))
        assert 0.9 * bound < projection.weight.abs().max() <= bound
    assert not any(projection.bias.any() for projection in (layer.q_proj, layer.k_proj, layer.v_proj, layer.out_proj))


def test_dropout_of_weights_is_for_training_only() -> None:
    layer = CrossAttention(WIDTH, HEADS, WINDOW, dropout=0.5)
    queries, keys = torch.randn(1, 30, WIDTH), torch.randn(1, 30, WIDTH)
    assert not torch.equal(layer(queries, keys), layer(queries, keys))
    layer.eval()
    assert torch.equal(layer(queries, keys), layer(queries, keys))


def test_the_step_is_one_graph() -> None:
    layer = layer_of(7, 4)
    streams = frames_for(layer, 3 * WINDOW)

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, query: Tensor, key: Tensor, value: Tensor, state: Any) -> Any:
            answer, state = self.layer.step(query, key, state, value)
            return answer, self.layer.attend(query, state), state

    program = torch.export.export(Step(), (*(part[:, 0] for part in streams), layer.init_state(2))).module()
    state, answers = layer.init_state(2), []
    for t in range(3 * WINDOW):
        answer, again, state = program(*(part[:, t] for part in streams), state)
        torch.testing.assert_close(again, answer, atol=1e-12, rtol=0)
        answers.append(answer)
    torch.testing.assert_close(torch.stack(answers, 1), run(layer, *streams), atol=1e-12, rtol=0)


def test_printed_form_shows_the_sizes() -> None:
    assert "window=5, heads=3, keys=7, values=4" in repr(layer_of(7, 4))


@pytest.mark.parametrize(
    ("sizes", "widths", "message"),
    [
        ((10, 3, 5), {}, "embed_dim must be a multiple of num_heads, got 10 and 3"),
        ((12, 3, 0), {}, "the window must hold at least one frame, got 0"),
        ((12, 3, 5), {"key_width": 0}, "keys and values must be at least 1 wide, got 0 and 0"),
        ((12, 3, 5), {"value_width": -1}, "keys and values must be at least 1 wide, got 12 and -1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: tuple[int, int, int], widths: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CrossAttention(*sizes, **widths)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, WIDTH + 1), (2, 7), (2, 4)), r"The query of CrossAttention\.step takes .* \(B, 12\); got \(2, 13\)"),
        (((2, WIDTH), (2, 8), (2, 4)), r"The key of CrossAttention\.step takes .* \(B, 7\); got \(2, 8\)"),
        (((2, WIDTH), (1, 7), (2, 4)), r"The key of CrossAttention\.step takes .* got \(1, 7\) with a state of B=2"),
        (((2, WIDTH), (2, 7), (2, 7)), r"The value of CrossAttention\.step takes .* \(B, 4\); got \(2, 7\)"),
        (((2, WIDTH), (2, 7), None), "keys are 7 wide and values 4: the key frame cannot stand in for the value"),
    ],
)
def test_frames_of_another_shape_are_refused_and_the_state_stays(shapes: Any, message: str) -> None:
    layer = layer_of(7, 4)
    query, key, value = (None if shape is None else torch.ones(shape, dtype=torch.float64) for shape in shapes)
    state = layer.init_state(2)
    with pytest.raises(ShapeError, match=message):
        layer.step(query, key, state, value)  # type: ignore[arg-type]
    assert all(leaf.eq(0).all() for leaf in state_tensors(state))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, WIDTH), (2, 3, 7), (2, 3, 4)), r"The query of CrossAttention\.{0} takes a sequence per stream"),
        (((2, 3, WIDTH), (2, 3, 8), (2, 3, 4)), r"The key of CrossAttention\.{0} takes a sequence per stream"),
        (((2, 3, WIDTH), (1, 3, 7), (2, 3, 4)), r"The key of CrossAttention\.{0} takes a sequence per stream"),
        (((2, 3, WIDTH), (2, 3, 7), (2, 3, 5)), r"The value of CrossAttention\.{0} takes a sequence per stream"),
        (((2, 3, WIDTH), (2, 4, 7), (2, 3, 4)), "got 3 queries and 4 keys, cut them to the same length"),
        (((2, 3, WIDTH), (2, 3, 7), (2, 2, 4)), "got 3 queries and 2 values, cut them to the same length"),
        (((2, 3, WIDTH), (2, 3, 7), None), "the key frame cannot stand in for the value, pass both"),
    ],
)
def test_sequences_of_another_shape_are_refused_and_the_state_stays(shapes: Any, message: str) -> None:
    layer = layer_of(7, 4)
    queries, keys, values = (None if shape is None else torch.ones(shape, dtype=torch.float64) for shape in shapes)
    with pytest.raises(ShapeError, match=message.format("forward")):
        layer(queries, keys, values)
    state = layer.init_state(2)
    with pytest.raises(ShapeError, match=message.format("steps")):
        layer.steps(queries, keys, state, values)  # type: ignore[arg-type]
    assert all(leaf.eq(0).all() for leaf in state_tensors(state))


def test_asking_again_with_another_shape_is_refused() -> None:
    layer = layer_of()
    with pytest.raises(ShapeError, match=r"CrossAttention\.attend takes one frame per stream"):
        layer.attend(torch.ones(3, WIDTH, dtype=torch.float64), layer.init_state(2))
