from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score

from coadtr.errors import CoadtrError, ConfigError, DataError, ShapeError
from coadtr.evaluation import (
    accuracy,
    average_precision,
    calibrated_average_precision,
    mean_average_precision,
    per_frame_average_precision,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Few distinct values: most cases have ties.
tied_scores = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5000001, 1.0])
free_scores = st.floats(0, 1, width=32)


@st.composite
def ranked_frames(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    size = draw(st.integers(1, 60))
    positives = draw(hnp.arrays(np.bool_, size))
    positives[draw(st.integers(0, size - 1))] = True
    elements = draw(st.sampled_from([tied_scores, free_scores]))
    return positives, draw(hnp.arrays(np.float64, size, elements=elements))


@given(ranked_frames())
@settings(deadline=None, max_examples=150)
def test_average_precision_equals_scikit_learn(
    case: tuple[NDArray[np.bool_], NDArray[np.float64]],
) -> None:
    positives, scores = case
    expected = average_precision_score(positives, scores)
    assert average_precision(positives, scores) == pytest.approx(expected, abs=1e-12)


@given(ranked_frames())
@settings(deadline=None, max_examples=150)
def test_calibrated_is_average_precision_with_weighted_positives(
    case: tuple[NDArray[np.bool_], NDArray[np.float64]],
) -> None:
    positives, scores = case
    negatives = (~positives).sum()
    if negatives == 0:
        assert calibrated_average_precision(positives, scores) == 1.0
        return
    weights = np.where(positives, negatives / positives.sum(), 1.0)
    expected = average_precision_score(positives, scores, sample_weight=weights)
    assert calibrated_average_precision(positives, scores) == pytest.approx(expected, abs=1e-12)


@given(ranked_frames(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_order_of_frames_and_scale_of_scores_do_not_matter(
    case: tuple[NDArray[np.bool_], NDArray[np.float64]], random: Any
) -> None:
    positives, scores = case
    order = list(range(positives.size))
    random.shuffle(order)
    for value in (average_precision, calibrated_average_precision):
        assert value(positives[order], 8 * scores[order]) == value(positives, scores)


def test_worked_example_with_a_tie() -> None:
    # Thresholds 0.9: TP 1, FP 0; 0.5: TP 2, FP 1 (tied); 0.1: TP 2, FP 2.
    positives = np.array([True, False, True, False])
    scores = np.array([0.9, 0.5, 0.5, 0.1])
    assert average_precision(positives, scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # One more negative: w = 3 / 2, at 0.5 precision is 3 / (3 + 1).
    positives, scores = np.append(positives, False), np.append(scores, 0.0)
    assert calibrated_average_precision(positives, scores) == pytest.approx(0.5 * 1 + 0.5 * 3 / 4)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_constant_scores_give_chance(share: float) -> None:
    positives = np.arange(1000) < 1000 * share
    scores = np.full(1000, 0.7)
    assert average_precision(positives, scores) == pytest.approx(share)
    assert calibrated_average_precision(positives, scores) == pytest.approx(0.5)


def test_ignored_frames_count_neither_way_and_absent_classes_have_no_value() -> None:
    random = np.random.default_rng(0)
    labels, scores = random.integers(4, size=300), random.random((300, 5))
    names = ["none", "run", "jump", "unclear", "fly"]
    values = per_frame_average_precision(labels, scores, class_names=names, background=0, ignored=3)
    kept = labels != 3
    assert values == {
        "run": average_precision(labels[kept] == 1, scores[kept, 1]),
        "jump": average_precision(labels[kept] == 2, scores[kept, 2]),
    }
    every = per_frame_average_precision(labels, scores, class_names=names)
    assert list(every) == ["none", "run", "jump", "unclear"]


def test_multi_hot_frames_are_positive_for_each_of_their_classes() -> None:
    random = np.random.default_rng(1)
    labels, scores = random.integers(2, size=(100, 3)).astype(np.uint8), random.random((100, 3))
    values = per_frame_average_precision(labels, scores, class_names=["a", "b", "c"])
    expected = [average_precision_score(labels[:, index], scores[:, index]) for index in range(3)]
    assert list(values.values()) == pytest.approx(expected)


def test_accuracy_counts_background_but_neither_ignored_frames_nor_ignored_answers() -> None:
    labels = np.array([0, 1, 2, 1])
    scores = np.array([[0.6, 0.4, 0.0], [0.5, 0.4, 0.1], [1.0, 0.0, 0.0], [0.0, 0.4, 0.6]])
    assert accuracy(labels, scores) == 1 / 4
    assert accuracy(labels, scores, ignored=2) == pytest.approx(2 / 3)
    assert scores[3, 2] == 0.6  # the input is as it was
    assert np.isnan(accuracy(labels[2:3], scores[2:3], ignored=2))


def test_accuracy_of_multi_hot_frames() -> None:
    labels = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]])
    scores = np.array([[0.1, 0.9, 0.0], [0.1, 0.9, 0.0], [0.1, 0.9, 0.0]])
    assert accuracy(labels, scores) == 0.5  # right, wrong, and a frame without any right answer


NAMES = ["none", "run", "jump"]
GOOD = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("labels", "scores", "options", "error", "words"),
    [
        (np.array([0, 3]), GOOD, {}, DataError, "class index 3 at frame 1"),
        (np.array([-1, 0]), GOOD, {}, DataError, "class index -1 at frame 0"),
        (np.array([0.5, 0]), GOOD, {}, DataError, "float64"),
        (np.array([[0, 1, 2], [0, 0, 1]]), GOOD, {}, DataError, "frame 0, class 2"),
        (np.zeros((2, 4), dtype=int), GOOD, {}, ShapeError, r"\(2, 4\)"),
        (np.array([0, 1, 2]), GOOD, {}, ShapeError, r"\(2, 3\).*\(3, 3\)"),
        (np.array([0, 1]), np.zeros((2, 4)), {}, ShapeError, r"\(2, 4\).*\(2, 3\)"),
        (np.array([0, 1]), np.full((2, 3), np.nan), {}, DataError, "nan"),
        (np.array([0, 1]), GOOD, {"ignored": 3}, ConfigError, "ignored class index 3"),
        (np.array([0, 1]), GOOD, {"class_names": ["a", "b", "a"]}, ConfigError, "'a'"),
    ],
)
def test_bad_input_is_named(
    labels: NDArray[Any],
    scores: NDArray[Any],
    options: dict[str, Any],
    error: type[CoadtrError],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        per_frame_average_precision(labels, scores, **{"class_names": NAMES, **options})


def test_undefined_means_are_refused() -> None:
    with pytest.raises(DataError, match="none of 2 frames"):
        average_precision(np.array([False, False]), np.array([0.1, 0.2]))
    with pytest.raises(ShapeError, match=r"\(2,\).*\(3,\)"):
        average_precision(np.array([False, True]), np.zeros(3))
    with pytest.raises(DataError, match="no class has a positive frame"):
        mean_average_precision({})
