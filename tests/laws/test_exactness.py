"""A step is exact: it equals the slow reference for any number of frames, in answers and in state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coadtr.layers import state_tensors
from coadtr.models import OadTR
from tests.laws.subjects import (
    SUBJECTS,
    TOLERANCE,
    Subject,
    assert_near,
    every_subject,
    every_window,
    forward,
    make,
    random,
    reference_run,
    run,
    slow,
)


def flat(state: Any) -> list[Any]:
    return [leaf for part in state for leaf in flat(part)] if isinstance(state, tuple) else [state]


@every_subject
@every_window
def test_steps_equal_the_reference_for_more_than_twenty_windows(subject: Subject, window: int) -> None:
    frames, expected = reference_run(subject, window)
    assert_near(run(subject, make(subject, window), frames)[0], expected, TOLERANCE[torch.float64])


@every_subject
@every_window
def test_forward_equals_the_reference_for_more_than_twenty_windows(subject: Subject, window: int) -> None:
    frames, expected = reference_run(subject, window)
    assert_near(forward(subject, make(subject, window), frames), expected, TOLERANCE[torch.float64])


@every_subject
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_lower_precisions_keep_to_their_tolerance(subject: Subject, dtype: torch.dtype) -> None:
    frames, expected = (part[:, :53] for part in reference_run(subject, 5))
    module = make(subject, 5, dtype)
    stepped, state = run(subject, module, frames.to(dtype))
    at_once = forward(subject, module, frames.to(dtype))
    assert stepped.dtype == at_once.dtype == dtype
    wanted = subject.state_dtypes(dtype)
    assert wanted <= {leaf.dtype for leaf in state_tensors(state)} <= wanted | {torch.int64}
    tolerance = TOLERANCE[dtype] * (subject.roundings if dtype == torch.bfloat16 else 1)
    assert_near(stepped, expected, tolerance)
    assert_near(at_once, expected, tolerance)


@every_subject
@every_window
def test_the_state_holds_what_the_reference_remembers(subject: Subject, window: int) -> None:
    frames, _ = reference_run(subject, window)
    module = make(subject, window)
    state, seen = module.init_state(2), 0
    for count in sorted({1, 2, window, window + 1, 2 * window, frames.shape[1]}):
        _, state = run(subject, module, frames[:, seen:count], state)
        seen = count
        for row, stream in enumerate(frames[:, :count].numpy()):
            remembered = flat(subject.remember(module, stream))
            for leaf, expected in zip(state_tensors(state), remembered, strict=True):
                assert_near(leaf[row], torch.as_tensor(expected), 1e-10)


@every_subject
@every_window
def test_forward_answers_streams_shorter_and_longer_than_the_window(subject: Subject, window: int) -> None:
    frames, expected = reference_run(subject, window)
    module = make(subject, window)
    for length in sorted({1, max(1, window - 1), window, window + 1, 2 * window, 2 * window + 1}):
        assert_near(forward(subject, module, frames[:, :length]), expected[:, :length], 1e-10)


@every_subject
def test_steps_equal_forward_for_fifty_windows(subject: Subject) -> None:
    module = make(subject, 5, torch.float32)
    length = 103 if isinstance(module, OadTR) else 253  # the clip baseline is slow, and has no ring that wraps
    frames = random(1, length, subject.channels, seed=3).float()
    assert_near(run(subject, module, frames)[0], forward(subject, module, frames), 1e-5)


@given(st.sampled_from(SUBJECTS), st.integers(1, 7), st.integers(1, 30), st.integers(1, 3), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_any_stream_is_answered_as_the_reference_answers_it(
    subject: Subject, window: int, length: int, streams: int, seed: int
) -> None:
    module = make(subject, window)
    frames: Tensor = random(streams, length, subject.channels, seed=seed)
    expected = slow(subject, module, window, frames)
    assert_near(run(subject, module, frames)[0], expected, 1e-10)
    assert_near(forward(subject, module, frames), expected, 1e-10)
