"""TeSTra: the smoothed memory against plain sums, its stride, its training in blocks, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers import Int8Linear, in_precision
from coadtr.layers.smoothing import BLOCK, init_smoothed, smooth
from coadtr.models import TeSTra, TeSTraConfig
from tests.laws import models_memory

SMALL: dict[str, Any] = {"input_dim": 5, "num_classes": 3, "embed_dim": 8, "num_heads": 2, "ff_dim": 8}
SMALL |= {"window": 20, "work_frames": 4, "long_stride": 1, "long_queries": 3, "memory_queries": 2}


def make(**changes: Any) -> TeSTra:
    torch.manual_seed(0)
    return TeSTra(TeSTraConfig(**{**SMALL, "dropout": 0.0, "attention_dropout": 0.0, **changes})).double().eval()


def plain(logits: np.ndarray, values: np.ndarray, enters: list[bool], decay: float) -> list[np.ndarray]:
    """Weigh the samples of each time anew, in logarithms: one query, ``(T,)`` and ``(T, d)``."""
    means, samples = [], list[int]()
    for t, entering in enumerate(enters):
        samples += [t] * entering
        age = len(samples) - 1 - np.arange(len(samples))
        faded = logits[samples] + np.log(decay) * age
        weights = np.exp(faded - faded.max(initial=-np.inf)) if samples else np.zeros(0)
        means.append(weights @ values[samples] / weights.sum() if samples else np.zeros(values.shape[1]))
    return means


@settings(max_examples=40, deadline=None)
@given(
    enters=st.lists(st.booleans(), min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    decay=st.floats(0.01, 1),
    scale=st.sampled_from([1, 30, 1000]),
    seed=st.integers(0, 2**31),
)
def test_the_memory_holds_the_decayed_mean_whatever_the_logits(
    enters: list[bool], cuts: list[int], decay: float, scale: float, seed: int
) -> None:
    rng, length = np.random.default_rng(seed), len(enters)
    logits, values = scale * rng.normal(size=length), rng.normal(size=(length, 2))
    memory, samples, means, start = init_smoothed(1, 1, 1, 2, torch.zeros((), dtype=torch.float64)), 0, [], 0
    for cut in [*cuts, *[cuts[-1]] * length]:
        part = slice(start, start + cut)
        if start < length:
            products = torch.from_numpy(logits[part]).view(1, 1, -1, 1)
            entering = torch.tensor([enters[part]])
            mean, memory = smooth(
                memory,
                products,
                torch.from_numpy(values[part])[None, None],
                entering,
                samples=torch.tensor([samples]),
                decay=decay,
            )
            means.append(mean[0, :, 0, 0])
            samples, start = samples + int(entering.sum()), start + cut
    expected = torch.from_numpy(np.stack(plain(logits, values, enters, decay)))
    torch.testing.assert_close(torch.cat(means), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("scale", [1, *(pytest.param(scale, marks=pytest.mark.slow) for scale in (3, 10)), 30])
def test_a_memory_of_thousands_of_frames_stays_exact_in_float32(scale: int) -> None:
    rng, length = np.random.default_rng(scale), 4000
    logits, values = scale * rng.normal(size=length), rng.normal(size=(length, 2))
    products, entering = torch.from_numpy(logits).float().view(1, 1, -1, 1), torch.ones(1, length, dtype=torch.bool)
    given, fresh = torch.from_numpy(values).float()[None, None], init_smoothed(1, 1, 1, 2, torch.zeros(()))
    means, memory = smooth(fresh, products, given, entering, samples=torch.tensor([0]), decay=0.97)
    assert length > 10 * BLOCK
    expected = plain(products[0, 0, :, 0].double().numpy(), values, [True] * length, 0.97)
    torch.testing.assert_close(means[0, :, 0, 0].double(), torch.from_numpy(np.stack(expected)), atol=2e-5, rtol=0)
    assert memory.total.item() >= 1


def test_a_loud_sample_fades_in_bfloat16() -> None:
    """A maximum that is kept as a number would stay 20 in bfloat16: 20 - 0.03 rounds to 20."""
    memory, one = init_smoothed(1, 1, 1, 1, torch.zeros((), dtype=torch.bfloat16)), torch.ones(1, 1, 1, 1).bfloat16()
    entering = torch.ones(1, 1, dtype=torch.bool)
    for t in range(1000):
        loud = t == 0
        mean, memory = smooth(memory, one * 20 * loud, one * loud, entering, samples=torch.tensor([t]), decay=0.97)
        if t == 300:
            assert mean.item() > 0.9
    assert mean.item() < 0.01


@pytest.mark.parametrize("stride", [2, 3, 7])
def test_a_strided_memory_is_answered_as_the_reference_answers_it(stride: int) -> None:
    model, frames = make(long_stride=stride, decay=0.8), torch.randn(2, 40, 5, dtype=torch.float64)
    with torch.no_grad():
        first, state = model.steps(frames[:, :11], model.init_state(2))
        answers = [*first.unbind(1)]
        for frame in frames[:, 11:25].unbind(1):
            answer, state = model.step(frame, state)
            answers.append(answer)
        answers += model.steps(frames[:, 25:], state)[0].unbind(1)
        at_once = model(frames)
    expected = torch.stack(
        [
            torch.stack([torch.from_numpy(models_memory.testra(model, stream[: t + 1], 0)) for t in range(40)])
            for stream in frames.numpy()
        ]
    )
    torch.testing.assert_close(torch.stack(answers, 1), expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(at_once, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 17, 30])
@pytest.mark.parametrize("stride", [1, 3])
def test_a_clip_is_a_stream_that_began_there(length: int, stride: int) -> None:
    model, clip = make(long_stride=stride), torch.randn(2, length, 5, dtype=torch.float64)
    first = torch.tensor([0, 4])
    with torch.no_grad():
        learnt = model.learn_clip(clip, first).now
        assert learnt.shape == (2, min(length, model.frames_learnt), 3)
        torch.testing.assert_close(learnt[:, -1], model(clip, first)[:, -1], atol=1e-12, rtol=0)
        torch.testing.assert_close(model.answer_clip(clip, first), learnt[:, -1], atol=0, rtol=0)


@pytest.mark.parametrize("length", [4, 5, 12, 19, 20])
@pytest.mark.parametrize("stride", [1, 3])
def test_a_clip_that_begins_before_its_video_is_answered_as_the_short_one(length: int, stride: int) -> None:
    model, clip = make(normalise=True, long_stride=stride), torch.randn(2, length, 5, dtype=torch.float64)
    assert model.shortest_clip == model.work_frames == 4
    model.inputs.set_statistics(torch.full((5,), 3.0), torch.ones(5))
    padded, first = F.pad(clip, (0, 0, 20 - length, 0)), torch.tensor([length - 20] * 2)
    with torch.no_grad():
        expected = model.learn_clip(clip).now
        torch.testing.assert_close(model.learn_clip(padded, first).now, expected, atol=1e-12, rtol=0)
        torch.testing.assert_close(model.answer_clip(padded, first), expected[:, -1], atol=1e-12, rtol=0)
        mixed, firsts = torch.cat([padded, torch.randn_like(padded)]), torch.tensor([*first, 0, 31])
        learnt = model.learn_clip(mixed, firsts).now
        others = model.learn_clip(mixed[2:], firsts[2:]).now
        torch.testing.assert_close(learnt, torch.cat([expected, others]), atol=1e-12, rtol=0)


def test_a_frame_that_is_passed_over_leaves_no_trace_even_if_it_is_not_finite() -> None:
    model, frames = make(long_stride=3), torch.randn(2, 30, 5, dtype=torch.float64)
    broken = frames.clone()
    broken[:, 4] = float("nan")  # 4 is no multiple of the stride; it leaves the work memory at frame 8
    with torch.no_grad():
        expected = model(frames)[:, 8:]
        torch.testing.assert_close(model(broken)[:, 8:], expected, atol=0, rtol=0)
        torch.testing.assert_close(model.answer_clip(broken), expected[:, -1], atol=1e-12, rtol=0)
        answers, state = [], model.init_state(2)
        for frame in broken.unbind(1):
            answer, state = model.step(frame, state)
            answers.append(answer)
        torch.testing.assert_close(torch.stack(answers[8:], 1), expected, atol=1e-12, rtol=0)
        assert torch.stack(answers[4:8]).isnan().all()
        assert torch.stack(answers[:4]).isfinite().all()


def test_the_memory_of_a_model_in_bfloat16_is_kept_in_float32() -> None:
    state = make().bfloat16().init_state(2)
    assert {leaf.dtype for leaf in state.memory} == {torch.float32, torch.int64}
    assert state.products.dtype == state.values.dtype == state.work.dtype == torch.bfloat16


def test_a_count_of_thousands_grows_in_bfloat16() -> None:
    """Kept in bfloat16 the sum of samples that count alike would stop at 256."""
    memory, one = init_smoothed(1, 1, 1, 1, torch.zeros((), dtype=torch.bfloat16)), torch.ones(1, 1, 50, 1).bfloat16()
    entering = torch.ones(1, 50, dtype=torch.bool)
    for t in range(0, 2000, 50):
        _, memory = smooth(memory, one, one, entering, samples=torch.tensor([t]), decay=1.0)
    assert memory.total.item() == memory.sums.item() == 2000


def test_sequences_are_learnt_from_in_blocks_of_clips() -> None:
    model, frames = make(), torch.randn(2, 30, 5, dtype=torch.float64)
    clips = [model.learn_clip(frames[:, : t + 1]).now for t in range(30)]
    assert torch.equal(model.learn_sequence(frames).now, model(frames))
    starts = set()
    for seed in range(12):
        torch.manual_seed(seed)
        learnt = model.train().learn_sequence(frames).now
        torch.manual_seed(seed)
        ends = [*range(int(torch.randint(4, ())), 29, 4), 29]
        starts.add(ends[0])
        assert learnt.shape == (2, 30, 3)
        before = -1
        for end in ends:
            expected = clips[end][:, before - end :]
            torch.testing.assert_close(learnt[:, before + 1 : end + 1], expected, atol=1e-10, rtol=0)
            before = end
    assert starts == {0, 1, 2, 3}


def test_no_step_in_int8_rebuilds_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    model, frames = make().float(), torch.randn(1, 9, 5)
    with torch.no_grad():
        expected, lowered = model(frames), in_precision(model, "int8")
        state = lowered.init_state(1)

        def refuse(_: Int8Linear) -> Tensor:
            raise AssertionError("the matrix was rebuilt")

        monkeypatch.setattr(Int8Linear, "weight", property(refuse))
        answers, _ = lowered.steps(frames.bfloat16(), state)
    torch.testing.assert_close(answers.float(), expected, atol=0.06, rtol=0)


def test_every_weight_is_learnt_from_clips_and_from_sequences() -> None:
    for learn in ("learn_clip", "learn_sequence"):
        model = make(dropout=0.1, attention_dropout=0.1).train()
        getattr(model, learn)(torch.randn(2, 20, 5, dtype=torch.float64)).now.square().sum().backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("stride", "decay", "loud"),
    [
        *((1, 0.9, loud) for loud in (None, 0, 3, 4, 7)),
        *((*way, loud) for way in ((1, 1.0), (3, 0.9)) for loud in (None, 3)),
    ],
)
def test_gradients_through_the_smoothed_memory_are_those_of_finite_differences(
    stride: int, decay: float, loud: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over three blocks, from a memory that came from another call, with and without a sample that outweighs all."""
    monkeypatch.setattr("coadtr.layers.smoothing.BLOCK", 4)
    torch.manual_seed(1)
    products = torch.randn(1, 1, 11, 2, dtype=torch.float64)
    if loud is not None:
        products[:, :, loud] += 4
    values = torch.randn(1, 1, 11, 2, dtype=torch.float64)
    enters = (torch.arange(11) % stride == 0).unsqueeze(0)

    def means(products: Tensor, values: Tensor) -> Tensor:
        memory, samples, answers = init_smoothed(1, 1, 2, 2, products), torch.tensor([0]), []
        for part in (slice(0, 2), slice(2, 11)):
            taken = products[:, :, part], values[:, :, part], enters[:, part]
            mean, memory = smooth(memory, *taken, samples=samples, decay=decay)
            samples = samples + enters[:, part].sum(1)
            answers.append(mean)
        return torch.cat(answers, 1)

    assert torch.autograd.gradcheck(means, (products.requires_grad_(), values.requires_grad_()))


def test_gradients_through_the_scan_are_those_of_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coadtr.layers.smoothing.BLOCK", 4)
    model, frames = make(decay=0.9), torch.randn(1, 20, 5, dtype=torch.float64)
    clips = torch.cat([model.answer_clip(frames[:, : t + 1]) for t in range(20)])
    gradients = []
    for answers in (model(frames), clips):
        model.zero_grad()
        answers.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


def test_it_answers_from_its_whole_past() -> None:
    model, frames = make(decay=0.99), torch.randn(1, 60, 5, dtype=torch.float64)
    assert model.reach is None
    changed = frames.clone()
    changed[:, 0] += 10
    with torch.no_grad():
        assert not torch.allclose(model(changed)[:, -1], model(frames)[:, -1], atol=1e-9)


def test_what_cannot_be_built_or_answered_is_refused() -> None:
    for decay in (0.0, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="decay must be above 0 and at most 1, got"):
            make(decay=decay)
    model = make()
    with pytest.raises(ShapeError, match=r"TeSTra.step takes one frame per stream, \(B, 5\)"):
        model.step(torch.zeros(1, 6, dtype=torch.float64), model.init_state(1))
    with pytest.raises(ShapeError, match=r"TeSTra.forward takes a sequence per stream"):
        model(torch.zeros(1, 0, 5, dtype=torch.float64))
