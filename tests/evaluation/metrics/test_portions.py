from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coadtr.errors import CoadtrError, ConfigError, DataError, ShapeError
from coadtr.evaluation.metrics.portions import portion_average_precision
from coadtr.evaluation.metrics.ranking import (
    average_precision,
    calibrated_average_precision,
    mean_average_precision,
    per_frame_average_precision,
)
from coadtr.evaluation.metrics.videos import instances, join_videos, kept_frames

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NAMES = ["none", "run", "jump", "unclear"]
BACKGROUND, IGNORED = 0, 3
TIED = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@st.composite
def several_videos(draw: st.DrawFn) -> tuple[list[NDArray[Any]], list[NDArray[Any]], list[NDArray[np.bool_]]]:
    multi_hot, elements = draw(st.booleans()), draw(st.sampled_from([TIED, st.floats(0, 1, width=32)]))
    labels, scores, scored = [], [], []
    for _ in range(draw(st.integers(1, 3))):
        frames = draw(st.integers(0, 25))
        shape: Any = (frames, 4) if multi_hot else frames
        labels.append(draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 1 if multi_hot else 3))))
        scores.append(draw(hnp.arrays(np.float64, (frames, 4), elements=elements)))
        scored.append(draw(hnp.arrays(np.bool_, frames)))
    return labels, scores, scored


def slow_portions(
    labels: list[NDArray[Any]],
    scores: list[NDArray[Any]],
    scored: list[NDArray[np.bool_]],
    portions: int,
    *,
    calibrated: bool,
) -> dict[str, tuple[float | None, ...]]:
    """Follow each frame back and forth to the ends of its instance, one frame at a time."""
    result: dict[str, tuple[float | None, ...]] = {}
    for index in (1, 2):
        rows: list[tuple[int | None, float]] = []  # portion, or None for a frame that does not show the class
        for truth, answers, mask in zip(labels, scores, scored, strict=True):
            shows = [bool(row[index]) if truth.ndim == 2 else row == index for row in truth]
            unclear = [bool(row[IGNORED]) if truth.ndim == 2 else row == IGNORED for row in truth]
            for frame in range(len(truth)):
                if not mask[frame] or unclear[frame]:
                    continue
                part = None
                if shows[frame]:
                    first, last = frame, frame
                    while first > 0 and shows[first - 1]:
                        first -= 1
                    while last < len(truth) - 1 and shows[last + 1]:
                        last += 1
                    part = portions * (frame - first) // (last - first + 1)
                rows.append((part, float(answers[frame, index])))
        if not any(part is not None for part, _ in rows):
            continue
        values: list[float | None] = []
        for wanted in range(portions):
            chosen = [(part is not None, score) for part, score in rows if part in {None, wanted}]
            positives = np.array([positive for positive, _ in chosen], dtype=bool)
            ranked = np.array([score for _, score in chosen])
            value = calibrated_average_precision if calibrated else average_precision
            values.append(value(positives, ranked) if positives.any() else None)
        result[NAMES[index]] = tuple(values)
    return result


@given(several_videos(), st.sampled_from([1, 2, 3, 10]), st.booleans())
@settings(deadline=None, max_examples=120)
def test_equals_the_slow_reference(
    case: tuple[list[NDArray[Any]], list[NDArray[Any]], list[NDArray[np.bool_]]], portions: int, calibrated: bool
) -> None:
    labels, scores, scored = case
    result = portion_average_precision(
        labels,
        scores,
        class_names=NAMES,
        background=BACKGROUND,
        ignored=IGNORED,
        scored=scored,
        portions=portions,
        calibrated=calibrated,
    )
    expected = slow_portions(labels, scores, scored, portions, calibrated=calibrated)
    assert list(result.per_class) == list(expected)
    for name, values in expected.items():
        for value, wanted in zip(result.per_class[name], values, strict=True):
            assert (value is None) == (wanted is None)
            assert value is None or value == pytest.approx(wanted, abs=1e-12)


@given(several_videos(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_one_portion_is_the_whole_action(
    case: tuple[list[NDArray[Any]], list[NDArray[Any]], list[NDArray[np.bool_]]], calibrated: bool
) -> None:
    labels, scores, _ = case
    whole = per_frame_average_precision(
        np.concatenate(labels),
        np.concatenate(scores),
        class_names=NAMES,
        background=BACKGROUND,
        ignored=IGNORED,
        calibrated=calibrated,
    )
    result = portion_average_precision(
        labels,
        scores,
        class_names=NAMES,
        background=BACKGROUND,
        ignored=IGNORED,
        portions=1,
        calibrated=calibrated,
    )
    assert {name: values[0] for name, values in result.per_class.items()} == pytest.approx(whole)
    if whole:
        assert result.mean[0] == pytest.approx(mean_average_precision(whole))


def test_worked_example() -> None:
    # One instance of 4 frames in halves; negatives score 0.5 and 0.2.
    labels = np.array([0, 1, 1, 1, 1, 0])
    run = np.array([0.5, 0.1, 0.6, 0.9, 0.5, 0.2])
    scores = np.stack([1 - run, run], axis=1)
    result = portion_average_precision([labels], [scores], class_names=["none", "run"], background=0, portions=2)
    # First half 0.6, 0.1: precision 1, then 2 / 4. Second half 0.9, 0.5 (tied with a negative): 1, then 2 / 3.
    assert result.per_class["run"] == pytest.approx(((1 + 2 / 4) / 2, (1 + 2 / 3) / 2))
    weighted = portion_average_precision(
        [labels], [scores], class_names=["none", "run"], background=0, portions=2, calibrated=True
    )
    assert weighted.per_class["run"] == pytest.approx(result.per_class["run"])  # as many negatives as positives: w = 1
    assert weighted.to_dict()["mcAP"] == pytest.approx([0.75, 5 / 6])


def test_short_instances_say_nothing_about_some_portions() -> None:
    # 3 frames in tenths: floor(10 i / 3) = 0, 3, 6.
    scores = np.array([[0.5, 0.5], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9]])
    result = portion_average_precision([np.array([0, 1, 1, 1])], [scores], class_names=["none", "run"], background=0)
    assert result.mean == (1.0, None, None, 1.0, None, None, 1.0, None, None, None)
    assert result.to_dict() == {"mAP": list(result.mean), "per_class": {"run": list(result.mean)}}


def test_instances_end_with_their_video_and_are_found_before_the_mask() -> None:
    ones, scores = np.ones(2, dtype=int), np.array([[0.0, 1.0], [0.0, 0.5]])
    quiet = (np.array([0]), np.array([[0.3, 0.7]]))
    options: dict[str, Any] = {"class_names": ["none", "run"], "background": 0, "portions": 2}
    # Two instances of 2 frames, not one of 4: 1.0 comes first of each, 0.5 last; the negative scores 0.7.
    apart = portion_average_precision([ones, ones, quiet[0]], [scores, scores, quiet[1]], **options)
    assert apart.per_class["run"] == pytest.approx((1.0, 2 / 3))
    # The first frame is not scored; the second still is the second half.
    mask = [np.array([False, True]), np.array([True])]
    masked = portion_average_precision([ones, quiet[0]], [scores, quiet[1]], scored=mask, **options)
    assert masked.per_class["run"] == (None, 0.5)


def test_absent_classes_have_no_value_and_no_class_no_mean() -> None:
    result = portion_average_precision([np.zeros(3, dtype=int)], [np.zeros((3, 4))], class_names=NAMES, background=0)
    assert (result.per_class, result.mean) == ({}, (None,) * 10)
    assert portion_average_precision([], [], class_names=NAMES).mean == (None,) * 10


def test_oracle_and_constant_on_thumos14(shared_data: Path) -> None:
    with np.load(shared_data / "thumos14_annotations" / "test_perframe.npz") as stored:
        labels = np.split(stored["labels"].astype(np.int64), stored["offsets"][1:-1])
        names = stored["class_names"].tolist()
    options: dict[str, Any] = {"class_names": names, "background": 0, "ignored": 21}
    oracle = portion_average_precision(labels, [np.eye(22)[truth] for truth in labels], **options)
    assert oracle.mean == (1.0,) * 10
    assert list(oracle.per_class) == names[1:21]
    constant = portion_average_precision(labels, [np.ones((t.size, 22)) for t in labels], calibrated=True, **options)
    assert constant.mean == pytest.approx((0.5,) * 10)


def test_instances_and_joined_videos() -> None:
    assert [edge.tolist() for edge in instances(np.zeros(3, dtype=bool))] == [[], []]
    videos = join_videos([np.array([0, 1]), np.array([1])], [np.eye(2), np.eye(2)[1:]], num_classes=2)
    assert videos.labels.tolist() == [0, 1, -1, 1, -1]
    assert videos.scores[:, 1].tolist() == [0, 1, -np.inf, 1, -np.inf]
    assert videos.kept.tolist() == [True, True, False, True, False]


GOOD = [np.zeros((2, 4))]
TRUE = [np.array([0, 1])]


@pytest.mark.parametrize(
    ("labels", "scores", "options", "error", "words"),
    [
        (TRUE, GOOD, {"portions": 0}, ConfigError, "portions is 0"),
        (TRUE, GOOD, {"class_names": ["a", "b", "a", "c"]}, ConfigError, "'a' occurs more than once"),
        (TRUE, GOOD, {"ignored": 4}, ConfigError, "ignored class index 4"),
        (TRUE, GOOD * 2, {}, ShapeError, "2 videos have scores but 1 have labels"),
        (TRUE, [np.zeros((3, 4))], {}, ShapeError, r"video 0: scores have shape \(3, 4\)"),
        (TRUE, [np.zeros((2, 3))], {}, ShapeError, r"expected \(2, 4\)"),
        (TRUE, GOOD, {"scored": []}, ShapeError, "scored has 0 videos"),
        (TRUE, GOOD, {"scored": [np.ones(3, dtype=bool)]}, ShapeError, r"video 0: scored has shape \(3,\)"),
        (TRUE, [np.array([[0.0] * 4, [np.nan] * 4])], {}, DataError, "video 0: a score at frame 1 is nan"),
        ([np.array([0, 4])], GOOD, {}, DataError, "video 0: class index 4 at frame 1"),
        ([np.array([0, 1]), np.zeros((2, 4), dtype=int)], GOOD * 2, {}, DataError, "use one form"),
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
        portion_average_precision(labels, scores, **{"class_names": NAMES, **options})


def test_kept_frames_are_scored_and_clear() -> None:
    kept = kept_frames([np.array([0, 3, 1])], num_classes=4, ignored=3, scored=[np.array([True, True, False])])
    assert kept[0].tolist() == [True, False, False]
