from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coadtr.errors import CoadtrError, ConfigError, DataError, ShapeError
from coadtr.evaluation.metrics.delay import FALSE_POSITIVES_PER_HOUR, alarm_threshold, detection_delay

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NAMES = ["none", "run", "jump", "unclear"]
CLASSES: dict[str, Any] = {"class_names": NAMES, "background": 0, "ignored": 3}
FEW = st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8])


def false_alarms(
    score: NDArray[np.float64], shown: NDArray[np.bool_], kept: NDArray[np.bool_], threshold: float
) -> int:
    """Walk along the frames and look at every alarm."""
    count, frame = 0, 0
    while frame < score.size:
        first = frame
        while frame < score.size and kept[frame] and score[frame] >= threshold:
            frame += 1
        count += frame > first and not shown[first:frame].any()
        frame += frame == first
    return count


def slow_threshold(
    score: NDArray[np.float64], shown: NDArray[np.bool_], kept: NDArray[np.bool_], allowed: float, most_on: float
) -> tuple[float, int]:
    """Try every score from the highest down."""
    outside = [value for value, shows, counts in zip(score, shown, kept, strict=True) if counts and not shows]
    best, alarms = np.inf, 0
    for threshold in sorted(set(score[kept]), reverse=True):
        count = false_alarms(score, shown, kept, threshold)
        if count > allowed or sum(value >= threshold for value in outside) > most_on * len(outside):
            break
        best, alarms = threshold, count
    return best, alarms


@st.composite
def one_row(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    frames = draw(st.integers(0, 40))
    score = draw(hnp.arrays(np.float64, frames, elements=draw(st.sampled_from([FEW, st.floats(0, 1)]))))
    kept = np.ones(frames, dtype=bool) if draw(st.booleans()) else draw(hnp.arrays(np.bool_, frames))
    return score, draw(hnp.arrays(np.bool_, frames)), kept


@given(one_row(), st.sampled_from([0, 0.5, 1, 2, 3, 100]), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
@settings(deadline=None, max_examples=150)
def test_threshold_equals_the_slow_search(
    row: tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]], allowed: float, most_on: float
) -> None:
    assert alarm_threshold(*row, allowed=allowed, most_on=most_on) == slow_threshold(*row, allowed, most_on)


@st.composite
def several_videos(draw: st.DrawFn) -> dict[str, Any]:
    multi_hot = draw(st.booleans())
    case: dict[str, Any] = {"labels": [], "scores": [], "scored": [], "rates_hz": []}
    for _ in range(draw(st.integers(1, 3))):
        frames = draw(st.integers(0, 25))
        shape: Any = (frames, 4) if multi_hot else frames
        case["labels"].append(draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 1 if multi_hot else 3))))
        case["scores"].append(draw(hnp.arrays(np.float64, (frames, 4), elements=FEW)))
        case["scored"].append(draw(hnp.arrays(np.bool_, frames)))
        case["rates_hz"].append(draw(st.sampled_from([0.5, 2.0, 5.0])))
    return case


def slow_delays(case: dict[str, Any], index: int, per_hour: float, most_on: float) -> tuple[float, list[float | None]]:
    """Return the threshold of one class, and the delay of each instance, frame by frame; None if it is missed."""
    rows = []
    for truth, scores, mask, rate in zip(case["labels"], case["scores"], case["scored"], case["rates_hz"], strict=True):
        shown, unclear = (
            np.array([bool(frame[c]) if truth.ndim == 2 else frame == c for frame in truth], dtype=bool)
            for c in (index, 3)
        )
        rows.append((scores[:, index], shown, mask & ~unclear, rate))
    hours = sum(int(kept.sum()) / rate for _, _, kept, rate in rows) / 3600
    outside = [value for score, shown, kept, _ in rows for value in score[kept & ~shown]]
    threshold = np.inf
    for candidate in sorted({score for row in rows for score in row[0][row[2]]}, reverse=True):
        on = sum(value >= candidate for value in outside)
        if sum(false_alarms(*row[:3], candidate) for row in rows) > per_hour * hours or on > most_on * len(outside):
            break
        threshold = candidate
    delays: list[float | None] = []
    for score, shown, kept, rate in rows:
        for first in range(score.size):
            if not shown[first] or (first > 0 and shown[first - 1]) or not kept[first]:
                continue
            frame = first
            while frame < score.size and shown[frame] and not (kept[frame] and score[frame] >= threshold):
                frame += 1
            delays.append((frame - first) / rate if frame < score.size and shown[frame] else None)
    return threshold, delays


@given(several_videos(), st.sampled_from([0.0, 60.0, 300.0, 1000.0]), st.sampled_from([0.125, 0.5, 1.0]))
@settings(deadline=None, max_examples=100)
def test_equals_the_slow_reference(case: dict[str, Any], per_hour: float, most_on: float) -> None:
    result = detection_delay(**case, **CLASSES, false_positives_per_hour=per_hour, most_on=most_on)
    every: list[float | None] = []
    for index in (1, 2):
        threshold, delays = slow_delays(case, index, per_hour, most_on)
        every += delays
        if not delays:
            assert NAMES[index] not in result.per_class
            continue
        found = [delay for delay in delays if delay is not None]
        value = result.per_class[NAMES[index]]
        assert value.threshold == (None if np.isinf(threshold) else threshold)
        assert (value.instances, value.detected) == (len(delays), len(found))
        assert value.mean_s == (pytest.approx(np.mean(found)) if found else None)
        assert value.median_s == (pytest.approx(np.median(found)) if found else None)
    found = [delay for delay in every if delay is not None]
    assert result.instances == len(every)
    assert result.detected == (len(found) / len(every) if every else None)
    assert result.median_s == (pytest.approx(np.median(found)) if found else None)
    assert result.on_at_start == (found.count(0) / len(every) if every else None)


@given(several_videos(), st.floats(0, 2000), st.floats(0, 2000), st.sampled_from([0.125, 1.0]))
@settings(deadline=None, max_examples=60)
def test_a_lower_allowed_rate_never_detects_more(
    case: dict[str, Any], one: float, other: float, most_on: float
) -> None:
    lower, higher = (
        detection_delay(**case, **CLASSES, false_positives_per_hour=rate, most_on=most_on)
        for rate in sorted([one, other])
    )
    assert list(lower.per_class) == list(higher.per_class)
    for low, high in zip(lower.per_class.values(), higher.per_class.values(), strict=True):
        assert low.instances == high.instances
        assert low.detected <= high.detected
        assert low.threshold is None or (high.threshold is not None and low.threshold >= high.threshold)
        assert low.false_alarms <= min(one, other) * lower.hours * (1 + 1e-9)


@given(several_videos())
@settings(deadline=None, max_examples=60)
def test_an_oracle_has_no_delay(case: dict[str, Any]) -> None:
    oracle = [np.eye(4)[truth] if truth.ndim == 1 else truth.astype(float) for truth in case["labels"]]
    result = detection_delay(**{**case, "scores": oracle}, **CLASSES, false_positives_per_hour=0)
    if result.instances:
        assert (result.detected, result.mean_s, result.median_s) == (1.0, 0.0, 0.0)


def scores_of(run: list[float]) -> NDArray[np.float64]:
    return np.stack([1 - np.array(run), run], axis=1)


def test_worked_example() -> None:
    # 1 Hz, two instances: frames 2..5 and 8..9. The false alarm at frame 0 scores 0.5.
    labels = np.array([0, 0, 1, 1, 1, 1, 0, 0, 1, 1])
    scores = scores_of([0.5, 0.1, 0.0, 0.2, 0.6, 0.7, 0.1, 0.0, 0.3, 0.4])
    options: dict[str, Any] = {"rates_hz": [1.0], "class_names": ["none", "run"], "background": 0}
    strict = detection_delay([labels], [scores], **options, false_positives_per_hour=0)
    # Threshold 0.6: found 2 s after its start; the second instance is missed.
    run = strict.per_class["run"]
    assert (run.threshold, run.false_alarms, run.alarm_share) == (0.6, 0, 0.0)
    assert (strict.detected, strict.median_s, strict.instances) == (0.5, 2.0, 2)
    # 360 an hour for 10 seconds: one is allowed, on one of the four frames without the action. Found after 1 and 0 s.
    loose = detection_delay([labels], [scores], **options, false_positives_per_hour=360, most_on=0.25)
    run = loose.per_class["run"]
    assert (run.threshold, run.false_alarms, run.alarm_share) == (0.2, 1, 0.25)
    assert (loose.detected, loose.mean_s) == (1.0, 0.5)
    # One of the two alarms is on at the first frame; under the strict threshold, none.
    assert (loose.on_at_start, strict.to_dict()["on_at_start"]) == (0.5, 0.0)


def test_an_alarm_that_is_always_on_is_none() -> None:
    # With a threshold of 0 all frames are one alarm, which shows the action, so it is not false; yet it says nothing.
    labels, scores = [np.array([0, 0, 1, 1, 1])], [scores_of([0.0, 0.0, 0.0, 1.0, 1.0])]
    options: dict[str, Any] = {"rates_hz": [1.0], "class_names": ["none", "run"], "background": 0}
    assert detection_delay(labels, scores, **options).median_s == 1.0
    assert detection_delay(labels, scores, **options, most_on=1.0).median_s == 0.0


def test_the_search_stops_before_alarms_grow_together() -> None:
    # At 0.9: 2 false alarms. At 0.1 they are one, and at 0.0 none is false; no more than 1 at any time is allowed.
    score = np.array([0.9, 0.1, 0.9, 0.0, 0.0])
    shown = np.array([False, False, False, False, True])
    assert alarm_threshold(score, shown, np.ones(5, dtype=bool), allowed=1) == (np.inf, 0)
    assert alarm_threshold(score, shown, np.ones(5, dtype=bool), allowed=2) == (0.0, 0)


def test_where_no_threshold_keeps_to_the_rate_all_is_missed() -> None:
    labels, scores = [np.array([0, 1, 1])], [scores_of([0.9, 0.1, 0.2])]
    result = detection_delay(
        labels, scores, rates_hz=[1.0], class_names=["none", "run"], background=0, false_positives_per_hour=0
    )
    assert result.per_class["run"].threshold is None
    assert (result.detected, result.mean_s, result.median_s) == (0.0, None, None)
    assert result.to_dict() == {
        "false_positives_per_hour": 0.0,
        "most_on": 0.1,
        "hours": pytest.approx(3 / 3600),
        "instances": 1,
        "detected": 0.0,
        "mean_s": None,
        "median_s": None,
        "on_at_start": 0.0,
        "per_class": {
            "run": {
                "instances": 1,
                "detected": 0.0,
                "mean_s": None,
                "median_s": None,
                "threshold": None,
                "false_alarms": 0,
                "alarm_share": 0.0,
            }
        },
    }


def test_instances_whose_start_is_not_scored_do_not_count() -> None:
    labels = [np.array([1, 1, 0, 1, 1])]
    mask = [np.array([False, True, True, True, True])]
    scores = [scores_of([0.9, 0.9, 0.0, 0.0, 0.9])]
    result = detection_delay(
        labels,
        scores,
        rates_hz=[4.0],
        class_names=["none", "run"],
        background=0,
        scored=mask,
        false_positives_per_hour=0,
    )
    assert (result.instances, result.hours) == (1, 4 / 4 / 3600)
    assert result.median_s == 0.25


def test_no_instance_gives_no_value() -> None:
    result = detection_delay([np.array([0, 3])], [np.zeros((2, 4))], rates_hz=[1.0], **CLASSES)
    assert (result.instances, result.detected, result.median_s, result.per_class) == (0, None, None, {})
    assert result.false_positives_per_hour == FALSE_POSITIVES_PER_HOUR
    assert detection_delay([], [], rates_hz=[], class_names=NAMES).detected is None


def test_oracle_and_late_detector_on_50_salads(shared_data: Path) -> None:
    with np.load(shared_data / "50salads_mid" / "Split_1.npz") as stored:
        labels = np.split(stored["labels"].astype(np.int64), stored["offsets"][1:-1])
        names, rate = stored["class_names"].tolist(), float(stored["fps"])
    options: dict[str, Any] = {"rates_hz": [rate] * len(labels), "class_names": names, "background": 0}
    oracle = detection_delay(labels, [np.eye(18)[truth] for truth in labels], **options)
    assert (oracle.detected, oracle.mean_s, list(oracle.per_class)) == (1.0, 0.0, names[1:])
    late = [np.eye(18)[np.append(truth[:1].repeat(6), truth[:-6])] for truth in labels]
    result = detection_delay(labels, late, **options, false_positives_per_hour=1000)
    assert result.median_s == pytest.approx(6 / rate)


TRUE = [np.array([0, 1])]
GOOD = [np.zeros((2, 4))]


@pytest.mark.parametrize(
    ("labels", "scores", "options", "error", "words"),
    [
        (TRUE, GOOD, {"false_positives_per_hour": -1}, ConfigError, "false_positives_per_hour is -1"),
        (TRUE, GOOD, {"false_positives_per_hour": float("inf")}, ConfigError, "finite rate"),
        (TRUE, GOOD, {"most_on": 1.5}, ConfigError, "most_on is 1.5"),
        (TRUE, GOOD, {"rates_hz": [-5.0]}, DataError, "the rate is -5.0 Hz"),
        (TRUE, GOOD, {"rates_hz": []}, ShapeError, "0 rates for 1 videos"),
        (TRUE, [np.zeros((2, 3))], {}, ShapeError, r"video 0: scores have shape \(2, 3\)"),
        (TRUE, [np.full((2, 4), np.nan)], {}, DataError, "a score at frame 0 is nan"),
        ([np.array([0, 4])], GOOD, {}, DataError, "video 0: class index 4"),
        (TRUE, GOOD, {"background": 7}, ConfigError, "background class index 7"),
    ],
)
def test_bad_input_is_named(
    labels: list[NDArray[Any]],
    scores: list[NDArray[Any]],
    options: dict[str, Any],
    error: type[CoadtrError],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        detection_delay(labels, scores, **{"rates_hz": [1.0], "class_names": NAMES, **options})
