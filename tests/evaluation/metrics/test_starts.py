from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coadtr.errors import CoadtrError, ConfigError, DataError, ShapeError
from coadtr.evaluation.metrics.start_points import Starts, action_starts, detect_starts
from coadtr.evaluation.metrics.starts import StartPrecision, point_average_precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

NAMES = ["none", "run", "jump", "unclear"]
OFFSETS = (0.0, 1.0, 2.5)


def make(points: Sequence[tuple[int, int, int, float]], scored: Sequence[bool] | None = None) -> Starts:
    """Return starts from (video, frame, class, confidence)."""
    columns = np.array(points, dtype=np.float64).reshape(-1, 4).T
    whole = columns[:3].astype(np.int64)
    return Starts(video=whole[0], frame=whole[1], class_index=whole[2], confidence=columns[3],
                  scored=None if scored is None else np.array(scored, dtype=np.bool_))  # fmt: skip


def value(
    true: Sequence[tuple[int, int, int]],
    found: Sequence[tuple[int, int, int, float]],
    scored: Sequence[bool] | None = None,
    **options: Any,
) -> Any:
    given_: dict[str, Any] = {"rates_hz": [1.0, 2.0, 5.0], "class_names": NAMES, "offsets_s": OFFSETS, **options}
    return point_average_precision(make([(*point, 1.0) for point in true], scored), make(found), **given_)


points = st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(1, 2))
sure = st.sampled_from([0.1, 0.5, 0.9]) | st.floats(0, 1)
detections = st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(1, 2), sure)


def slow_value(
    true: list[tuple[int, int, int, bool]], found: list[tuple[int, int, int, float]], index: int, offset: float
) -> float:
    """Take every detection in turn, look at every start, and sum over every threshold."""
    rates = [1.0, 2.0, 5.0]
    starts = sorted(point for point in true if point[2] == index)
    counted = sum(start[3] for start in starts)
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
        within = bool(near) and min(near)[0] <= offset * rates[video]
        if within and not starts[min(near)[2]][3]:
            continue
        if within:
            taken.add(min(near)[2])
        verdicts.append((confidence, within))
    total, recall = 0.0, 0.0
    for threshold in sorted({confidence for confidence, _ in verdicts}, reverse=True):
        above = [right for confidence, right in verdicts if confidence >= threshold]
        total += (sum(above) / counted - recall) * sum(above) / len(above)
        recall = sum(above) / counted
    return total


@given(
    st.lists(st.tuples(points, st.booleans()), max_size=10, unique_by=lambda point: point[0]),
    st.lists(detections, max_size=14),
)
@settings(deadline=None, max_examples=150)
def test_equals_the_slow_reference(
    true: list[tuple[tuple[int, int, int], bool]], found: list[tuple[int, int, int, float]]
) -> None:
    result = value([point for point, _ in true], found, [counts for _, counts in true])
    flat = [(*point, counts) for point, counts in true]
    assert list(result.per_class) == [NAMES[index] for index in (1, 2) if any(p[2] == index and p[3] for p in flat)]
    for name, values in result.per_class.items():
        expected = [slow_value(flat, found, NAMES.index(name), offset) for offset in OFFSETS]
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


def test_equally_sure_detections_take_their_starts_in_order_of_time() -> None:
    # 5 takes 7, and leaves 10 to 8. The other way round 8 would take 7, and nothing would be near 5.
    found = [(0, 5, 1, 0.5), (0, 8, 1, 0.5)]
    for order in (found, found[::-1]):
        assert value([(0, 7, 1), (0, 10, 1)], order, offsets_s=[2]).per_class["run"] == (1.0,)
    # Surer is still before sooner.
    assert value([(0, 7, 1), (0, 10, 1)], [found[0], (0, 8, 1, 0.6)], offsets_s=[2]).per_class["run"] == (0.5,)


def test_a_detection_of_a_start_that_is_not_scored_is_neither_right_nor_wrong() -> None:
    # Two instances alike, each detected a frame late; the protocol leaves out the first frame of the first.
    labels = np.array([0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0])
    late = np.eye(2)[np.append(0, labels[:-1])]
    mask = np.ones(labels.size, dtype=bool)
    mask[2] = False
    starts = action_starts([labels], num_classes=2, background=0, scored=[mask])
    found = detect_starts([late], background=0, scored=[mask])
    assert found.frame.tolist() == [3, 11]
    options: dict[str, Any] = {"rates_hz": [1.0], "class_names": NAMES[:2], "offsets_s": [0.0, 1.0]}
    assert point_average_precision(starts, found, **options).per_class["run"] == (0.0, 1.0)


def test_a_start_that_is_not_scored_is_never_used_up() -> None:
    # Both detections near frame 2 are left out, though there is one start; that at 9 stays wrong.
    true, found = [(0, 2, 1), (0, 20, 1)], [(0, 1, 1, 0.9), (0, 3, 1, 0.8), (0, 9, 1, 0.7), (0, 20, 1, 0.6)]
    assert value(true, found, [False, True], offsets_s=[1]).per_class["run"] == (1 / 2,)
    assert value(true, found, [False, False], offsets_s=[1]).per_class == {}


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
    starts = action_starts([both], num_classes=4, scored=mask)
    assert starts.scored is not None
    assert (starts.frame.tolist(), starts.scored.tolist()) == ([0, 1], [False, True])
    unclear = np.array([[0, 1, 0, 1], [0, 1, 1, 0]])
    starts = action_starts([unclear], num_classes=4, ignored=3)
    assert starts.scored is not None
    assert (starts.frame.tolist(), starts.scored.tolist()) == ([0, 1], [False, True])


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


def test_frame_labels_of_thumos14_show_fewer_starts_than_its_list_has_instances(shared_data: Path) -> None:
    folder = shared_data / "thumos14_annotations"
    with np.load(folder / "test_perframe.npz") as stored:
        labels = np.split(stored["labels"].astype(np.int64), stored["offsets"][1:-1])
        videos = stored["names"].tolist()
    listed = json.loads((folder / "official_segments.json").read_text())["segments"]
    instances = [name for video in videos for name, *_ in listed.get(video, []) if name != "Ambiguous"]
    starts = action_starts(labels, num_classes=22, background=0, ignored=21)
    assert (starts.frame.size, len(instances)) == (2968, 3358)


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
