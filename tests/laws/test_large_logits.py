"""Large logits stay exact, and leave nothing behind when their frame leaves the window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coadtr.layers import AttentionProjections, CrossAttention, LandmarkProjections
from coadtr.layers.memory import MemoryAttention
from tests.laws.subjects import SUBJECTS, Subject, assert_near, case, every_subject, forward, make, random, run, slow

WINDOW, LENGTH = 5, 23

SCALES = (1, 3, 10, 30)


def sharpened(subject: Subject, scale: float, window: int = WINDOW) -> Any:
    """Build a subject whose query weights are scaled, and with them every logit."""
    module = make(subject, window)
    for part in module.modules():
        if isinstance(part, AttentionProjections):
            with torch.no_grad():
                part.in_proj.weight[: part.embed_dim] *= scale
        elif isinstance(part, CrossAttention | MemoryAttention):
            with torch.no_grad():
                part.q_proj.weight *= scale
        elif isinstance(part, LandmarkProjections):
            with torch.no_grad():
                part.in_proj.weight[: 2 * part.num_heads * part.num_landmarks] *= scale
    return module


def at_every_scale() -> Iterator[Any]:
    """Pair subjects with scales; one that asks no queries is the same at every scale, and is tested at one."""
    for subject in SUBJECTS:
        before, after = (module.state_dict() for module in (make(subject), sharpened(subject, SCALES[-1])))
        asks = any(not torch.equal(before[name], after[name]) for name in before)
        for scale in SCALES if asks else SCALES[:1]:
            yield case(subject, scale)


every_scale = pytest.mark.parametrize(("subject", "scale"), [*at_every_scale()])


def with_a_loud_frame(frames: Tensor, t: int, loudness: float) -> Tensor:
    loud = frames.clone()
    loud[:, t] *= loudness
    return loud


@every_scale
def test_scaled_queries_stay_exact(subject: Subject, scale: int) -> None:
    module = sharpened(subject, scale)
    frames = random(1, LENGTH, subject.channels)
    expected = slow(subject, module, WINDOW, frames)
    assert_near(run(subject, module, frames)[0], expected, 1e-10)
    assert_near(forward(subject, module, frames), expected, 1e-10)
    module.float()
    assert_near(run(subject, module, frames.float())[0], expected, 1e-4)
    assert_near(forward(subject, module, frames.float()), expected, 1e-4)


@every_scale
def test_a_large_logit_does_not_poison_the_rows_that_remain(subject: Subject, scale: int) -> None:
    module = sharpened(subject, scale).float()
    frames = random(1, LENGTH, subject.channels).float()
    quiet, _ = run(subject, module, frames)
    loud, _ = run(subject, module, with_a_loud_frame(frames, 7, 1000))
    assert torch.isfinite(loud).all()
    assert torch.equal(loud[:, :7], quiet[:, :7])
    left = 7 + subject.reach(WINDOW)
    assert_near(loud[:, left:], quiet[:, left:], 1e-5)


@given(
    st.sampled_from(SUBJECTS),
    st.integers(1, 6),
    st.floats(-2, 1.5),
    st.lists(st.floats(-2, 1.5), min_size=1, max_size=25),
    st.integers(0, 2**31),
)
@settings(max_examples=30, deadline=None)
def test_queries_and_frames_of_any_loudness_stay_exact(
    subject: Subject, window: int, sharpness: float, loudness: list[float], seed: int
) -> None:
    module = sharpened(subject, 10**sharpness, window)
    frames = random(1, len(loudness), subject.channels, seed=seed)
    frames = frames * 10 ** torch.tensor(loudness, dtype=torch.float64).unsqueeze(1)
    expected = slow(subject, module, window, frames)
    for answers in (run(subject, module, frames)[0], forward(subject, module, frames)):
        assert_near(answers, expected, 1e-10 * (1 + float(expected.abs().max())))


@every_subject
def test_a_broken_frame_is_forgotten_when_it_leaves_the_window(subject: Subject) -> None:
    module = make(subject, WINDOW, torch.float32)
    frames = random(1, LENGTH, subject.channels).float()
    expected, _ = run(subject, module, frames)
    broken = with_a_loud_frame(frames, 7, float("nan"))
    answers, _ = run(subject, module, broken)
    left = 7 + subject.reach(WINDOW)
    assert torch.isnan(answers[:, 7:left]).flatten(2).any(2).all()
    assert torch.equal(answers[:, left:], expected[:, left:])
