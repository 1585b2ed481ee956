"""CMeRT: anticipated frames, drafts, its clips, and what it refuses; the laws hold its step to a slow reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coadtr.errors import CheckpointError, ConfigError, ShapeError
from coadtr.evaluation import executed_macs_by_block, macs_by_block, parameters
from coadtr.layers import state_bytes
from coadtr.models import CMeRT, CMeRTConfig, build_model, load_published, preset
from tests.laws import models_memory

SMALL: dict[str, Any] = {"input_dim": 5, "num_classes": 3, "embed_dim": 8, "num_heads": 2, "ff_dim": 8}
SMALL |= {"window": 20, "work_frames": 4, "long_stride": 1, "long_queries": 3, "memory_queries": 2}
SMALL |= {"context_frames": 2, "anticipated_frames": 3, "future_frames": 8, "future_queries": 6}


def make(**changes: Any) -> CMeRT:
    torch.manual_seed(0)
    return CMeRT(CMeRTConfig(**{**SMALL, **changes})).double().eval()


def clips(count: int = 2, length: int = 20) -> Tensor:
    return torch.randn(count, length, 5, dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 12, 20])
def test_a_clip_is_answered_as_the_reference_answers_it(length: int) -> None:
    """Work memory, frames ahead, drafts and generated tokens; a short clip is a stream that began there."""
    model, clip = make(), clips(length=length)
    with torch.no_grad():
        learnt = model.learn_clip(clip)
    assert learnt.ahead is not None
    size = min(length, model.frames_learnt)
    assert learnt.now.shape == (2, size, 3)
    assert learnt.ahead.shape == (2, 1, model.frames_ahead, 3) == (2, 1, 8, 3)
    for row in range(2):
        now, near, drafts, tokens = models_memory.cmert_answers(model, clip[row].numpy())
        np.testing.assert_allclose(learnt.now[row], now, atol=1e-10, rtol=0)
        np.testing.assert_allclose(learnt.ahead[row, 0, :3], near, atol=1e-10, rtol=0)
        spread = np.repeat(tokens, 2, axis=0)  # six tokens over 4 + 8 frames
        np.testing.assert_allclose(learnt.ahead[row, 0, 3:], spread[4 + 3 :], atol=1e-10, rtol=0)
        (draft_weight, drafted), (generated_weight, generated) = learnt.drafts
        np.testing.assert_allclose(drafted[row], drafts[:size], atol=1e-10, rtol=0)
        np.testing.assert_allclose(generated[row], spread[4 - size : 4], atol=1e-10, rtol=0)
        assert (draft_weight, generated_weight) == (0.1, 0.5)


def test_tokens_are_spread_over_frames_that_they_do_not_divide() -> None:
    model, clip = make(future_queries=5), clips(1)
    with torch.no_grad():
        learnt = model.learn_clip(clip)
    tokens = models_memory.cmert_answers(model, clip[0].numpy())[3]
    assert learnt.ahead is not None
    found = torch.cat([learnt.drafts[1][1][0], learnt.ahead[0, 0, 3:]])
    frames = [0, 1, 2, 3, *range(7, 12)]  # of 4 + 8, without those that the decoder anticipates
    np.testing.assert_allclose(found, tokens[[frame * 5 // 12 for frame in frames]], atol=1e-10, rtol=0)


def test_steps_answer_ahead_what_clips_do() -> None:
    model, frames = make(long_stride=2), clips(length=30)
    first, second = model.init_state(2), model.init_state(2)
    with torch.no_grad():
        for t, frame in enumerate(frames.unbind(1)):
            now, ahead, first = model.step_ahead(frame, first)
            answer, second = model.step(frame, second)
            torch.testing.assert_close(now, answer, atol=1e-12, rtol=0)
            learnt = model.learn_clip(frames[:, max(0, t - 19) : t + 1])
            assert learnt.ahead is not None
            torch.testing.assert_close(now, learnt.now[:, -1], atol=1e-12, rtol=0)
            torch.testing.assert_close(ahead, learnt.ahead[:, 0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("length", [4, 5, 12, 19, 20])
def test_a_clip_that_begins_before_its_video_is_answered_as_the_short_one(length: int) -> None:
    model, clip = make(), clips(length=length)
    padded, first = F.pad(clip, (0, 0, 20 - length, 0)), torch.tensor([length - 20] * 2)
    with torch.no_grad():
        expected, learnt = model.learn_clip(clip), model.learn_clip(padded, first)
    assert expected.ahead is not None
    assert learnt.ahead is not None
    torch.testing.assert_close(learnt.now[:, -length:], expected.now, atol=1e-12, rtol=0)
    torch.testing.assert_close(learnt.ahead, expected.ahead, atol=1e-12, rtol=0)


def test_streams_that_begin_anew_are_answered_ahead_as_fresh_ones() -> None:
    model, frames = make(), clips(length=30)
    state = model.init_state(2)
    with torch.no_grad():
        for t, frame in enumerate(frames.unbind(1)):
            if t == 13:
                state = model.reset_rows(state, torch.tensor([False, True]))
            _, ahead, state = model.step_ahead(frame, state)
            first = max(0, t - 19)
            for row, begin in enumerate((first, max(first, 13) if t >= 13 else first)):
                learnt = model.learn_clip(frames[row : row + 1, begin : t + 1])
                assert learnt.ahead is not None
                torch.testing.assert_close(ahead[row], learnt.ahead[0, 0], atol=1e-12, rtol=0)


def test_parameters_are_the_published_ones_but_for_the_embeddings() -> None:
    """The authors' log prints 94,685,206; each of their two embeddings has 5,252,096, and 40 of 48 queries are idle."""
    with torch.device("meta"):
        model = build_model(preset("cmert", input_dim=3072, num_classes=22))
    embeddings = 2 * (3072 * 1024 + 1024)
    assert parameters(model) - embeddings + 2 * 5_252_096 + 40 * 1024 == 94_685_206


def test_the_cost_tells_all_sizes_apart() -> None:
    sizes = {"long_queries": 3, "memory_queries": 4, "future_queries": 5, "work_frames": 6, "window": 22}
    for depths in ({"depth": 1, "memory_depth": 3, "future_depth": 2}, {"depth": 2, "memory_depth": 1}):
        model = make(**sizes, **depths, ff_dim=12).float()
        assert macs_by_block(model) == executed_macs_by_block(model.config)


def test_every_weight_is_learnt_from_clips() -> None:
    model = make(dropout=0.1, attention_dropout=0.1).train()
    learnt = model.learn_clip(clips())
    assert learnt.ahead is not None
    sum((part.square().sum() for part in (learnt.now, learnt.ahead)), torch.zeros(())).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_a_window_within_the_work_memory_has_no_long_one() -> None:
    model, frames = make(window=3), clips(1, 8)
    assert (model.work_frames, model.recent_frames, model.config.long_samples) == (3, 3, 0)
    with torch.no_grad():
        answers, _ = model.steps(frames, model.init_state(1))
        for t in range(8):
            expected = model.answer_clip(frames[:, max(0, t - 2) : t + 1])
            torch.testing.assert_close(answers[:, t], expected, atol=1e-12, rtol=0)


def test_a_state_weighs_what_the_documentation_says() -> None:
    model = make(long_stride=2)
    heads, width = 2, 8
    floats = 20 * (heads * 3 + width) + (4 + 2) * width + (2 * 3 + 2 + 6) * width + heads * 3 + width
    assert state_bytes(model.init_state(1)) == 8 * floats + 8


def test_what_cannot_be_built_loaded_or_answered_is_refused() -> None:
    with pytest.raises(ConfigError, match="future_frames must be at least anticipated_frames=3, got 2"):
        make(future_frames=2)
    with pytest.raises(ConfigError, match=r"draft_weight must be finite and not negative, got -0\.1"):
        make(draft_weight=-0.1)
    with pytest.raises(CheckpointError, match="there are no published weights for CMeRT"):
        load_published(make(), {})
    model = make()
    with pytest.raises(ShapeError, match="at most the window's 20 frames, got 21"):
        model.learn_clip(clips(length=21))
    with pytest.raises(ShapeError, match=r"CMeRT.step_ahead takes one frame per stream, \(B, 5\)"):
        model.step_ahead(torch.zeros(1, 6, dtype=torch.float64), model.init_state(1))
