"""What holds for every streaming layer of `coadtr.keras`, on the backend that this run has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.keras.subjects import ATTENDING, SUBJECTS, TOLERANCE, WINDOW, Subject, array, keras, run_steps

# Of Keras, where a clip has one frame.
pytestmark = pytest.mark.filterwarnings("ignore:[\\s\\S]*You are using a softmax over axis:UserWarning")


@pytest.fixture(params=list(SUBJECTS.values()), ids=list(SUBJECTS))
def subject(request: pytest.FixtureRequest) -> Subject:
    chosen: Subject = request.param
    return chosen


@pytest.fixture(params=list(ATTENDING.values()), ids=list(ATTENDING))
def attending(request: pytest.FixtureRequest) -> Subject:
    chosen: Subject = request.param
    return chosen


def test_a_step_equals_its_clip(subject: Subject, stream: NDArray[Any]) -> None:
    layer = subject.built()
    steps = run_steps(layer, stream[:, : 3 * WINDOW])
    for t in (0, 2, WINDOW - 1, WINDOW, 3 * WINDOW - 1):  # JAX compiles for each length anew
        wanted = array(subject.answer(layer, stream[:, : t + 1]))
        np.testing.assert_allclose(steps[:, t], wanted, **TOLERANCE, err_msg=f"frame {t}")


def test_a_long_stream_stays_exact(subject: Subject, rng: np.random.Generator) -> None:
    layer = subject.built()
    long = rng.normal(size=(1, 22 * WINDOW + 3, 6)).astype(np.float32)
    steps = run_steps(layer, long)
    np.testing.assert_allclose(steps[:, -1], array(subject.answer(layer, long)), **TOLERANCE)


@pytest.mark.parametrize("scale", [10, 30])
def test_large_logits_stay_exact(attending: Subject, stream: NDArray[Any], scale: float) -> None:
    layer = attending.built(scale=scale)
    steps = run_steps(layer, stream[:, :40])
    assert np.isfinite(steps).all()
    for t in (WINDOW, 20, 39):
        wanted = array(attending.answer(layer, stream[:, : t + 1]))
        np.testing.assert_allclose(steps[:, t], wanted, atol=2e-4 * scale, rtol=1e-3)


def test_chunks_agree_in_answers_and_state(subject: Subject, stream: NDArray[Any]) -> None:
    frames = stream[:, :14]
    layer = subject.built()
    wanted, state = run_steps(layer, frames), keras.tree.flatten(layer.get_state())
    for chunk in (2, 7, 14):
        layer.clean_state()
        parts = [array(layer.call_steps(frames[:, t : t + chunk])) for t in range(0, 14, chunk)]
        np.testing.assert_allclose(np.concatenate(parts, axis=1), wanted, **TOLERANCE, err_msg=f"chunks of {chunk}")
        for found, leaf in zip(keras.tree.flatten(layer.get_state()), state, strict=True):
            np.testing.assert_allclose(array(found), array(leaf), atol=1e-4, rtol=1e-4)


def test_one_row_resets_alone(subject: Subject, stream: NDArray[Any]) -> None:
    layer = subject.built()
    whole = run_steps(layer, stream[:, :20])
    layer.clean_state()
    run_steps(layer, stream[:, :8])
    layer.reset_rows(np.array([True, False]))
    later = run_steps(layer, stream[:, 8:20])
    np.testing.assert_allclose(later[1], whole[1, 8:], **TOLERANCE)
    layer.clean_state()
    np.testing.assert_allclose(later[0], run_steps(layer, stream[:1, 8:20])[0], **TOLERANCE)


def test_interleaved_streams_equal_each_alone(subject: Subject, stream: NDArray[Any]) -> None:
    layer = subject.built()
    alone = [run_steps(layer, stream[row : row + 1, :12]) for row in (0, 1) if layer.clean_state() is None]
    states = [layer.init_state(1), layer.init_state(1)]
    for t in range(12):
        for row in (0, 1):
            answer, states[row] = layer.stateless_step(stream[row : row + 1, t], states[row])
            np.testing.assert_allclose(array(answer), alone[row][:, t], **TOLERANCE)


def test_a_pure_step_changes_nothing_that_it_is_given(subject: Subject, stream: NDArray[Any]) -> None:
    layer = subject.built()
    layer.call_steps(stream[:, :7])
    state, frame = layer.get_state(), stream[:, 7].copy()
    before = [array(leaf) for leaf in keras.tree.flatten(state)]
    first, after = layer.stateless_step(frame, state)
    second, _ = layer.stateless_step(frame, state)
    np.testing.assert_array_equal(array(first), array(second))
    for leaf, kept in zip(keras.tree.flatten(state), before, strict=True):
        np.testing.assert_array_equal(array(leaf), kept)
    np.testing.assert_array_equal(frame, stream[:, 7])
    shapes = [leaf.shape for leaf in keras.tree.flatten(after)]
    assert shapes == [leaf.shape for leaf in before], "the state grew"


def test_a_clip_leaves_the_running_streams_alone(subject: Subject, stream: NDArray[Any]) -> None:
    layer = subject.built()
    whole = run_steps(layer, stream[:, :10])
    layer.clean_state()
    head = run_steps(layer, stream[:, :6])
    subject.answer(layer, stream[:, 20:24])
    np.testing.assert_allclose(np.concatenate([head, run_steps(layer, stream[:, 6:10])], axis=1), whole, **TOLERANCE)


def test_warm_up_without_answers(subject: Subject, stream: NDArray[Any]) -> None:
    answered = subject.built()
    if type(answered).__name__ == "CircularPositionalEncoding":
        pytest.skip("a positional encoding has no warm-up")
    silent = subject.built(warmup="none")
    wanted, steps = run_steps(answered, stream[:, :14]), answered.warmup_steps
    found = [silent.call_step(stream[:, t]) for t in range(14)]
    assert [answer is None for answer in found] == [t < steps for t in range(14)]
    np.testing.assert_allclose(np.stack([array(x) for x in found[steps:]], axis=1), wanted[:, steps:], **TOLERANCE)
    silent.clean_state()
    assert silent.call_steps(stream[:, :2]) is None
    rest = array(silent.call_steps(stream[:, 2:14]))
    np.testing.assert_allclose(rest, wanted[:, steps:], **TOLERANCE)


def test_rows_that_are_reset_are_answered(subject: Subject, stream: NDArray[Any]) -> None:
    layer = subject.built() if subject is SUBJECTS["positions"] else subject.built(warmup="none")
    layer.call_steps(stream[:, : layer.warmup_steps + 2])
    layer.reset_rows(np.array([True, True]))
    assert layer.call_step(stream[:, 0]) is not None
    layer.clean_state()
    assert (layer.call_step(stream[:, 0]) is None) is (layer.warmup_steps > 0)


SEQUENCES = {name: subject for name, subject in SUBJECTS.items() if hasattr(subject.make(), "call_sequence")}


@pytest.mark.parametrize("subject", SEQUENCES.values(), ids=SEQUENCES.keys())
def test_whole_sequences_equal_steps(subject: Subject, stream: NDArray[Any]) -> None:
    layer = subject.built()
    steps = run_steps(layer, stream[:, :17])
    np.testing.assert_allclose(array(layer.call_sequence(stream[:, :17])), steps, **TOLERANCE)


PADDED = {name: subject for name, subject in SEQUENCES.items() if not name.startswith("CoOadTR")}


@pytest.mark.parametrize("subject", PADDED.values(), ids=PADDED.keys())
def test_padding_before_a_sequence_changes_nothing(subject: Subject, stream: NDArray[Any]) -> None:
    layer, short = subject.built(), stream[:, :9]
    padded = np.concatenate([np.full((2, 4, 6), 7, np.float32), short], axis=1)
    there = np.repeat([[False] * 4 + [True] * 9], 2, axis=0)
    wanted = run_steps(layer, short)
    np.testing.assert_allclose(array(layer.call_sequence(padded, there))[:, 4:], wanted, **TOLERANCE)
    if not isinstance(layer, keras.layers.MultiHeadAttention):
        np.testing.assert_allclose(array(layer(padded, mask=there))[:, 0], wanted[:, -1], **TOLERANCE)


def test_a_state_goes_from_layer_to_layer(subject: Subject, stream: NDArray[Any]) -> None:
    layer, other = subject.built(), subject.built()
    whole = run_steps(layer, stream[:, :12])
    layer.clean_state()
    layer.call_steps(stream[:, :7])
    other.set_state([array(leaf) for leaf in keras.tree.flatten(layer.get_state())])
    np.testing.assert_allclose(run_steps(other, stream[:, 7:12]), whole[:, 7:], **TOLERANCE)


def test_call_mode_decides_what_a_call_does(subject: Subject, stream: NDArray[Any]) -> None:
    layer = subject.built()
    wanted = run_steps(layer, stream[:, :6])
    layer.clean_state()
    layer.call_mode = "steps"
    np.testing.assert_allclose(array(layer(stream[:, :4])), wanted[:, :4], **TOLERANCE)
    layer.call_mode = "step"
    np.testing.assert_allclose(array(layer(stream[:, 4])), wanted[:, 4], **TOLERANCE)
