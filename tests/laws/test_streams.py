"""Streams are their own: of the future, of each other, of what ran before, and of the caller's tensors."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coadtr.layers import clone_state, state_tensors
from tests.laws.subjects import (
    SUBJECTS,
    Subject,
    aligned,
    assert_near,
    every_subject,
    forward,
    make,
    random,
    run,
)

WINDOW, LENGTH = 5, 23


@every_subject
def test_answers_do_not_change_when_the_future_changes(subject: Subject) -> None:
    module = make(subject, WINDOW)
    frames = random(2, LENGTH, subject.channels)
    answers = forward(subject, module, frames)
    for known in (1, WINDOW - 1, WINDOW, WINDOW + 2, LENGTH - 1):
        other = frames.clone()
        other[:, known:] = random(2, LENGTH - known, subject.channels, seed=known) * 10
        changed = forward(subject, module, other)
        assert_near(changed[:, :known], answers[:, :known], 1e-10)
        assert not torch.allclose(changed[:, known:], answers[:, known:], atol=1e-3)
        assert_near(forward(subject, module, frames[:, :known]), answers[:, :known], 1e-10)


@every_subject
def test_answers_do_not_change_after_they_were_given(subject: Subject) -> None:
    module = make(subject, WINDOW)
    state, given_out, copies = module.init_state(1), [], []
    with torch.no_grad():
        for frame in random(1, 3 * WINDOW, subject.channels).unbind(1):
            output, state = module.step(frame, state)
            given_out.append(output)
            copies.append(output.clone())
    assert torch.equal(torch.stack(given_out), torch.stack(copies))


@every_subject
def test_answers_depend_on_the_whole_window_and_on_nothing_before_it(subject: Subject) -> None:
    module = make(subject, WINDOW)
    frames = random(1, LENGTH, subject.channels)
    answers, _ = run(subject, module, frames)
    for t in (0, 3, 2 * WINDOW):
        other = frames.clone()
        other[:, t] += random(1, subject.channels, seed=9)
        changed, _ = run(subject, module, other)
        moved = (changed - answers).abs().flatten(2).amax((0, 2)) > 1e-6
        assert moved[max(t, subject.delay(WINDOW)) : t + subject.reach(WINDOW)].all()
        assert not moved[:t].any()
        assert not moved[t + subject.reach(WINDOW) :].any()


@every_subject
def test_a_reset_state_is_a_fresh_state(subject: Subject) -> None:
    module = make(subject, WINDOW)
    frames = random(3, 2 * WINDOW + 2, subject.channels)
    _, state = run(subject, module, frames)
    used = clone_state(state)
    reset = module.reset_rows(state, torch.tensor([True, True, True]))
    for leaf, fresh in zip(state_tensors(reset), state_tensors(module.init_state(3)), strict=True):
        assert leaf.dtype == fresh.dtype
        assert torch.equal(leaf, fresh)
    for leaf, before in zip(state_tensors(state), state_tensors(used), strict=True):
        assert torch.equal(leaf, before)
    assert torch.equal(run(subject, module, frames, reset)[0], run(subject, module, frames)[0])


@every_subject
def test_a_reset_row_leaves_the_others_as_they_are(subject: Subject) -> None:
    module = make(subject, WINDOW)
    _, state = run(subject, module, random(3, WINDOW + 2, subject.channels))
    reset = module.reset_rows(state, torch.tensor([False, True, False]))
    leaves = (state_tensors(each) for each in (reset, state, module.init_state(1)))
    for leaf, before, fresh in zip(*leaves, strict=True):
        assert torch.equal(leaf[[0, 2]], before[[0, 2]])
        assert torch.equal(leaf[1], fresh[0])


@given(
    st.sampled_from(SUBJECTS),
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 7)), min_size=1, max_size=4),
    st.integers(0, 2**31),
)
@settings(max_examples=30, deadline=None)
def test_rows_reset_at_any_time_answer_as_streams_of_their_own(
    subject: Subject, window: int, chunks: list[tuple[int, int]], seed: int
) -> None:
    """Run three rows in chunks, each followed by the reset of the rows that its bits name."""
    module = make(subject, window)
    frames = random(3, sum(length for length, _ in chunks), subject.channels, seed=seed)
    state, answers, ends, now = module.init_state(3), [], [[0], [0], [0]], 0
    for length, bits in chunks:
        answered, state = run(subject, module, frames[:, now : now + length], state)
        answers.append(answered)
        now += length
        rows = [bool(bits >> row & 1) for row in range(3)]
        state = module.reset_rows(state, torch.tensor(rows))
        for row in range(3):
            ends[row] += [now] if rows[row] else []
    together = torch.cat(answers, 1)
    for row in range(3):
        for start, stop in zip(ends[row], [*ends[row][1:], now], strict=True):
            if start < stop:
                alone = forward(subject, module, frames[row : row + 1, start:stop])
                assert_near(together[row : row + 1, start:stop], alone, 1e-10)


@every_subject
def test_rows_are_independent_and_the_batch_size_is_free(subject: Subject) -> None:
    module = make(subject, WINDOW)
    frames = random(5, LENGTH, subject.channels)
    together, _ = run(subject, module, frames)
    at_once = forward(subject, module, frames)
    for rows in ([0], [4, 2], [1, 3, 0]):
        assert_near(run(subject, module, frames[rows])[0], together[rows], 1e-10)
        assert_near(forward(subject, module, frames[rows]), at_once[rows], 1e-10)


@given(st.sampled_from(SUBJECTS), st.lists(st.integers(0, 2), min_size=5, max_size=40), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_interleaved_streams_answer_as_each_alone(subject: Subject, turns: list[int], seed: int) -> None:
    """Let streams of one, two and three rows take turns on one module."""
    module = make(subject, WINDOW)
    frames = [random(rows + 1, len(turns), subject.channels, seed=seed + rows) for rows in range(3)]
    states = [module.init_state(rows + 1) for rows in range(3)]
    answers: list[list[torch.Tensor]] = [[], [], []]
    with torch.no_grad():
        for turn in turns:
            frame = frames[turn][:, len(answers[turn])]
            output, states[turn] = module.step(frame, states[turn])
            answers[turn].append(aligned(subject, module, output, states[turn]))
    for stream, answered in zip(frames, answers, strict=True):
        if answered:
            alone = forward(subject, module, stream[:, : len(answered)])
            assert_near(torch.stack(answered, 1), alone, 1e-10)


@every_subject
def test_frames_are_not_written_to(subject: Subject) -> None:
    module = make(subject, WINDOW)
    frames = random(2, LENGTH, subject.channels)
    before = frames.clone()
    run(subject, module, frames)
    forward(subject, module, frames)
    assert torch.equal(frames, before)


@every_subject
def test_frames_may_be_reused_by_the_caller(subject: Subject) -> None:
    module = make(subject, WINDOW)
    frames = random(1, LENGTH, subject.channels)
    expected, _ = run(subject, module, frames)
    state, answers, buffer = module.init_state(1), [], torch.empty_like(frames[:, 0])
    with torch.no_grad():
        for frame in frames.unbind(1):
            buffer.copy_(frame)
            output, state = module.step(buffer, state)
            answers.append(aligned(subject, module, output, state))
    assert torch.equal(torch.stack(answers, 1), expected)


@every_subject
def test_forward_touches_no_state(subject: Subject) -> None:
    module = make(subject, WINDOW)
    frames = random(2, LENGTH, subject.channels)
    expected, _ = run(subject, module, frames)
    _, state = run(subject, module, frames[:, : WINDOW + 2])
    before = clone_state(state)
    forward(subject, module, random(4, LENGTH, subject.channels, seed=9))
    for leaf, kept in zip(state_tensors(state), state_tensors(before), strict=True):
        assert torch.equal(leaf, kept)
    assert torch.equal(run(subject, module, frames[:, WINDOW + 2 :], state)[0], expected[:, WINDOW + 2 :])
