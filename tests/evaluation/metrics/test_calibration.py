from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from coadtr.errors import CoadtrError, ConfigError, DataError, ShapeError
from coadtr.evaluation.metrics.calibration import calibration_error

if TYPE_CHECKING:
    from numpy.typing import NDArray


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def slow_error(confidence: NDArray[Any], right: NDArray[Any], bins: int) -> float:
    """Go through the bins one by one; the first holds 0 too."""
    total = 0.0
    for index in range(bins):
        low, high = index / bins, (index + 1) / bins
        inside = (confidence > low) & (confidence <= high) | (confidence == 0) & (index == 0)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@given(st.integers(0, 10**6), st.integers(1, 80), st.integers(2, 6), st.sampled_from([1, 2, 15]))
@settings(deadline=None, max_examples=100)
def test_class_indices_equal_the_obvious_computation(seed: int, frames: int, classes: int, bins: int) -> None:
    random = np.random.default_rng(seed)
    labels, scores = random.integers(classes, size=frames), softmax(3 * random.normal(size=(frames, classes)))
    found = calibration_error(labels, scores, bins=bins)
    assert found is not None
    assert found.ece == pytest.approx(slow_error(scores.max(axis=1), scores.argmax(axis=1) == labels, bins), abs=1e-12)
    one_hot = np.eye(classes)[labels]
    expected = sum(brier_score_loss(one_hot[:, index], scores[:, index], pos_label=1) for index in range(classes))
    assert found.brier == pytest.approx(expected, abs=1e-12)
    assert sum(part.frames for part in found.bins) == frames


@given(st.integers(0, 10**6), st.integers(1, 50), st.integers(1, 4))
@settings(deadline=None, max_examples=100)
def test_multi_hot_labels_are_one_question_per_class(seed: int, frames: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    labels, scores = random.integers(2, size=(frames, classes)), random.random((frames, classes))
    found = calibration_error(labels, scores)
    assert found is not None
    assert found.ece == pytest.approx(slow_error(scores.ravel(), labels.ravel(), 15), abs=1e-12)
    assert found.brier == pytest.approx(brier_score_loss(labels.ravel(), scores.ravel(), pos_label=1), abs=1e-12)
    share, confidence = calibration_curve(labels.ravel(), scores.ravel(), n_bins=15)
    filled = [part for part in found.bins if part.frames]
    assert [part.accuracy for part in filled] == pytest.approx(share)
    assert [part.confidence for part in filled] == pytest.approx(confidence)


def test_worked_example() -> None:
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[0.9, 0.1], [0.7, 0.3], [0.7, 0.3], [0.4, 0.6]])
    found = calibration_error(labels, scores, bins=5)
    assert found is not None
    # Bins (0.4, 0.6]: 0.6, right. (0.6, 0.8]: 0.7 twice, right once. (0.8, 1]: 0.9, right.
    assert [part.frames for part in found.bins] == [0, 0, 1, 2, 1]
    assert [part.accuracy for part in found.bins] == [None, None, 1.0, 0.5, 1.0]
    assert found.ece == pytest.approx((0.4 + 2 * 0.2 + 0.1) / 4)
    assert found.brier == pytest.approx((0.02 + 0.18 + 0.98 + 0.32) / 4)
    assert found.to_dict()["bins"][2] == {"low": 0.4, "high": 0.6, "confidence": 0.6, "accuracy": 1.0, "frames": 1}
    assert found.to_dict()["bins"][0]["accuracy"] is None


def test_scores_on_an_edge_belong_to_the_bin_below_it_and_zero_to_the_first() -> None:
    labels, scores = np.array([[1], [1], [0], [1]]), np.array([[0.0], [0.5], [0.500001], [1.0]])
    found = calibration_error(labels, scores, bins=2)
    assert found is not None
    assert [part.frames for part in found.bins] == [2, 2]
    assert [part.accuracy for part in found.bins] == [1.0, 0.5]


def test_oracle_is_calibrated_and_the_opposite_is_as_wrong_as_can_be() -> None:
    labels = np.array([0, 1, 1])
    right, wrong = calibration_error(labels, np.eye(2)[labels]), calibration_error(labels, np.eye(2)[1 - labels])
    assert right is not None
    assert wrong is not None
    assert (right.ece, right.brier) == (0.0, 0.0)
    assert (wrong.ece, wrong.brier) == (1.0, 2.0)


def test_scores_that_say_how_often_they_are_right_have_a_small_error() -> None:
    random = np.random.default_rng(0)
    scores = softmax(2 * random.normal(size=(20_000, 4)))
    labels = (scores.cumsum(axis=1) < random.random((20_000, 1))).sum(axis=1).clip(max=3)
    found, sharper = calibration_error(labels, scores), calibration_error(labels, softmax(3 * np.log(scores)))
    assert found is not None
    assert sharper is not None
    assert found.ece < 0.02
    assert sharper.ece > 0.1
    assert found.brier < sharper.brier


@pytest.mark.parametrize("multi_hot", [False, True])
def test_ignored_frames_and_the_ignored_class_are_left_out(multi_hot: bool) -> None:
    random = np.random.default_rng(0)
    indices, scores = random.integers(4, size=60), softmax(random.normal(size=(60, 4)))
    labels = np.eye(4, dtype=int)[indices] if multi_hot else indices
    kept, others = indices != 1, [0, 2, 3]
    narrowed = labels[kept][:, others] if multi_hot else np.array([0, -1, 1, 2])[labels[kept]]
    assert calibration_error(labels, scores, ignored=1) == calibration_error(narrowed, scores[kept][:, others])
    assert calibration_error(labels[~kept], scores[~kept], ignored=1) is None


GOOD = np.array([0, 1]), np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("labels", "scores", "options", "error", "words"),
    [
        (*GOOD, {"bins": 0}, ConfigError, "bins is 0"),
        (*GOOD, {"ignored": 2}, ConfigError, "ignored class index 2"),
        (GOOD[0], np.zeros((3, 2)), {}, ShapeError, r"\(3, 2\); expected \(2, C\)"),
        (np.array([0, 2]), GOOD[1], {}, DataError, "class index 2 at frame 1"),
        (GOOD[0], np.array([[0.5, 0.5], [2.5, -1.0]]), {}, DataError, "score 2.5 at frame 1, class 0.*`probabilities`"),
        (GOOD[0], np.full((2, 2), np.nan), {}, DataError, "score nan at frame 0"),
    ],
)
def test_bad_input_is_named(
    labels: NDArray[Any], scores: NDArray[Any], options: dict[str, Any], error: type[CoadtrError], words: str
) -> None:
    with pytest.raises(error, match=words):
        calibration_error(labels, scores, **options)
