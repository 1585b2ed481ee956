"""Large logits stay exact, and leave nothing behind when their frame leaves the window."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from coadtr.layers import AttentionProjections
from tests.laws.subjects import Subject, assert_near, every_subject, forward, make, random, run, slow

WINDOW, LENGTH = 5, 18

every_scale = pytest.mark.parametrize("scale", [1, 3, 10, 30])


def sharpened(subject: Subject, scale: float) -> Any:
    """Build a subject whose query weights are scaled, and with them every logit."""
    module = make(subject, WINDOW)
    for part in module.modules():
        if isinstance(part, AttentionProjections):
            with torch.no_grad():
                part.in_proj.weight[: part.embed_dim] *= scale
    return module


def with_a_loud_frame(frames: Tensor, t: int, loudness: float) -> Tensor:
    loud = frames.clone()
    loud[:, t] *= loudness
    return loud


@every_subject
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


@every_subject
@every_scale
def test_a_large_logit_does_not_poison_the_rows_that_remain(subject: Subject, scale: int) -> None:
    module = sharpened(subject, scale).float()
    frames = random(1, LENGTH, subject.channels).float()
    quiet, _ = run(subject, module, frames)
    loud, _ = run(subject, module, with_a_loud_frame(frames, 7, 1000))
    assert torch.isfinite(loud).all()
    assert torch.equal(loud[:, :7], quiet[:, :7])
    assert_near(loud[:, 7 + WINDOW :], quiet[:, 7 + WINDOW :], 1e-5)


@every_subject
def test_a_broken_frame_is_forgotten_when_it_leaves_the_window(subject: Subject) -> None:
    module = make(subject, WINDOW, torch.float32)
    frames = random(1, LENGTH, subject.channels).float()
    expected, _ = run(subject, module, frames)
    broken = with_a_loud_frame(frames, 7, float("nan"))
    answers, _ = run(subject, module, broken)
    assert torch.isnan(answers[:, 7 : 7 + WINDOW]).flatten(2).any(2).all()
    assert torch.equal(answers[:, 7 + WINDOW :], expected[:, 7 + WINDOW :])
