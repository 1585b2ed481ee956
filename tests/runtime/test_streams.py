"""Each stream answers as it does alone, whoever else is pushed, in whatever company and from whatever thread."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coadtr.errors import ConfigError, DataError, ShapeError
from coadtr.runtime import OnlineDetector, OnnxStepper
from tests.runtime.conftest import FRAMES, Array, described, push_all, states, write

NAMES = ("door", "yard", "roof", "hall")
TOLERANCE = 1e-6


def frames_of(name: str) -> Array:
    return np.random.default_rng(NAMES.index(name)).normal(size=(400, 5)).astype(np.float32)


def alone(exported: Path, name: str, count: int) -> Array:
    return push_all(OnlineDetector.from_onnx(exported), frames_of(name)[:count])


def test_interleaved_streams_equal_each_alone(exported: Path, detector: OnlineDetector) -> None:
    got: dict[str, list[Array]] = {name: [] for name in NAMES}
    for turn in np.random.default_rng(0).integers(len(NAMES), size=400):
        name = NAMES[turn]
        got[name].append(detector.push(frames_of(name)[len(got[name])], stream=name))
    for name, scores in got.items():
        np.testing.assert_array_equal(np.stack(scores), alone(exported, name, len(scores)))


def test_a_batch_equals_each_alone(exported: Path, detector: OnlineDetector) -> None:
    answers = [detector.push_batch({name: frames_of(name)[frame] for name in NAMES}) for frame in range(100)]
    for name in NAMES:
        found = np.stack([answer[name] for answer in answers])
        np.testing.assert_allclose(found, alone(exported, name, 100), atol=TOLERANCE)
    assert list(answers[0]) == list(NAMES)
    assert detector.push_batch({}) == {}
    assert detector.push_batch({}).errors == {}


Turns = Sequence[tuple[str, Sequence[str]]]
OPERATIONS = ("push", "many", "batch", "batch", "batch", "reset", "close", "snapshot")
some_names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=len(NAMES), unique=True)


@pytest.fixture(scope="module")
def stepper(exported: Path) -> OnnxStepper:
    """Load the small file once for a test of many examples."""
    return OnnxStepper(exported)


@settings(deadline=None, max_examples=25)
@given(turns=st.lists(st.tuples(st.sampled_from(OPERATIONS), some_names), max_size=25))
def test_any_company_equals_each_alone(stepper: OnnxStepper, turns: Turns) -> None:
    detector, solo = (OnlineDetector(stepper) for _ in range(2))
    for index, (operation, names) in enumerate(turns):
        frames = {name: frames_of(name)[index] for name in names}
        if operation == "batch":
            found = dict(detector.push_batch(frames))
        elif operation == "many":
            found = {name: detector.push_many(frame[None], stream=name)[0] for name, frame in frames.items()}
        elif operation == "push":
            found = {name: detector.push(frame, stream=name) for name, frame in frames.items()}
        else:
            found = {}
            for name in names:
                if operation == "snapshot":
                    with tempfile.TemporaryDirectory() as folder:
                        detector.snapshot(Path(folder) / "s.npz")
                        detector = OnlineDetector(stepper)
                        detector.restore(Path(folder) / "s.npz")
                else:
                    getattr(detector, operation)(name)
                    getattr(solo, operation)(name)
        for name, scores in found.items():
            np.testing.assert_allclose(scores, solo.push(frames[name], stream=name), atol=TOLERANCE)
    assert set(detector.streams) == set(solo.streams)
    assert [detector.frames_seen(name) for name in NAMES] == [solo.frames_seen(name) for name in NAMES]


numbers = st.floats(width=32) | st.sampled_from([np.nan, np.inf, 3e38, -3e38, 1e300])
junk = (
    st.lists(numbers, max_size=7)
    | st.dictionaries(st.sampled_from(["rgb", "flow", "audio"]), st.lists(numbers, max_size=4))
    | st.sampled_from(
        [None, "frame", 3, b"12345", [[1.0] * 5], [1j] * 5, np.zeros((0, 5)), np.zeros(5, "datetime64[s]")]
    )
)


@settings(deadline=None, max_examples=80)
@given(frames=st.lists(junk, min_size=1, max_size=4), time=st.none() | st.floats() | st.sampled_from(["now", 10**400]))
def test_what_is_refused_changes_nothing(stepper: OnnxStepper, frames: list[Any], time: Any) -> None:
    detector, batch = OnlineDetector(stepper), OnlineDetector(stepper)
    for one in (detector, batch):
        one.push_many(FRAMES[:5], times=np.arange(5) / 5)
    for frame in frames:
        before = dict(detector._table.known)  # values: what is not replaced is as it was
        try:
            scores = detector.push(frame, time=time)
        except (DataError, ShapeError):
            assert detector._table.known["default"] is before["default"]
        else:
            assert np.isfinite(scores).all()
            assert detector.frames_seen() == before["default"].seen + 1
        answers = batch.push_batch({"default": frame}, times={"default": time})
        assert [*answers, *answers.errors] == ["default"]
        assert "\n" not in "".join(map(str, answers.errors.values()))
        assert batch.info() == detector.info()


def test_a_bad_frame_is_told_for_its_stream_alone(detector: OnlineDetector, tmp_path: Path) -> None:
    first = {name: frames_of(name)[0] for name in NAMES}
    detector.push_batch(first, times=dict.fromkeys(NAMES, 10.0))
    before = states(detector, tmp_path)
    bad: dict[str, Any] = {
        "door": FRAMES[0, :4],
        "yard": np.full(5, np.nan),
        "roof": np.full(5, 3e38),
        "hall": FRAMES[0],
    }
    answers = detector.push_batch(bad, times={"hall": 9.0})
    assert answers == {}
    assert {name: type(error) for name, error in answers.errors.items()} == {
        "door": ShapeError,
        "yard": DataError,
        "roof": DataError,
        "hall": DataError,
    }
    assert states(detector, tmp_path) == before
    answers = detector.push_batch({**bad, "hall": FRAMES[0]})
    assert list(answers) == ["hall"]
    assert "frame 1 is not finite in channel 0" in str(answers.errors["yard"])
    assert "the answer to frame 1 is not finite" in str(answers.errors["roof"])
    assert [detector.frames_seen(name) for name in NAMES] == [1, 1, 1, 2]


def test_neighbours_of_a_bad_frame_are_answered_as_ever(exported: Path, detector: OnlineDetector) -> None:
    for frame in range(50):
        frames = {name: frames_of(name)[frame] for name in NAMES}
        bad = {"door": np.full(5, 3e38, np.float32)} if frame % 3 == 0 else {}
        answers = detector.push_batch(frames | {"extra": np.full(5, 3e38, np.float32)} | bad)
        assert set(answers.errors) == {"extra", *bad}
    for name in NAMES[1:]:
        found = detector.push(frames_of(name)[50], stream=name)
        np.testing.assert_allclose(found, alone(exported, name, 51)[50], atol=TOLERANCE)
    assert "extra" not in detector.streams


def test_the_limit_of_streams_holds_in_a_batch(exported: Path) -> None:
    detector = OnlineDetector.from_onnx(exported, max_streams=3)
    answers = detector.push_batch(dict.fromkeys(NAMES, FRAMES[0]))
    assert (tuple(answers), list(answers.errors)) == (NAMES[:3], ["hall"])
    assert isinstance(answers.errors["hall"], ConfigError)
    assert detector.streams == NAMES[:3]
    assert len(detector.push_batch(dict.fromkeys(NAMES[:3], FRAMES[0]))) == 3


def test_times_of_unknown_streams_are_refused(detector: OnlineDetector) -> None:
    with pytest.raises(DataError, match="times names the stream 'yard', which has no frame; leave it out"):
        detector.push_batch({"door": FRAMES[0]}, times={"yard": 1.0})
    assert detector.streams == ()


def test_threads_do_not_disturb_each_other(exported: Path, detector: OnlineDetector) -> None:
    names = [f"stream {index}" for index in range(8)]
    frames = {name: np.random.default_rng(index).normal(size=(100, 5)) for index, name in enumerate(names)}

    def work(name: str) -> Array:
        return push_all(detector, frames[name], name)

    with ThreadPoolExecutor(len(names)) as pool:
        found = dict(zip(names, pool.map(work, names), strict=True))
    for name in names:
        np.testing.assert_array_equal(found[name], push_all(OnlineDetector.from_onnx(exported), frames[name]))


def test_snapshots_while_threads_push_are_of_one_moment(
    detector: OnlineDetector, exported: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{index}.npz" for index in range(10)]
    with ThreadPoolExecutor(2) as pool:
        pushing = pool.submit(lambda: [detector.push_batch({"a": frame, "b": frame}) for frame in FRAMES])
        for path in paths:
            detector.snapshot(path)
        pushing.result()
    for path in paths:
        other = OnlineDetector.from_onnx(exported)
        other.restore(path)
        seen = other.frames_seen("a")
        assert other.frames_seen("b") == seen
        if seen < len(FRAMES):
            expected = push_all(OnlineDetector.from_onnx(exported), FRAMES[: seen + 1])[-1]
            np.testing.assert_allclose(other.push(FRAMES[seen], stream="a"), expected, atol=TOLERANCE)


def _rows(detector: OnlineDetector) -> int:
    """Count the rows of all states that a detector keeps alive."""
    return sum(block.rows for block in {stream.block for stream in detector._table.known.values()})


def test_memory_is_bounded_whoever_is_pushed(detector: OnlineDetector) -> None:
    names, source = [f"stream {index}" for index in range(40)], np.random.default_rng(0)
    most = 0
    for frame in FRAMES:
        chosen = source.permutation(names)[: source.integers(1, 40)].tolist()
        detector.push_batch(dict.fromkeys(chosen, frame))
        most = max(most, _rows(detector))
    assert len(names) < most < 2 * len(names)
    for name in names:
        detector.push(FRAMES[0], stream=name)
    assert _rows(detector) == len(names)
    for count, name in enumerate(names, start=1):
        detector.close(name)
        assert _rows(detector) == len(names) - count


def test_streams_of_a_quantised_file_are_stepped_one_by_one(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepper = OnnxStepper(write(tmp_path / "int8.onnx", described(precision="int8")))
    session, rows = stepper._session, []

    class Spy:
        def run(self, outputs: list[str], feeds: dict[str, Array]) -> list[Array]:
            rows.append(len(feeds["frame"]))
            found: list[Array] = session.run(outputs, feeds)
            return found

    monkeypatch.setattr(stepper, "_session", Spy())
    detector = OnlineDetector(stepper)
    answers = [detector.push_batch({name: frames_of(name)[frame] for name in NAMES}) for frame in range(20)]
    assert rows == [1] * 20 * len(NAMES)
    for name in NAMES:
        np.testing.assert_array_equal(np.stack([answer[name] for answer in answers]), alone(exported, name, 20))


def test_the_same_company_is_stepped_without_a_copy(detector: OnlineDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    step, given, returned = detector.stepper.step, [], []

    def spied(frames: Array, state: Any) -> Any:
        logits, following = step(frames, state)
        given.append(state[1])
        returned.append(following[1])
        return logits, following

    monkeypatch.setattr(detector.stepper, "step", spied)
    for order in (NAMES, NAMES, NAMES[::-1], NAMES[1:], NAMES[2:3]):
        detector.push_batch({name: frames_of(name)[0] for name in order})
    assert [np.shares_memory(now, before) for now, before in zip(given[1:], returned, strict=False)] == [True] * 4
