from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coadtr.errors import ConfigError, ShapeError
from coadtr.evaluation.smoothing import CausalSmoothing

if TYPE_CHECKING:
    from numpy.typing import NDArray

smoothings = st.one_of(
    st.builds(CausalSmoothing, kind=st.just("mean"), frames=st.integers(1, 12)),
    st.builds(CausalSmoothing, kind=st.just("exponential"), decay=st.floats(0, 0.99)),
)
shapes = st.tuples(st.integers(0, 25), st.integers(1, 4))
videos = hnp.arrays(np.float64, shapes, elements=st.floats(0, 1))


@given(smoothings, videos)
@settings(deadline=None, max_examples=100)
def test_online_equals_whole_to_the_last_digit(smoothing: CausalSmoothing, scores: NDArray[np.float64]) -> None:
    whole, state = smoothing.apply(scores), smoothing.init_state(scores.shape[1])
    for row, expected in zip(scores, whole, strict=True):
        earlier, copied = state, state.rows.copy()
        smoothed, state = smoothing.step(row, state)
        np.testing.assert_array_equal(smoothed, expected)
        np.testing.assert_array_equal(earlier.rows, copied)  # the state is a value
        assert state.rows.shape[0] <= max(1, (smoothing.frames or 2) - 1)


@given(smoothings, videos, st.integers(0, 25))
@settings(deadline=None, max_examples=100)
def test_the_future_does_not_change_the_past(
    smoothing: CausalSmoothing, scores: NDArray[np.float64], frame: int
) -> None:
    changed = scores.copy()
    changed[frame:] = 1 - changed[frame:]
    np.testing.assert_array_equal(smoothing.apply(changed)[:frame], smoothing.apply(scores)[:frame])
    np.testing.assert_array_equal(smoothing.apply(scores[:frame]), smoothing.apply(scores)[:frame])


@given(videos)
@settings(deadline=None, max_examples=60)
def test_one_frame_and_no_memory_change_nothing(scores: NDArray[np.float64]) -> None:
    for smoothing in (CausalSmoothing(kind="mean", frames=1), CausalSmoothing(kind="exponential", decay=0.0)):
        smoothed = smoothing.apply(scores)
        np.testing.assert_array_equal(smoothed, scores)
        assert not np.shares_memory(smoothed, scores)


@given(smoothings, videos)
@settings(deadline=None, max_examples=100)
def test_probabilities_stay_probabilities(smoothing: CausalSmoothing, scores: NDArray[np.float64]) -> None:
    rows = (scores + 0.01) / (scores + 0.01).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(smoothing.apply(rows).sum(axis=1), 1, atol=1e-12)
    # Not by a rounding above 1, or a later check would refuse them.
    smoothed = smoothing.apply(scores)
    assert ((smoothed >= 0) & (smoothed <= 1)).all()
    assert (smoothing.apply(np.ones_like(scores)) == 1).all()


@given(st.integers(1, 12), videos)
@settings(deadline=None, max_examples=60)
def test_mean_is_that_of_the_last_frames_seen(frames: int, scores: NDArray[np.float64]) -> None:
    smoothed = CausalSmoothing(kind="mean", frames=frames).apply(scores)
    for index in range(scores.shape[0]):
        expected = scores[max(0, index + 1 - frames) : index + 1].mean(axis=0)
        np.testing.assert_allclose(smoothed[index], expected, rtol=0, atol=1e-14)


@given(st.floats(0, 0.99), videos)
@settings(deadline=None, max_examples=60)
def test_exponential_is_the_weighted_mean_of_all_frames_seen(decay: float, scores: NDArray[np.float64]) -> None:
    smoothed = CausalSmoothing(kind="exponential", decay=decay).apply(scores)
    for index in range(scores.shape[0]):
        weights = decay ** np.arange(index, -1, -1)
        expected = np.average(scores[: index + 1], axis=0, weights=weights)
        np.testing.assert_allclose(smoothed[index], expected, rtol=0, atol=1e-12)


def test_after_its_warmup_exponential_is_the_usual_filter() -> None:
    scores = np.random.default_rng(0).random((400, 3))
    smoothed = CausalSmoothing(kind="exponential", decay=0.9).apply(scores)
    usual = np.zeros(3)
    for row, answer in zip(scores, smoothed, strict=True):
        usual = 0.9 * usual + 0.1 * row
        last = answer
    np.testing.assert_allclose(last, usual, atol=1e-12)
    np.testing.assert_array_equal(smoothed[0], scores[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_input_stays_and_output_is_float64(dtype: type) -> None:
    scores: NDArray[Any] = np.random.default_rng(0).random((9, 2)).astype(dtype)
    before = scores.copy()
    for smoothing in (CausalSmoothing(kind="mean", frames=4), CausalSmoothing(kind="exponential", decay=0.5)):
        smoothed = smoothing.apply(scores)
        assert smoothed.dtype == np.float64
        np.testing.assert_array_equal(scores, before)
        row, _ = smoothing.step(scores[0], smoothing.init_state(2))
        np.testing.assert_array_equal(row, smoothed[0])


@given(smoothings)
@settings(deadline=None, max_examples=30)
def test_the_name_in_the_report_makes_the_same_smoothing(smoothing: CausalSmoothing) -> None:
    assert CausalSmoothing.parse(smoothing.to_dict()) == smoothing


def test_plain_values_are_parsed() -> None:
    parsed = CausalSmoothing.parse({"kind": "mean", "frames": 8, "decay": None})
    assert parsed == CausalSmoothing(kind="mean", frames=8)
    assert CausalSmoothing.parse(None) is None
    assert CausalSmoothing.parse({"kind": None, "frames": None}) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "median", "frames": 3}, "unknown smoothing 'median'; choose one of mean, exponential"),
        ({"kind": "mean"}, "'mean' needs frames; add smoothing.frames=5"),
        ({"kind": "mean", "frames": 3, "decay": 0.5}, "'mean' has decay=0.5; give frames alone"),
        ({"kind": "exponential", "frames": 3}, "'exponential' has frames=3; give decay alone"),
        ({"kind": "mean", "frames": 0}, "frames=0; give a whole number"),
        ({"kind": "mean", "frames": 2.5}, "frames=2.5; give a whole number"),
        ({"kind": "mean", "frames": True}, "frames=True; give a whole number"),
        ({"kind": "mean", "frames": "8"}, "frames='8'; give a whole number"),
        ({"kind": "exponential", "decay": 1}, "decay=1; give a number from 0 to below 1"),
        ({"kind": "exponential", "decay": -0.1}, "decay=-0.1"),
        ({"kind": "exponential", "decay": float("nan")}, "decay=nan"),
        ({"kind": "mean", "window": 3}, "no setting 'window'; choose among kind, frames, decay"),
        ({"frames": 3}, "frames but no kind"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        CausalSmoothing.parse(settings)


def test_bad_shapes_are_named() -> None:
    smoothing = CausalSmoothing(kind="mean", frames=2)
    with pytest.raises(ShapeError, match=r"\(3,\); expected \(T, C\)"):
        smoothing.apply(np.zeros(3))
    with pytest.raises(ShapeError, match=r"\(3,\); expected \(2,\)"):
        smoothing.step(np.zeros(3), smoothing.init_state(2))
