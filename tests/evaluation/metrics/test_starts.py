from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coadtr.errors import CoadtrError, ConfigError, DataError, ShapeError
from coadtr.evaluation.metrics.starts import (
    StartPrecision,
    Starts,
    action_starts,
    detect_starts,
    point_average_precision,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

NAMES = ["none", "run", "jump", "unclear"]
OFFSETS = (0.0, 1.0, 2.5)


def make(points: Sequence[tuple[int, int, int, float]]) -> Starts:
    """Return starts from (video, frame, class, confidence)."""
    columns = np.array(points, dtype=np.float64).reshape(-1, 4).T
    whole = columns[:3].astype(np.int64)
    return Starts(video=whole[0], frame=whole[1], class_index=whole[2], confidence=columns[3])


def value(true: Sequence[tuple[int, int, int]], found: Sequence[tuple[int, int, int, float]], **options: Any) -> Any:
    given_: dict[str, Any] = {"rates_hz": [1.0, 2.0, 5.0], "class_names": NAMES, "offsets_s": OFFSETS, **options}
    return point_average_precision(make([(*point, 1.0) for point in true]), make(found), **given_)


points = st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(1, 2))
sure = st.sampled_from([0.1, 0.5, 0.9]) | st.floats(0, 1)
detections = st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(1, 2), sure)


def slow_value(
    true: list[tuple[int, int, int]], found: list[tuple[int, int, int, float]], index: int, offset: float
) -> float:
    """Take every detection in turn, look at every start, and sum over every threshold."""
    rates = [1.0, 2.0, 5.0]
    starts = sorted(point for point in true if point[2] == index)
    taken: set[int] = set()
    verdicts: list[tuple[float, bool]] = []
    for video, frame, _, confidence in sorted(
        (point for point in found if point[2] == index), key=lambda point: (-point[3], point[1])
    ):
        near = [
            (abs(start[1] - frame), start[1], place)
            for place, start in enumerate(starts)
            if place not in taken and start[0] == video
        ]
        right = bool(near) and min(near)[0] <= offset * rates[video]
        if right:
            taken.add(min(near)[2])
        verdicts.append((confidence, right))
    total, recall = 0.0, 0.0
    for threshold in sorted({confidence for confidence, _ in verdicts}, reverse=True):
        above = [right for confidence, right in verdicts if confidence >= threshold]
        total += (sum(above) / len(starts) - recall) * sum(above) / len(above)
        recall = sum(above) / len(starts)
    return total


@given(st.lists(points, max_size=10, unique=True), st.lists(detections, max_size=14))
@settings(deadline=None, max_examples=100)
def test_equals_the_slow_reference(true: list[tuple[int, int, int]], found: list[tuple[int, int, int, float]]) -> None:
    result = value(true, found)
    assert list(result.per_class) == [NAMES[index] for index in (1, 2) if any(point[2] == index for point in true)]
    for name, values in result.per_class.items():
        expected = [slow_value(true, found, NAMES.index(name), offset) for offset in OFFSETS]
        assert values == pytest.approx(expected, abs=1e-12)
    if result.per_class:
        assert result.mean == pytest.approx(np.mean(list(result.per_class.values()), axis=0))
    else:
        assert result.mean == (None,) * 3


@given(
    st.lists(points, max_size=8, unique=True),
    st.lists(detections, max_size=12),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=60)
def test_order_of_arrays_and_videos_does_not_matter(
    true: list[tuple[int, int, int]], found: list[tuple[int, int, int, float]], random: Any
) -> None:
    expected = value(true, found)
    swap = [2, 1, 0]
    moved_true = [(swap[video], frame, index) for video, frame, index in true]
    moved = [(swap[video], frame, index, confidence) for video, frame, index, confidence in found]
    random.shuffle(moved_true)
    random.shuffle(moved)
    result = value(moved_true, moved, rates_hz=[5.0, 2.0, 1.0])
    for name, values in expected.per_class.items():
        assert result.per_class[name] == pytest.approx(values, abs=1e-12)


def test_worked_example() -> None:
    # Starts at 0 and 10 s. Surest first: 1 s late (right), 9 s (right within 1 s), 5 s (wrong).
    result = value([(0, 0, 1), (0, 10, 1)], [(0, 5, 1, 0.8), (0, 1, 1, 0.9), (0, 9, 1, 0.7)])
    # Offset 0: none right. Offset 1: precision 1 at recall 1/2, then 2/3 at recall 1.
    assert result.per_class["run"] == pytest.approx((0.0, 1 / 2 + 1 / 2 * 2 / 3, 1 / 2 + 1 / 2 * 2 / 3))
    assert value([(0, 0, 1), (0, 10, 1)], [(0, 0, 1, 0.9)]).per_class["run"] == (0.5, 0.5, 0.5)  # one stays undetected
    assert value([(0, 0, 1)], []).per_class["run"] == (0.0, 0.0, 0.0)


def test_a_start_is_taken_once_and_the_next_nearest_serves() -> None:
    # Both detections are nearest to frame 4; the second has to take frame 6.
    result = value([(0, 4, 1), (0, 6, 1)], [(0, 4, 1, 0.9), (0, 4, 1, 0.8)], offsets_s=[1, 2])
    assert result.per_class["run"] == (0.5, 1.0)


def test_of_two_equally_near_starts_the_earlier_is_taken() -> None:
    # Frame 5 takes 4, so that 7 finds 6 within 1 s; had it taken 6, nothing would be near 7.
    result = value([(0, 4, 1), (0, 6, 1)], [(0, 5, 1, 0.9), (0, 7, 1, 0.8)], offsets_s=[1])
    assert result.per_class["run"] == (1.0,)


def test_other_classes_and_videos_do_not_match() -> None:
    result = value([(0, 3, 1)], [(1, 3, 1, 0.9), (0, 3, 2, 0.9)])
    assert result.per_class == {"run": (0.0, 0.0, 0.0)}


def test_exactly_as_far_as_the_offset_is_near_enough_at_every_rate() -> None:
    for rate, frames in ((5.0, 6), (29.97 / 6, 5), (0.1, 1), (3.0, 2), (100.0, 29)):
        true, found = [(0, 1, 1)], [(0, 1 + frames, 1, 1.0)]
        offset = frames / rate
        result = value(true, found, rates_hz=[rate], offsets_s=[0.999 * offset, offset])
        assert result.per_class["run"] == (0.0, 1.0)


def test_true_starts_of_both_forms_of_labels() -> None:
    indices = [np.array([1, 1, 0, 3, 1, 2, 2]), np.array([2, 0])]
    expected = [(0, 0, 1), (0, 4, 1), (0, 5, 2), (1, 0, 2)]
    for labels in (indices, [np.eye(4, dtype=np.uint8)[truth] for truth in indices]):
        starts = action_starts(labels, num_classes=4, background=0, ignored=3)
        assert list(zip(starts.video, starts.frame, starts.class_index, strict=True)) == expected
        assert (starts.confidence == 1).all()
    both = np.array([[0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]])
    starts = action_starts([both], num_classes=4)
    assert list(zip(starts.frame, starts.class_index, strict=True)) == [(0, 1), (1, 2)]
    mask = [np.array([False, True, True])]
    assert action_starts([both], num_classes=4, scored=mask).frame.tolist() == [1]


@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 15), st.just(4)), elements=st.sampled_from([0.0, 0.5, 1.0])))
@settings(deadline=None, max_examples=80)
def test_detections_follow_the_published_rule(scores: NDArray[np.float64]) -> None:
    expected, before = [], None
    for frame, row in enumerate(scores):
        best = max((0, 1, 2), key=lambda index: (row[index], -index))  # the ignored class 3 is never answered
        if best not in {0, before}:
            expected.append((frame, best, row[best]))
        before = best
    found = detect_starts([scores], background=0, ignored=3)
    assert list(zip(found.frame, found.class_index, found.confidence, strict=True)) == expected


def test_frames_that_are_not_scored_still_say_what_came_before() -> None:
    scores = np.eye(3)[[1, 1, 2, 2]]
    found = detect_starts([scores], background=0, scored=[np.array([False, True, True, True])])
    assert (found.frame.tolist(), found.class_index.tolist()) == ([2], [2])


def evaluate(
    labels: list[NDArray[Any]], scores: list[NDArray[Any]], rates: list[float], names: list[str]
) -> StartPrecision:
    clear = [truth != 21 for truth in labels]
    starts = action_starts(labels, num_classes=22, background=0, ignored=21)
    found = detect_starts(scores, background=0, ignored=21, scored=clear)
    return point_average_precision(starts, found, rates_hz=rates, class_names=names)


def test_oracle_and_late_detector_on_thumos14(shared_data: Path) -> None:
    with np.load(shared_data / "thumos14_annotations" / "test_perframe.npz") as stored:
        parts = np.split(stored["labels"].astype(np.int64), stored["offsets"][1:-1])
        known = np.flatnonzero(stored["video_fps"] > 0)  # one video has no rate
        labels, rates = [parts[video] for video in known], [float(stored["video_fps"][video] / 6) for video in known]
        names = stored["class_names"].tolist()
    # What lies behind ambiguous frames starts again there: the oracle does not see them as another class.
    oracle = evaluate(labels, [np.eye(22)[truth] for truth in labels], rates, names)
    assert list(oracle.per_class) == names[1:21]
    assert oracle.mean[0] is not None
    assert oracle.mean[0] > 0.98
    late = [np.eye(22)[np.append(np.zeros(min(8, t.size), dtype=int), t[:-8])] for t in labels]  # 1.6 s at 5 Hz
    result = evaluate(labels, late, rates, names)
    assert result.mean[0] is not None
    assert result.mean[1] is not None
    assert result.mean[0] < 0.5 < result.mean[1]
    assert result.to_dict()["mAP"] == list(result.mean)
    assert result.to_dict()["offsets_s"] == list(range(1, 11))


@pytest.mark.parametrize(
    ("true", "options", "error", "words"),
    [
        ([(0, 1, 1)], {"offsets_s": [-1.0]}, ConfigError, "offset -1.0 s"),
        ([(0, 1, 1)], {"rates_hz": [float("nan")]}, DataError, "video 0: the rate is nan Hz"),
        ([(3, 1, 1)], {}, ShapeError, r"video index 3; expected 0\.\.2"),
        ([(0, 1, 4)], {}, ShapeError, r"class index 4; expected 0\.\.3"),
        ([(0, 1, 1)], {"class_names": ["a", "a"]}, ConfigError, "'a' occurs more than once"),
    ],
)
def test_bad_points_are_named(
    true: list[tuple[int, int, int]], options: dict[str, Any], error: type[CoadtrError], words: str
) -> None:
    with pytest.raises(error, match=words):
        value(true, [], **options)


def test_bad_scores_and_labels_are_named() -> None:
    with pytest.raises(DataError, match="the confidence of start 0 is nan"):
        make([(0, 1, 1, float("nan"))])
    with pytest.raises(ShapeError, match="one value each per start"):
        Starts(video=np.zeros(1, int), frame=np.zeros(2, int), class_index=np.zeros(1, int), confidence=np.ones(1))
    with pytest.raises(DataError, match="video 0: a score at frame 1 is nan"):
        detect_starts([np.array([[0.0, 1.0], [np.nan, 0.0]])])
    with pytest.raises(ShapeError, match=r"video 0: scores have shape \(3,\)"):
        detect_starts([np.zeros(3)])
    with pytest.raises(ShapeError, match=r"shape \(3, 2\) and scored \(2,\)"):
        detect_starts([np.zeros((3, 2))], scored=[np.ones(2, dtype=bool)])
    with pytest.raises(ShapeError, match="scored has 0 videos"):
        detect_starts([np.zeros((3, 2))], scored=[])
    with pytest.raises(ConfigError, match="background class index 2"):
        detect_starts([np.zeros((3, 2))], background=2)
    with pytest.raises(DataError, match="video 0: class index 2 at frame 0"):
        action_starts([np.array([2])], num_classes=2)
