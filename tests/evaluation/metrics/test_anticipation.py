from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coadtr.errors import CoadtrError, ConfigError, DataError, ShapeError
from coadtr.evaluation.metrics.anticipation import HORIZONS_S, anticipation_average_precision, frames_ahead
from coadtr.evaluation.metrics.ranking import mean_average_precision, per_frame_average_precision

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NAMES = ["none", "run", "jump", "unclear"]
CLASSES: dict[str, Any] = {"class_names": NAMES, "background": 0, "ignored": 3}


@st.composite
def several_videos(draw: st.DrawFn) -> dict[str, Any]:
    multi_hot, reach = draw(st.booleans()), draw(st.integers(1, 4))
    case: dict[str, Any] = {"labels": [], "ahead": [], "scored": [], "rates_hz": []}
    for _ in range(draw(st.integers(1, 3))):
        frames = draw(st.integers(0, 12))
        shape: Any = (frames, 4) if multi_hot else frames
        case["labels"].append(draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 1 if multi_hot else 3))))
        elements = st.sampled_from([0.0, 0.3, 0.7, 1.0])
        case["ahead"].append(draw(hnp.arrays(np.float64, (frames, reach, 4), elements=elements)))
        case["scored"].append(draw(hnp.arrays(np.bool_, frames)))
        case["rates_hz"].append(draw(st.sampled_from([1.0, 2.0, 3.0])))
    return case


def slow_pairs(case: dict[str, Any], horizon: float) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Go through every frame of every video; None if the model does not look so far ahead."""
    shown, answers = [], []
    for truth, ahead, mask, rate in zip(case["labels"], case["ahead"], case["scored"], case["rates_hz"], strict=True):
        step = min(range(1, 100), key=lambda frames: (abs(frames - horizon * rate), -frames))
        if step > ahead.shape[1]:
            return None
        unclear = truth[:, 3] == 1 if truth.ndim == 2 else truth == 3
        for frame in range(len(truth)):
            target = frame + step
            if target < len(truth) and mask[frame] and not unclear[frame] and not unclear[target]:
                shown.append(truth[target])
                answers.append(ahead[frame, step - 1])
    return np.array(shown).reshape(len(shown), *case["labels"][0].shape[1:]).astype(int), np.reshape(answers, (-1, 4))


@given(several_videos())
@settings(deadline=None, max_examples=120)
def test_equals_the_slow_reference(case: dict[str, Any]) -> None:
    horizons = (0.2, 0.5, 1.0, 1.5)
    result = anticipation_average_precision(**case, **CLASSES, horizons_s=horizons)
    for place, horizon in enumerate(horizons):
        pairs = slow_pairs(case, horizon)
        assert result.frames[place] == (0 if pairs is None else len(pairs[1]))
        for calibrated, table, mean in (
            (False, result.per_class, result.mean_ap),
            (True, result.per_class_calibrated, result.mean_calibrated_ap),
        ):
            expected = {} if pairs is None else per_frame_average_precision(*pairs, **CLASSES, calibrated=calibrated)
            values = {name: row[place] for name, row in table.items() if row[place] is not None}
            assert values == pytest.approx(expected)
            assert mean[place] == (pytest.approx(mean_average_precision(expected)) if expected else None)


def test_frames_ahead_rounds_to_the_nearest_frame_and_never_to_the_present() -> None:
    assert [frames_ahead(horizon, 4.0) for horizon in HORIZONS_S] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [frames_ahead(horizon, 5.0) for horizon in HORIZONS_S] == [1, 3, 4, 5, 6, 8, 9, 10]
    assert frames_ahead(0.25, 1.0) == 1
    assert frames_ahead(0.25, 30.0) == 8


def test_an_oracle_is_right_and_reads_the_target_not_the_present() -> None:
    truth = np.random.default_rng(0).integers(3, size=60)
    future = np.stack([np.append(truth[step:], np.zeros(step, dtype=int)) for step in range(1, 9)], axis=1)
    options: dict[str, Any] = {"rates_hz": [4.0], "class_names": NAMES[:3], "background": 0}
    oracle = anticipation_average_precision([truth], [np.eye(3)[future]], **options)
    assert oracle.mean_ap == oracle.mean_calibrated_ap == (1.0,) * 8
    assert oracle.frames == tuple(60 - step for step in range(1, 9))
    present = anticipation_average_precision([truth], [np.repeat(np.eye(3)[truth][:, None], 8, axis=1)], **options)
    assert all(value is not None and value < 0.9 for value in present.mean_ap)


def test_the_mask_is_about_the_answering_frame() -> None:
    truth = np.array([0, 0, 1, 0])
    ahead = np.zeros((4, 1, 2))
    ahead[1, 0, 1] = 1.0  # the answer about the action comes from frame 1
    options: dict[str, Any] = {"rates_hz": [1.0], "class_names": ["none", "run"], "background": 0, "horizons_s": [1.0]}
    target_unscored = [np.array([True, True, False, True])]
    result = anticipation_average_precision([truth], [ahead], scored=target_unscored, **options)
    assert (result.mean_ap, result.frames) == ((1.0,), (2,))
    answer_unscored = [np.array([True, False, True, True])]
    assert anticipation_average_precision([truth], [ahead], scored=answer_unscored, **options).mean_ap == (None,)


def test_a_horizon_out_of_reach_of_one_video_has_no_value() -> None:
    truth = np.array([0, 1, 0, 1, 1, 0])
    ahead = np.random.default_rng(1).random((6, 2, 2))
    result = anticipation_average_precision(
        [truth, truth], [ahead, ahead], rates_hz=[1.0, 2.0], class_names=["none", "run"], horizons_s=[1.0, 2.0]
    )
    assert result.mean_ap[0] is not None
    assert (result.mean_ap[1], result.mean_calibrated_ap[1], result.frames[1]) == (None, None, 0)
    stored = result.to_dict()
    assert stored["horizons_s"] == [1.0, 2.0]
    assert stored["mcAP"] == list(result.mean_calibrated_ap)
    assert stored["per_class_AP"]["run"][1] is None


def test_frames_ahead_are_told_where_all_videos_have_one_rate() -> None:
    truth, ahead = np.array([0, 1, 0, 1]), np.random.default_rng(1).random((4, 2, 2))
    options: dict[str, Any] = {"class_names": ["none", "run"], "horizons_s": [0.25, 0.5, 1.0]}
    same, other = (
        anticipation_average_precision([truth] * 2, [ahead] * 2, rates_hz=rates, **options)
        for rates in ([2.0, 2.0], [2.0, 1.5])
    )
    assert same.to_dict()["frames_ahead"] == [1, 1, 2]
    assert other.to_dict()["frames_ahead"] is None


def test_no_video_gives_no_value() -> None:
    result = anticipation_average_precision([], [], rates_hz=[], class_names=NAMES)
    assert (result.mean_ap, result.per_class) == ((None,) * 8, {})


def test_oracle_on_thumos14(shared_data: Path) -> None:
    with np.load(shared_data / "thumos14_annotations" / "test_perframe.npz") as stored:
        labels = np.split(stored["labels"].astype(np.int64), stored["offsets"][1:-1])[:20]
        rates = [float(rate) for rate in stored["video_fps"][:20] / 6]
        names = stored["class_names"].tolist()
    ahead = [
        np.eye(22, dtype=np.float32)[
            [[truth[min(t + k, truth.size - 1)] for k in range(1, 5)] for t in range(truth.size)]
        ]
        for truth in labels
    ]
    result = anticipation_average_precision(
        labels, ahead, rates_hz=rates, class_names=names, background=0, ignored=21, horizons_s=[0.25, 0.5, 0.75, 2.0]
    )
    assert result.mean_ap == (1.0, 1.0, 1.0, None)


AHEAD = [np.zeros((2, 3, 4))]
TRUE = [np.array([0, 1])]


@pytest.mark.parametrize(
    ("labels", "ahead", "options", "error", "words"),
    [
        (TRUE, AHEAD, {"horizons_s": [0.0]}, ConfigError, "horizon 0.0 s"),
        (TRUE, AHEAD, {"rates_hz": [0.0]}, DataError, "video 0: the rate is 0.0 Hz"),
        (TRUE, AHEAD, {"rates_hz": [1.0, 2.0]}, ShapeError, "2 rates for 1 videos"),
        (TRUE, [], {}, ShapeError, "0 videos have answers but 1 have labels"),
        (TRUE, [np.zeros((2, 4))], {}, ShapeError, r"shape \(2, 4\); expected \(T, K, C\) = \(2, K, 4\)"),
        (
            TRUE * 2,
            [np.zeros((2, 3, 4)), np.zeros((2, 2, 4))],
            {"rates_hz": [1, 1]},
            ShapeError,
            r"video 1.*\(2, 3, 4\)",
        ),
        (TRUE, [np.full((2, 3, 4), np.nan)], {}, DataError, "video 0: an answer of frame 0 is nan"),
        ([np.array([0, 9])], AHEAD, {}, DataError, "video 0: class index 9 at frame 1"),
    ],
)
def test_bad_input_is_named(
    labels: list[NDArray[Any]],
    ahead: list[NDArray[Any]],
    options: dict[str, Any],
    error: type[CoadtrError],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        anticipation_average_precision(
            labels, ahead, **{"rates_hz": [1.0], "class_names": NAMES, "horizons_s": [1.0], **options}
        )
