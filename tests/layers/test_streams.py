"""A batch of streams answers as each stream alone, whoever joins, leaves, resets or keeps silent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers import RingState, SingleOutputAttention, StreamBatch, clone_state, state_tensors
from tests.laws.subjects import SUBJECTS, Module, Subject, aligned, assert_near, every_subject, make, random, run

WINDOW, CAPACITY = 3, 7


class Spy:
    """A layer that notes the rows of each step."""

    def __init__(self) -> None:
        self.layer = SingleOutputAttention(8, 2, WINDOW).eval()
        self.rows: list[int] = []
        self.storage: list[int] = []

    def init_state(self, batch_size: int = 1) -> RingState:
        return self.layer.init_state(batch_size)

    def step(self, frame: Tensor, state: RingState) -> tuple[Tensor, RingState]:
        self.rows.append(len(frame))
        self.storage.append(state.keys.untyped_storage().data_ptr())
        return self.layer.step(frame, state)


def joined(module: Module, streams: int, capacity: int = CAPACITY, **settings: Any) -> StreamBatch[Any]:
    batch = StreamBatch(module, capacity, **settings)
    for key in range(streams):
        assert batch.join(key) == key
    return batch


def snapshots(batch: StreamBatch[Any]) -> dict[Any, list[Tensor]]:
    return {key: list(state_tensors(batch.snapshot(key))) for key in batch.streams}


class Alone:
    """What the streams of a batch answer when each has the module for itself."""

    def __init__(self, subject: Subject, module: Module) -> None:
        self.subject, self.module = subject, module
        self.states: dict[Any, Any] = {}

    def check(self, batch: StreamBatch[Any], key: Any, frame: Tensor, answer: Tensor) -> None:
        with torch.no_grad():
            output, self.states[key] = self.module.step(frame.unsqueeze(0), self.states[key])
        got = aligned(self.subject, self.module, answer.unsqueeze(0), batch.snapshot(key))
        assert_near(got, aligned(self.subject, self.module, output, self.states[key]), 1e-10)


TICKS = st.lists(
    st.tuples(st.sampled_from(["join", "leave", "reset", "keep", "return", ""]), st.integers(0, 99), st.integers(0)),
    min_size=1,
    max_size=30,
)


@given(st.sampled_from(SUBJECTS), TICKS, st.booleans(), st.booleans(), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_streams_that_come_and_go_answer_as_each_alone(
    subject: Subject, ticks: list[tuple[str, int, int]], static: bool, in_rows: bool, seed: int
) -> None:
    """At each tick something happens to one stream, and the bits of a number say which streams have a frame."""
    module = make(subject, WINDOW)
    batch = joined(module, 4, step=module.step if static else None)
    alone = Alone(subject, module)
    alone.states = {key: module.init_state(1) for key in range(4)}
    kept: tuple[Any, Any] | None = None
    for now, (event, which, bits) in enumerate(ticks):
        key = batch.streams[which % len(batch)] if len(batch) else None
        if event == "join" and len(batch) < CAPACITY:
            alone.states[batch.join(f"new {now}")] = module.init_state(1)
        elif event == "leave" and key is not None:
            batch.leave(key)
            del alone.states[key]
        elif event == "reset" and key is not None:
            batch.reset(key)
            alone.states[key] = module.init_state(1)
        elif event == "keep" and key is not None:
            kept = batch.snapshot(key), clone_state(alone.states[key])
        elif event == "return" and key is not None and kept is not None:
            batch.restore(key, kept[0])
            alone.states[key] = clone_state(kept[1])
        brings = [key for i, key in enumerate(batch.streams) if bits >> i & 1]
        frames = random(CAPACITY, subject.channels, seed=seed + now)
        before = snapshots(batch)
        if in_rows:
            active = torch.zeros(CAPACITY, dtype=torch.bool)
            active[[batch.slot(key) for key in brings]] = True
            answered = batch.step_rows(frames, active)
            assert torch.isnan(answered).flatten(1).all(1)[~active].all()
            answers = {key: answered[batch.slot(key)] for key in brings}
        else:
            answers = batch.step({key: frames[batch.slot(key)] for key in brings})
        assert set(answers) == set(brings)
        after = snapshots(batch)
        for key in batch.streams:
            if key in brings:
                alone.check(batch, key, frames[batch.slot(key)], answers[key])
            else:
                assert all(torch.equal(old, new) for old, new in zip(before[key], after[key], strict=True))


@every_subject
def test_silent_streams_keep_their_state_and_the_others_answer_as_ever(subject: Subject) -> None:
    """Let none, an end, one in the middle, two, and nearly all be silent by turns, for several windows."""
    module = make(subject, WINDOW)
    batch, alone = joined(module, CAPACITY), Alone(subject, module)
    alone.states = {key: module.init_state(1) for key in range(CAPACITY)}
    for t, silent in enumerate(2 * [{6}, {3}, set(), {1, 4}, {0, 1, 2, 3, 5}]):
        frames = random(CAPACITY, subject.channels, seed=t)
        before = snapshots(batch)
        answers = batch.step({key: frames[key] for key in range(CAPACITY) if key not in silent})
        assert set(answers) == set(range(CAPACITY)) - silent
        for key, answer in answers.items():
            alone.check(batch, key, frames[key], answer)
        for key in silent:
            after = state_tensors(batch.snapshot(key))
            assert all(torch.equal(old, new) for old, new in zip(before[key], after, strict=True))


def test_the_rows_that_run_are_those_that_have_a_frame_or_few_more() -> None:
    spy = Spy()
    batch = joined(spy, 5)
    frame = torch.randn(8)
    for keys in (range(5), range(1, 4), [2], [0, 4], [0, 1, 3, 4]):
        batch.step(dict.fromkeys(keys, frame))
    assert spy.rows == [5, 3, 1, 2, 5]
    own = spy.storage[0]
    assert [pointer == own for pointer in spy.storage] == [True, True, True, False, True]


def test_a_step_of_all_rows_copies_no_cache() -> None:
    spy = Spy()
    batch = joined(spy, CAPACITY)
    for _ in range(3 * WINDOW):
        batch.step_rows(torch.randn(CAPACITY, 8))
    assert spy.rows == [CAPACITY] * 3 * WINDOW
    assert len(set(spy.storage)) == 1


def test_a_step_of_ones_own_always_sees_all_rows() -> None:
    spy = Spy()
    batch = joined(spy.layer, 3, step=spy.step)
    for keys in ([0, 1, 2], [1], [0, 2]):
        batch.step(dict.fromkeys(keys, torch.randn(8)))
    batch.step_rows(torch.randn(CAPACITY, 8), torch.zeros(CAPACITY, dtype=torch.bool))
    assert spy.rows == [CAPACITY] * 4


def test_a_step_of_nobody_changes_nothing() -> None:
    batch = StreamBatch(SingleOutputAttention(8, 2, WINDOW), 3)
    assert batch.step({}) == {}
    answers = batch.step_rows(torch.randn(3, 8))
    assert answers.shape == (3, 8)
    assert torch.isnan(answers).all()
    batch.join("first")
    assert all(not leaf.any() for leaf in state_tensors(batch.snapshot("first")))


def test_slots_are_taken_from_below_and_kept() -> None:
    batch = joined(SingleOutputAttention(8, 2, WINDOW), 4)
    batch.leave(1)
    batch.leave(2)
    assert batch.streams == (0, 3)
    assert [batch.join("a"), batch.join(), batch.join()] == ["a", 1, 2]
    assert [batch.slot(key) for key in (0, "a", 1, 3, 2)] == [0, 1, 2, 3, 4]
    assert len(batch) == 5
    assert "a" in batch
    assert "b" not in batch


def test_a_snapshot_is_a_value_that_any_batch_and_the_module_go_on_from() -> None:
    layer = SingleOutputAttention(8, 2, WINDOW).double().eval()
    frames = random(1, 12, 8)
    expected, _ = run(SUBJECTS[0], layer, frames)
    with torch.inference_mode():
        batch = joined(layer, 3)
    for t in range(5):
        batch.step({1: frames[0, t]})
    kept = batch.snapshot(1)
    other = StreamBatch(layer, 2)
    other.join("again")
    other.restore("again", kept)
    for t in range(5, 12):
        assert_near(batch.step({1: frames[0, t]})[1], expected[0, t], 1e-10)
        assert_near(other.step({"again": frames[0, t]})["again"], expected[0, t], 1e-10)
    answers, _ = run(SUBJECTS[0], layer, frames[:, 5:], kept)
    assert_near(answers, expected[:, 5:], 1e-10)


def test_what_is_not_known_is_refused() -> None:
    layer = SingleOutputAttention(8, 2, WINDOW)
    with pytest.raises(ConfigError, match="capacity of at least 1, got 0"):
        StreamBatch(layer, 0)
    batch = joined(layer, 2, capacity=2)
    with pytest.raises(ConfigError, match="stream 1 has joined already; reset it"):
        batch.join(1)
    with pytest.raises(ConfigError, match="all 2 slots are taken, none is left for 'third'; let a stream leave"):
        batch.join("third")
    with pytest.raises(ConfigError, match="none is left for a stream"):
        batch.join()
    for refused in (batch.leave, batch.reset, batch.snapshot, batch.slot):
        with pytest.raises(ConfigError, match="no stream 'x' in this batch of 2; join it first"):
            refused("x")
    with pytest.raises(ConfigError, match="no stream 'x'"):
        batch.restore("x", batch.snapshot(0))
    with pytest.raises(ConfigError, match="no stream 'x'"):
        batch.step({0: torch.randn(8), "x": torch.randn(8)})
    batch.leave(0)
    with pytest.raises(ConfigError, match=r"slot 0 is active and has no stream; the slots in use are \[1\]"):
        batch.step_rows(torch.randn(2, 8), torch.tensor([True, True]))


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ({0: 8, 1: 9}, r"stream 1: a frame is \(D,\).* as wide as the others; got \(9,\), and \(8,\) for stream 0"),
        ({0: 9, 1: 9}, r"\(B, 8\); got \(2, 9\)"),
        ({0: 9, 2: 9}, r"\(B, 8\); got \(2, 9\)"),
        ({0: 9, 1: 9, 2: 9, 4: 9}, r"\(B, 8\); got \(5, 9\)"),
    ],
    ids=["two widths", "run", "apart", "around"],
)
def test_frames_that_do_not_fit_are_refused_and_the_states_stay(frames: dict[int, int], text: str) -> None:
    batch = joined(SingleOutputAttention(8, 2, WINDOW), 6)
    batch.step({key: torch.randn(8) for key in range(6)})
    before = snapshots(batch)
    with pytest.raises(ShapeError, match=text):
        batch.step({key: torch.zeros(width) for key, width in frames.items()})
    after = snapshots(batch)
    for key in batch.streams:
        assert all(torch.equal(old, new) for old, new in zip(before[key], after[key], strict=True))


def test_tensors_of_other_shapes_are_refused() -> None:
    batch = joined(SingleOutputAttention(8, 2, WINDOW), 2, capacity=4)
    with pytest.raises(ShapeError, match=r"a frame per slot, \(4, D\); got \(2, 8\)\. Use step"):
        batch.step_rows(torch.zeros(2, 8))
    for active in (torch.ones(4), torch.ones(2, dtype=torch.bool)):
        with pytest.raises(ShapeError, match=r"active must be a bool tensor of shape \(4,\)"):
            batch.step_rows(torch.zeros(4, 8), active)
    with pytest.raises(ShapeError, match=r"stream 0: a frame is \(D,\)"):
        batch.step({0: torch.zeros(1, 8)})
    with pytest.raises(ShapeError, match="stream 1 takes the state of one stream"):
        batch.restore(1, SingleOutputAttention(8, 2, WINDOW).init_state(2))
    with pytest.raises(ShapeError, match="stream 1 takes the state of one stream"):
        batch.restore(1, SingleOutputAttention(8, 2, WINDOW).double().init_state(1))


@pytest.mark.slow
def test_a_compiled_step_runs_a_batch_of_streams() -> None:
    layer = SingleOutputAttention(8, 2, WINDOW).eval()
    compiled = joined(layer, 5, step=torch.compile(layer.step, fullgraph=True, dynamic=False))
    plain = joined(layer, 5)
    for t in range(3 * WINDOW):
        frames = {key: torch.randn(8) for key in range(5) if (t + key) % 3}
        answers, expected = compiled.step(frames), plain.step(frames)
        for key in frames:
            assert_near(answers[key], expected[key], 1e-5)
