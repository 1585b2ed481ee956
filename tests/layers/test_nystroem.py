"""Low-rank attention: what it approximates, when it is exact, long and loud streams, graphs, and refusals.

(Its steps beside a slow reference: tests/laws.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers import (
    AttentionProjections,
    LandmarkProjections,
    LookAheadAttention,
    NystroemAttention,
    NystroemState,
    RetroactiveAttention,
    RetroactiveNystroemAttention,
    SingleOutputAttention,
    cluster_means,
    nystroem,
    segment_means,
    state_bytes,
)

WIDTH, HEADS, WINDOW = 24, 3, 8

every_kind = pytest.mark.parametrize("kind", [NystroemAttention, RetroactiveNystroemAttention])


def exact(kind: type[AttentionProjections], *, bias: bool = True, sharpness: float = 1.0) -> Any:
    """An exact layer with random biases and logits of the given size."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(5)
        layer = kind(WIDTH, HEADS, WINDOW, in_bias=bias, out_bias=bias).double()
        for name, parameter in layer.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
        layer.in_proj.weight[:WIDTH] *= sharpness
    return layer


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("bias", [False, True])
def test_landmarks_at_the_tokens_of_a_full_window_make_the_answer_exact(bias: bool) -> None:
    layer, frames = exact(SingleOutputAttention, bias=bias, sharpness=3), random(1, 3 * WINDOW, WIDTH)
    for end in (WINDOW, 2 * WINDOW + 3):
        low_rank = NystroemAttention.from_attention(layer, frames[0, end - WINDOW : end], cutoff=1e-12)
        torch.testing.assert_close(low_rank(frames)[:, end - 1], layer(frames)[:, end - 1], atol=1e-8, rtol=0)
        assert not torch.allclose(low_rank(frames)[:, end], layer(frames)[:, end], atol=1e-3)


@pytest.mark.parametrize("bias", [False, True])
def test_landmarks_at_the_tokens_of_a_clip_make_all_its_outputs_exact(bias: bool) -> None:
    layer, clip = exact(RetroactiveAttention, bias=bias, sharpness=3), random(1, WINDOW, WIDTH)
    low_rank = RetroactiveNystroemAttention.from_attention(layer, clip[0], cutoff=1e-12)
    torch.testing.assert_close(low_rank(clip), layer(clip), atol=1e-8, rtol=0)


def test_the_parameters_are_the_three_softmaxes_of_the_formula() -> None:
    layer, clip, landmarks = exact(RetroactiveAttention), random(1, WINDOW, WIDTH), random(4, WIDTH, seed=1)
    (q, k, v), (q_mark, k_mark, _) = layer.project(clip), layer.project(landmarks.unsqueeze(0))
    inverse = torch.from_numpy(np.linalg.pinv((q_mark @ k_mark.mT).softmax(-1).detach().numpy(), rcond=1e-6))
    heads = (q @ k_mark.mT).softmax(-1) @ inverse @ (q_mark @ k.mT).softmax(-1) @ v
    low_rank = RetroactiveNystroemAttention.from_attention(layer, landmarks, cutoff=1e-6)
    torch.testing.assert_close(low_rank(clip), layer.merge(heads), atol=1e-9, rtol=0)


def test_one_landmark_answers_with_one_summary_of_the_window() -> None:
    low_rank = NystroemAttention.from_attention(exact(SingleOutputAttention), random(1, WIDTH))
    mix, _, _ = low_rank.project(random(1, 12, WIDTH))
    torch.testing.assert_close(mix, torch.ones_like(mix), atol=1e-12, rtol=0)


def test_more_landmarks_come_closer_on_correlated_frames() -> None:
    layer = exact(SingleOutputAttention, sharpness=0.5)
    angle = torch.arange(4000, dtype=torch.float64).unsqueeze(1) / 10
    frames = torch.cat([angle.sin(), (angle / 7).cos()], 1) @ random(2, WIDTH, seed=1)
    expected = layer(frames[None, :400])
    errors = []
    for m in (1, 4, 16):
        low_rank = NystroemAttention.from_attention(layer, cluster_means(frames, m))
        errors.append((low_rank(frames[None, :400]) - expected).norm().item())
    assert errors[0] > 2 * errors[1] > 2 * errors[2], errors


@pytest.mark.parametrize("cutoff", [1e-12, 1e-2, 0.5])
def test_a_mix_sums_to_one_whatever_is_cut_off(cutoff: float) -> None:
    layer = NystroemAttention.from_attention(exact(SingleOutputAttention), random(12, WIDTH), cutoff=cutoff)
    mix, _, _ = layer.project(random(2, 30, WIDTH, seed=2))
    torch.testing.assert_close(mix.sum(-1), torch.ones(2, HEADS, 30, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_cutoff_bounds_what_the_inverse_magnifies() -> None:
    layer, landmarks = exact(SingleOutputAttention), random(12, WIDTH)
    for cutoff in (1e-1, 1e-2):
        mixing = NystroemAttention.from_attention(layer, landmarks, cutoff=cutoff).mixing
        assert torch.linalg.matrix_norm(mixing, 2).max() <= 1 + 1 / cutoff


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_made_from_another_keeps_its_dtype_mode_and_output_projection(dtype: torch.dtype) -> None:
    layer = exact(SingleOutputAttention).to(dtype).eval()
    low_rank = NystroemAttention.from_attention(layer, random(5, WIDTH))
    assert {parameter.dtype for parameter in low_rank.parameters()} == {dtype}
    assert not low_rank.training
    assert torch.equal(low_rank.out_proj.weight, layer.out_proj.weight)
    assert "window=8, heads=3, landmarks=5" in repr(low_rank)


def test_all_parameters_learn() -> None:
    layer = NystroemAttention.from_attention(exact(SingleOutputAttention), random(5, WIDTH))
    layer(random(1, 20, WIDTH)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any(), name


def test_a_sequence_in_small_blocks_is_answered_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = NystroemAttention.from_attention(exact(SingleOutputAttention), random(5, WIDTH))
    frames = random(2, 45, WIDTH)
    expected = layer(frames)
    for elements in (1, 2 * 2 * WINDOW * HEADS * 5 * 3):
        monkeypatch.setattr(nystroem, "BLOCK_ELEMENTS", elements)
        torch.testing.assert_close(layer(frames), expected, atol=1e-12, rtol=0)


def answers(layer: NystroemAttention | RetroactiveNystroemAttention, frames: Tensor) -> Tensor:
    """Step through one stream; of a retroactive layer, the newest frame's output."""
    state: Any = layer.init_state(1)
    outputs = []
    with torch.no_grad():
        for t, frame in enumerate(frames.unbind(1)):
            output, state = layer.step(frame, state)
            outputs.append(output if output.dim() == 2 else output[:, t % WINDOW])
    return torch.stack(outputs, 1)


def by_clips(layer: RetroactiveNystroemAttention, frames: Tensor) -> Tensor:
    with torch.no_grad():
        clips = [layer(frames[:, max(0, t + 1 - WINDOW) : t + 1]) for t in range(frames.shape[1])]
    return torch.stack([clip[:, -1] for clip in clips], 1)


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize("scale", [1, 30])
def test_ten_thousand_steps_stay_exact_for_small_and_large_logits(kind: type[Any], scale: int) -> None:
    source = exact(SingleOutputAttention if kind is NystroemAttention else RetroactiveAttention)
    layer = kind.from_attention(source, random(6, WIDTH))
    frames = random(1, 10_000, WIDTH, seed=1)
    with torch.no_grad():
        layer.in_proj.weight[: 2 * HEADS * 6] *= scale
    expected = layer(frames) if kind is NystroemAttention else by_clips(layer, frames)
    torch.testing.assert_close(answers(layer, frames), expected, atol=1e-10, rtol=0)
    stepped = answers(layer.float(), frames.float()).double()
    torch.testing.assert_close(stepped, expected.detach(), atol=1e-4 if scale > 1 else 1e-5, rtol=0)


@every_kind
@pytest.mark.parametrize("scale", [1, 3, 10, 30])
def test_large_logits_are_answered_and_leave_nothing_behind(kind: type[Any], scale: int) -> None:
    layer = kind(WIDTH, HEADS, WINDOW, num_landmarks=5)
    with torch.no_grad():
        layer.in_proj.weight[: 2 * HEADS * 5] *= scale
    frames = random(1, 30, WIDTH).float()
    loud = frames.clone()
    loud[:, 9] *= 1000
    quiet, disturbed = answers(layer, frames), answers(layer, loud)
    assert disturbed.isfinite().all()
    assert torch.equal(disturbed[:, :9], quiet[:, :9])
    torch.testing.assert_close(disturbed[:, 9 + WINDOW :], quiet[:, 9 + WINDOW :], atol=1e-5, rtol=0)
    expected = layer(frames) if kind is NystroemAttention else by_clips(layer, frames)
    torch.testing.assert_close(quiet, expected.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("landmarks", [2, 40])
def test_the_output_projection_is_folded_where_that_is_less_work(landmarks: int) -> None:
    layer = RetroactiveNystroemAttention(WIDTH, HEADS, WINDOW, num_landmarks=landmarks)
    assert layer.folds == (landmarks == 2)
    assert layer.init_state(1).values.shape[-1] == (WIDTH if layer.folds else WIDTH // HEADS)


def test_the_state_holds_logits_in_place_of_keys() -> None:
    low_rank = NystroemAttention(WIDTH, HEADS, WINDOW, num_landmarks=2).init_state(1)
    keys_and_values = SingleOutputAttention(WIDTH, HEADS, WINDOW).init_state(1)
    assert state_bytes(low_rank) == 4 * WINDOW * (WIDTH + 2 * HEADS) + 8
    assert state_bytes(low_rank) < state_bytes(keys_and_values)


class Step(nn.Module):
    """``forward`` is the step: what ``torch.export`` wants to see."""

    def __init__(self, layer: NystroemAttention | RetroactiveNystroemAttention) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.layer.step(frame, state)


def steps_agree(layer: Any, step: Any, tolerance: float) -> None:
    mine: Any = layer.init_state(2)
    other: Any = layer.init_state(2)
    with torch.no_grad():
        for frame in random(3 * WINDOW, 2, WIDTH).float():
            expected, mine = layer.step(frame, mine)
            answer, other = step(frame, other)
            torch.testing.assert_close(answer, expected, atol=tolerance, rtol=0)


@every_kind
@pytest.mark.parametrize("landmarks", [2, 40])
def test_an_exported_step_answers_like_the_eager_one(kind: type[Any], landmarks: int) -> None:
    layer = kind(WIDTH, HEADS, WINDOW, num_landmarks=landmarks).eval().requires_grad_(False)
    program = torch.export.export(Step(layer), (torch.zeros(2, WIDTH), layer.init_state(2)))
    steps_agree(layer, program.module(), 1e-6)


@pytest.mark.slow
@every_kind
def test_a_compiled_step_is_one_graph_and_answers_like_the_eager_one(kind: type[Any]) -> None:
    layer = kind(WIDTH, HEADS, WINDOW, num_landmarks=4).eval().requires_grad_(False)
    steps_agree(layer, torch.compile(layer.step, fullgraph=True, dynamic=False), 1e-5)


def test_cluster_means_are_a_fixed_point_of_k_means() -> None:
    centres = 20 * random(6, WIDTH)
    sample = centres.repeat(50, 1) + random(300, WIDTH, seed=1)
    found = cluster_means(sample, 6)
    fitted = KMeans(6, init=found.numpy(), n_init=1).fit(sample.numpy())
    torch.testing.assert_close(found, torch.from_numpy(fitted.cluster_centers_), atol=1e-9, rtol=0)
    assert torch.equal(found, cluster_means(sample, 6))


def test_cluster_means_of_repeated_tokens_stay_finite() -> None:
    sample = random(2, WIDTH).repeat(10, 1)
    assert cluster_means(sample, 8).isfinite().all()


def test_segment_means_of_as_many_tokens_are_the_tokens() -> None:
    sample = random(WINDOW, WIDTH)
    assert torch.equal(segment_means(sample, WINDOW), sample)
    torch.testing.assert_close(segment_means(sample, 2)[1], sample[4:].mean(0))


@pytest.mark.parametrize("choose", [cluster_means, segment_means])
def test_a_sample_that_does_not_serve_is_refused(choose: Any) -> None:
    with pytest.raises(ConfigError, match="9 landmarks cannot be chosen from 8 tokens; give at least as many"):
        choose(random(8, WIDTH), 9)
    with pytest.raises(ConfigError, match="0 landmarks cannot be chosen from 8 tokens"):
        choose(random(8, WIDTH), 0)
    with pytest.raises(ShapeError, match=r"tokens \(n, E\); got \(2, 8, 24\): flatten streams first"):
        choose(random(2, 8, WIDTH), 4)


@pytest.mark.parametrize(
    ("sizes", "landmarks", "message"),
    [
        ((10, 3, 5), 4, "embed_dim must be a multiple of num_heads, got 10 and 3"),
        ((12, 3, 0), 4, "the window must hold at least one frame, got 0"),
        ((12, 3, 5), 0, "needs at least one landmark, got num_landmarks=0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: tuple[int, int, int], landmarks: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LandmarkProjections(*sizes, num_landmarks=landmarks)


@pytest.mark.parametrize("shape", [(WIDTH,), (4, WIDTH + 1), (1, 4, WIDTH)])
def test_landmarks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"landmarks are tokens \(m, 24\); got"):
        NystroemAttention.from_attention(exact(SingleOutputAttention), random(*shape))


@every_kind
@pytest.mark.parametrize("shape", [(WIDTH,), (2, WIDTH - 1), (2, 1, WIDTH), (3, WIDTH)])
def test_a_frame_of_another_shape_is_refused_and_the_state_stays(kind: type[Any], shape: tuple[int, ...]) -> None:
    layer = kind(WIDTH, HEADS, WINDOW, num_landmarks=4)
    state: NystroemState = layer.init_state(2)
    with pytest.raises(ShapeError, match=rf"{kind.__name__}\.step takes one frame per stream, \(B, 24\); got \("):
        layer.step(torch.ones(shape), state)
    assert all(leaf.eq(0).all() for leaf in state)


def test_a_clip_longer_than_the_window_is_refused() -> None:
    layer = RetroactiveNystroemAttention(WIDTH, HEADS, WINDOW, num_landmarks=4)
    with pytest.raises(ShapeError, match="a clip holds at most the window's 8 frames, got 9"):
        layer(torch.ones(1, WINDOW + 1, WIDTH))


def test_a_layer_that_looks_ahead_is_not_approximated() -> None:
    attention = LookAheadAttention(8, 2, window=4, lookahead=2)
    with pytest.raises(ConfigError, match="answers 2 frames late"):
        NystroemAttention.from_attention(attention, torch.randn(3, 8))
