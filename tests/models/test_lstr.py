"""LSTR: parity with the published implementation, its clips, its stride, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coadtr.errors import CheckpointError, ConfigError, ShapeError
from coadtr.layers import Int8Linear, in_precision, state_bytes, state_tensors
from coadtr.models import LSTR, LSTRConfig, build_model, load_published, preset
from tests.laws import models_memory
from tests.models.test_published import read

SMALL: dict[str, Any] = {"input_dim": 5, "num_classes": 3, "embed_dim": 8, "num_heads": 2, "ff_dim": 8}
SMALL |= {"window": 20, "work_frames": 4, "long_stride": 1, "long_queries": 3, "memory_queries": 2}


def make(**changes: Any) -> LSTR:
    torch.manual_seed(0)
    return LSTR(LSTRConfig(**{**SMALL, "dropout": 0.0, "attention_dropout": 0.0, **changes})).double().eval()


def published(path: Path) -> tuple[LSTR, dict[str, Tensor]]:
    weights, arrays = read(path / "lstr.npz")
    sizes = {"input_dim": 24, "num_classes": 22, "embed_dim": 32, "ff_dim": 32, "num_heads": 4}
    memory = {"window": 48, "work_frames": 8, "long_stride": 1, "long_queries": 4, "memory_queries": 6}
    model = build_model(preset("lstr", **sizes, **memory)).eval()
    load_published(model, weights)
    assert isinstance(model, LSTR)
    return model, arrays


def test_all_frames_of_the_work_memory_are_answered_as_published(shared_reference: Path) -> None:
    model, arrays = published(shared_reference)
    clip = torch.cat([arrays["rgb"], arrays["flow"]], 2)
    with torch.no_grad():
        learnt = model.learn_clip(clip)
    torch.testing.assert_close(learnt.now, arrays["logits"], atol=1e-5, rtol=0)
    assert learnt.ahead is None


def test_an_absent_long_memory_is_masked_as_published(shared_reference: Path) -> None:
    model, arrays = published(shared_reference)
    clip = torch.cat([arrays["rgb"], arrays["flow"]], 2)
    mask = torch.cat([arrays["long_mask"] == 0, torch.ones(3, 8, dtype=torch.bool)], 1)
    assert not mask[1, :25].any()
    with torch.no_grad():
        torch.testing.assert_close(model.run_clip(clip, mask), arrays["masked_logits"], atol=1e-5, rtol=0)
        shorter = model.run_clip(clip[1:2, 25:])
    torch.testing.assert_close(shorter, arrays["masked_logits"][1:2], atol=1e-5, rtol=0)


def test_steps_answer_as_published(shared_reference: Path) -> None:
    model, arrays = published(shared_reference)
    clip = torch.cat([arrays["rgb"], arrays["flow"]], 2)
    state = model.init_state(3)
    with torch.no_grad():
        for frame in clip.unbind(1):
            answer, state = model.step(frame, state)
    torch.testing.assert_close(answer, arrays["logits"][:, -1], atol=1e-5, rtol=0)


def test_published_weights_of_another_depth_are_refused(shared_reference: Path) -> None:
    weights, _ = read(shared_reference / "lstr.npz")
    sizes = {"input_dim": 24, "num_classes": 22, "embed_dim": 32, "ff_dim": 32, "num_heads": 4}
    with pytest.raises(CheckpointError, match=r"lack .*dec_modules\.layers\.2"):
        load_published(build_model(preset("lstr", depth=3, **sizes)), weights)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_strided_long_memory_is_answered_as_the_reference_answers_it(stride: int) -> None:
    model, frames = make(long_stride=stride), torch.randn(2, 50, 5, dtype=torch.float64)
    with torch.no_grad():
        first, state = model.steps(frames[:, :7], model.init_state(2))
        answers, expected = [*first.unbind(1)], []
        for frame in frames[:, 7:30].unbind(1):
            answer, state = model.step(frame, state)
            answers.append(answer)
        answers += model.steps(frames[:, 30:], state)[0].unbind(1)
        at_once = model(frames)
    for stream in frames.numpy():
        clips = [stream[max(0, t - 19) : t + 1] for t in range(50)]
        expected.append(torch.stack([torch.from_numpy(models_memory.lstr(model, clip, 0)) for clip in clips]))
    torch.testing.assert_close(torch.stack(answers, 1), torch.stack(expected), atol=1e-10, rtol=0)
    torch.testing.assert_close(at_once, torch.stack(expected), atol=1e-10, rtol=0)


def test_a_strided_memory_passes_over_the_frames_between() -> None:
    model, clip = make(long_stride=4), torch.randn(1, 20, 5, dtype=torch.float64)
    with torch.no_grad():
        expected = model.answer_clip(clip)
        for t in range(16):
            changed = clip.clone()
            changed[:, t] += 1
            assert torch.equal(model.answer_clip(changed), expected) == (t % 4 != 0)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 12, 20])
def test_a_short_clip_counts_as_a_stream_that_began_there(length: int) -> None:
    model, clip = make(), torch.randn(2, length, 5, dtype=torch.float64)
    with torch.no_grad():
        learnt = model.learn_clip(clip).now
        assert learnt.shape == (2, min(length, model.frames_learnt), 3)
        torch.testing.assert_close(learnt[:, -1], model(clip)[:, -1], atol=1e-12, rtol=0)
        torch.testing.assert_close(model.answer_clip(clip), learnt[:, -1], atol=0, rtol=0)


@pytest.mark.parametrize("length", [4, 5, 12, 19, 20])
def test_a_clip_that_begins_before_its_video_is_answered_as_the_short_one(length: int) -> None:
    model, clip = make(normalise=True), torch.randn(2, length, 5, dtype=torch.float64)
    assert model.shortest_clip == model.work_frames == 4
    model.inputs.set_statistics(torch.full((5,), 3.0), torch.ones(5))
    padded, first = F.pad(clip, (0, 0, 20 - length, 0)), torch.tensor([length - 20] * 2)
    with torch.no_grad():
        expected = model.learn_clip(clip).now
        torch.testing.assert_close(model.learn_clip(padded, first).now, expected, atol=1e-12, rtol=0)
        torch.testing.assert_close(model.answer_clip(padded, first), expected[:, -1], atol=1e-12, rtol=0)
        mixed = torch.cat([padded, torch.randn_like(padded)])
        learnt = model.learn_clip(mixed, torch.tensor([*first, 0, 30])).now
        torch.testing.assert_close(learnt, torch.cat([expected, model.learn_clip(mixed[2:]).now]), atol=1e-12, rtol=0)


def test_embeddings_are_dropped_out_in_clips_and_in_sequences() -> None:
    """With all of them dropped out, no answer depends on the frames."""
    model, frames = make().train(), torch.randn(2, 20, 5, dtype=torch.float64)
    model.drop.p = 1.0
    expected = model.learn_clip(torch.zeros_like(frames)).now[:, -1]
    assert torch.equal(model.learn_clip(frames).now[:, -1], expected)
    torch.testing.assert_close(model.learn_sequence(frames).now[:, -1], expected, atol=1e-12, rtol=0)


def test_a_window_within_the_work_memory_has_no_long_one() -> None:
    model = make(window=3)
    assert (model.work_frames, model.config.long_frames, model.config.long_samples) == (3, 0, 0)
    frames = torch.randn(1, 8, 5, dtype=torch.float64)
    with torch.no_grad():
        answers, _ = model.steps(frames, model.init_state(1))
        for t in range(8):
            expected = model.answer_clip(frames[:, max(0, t - 2) : t + 1])
            torch.testing.assert_close(answers[:, t], expected, atol=1e-12, rtol=0)


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
        # The products of a query with a key's bias are the same for all keys, and leave the softmax.
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_a_state_made_for_other_weights_is_not_used_by_a_new_one() -> None:
    model, frame = make(), torch.randn(1, 5, dtype=torch.float64)
    stale = model.init_state(1)
    with torch.no_grad():
        model.long_queries.add_(1)
        answer, _ = model.step(frame, model.init_state(1))
        torch.testing.assert_close(answer, model.answer_clip(frame.unsqueeze(1)), atol=1e-12, rtol=0)
    assert not torch.equal(stale.constants.asked, model.init_state(1).constants.asked)
    assert not any(leaf.requires_grad for leaf in state_tensors(stale))


def test_a_state_weighs_what_the_documentation_says() -> None:
    model = make(long_stride=2)
    heads, width, samples = 2, 8, 8
    floats = 20 * (heads * 3 + width) + 4 * width + (2 * 3 + 2) * width + samples * (heads * 3 + width)
    assert state_bytes(model.init_state(1)) == 8 * floats + 8


def test_what_cannot_be_built_or_answered_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be a multiple of long_stride, got 16 frames and a stride of 3"):
        make(long_stride=3)
    with pytest.raises(ConfigError, match="work_frames must be a whole number of at least 1, got 0"):
        make(work_frames=0)
    model = make()
    with pytest.raises(ShapeError, match="at most the window's 20 frames, got 21"):
        model.learn_clip(torch.zeros(1, 21, 5, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"LSTR.step takes one frame per stream, \(B, 5\)"):
        model.step(torch.zeros(1, 6, dtype=torch.float64), model.init_state(1))
