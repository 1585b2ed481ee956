"""Per-frame metrics beside those of others: outputs of the published code, and scikit-learn on random cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, average_precision_score

from coadtr.errors import DataError
from coadtr.evaluation import accuracy, mean_average_precision, per_frame_average_precision

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FILES = ["metrics_thumos_like", "metrics_tvseries_like", "metrics_ties"]


@pytest.fixture(params=FILES)
def reference(request: pytest.FixtureRequest, shared_reference: Path) -> dict[str, Any]:
    with np.load(shared_reference / f"{request.param}.npz") as stored:
        return {"name": request.param, **{key: stored[key] for key in stored}}


def test_every_stored_evaluation_is_compared(shared_reference: Path) -> None:
    assert sorted(path.stem for path in shared_reference.glob("metrics_*")) == sorted(FILES)


@pytest.mark.parametrize("form", ["one-hot", "indices"])
def test_published_evaluation(reference: dict[str, Any], form: str) -> None:
    hot, scores = reference["labels"], reference["scores"]
    classes = scores.shape[1]
    ignored = 21 if classes == 22 else None
    actions = range(1, 21 if ignored else classes)
    options: dict[str, Any] = {
        "class_names": [str(index) for index in range(classes)],
        "background": 0,
        "ignored": ignored,
    }
    labels = hot if form == "one-hot" else hot.argmax(axis=1)
    plain = per_frame_average_precision(labels, scores, **options)
    calibrated = per_frame_average_precision(labels, scores, calibrated=True, **options)
    assert list(plain) == list(calibrated) == [str(index) for index in actions]

    # The published code computes in float32, and adds an epsilon to denominators.
    np.testing.assert_allclose(list(plain.values()), reference["sklearn_ap"], atol=1e-12, rtol=0)
    kept = slice(None) if ignored is None else hot[:, ignored] == 0
    tie_aware = [weighted_precision(hot[kept, index] == 1, scores[kept, index]) for index in actions]
    np.testing.assert_allclose(list(calibrated.values()), tie_aware, atol=1e-12, rtol=0)
    if reference["name"] == "metrics_ties":
        # The published values depend on the order of the frames here, and so are no reference.
        assert np.abs(reference["reference_ap"] - reference["sklearn_ap"]).max() > 1e-3
    else:
        np.testing.assert_allclose(list(plain.values()), reference["reference_ap"], atol=2e-6, rtol=0)
        np.testing.assert_allclose(list(calibrated.values()), reference["reference_calibrated_ap"], atol=1e-6, rtol=0)
        assert mean_average_precision(plain) == pytest.approx(float(reference["reference_map"]), abs=1e-6)
        assert mean_average_precision(calibrated) == pytest.approx(float(reference["reference_mcap"]), abs=1e-6)


def weighted_precision(positives: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Scikit-learn's average precision where all positive frames together weigh as much as all negative ones."""
    negatives = (~positives).sum()
    if negatives == 0:
        return 1.0
    weights = np.where(positives, negatives / positives.sum(), 1.0)
    return float(average_precision_score(positives, scores, sample_weight=weights))


@st.composite
def labelled_frames(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[np.float64], int | None, int | None]:
    """Index or multi-hot labels, scores that often tie, and which classes are background and ignored."""
    frames, classes = draw(st.integers(1, 40)), draw(st.integers(2, 6))
    elements = draw(st.sampled_from([st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32)]))
    scores = draw(hnp.arrays(np.float64, (frames, classes), elements=elements))
    absent = draw(st.integers(0, classes - 1))  # at least this class often has no frame
    if draw(st.booleans()):
        labels = draw(hnp.arrays(np.uint8, (frames, classes), elements=st.integers(0, 1)))
        labels[:, absent] *= draw(st.integers(0, 1))
    else:
        labels = draw(hnp.arrays(np.int64, frames, elements=st.integers(0, classes - 1)))
        if draw(st.booleans()):
            labels[labels == absent] = (absent + 1) % classes
    background, ignored = draw(st.permutations([None, *range(classes)]))[:2]
    return labels, scores, background, ignored


def one_hot(labels: NDArray[Any], classes: int) -> NDArray[np.bool_]:
    return labels.astype(bool) if labels.ndim == 2 else np.eye(classes, dtype=bool)[labels]


@given(labelled_frames(), st.booleans())
@settings(deadline=None, max_examples=200)
def test_scikit_learn_on_random_frames(
    case: tuple[NDArray[Any], NDArray[np.float64], int | None, int | None], calibrated: bool
) -> None:
    labels, scores, background, ignored = case
    classes = scores.shape[1]
    found = per_frame_average_precision(
        labels,
        scores,
        class_names=[f"class {index}" for index in range(classes)],
        background=background,
        ignored=ignored,
        calibrated=calibrated,
    )
    shown = one_hot(labels, classes)
    kept = np.ones(len(shown), dtype=bool) if ignored is None else ~shown[:, ignored]
    expected = {}
    for index in range(classes):
        positives = shown[kept, index]
        if index not in {background, ignored} and positives.any():
            value = weighted_precision if calibrated else average_precision_score
            expected[f"class {index}"] = float(value(positives, scores[kept, index]))
    assert found == pytest.approx(expected, abs=1e-12)
    assert list(found) == list(expected)
    if expected:
        assert mean_average_precision(found) == pytest.approx(np.mean(list(expected.values())), abs=1e-12)
    else:
        with pytest.raises(DataError, match="no class has a positive frame"):
            mean_average_precision(found)


@given(labelled_frames())
@settings(deadline=None, max_examples=100)
def test_scikit_learn_accuracy_on_random_frames(
    case: tuple[NDArray[Any], NDArray[np.float64], int | None, int | None],
) -> None:
    labels, scores, _, ignored = case
    assume(labels.ndim == 1)
    kept = np.ones(labels.size, dtype=bool) if ignored is None else labels != ignored
    allowed = [index for index in range(scores.shape[1]) if index != ignored]
    answers = np.array(allowed)[scores[:, allowed].argmax(axis=1)]
    found = accuracy(labels, scores, ignored=ignored)
    if kept.any():
        assert found == pytest.approx(accuracy_score(labels[kept], answers[kept]), abs=1e-12)
    else:
        assert np.isnan(found)
