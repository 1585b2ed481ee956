"""Missing frames are skipped, held or begin a stream anew; values that are not finite are refused or masked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coadtr.errors import ConfigError, DataError
from coadtr.runtime import GapPolicy, OnlineDetector, StreamInfo
from tests.runtime.conftest import FRAMES, Array, push_all

PERIOD = 0.2  # of the small file, 5 frames a second
HOLD = GapPolicy(missing="hold", max_hold_seconds=1.0)


def load(exported: Path, **settings: Any) -> OnlineDetector:
    return OnlineDetector.from_onnx(exported, **settings)


def answers(detector: OnlineDetector, frames: Array) -> Array:
    """Push all frames and return the last answer."""
    last: Array = push_all(detector, frames)[-1]
    return last


def test_frames_in_time_make_no_gap(exported: Path) -> None:
    timed, untimed = load(exported, gaps=HOLD), load(exported)
    jitter = np.random.default_rng(0).uniform(-0.24, 0.24, size=100) * PERIOD
    for frame, time in zip(FRAMES, 1.7e9 + np.arange(100) * PERIOD + jitter, strict=False):
        np.testing.assert_array_equal(timed.push(frame, time=time), untimed.push(frame))
    assert timed.info()[2:] == (0, 0, 0, 0)


def test_skipped_frames_are_counted_and_not_fed(exported: Path, detector: OnlineDetector) -> None:
    reference = load(exported)
    push_all(reference, FRAMES[:4])
    for frame, time in zip(FRAMES[:4], (0, PERIOD, 4 * PERIOD, 5 * PERIOD), strict=True):
        detector.push(frame, time=time)
    np.testing.assert_array_equal(detector.push(FRAMES[4]), reference.push(FRAMES[4]))
    assert detector.info() == StreamInfo(frames_seen=5, time=None, masked=0, missing=2, held=0, restarts=0)


@pytest.mark.parametrize(("missing", "held"), [(1, 1), (2, 2), (5, 5), (6, 5), (10**9, 5)])
def test_held_frames_are_fed_again(exported: Path, missing: int, held: int) -> None:
    detector = load(exported, gaps=HOLD)
    expected = answers(load(exported), np.concatenate([FRAMES[:3], np.repeat(FRAMES[2:3], held, 0), FRAMES[3:4]]))
    detector.push_many(FRAMES[:3], times=np.arange(3) * PERIOD)
    got = detector.push(FRAMES[3], time=(3 + missing) * PERIOD)
    np.testing.assert_array_equal(got, expected)
    assert detector.info()[0] == 4
    assert detector.info()[2:] == (0, missing, held, 0)


def test_held_frames_in_a_batch(exported: Path) -> None:
    detector, gaps = load(exported, gaps=HOLD), {"door": 0, "yard": 2, "roof": 5, "hall": 3}
    detector.push_batch(dict.fromkeys(gaps, FRAMES[0]), times=dict.fromkeys(gaps, 0.0))
    times = {name: (1 + missing) * PERIOD for name, missing in gaps.items()}
    got = detector.push_batch(dict.fromkeys(gaps, FRAMES[1]), times=times)
    for name, missing in gaps.items():
        expected = answers(load(exported), np.concatenate([np.repeat(FRAMES[:1], 1 + missing, 0), FRAMES[1:2]]))
        np.testing.assert_allclose(got[name], expected, atol=1e-6)
        assert detector.info(name).held == missing


def test_push_many_sees_its_gaps(exported: Path) -> None:
    gaps = GapPolicy(missing="hold", reset_after=3.0)
    many, single = load(exported, gaps=gaps), load(exported, gaps=gaps)
    times = np.cumsum(np.random.default_rng(1).choice([PERIOD, 3 * PERIOD, 5.0], size=60, p=[0.7, 0.2, 0.1]))
    expected = [single.push(frame, time=time) for frame, time in zip(FRAMES, times, strict=False)]
    np.testing.assert_array_equal(many.push_many(FRAMES[:60], times=times), np.stack(expected))
    assert many.info() == single.info()
    assert min(many.info().held, many.info().restarts) > 0


def test_a_stream_begins_anew_after_a_long_gap(exported: Path) -> None:
    detector, fresh = load(exported, gaps=GapPolicy(missing="hold", reset_after=3.0)), load(exported)
    detector.push_many(FRAMES[:9], times=np.arange(9) * PERIOD)
    np.testing.assert_array_equal(detector.push(FRAMES[20], time=8 * PERIOD + 3.1), fresh.push(FRAMES[20]))
    assert detector.info() == StreamInfo(1, 8 * PERIOD + 3.1, masked=0, missing=15, held=0, restarts=1)
    np.testing.assert_array_equal(push_all(detector, FRAMES[21:30]), push_all(fresh, FRAMES[21:30]))


def test_a_frame_without_a_time_ends_the_counting(exported: Path) -> None:
    detector, reference = load(exported, gaps=HOLD), load(exported)
    for frame, time in zip(FRAMES[:4], (0.0, None, 100.0, None), strict=True):
        np.testing.assert_array_equal(detector.push(frame, time=time), reference.push(frame))
    assert detector.info().missing == 0


@pytest.mark.parametrize("time", [np.nan, np.inf, "1", True, 10**400, 1 + 0j])
def test_times_are_finite_numbers(detector: OnlineDetector, time: Any) -> None:
    with pytest.raises(DataError, match="time must be a finite number of seconds, got "):
        detector.push(FRAMES[0], time=time)
    assert detector.frames_seen() == 0


def test_times_do_not_go_back(detector: OnlineDetector) -> None:
    kinds: list[Any] = [2, np.int64(2), np.float32(2.5)]
    for time in kinds:
        detector.push(FRAMES[0], time=time)
    detector.push(FRAMES[1], time=2.5)
    with pytest.raises(DataError, match=r"time went back from 2\.5 s to 2\.4 s; push frames in order"):
        detector.push(FRAMES[2], time=2.4)
    assert detector.info() == StreamInfo(4, 2.5, 0, 1, 0, 0)
    detector.push(FRAMES[2], time=1e308)
    detector.reset()
    detector.push(FRAMES[0], time=-1e308)
    detector.push(FRAMES[0], time=1e308)
    assert detector.info().missing == 10**15 - 1


def test_masked_values_are_the_last_finite_ones(exported: Path) -> None:
    detector, reference = load(exported, non_finite="mask"), load(exported)
    source = np.random.default_rng(2)
    last, replaced = np.zeros(5, np.float32), 0
    for frame in FRAMES[:60]:
        broken = np.where(source.random(5) < 0.3, source.choice([np.nan, np.inf, -np.inf], size=5), frame)
        last = np.where(np.isfinite(broken), broken, last)
        replaced += int((~np.isfinite(broken)).sum())
        np.testing.assert_array_equal(detector.push(broken), reference.push(last))
    assert detector.masked() == replaced > 50
    detector.reset()
    np.testing.assert_array_equal(detector.push(np.full(5, np.nan)), load(exported).push(np.zeros(5)))
    assert detector.masked() == 5


def test_masks_in_push_many_and_in_batches(exported: Path) -> None:
    single, many, batch = (load(exported, non_finite="mask", gaps=HOLD) for _ in range(3))
    broken = np.where(np.random.default_rng(3).random((40, 5)) < 0.2, np.nan, FRAMES[:40])
    times = np.cumsum(np.random.default_rng(4).choice([PERIOD, 3 * PERIOD], size=40))
    expected = np.stack([single.push(frame, time=time) for frame, time in zip(broken, times, strict=True)])
    np.testing.assert_array_equal(many.push_many(broken, times=times), expected)
    for frame, time, scores in zip(broken, times, expected, strict=True):
        got = batch.push_batch({"a": frame, "b": frame}, times={"a": time, "b": time})
        np.testing.assert_allclose([got["a"], got["b"]], [scores, scores], atol=1e-6)
    assert single.info() == many.info() == batch.info("b")


def test_a_masked_frame_that_is_refused_is_not_counted(exported: Path) -> None:
    detector = load(exported, non_finite="mask")
    detector.push(FRAMES[0])
    with pytest.raises(DataError, match="the answer to frame 1 is not finite"):
        detector.push([np.nan, 3e38, 3e38, 3e38, 3e38])
    assert detector.masked() == 0
    with pytest.raises(DataError, match="not a number"):
        detector.push(["a"] * 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"missing": "repeat"}, "missing must be one of skip, hold, got 'repeat'"),
        ({"max_hold_seconds": -1}, "max_hold_seconds must be a finite number, 0 or more, got -1"),
        ({"max_hold_seconds": np.inf}, "max_hold_seconds must be a finite number, 0 or more, got inf"),
        ({"reset_after": 0}, "reset_after must be a finite number above 0, or None, got 0"),
        ({"reset_after": "1"}, "reset_after must be a finite number above 0, or None, got '1'"),
    ],
)
def test_bad_policies_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GapPolicy(**settings)
