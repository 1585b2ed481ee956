"""Chunks of any size agree: k frames at once equal k single steps, in answers and in state."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coadtr.errors import ShapeError
from coadtr.layers import state_tensors
from tests.laws.subjects import SUBJECTS, Module, Subject, assert_near, case, make, random, run

WINDOW, LENGTH = 5, 37

CHUNKED = [subject for subject in SUBJECTS if not subject.retroactive]


def in_chunks(module: Module, frames: Tensor, sizes: list[int], state: Any) -> tuple[Tensor, Any]:
    """Answer ``(B, T, D)`` in chunks of the given sizes, the last one over and over."""
    answers: list[Tensor] = []
    start = 0
    with torch.no_grad():
        while start < frames.shape[1]:
            size = sizes[min(len(answers), len(sizes) - 1)]
            answer, state = module.steps(frames[:, start : start + size], state)
            answers.append(answer)
            start += size
    return torch.cat(answers, 1), state


@functools.cache
def in_single_steps(subject: Subject) -> tuple[Tensor, Any]:
    """Answers and state that chunks of all sizes are held against."""
    return run(subject, make(subject, WINDOW), random(2, LENGTH, subject.channels))


@pytest.mark.parametrize("subject", [*map(case, CHUNKED)])
@pytest.mark.parametrize("size", [1, 2, WINDOW, 7, LENGTH])
def test_chunks_of_one_size_equal_single_steps(subject: Subject, size: int) -> None:
    module, frames = make(subject, WINDOW), random(2, LENGTH, subject.channels)
    answers, state = in_single_steps(subject)
    chunked, after = in_chunks(module, frames, [size], module.init_state(2))
    assert_near(chunked, answers, 1e-10)
    for leaf, other in zip(state_tensors(state), state_tensors(after), strict=True):
        assert_near(other, leaf, 1e-10)


@settings(max_examples=20, deadline=None)
@given(
    subject=st.sampled_from(CHUNKED),
    sizes=st.lists(st.integers(1, 3 * WINDOW), min_size=1, max_size=8),
    single=st.integers(0, 2 * WINDOW + 1),
    reset=st.lists(st.booleans(), min_size=2, max_size=2),
)
def test_chunks_go_on_from_single_steps_and_from_rows_reset(
    subject: Subject, sizes: list[int], single: int, reset: list[bool]
) -> None:
    module, frames = make(subject, WINDOW), random(2, LENGTH, subject.channels)
    rows = torch.tensor(reset)
    one, many = module.init_state(2), module.init_state(2)
    if single:
        _, one = run(subject, module, frames[:, :single], one)
        _, many = run(subject, module, frames[:, :single], many)
    one, many = module.reset_rows(one, rows), module.reset_rows(many, rows)
    answers, one = run(subject, module, frames[:, single:], one)
    chunked, many = in_chunks(module, frames[:, single:], sizes, many)
    assert_near(chunked, answers, 1e-10)
    for leaf, other in zip(state_tensors(one), state_tensors(many), strict=True):
        assert_near(other, leaf, 1e-10)


@pytest.mark.parametrize("subject", [*map(case, CHUNKED)])
@pytest.mark.parametrize("shape", [(3, 4, 0), (2, 4, 1), (2, 0, 0)])
def test_chunks_that_do_not_fit_are_refused_and_the_state_stays(subject: Subject, shape: tuple[int, int, int]) -> None:
    module = make(subject, WINDOW)
    _, state = run(subject, module, random(2, 3, subject.channels))
    before = [leaf.clone() for leaf in state_tensors(state)]
    streams, length, surplus = shape
    with pytest.raises(ShapeError):
        module.steps(torch.zeros(streams, length, subject.channels + surplus, dtype=torch.float64), state)
    for leaf, kept in zip(state_tensors(state), before, strict=True):
        assert torch.equal(leaf, kept)
