"""Events begin and end where a slow, class by class reading of the scores says so."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coadtr.errors import CheckpointError, ConfigError, DataError, ShapeError
from coadtr.evaluation.smoothing import CausalSmoothing
from coadtr.runtime import Event, EventDecoder, EventSettings

NAMES = ("rest", "lift", "row")
Scores = NDArray[np.float64]


def wave(seed: int, frames: int = 200) -> Scores:
    """Scores that wander between 0 and 1."""
    steps = np.random.default_rng(seed).normal(scale=0.2, size=(frames, 3))
    return np.abs((np.cumsum(steps, axis=0) + 0.5) % 2 - 1)


def decoder(**values: Any) -> EventDecoder:
    return EventDecoder(NAMES, background=0, rate_hz=5.0, settings=EventSettings(**values))


def slow_events(scores: Scores, times: list[float], *, values: dict[str, Any], background: int = 0) -> set[Event]:
    """Find the events of a whole stream, class by class, looking at all of it."""
    found, decay = set(), values.get("smoothing", 0.0)
    smooth = CausalSmoothing(kind="exponential", decay=decay).apply(scores)
    for index, name in enumerate(NAMES):
        own = {"start": 0.6, "end": 0.4, "minimum_seconds": 0.0, **values, **values.get("per_class", {}).get(name, {})}
        frame = 0
        while index != background and frame < len(scores):
            if smooth[frame, index] < own["start"]:
                frame += 1
                continue
            stop = next((at for at in range(frame, len(scores)) if smooth[at, index] < own["end"]), len(scores))
            reached = (at for at in range(frame, stop) if times[at] - times[frame] >= own["minimum_seconds"] - 1e-6)
            if (told := next(reached, None)) is not None:
                found.add(Event("start", name, times[frame], float(smooth[told, index])))
                if stop < len(scores):
                    found.add(Event("end", name, times[stop], float(smooth[stop, index])))
            frame = stop
    return found


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    start=st.floats(0.4, 0.9),
    end=st.floats(0.05, 0.4),
    smoothing=st.sampled_from([0.0, 0.3, 0.8]),
    minimum=st.sampled_from([0.0, 0.2, 1.0]),
    uneven=st.booleans(),
)
def test_events_are_those_of_the_slow_reading(
    *, seed: int, start: float, end: float, smoothing: float, minimum: float, uneven: bool
) -> None:
    scores = wave(seed)
    gaps = np.random.default_rng(seed).uniform(0.1, 0.5, len(scores)) if uneven else np.full(len(scores), 0.2)
    times = (np.cumsum(gaps) - gaps[0]).tolist()
    values = {
        "start": start,
        "end": end,
        "smoothing": smoothing,
        "minimum_seconds": minimum,
        "per_class": {"row": {"start": 0.95, "end": 0.3}},
    }
    tested = decoder(**values)
    events = [event for row, time in zip(scores, times, strict=True) for event in tested.push(row, time)]
    assert len(events) == len(set(events))
    # Rounding of the smoothing may differ in the last digits.
    rounded = [event._replace(score=round(event.score, 9)) for event in events]
    assert set(rounded) == {
        event._replace(score=round(event.score, 9)) for event in slow_events(scores, times, values=values)
    }


def test_starts_and_ends_take_turns() -> None:
    tested, told = decoder(smoothing=0.5, minimum_seconds=0.4), dict.fromkeys(NAMES, "end")
    for row in wave(7, 1000):
        before = tested.active
        events = tested.push(row)
        for event in events:
            assert told[event.class_name] != event.kind
            told[event.class_name] = event.kind
        starts = {event.class_name for event in events if event.kind == "start"}
        ends = {event.class_name for event in events if event.kind == "end"}
        assert set(tested.active) == (set(before) | starts) - ends
        assert [event.kind for event in events] == sorted((event.kind for event in events), key=["end", "start"].index)
    assert told["rest"] == "end"
    ended = tested.finish()
    assert {event.class_name for event in ended} == {name for name, kind in told.items() if kind == "start"}
    assert tested.active == ()


def test_a_start_is_told_when_it_has_lasted_and_dated_back() -> None:
    tested, period = decoder(minimum_seconds=0.6), 1 / 5
    told = [tested.push([0, score, 0]) for score in (0.9, 0.1, 0.7, 0.5, 0.5, 0.8, 0.5, 0.2)]
    assert told == [
        [],
        [],
        [],
        [],
        [],
        [Event("start", "lift", period + period, 0.8)],
        [],
        [Event("end", "lift", sum([period] * 7), 0.2)],
    ]


def test_finish_ends_what_was_told_and_begins_anew() -> None:
    tested = decoder(per_class={"row": {"minimum_seconds": 10}})
    first = tested.push([0, 0.9, 0.9], 100.0)
    assert [event.class_name for event in first] == ["lift"]
    with pytest.raises(DataError, match=r"time went back from 100\.0 s to 99 s"):
        tested.finish(99)
    assert tested.finish(101.0) == [Event("end", "lift", 101.0, 0.9)]
    assert tested.finish() == []
    assert tested.push([0, 0.9, 0]) == [Event("start", "lift", 0.0, 0.9)]
    assert tested.finish() == [Event("end", "lift", 0.0, 0.9)]


@pytest.mark.parametrize("cut", [0, 1, 37, 150])
def test_state_goes_on_in_another_decoder(cut: int) -> None:
    values: dict[str, Any] = {"smoothing": 0.7, "minimum_seconds": 0.5}
    whole, first, second = decoder(**values), decoder(**values), decoder(**values)
    scores = wave(11)
    expected = [whole.push(row) for row in scores]
    got = [first.push(row) for row in scores[:cut]]
    second.push(scores[3])
    second.restore(json.loads(json.dumps(first.state())))
    got += [second.push(row) for row in scores[cut:]]
    assert got == expected
    assert sum(map(len, got)) > 4
    assert second.state() == whole.state()


BAD_STATES: dict[str, Any] = {
    "of the classes": {"classes": ["a", "b", "c"]},
    "damaged": {"total": [0, 0]},
    "a value is out of range": {"weight": -1},
    "out of range": {"told": [True, True, True], "since": [None, None, None]},
    "time": {"time": "noon"},
    "not a value": {"since": [0.0]},
    "range": {"total": [0, 0, float("nan")]},
}


@pytest.mark.parametrize("message", BAD_STATES)
def test_a_damaged_state_is_refused(message: str) -> None:
    tested = decoder()
    tested.push([0, 0.9, 0])
    before = tested.state()
    with pytest.raises(CheckpointError, match=message if message != "time" else "damaged"):
        tested.restore(before | BAD_STATES[message])
    with pytest.raises(CheckpointError, match="damaged"):
        tested.restore({})
    assert tested.state() == before


@pytest.mark.parametrize(
    ("scores", "time", "error", "message"),
    [
        ([0.1, 0.2], None, ShapeError, r"scores are \(2,\); give \(3,\), one for each class"),
        ([[0.1, 0.2, 0.3]], None, ShapeError, r"scores are \(1, 3\)"),
        ([0.1, np.nan, 0.3], None, DataError, "not finite"),
        (["a", "b", "c"], None, DataError, "not a number"),
        ([0, 0, 0], 0.9, DataError, r"time went back from 1\.0 s to 0\.9 s"),
        ([0, 0, 0], np.nan, DataError, "time must be a finite number"),
        ([0, 0, 0], "2", DataError, "time must be a finite number"),
    ],
)
def test_what_is_refused_changes_nothing(scores: Any, time: Any, error: Any, message: str) -> None:
    tested = decoder()
    tested.push([0, 0.9, 0], 1.0)
    before = tested.state()
    with pytest.raises(error, match=message):
        tested.push(scores, time)
    assert tested.state() == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"start": 0}, "start must be a number above 0, at most 1, got 0"),
        ({"start": 1.1}, "start must be"),
        ({"end": 0.7}, "end must be a number from 0 to start=0.6, got 0.7"),
        ({"smoothing": 1}, "smoothing must be a number from 0 to below 1, got 1"),
        ({"minimum_seconds": np.inf}, "minimum_seconds must be a finite number, 0 or more, got inf"),
        ({"per_class": {"lift": {"start": 0.3}}}, "end for class 'lift' must be a number from 0 to start=0.3, got 0.4"),
        ({"per_class": {"lift": {"stop": 0.3}}}, r"per_class\['lift'\] has no setting 'stop'; give start, end"),
        ({"per_class": {"lift": 0.3}}, "per_class must be settings by class"),
        ({"per_class": {"run": {}}}, "per_class names the class 'run'; choose of rest, lift, row"),
        ({"stop": 1}, "events have no setting 'stop'; choose of start, end, smoothing"),
    ],
)
def test_bad_settings_are_refused(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("0.6, got", r"0\.6, got")):
        EventDecoder(NAMES, settings=EventSettings.from_dict(values))


@pytest.mark.parametrize(
    ("values", "message"), [({"rate_hz": 0}, "rate_hz must be"), ({"background": 3}, "background must be the index")]
)
def test_bad_descriptions_are_refused(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EventDecoder(NAMES, **values)
