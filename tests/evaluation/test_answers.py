from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from coadtr.errors import CoadtrError, ConfigError, DataError, ShapeError
from coadtr.evaluation import VideoAnswers, evaluate_answers, probabilities

NAMES = ["none", "run", "jump", "unclear"]


def scores(name: str, labels: list[int], seed: int = 0) -> VideoAnswers:
    logits = np.random.default_rng(seed).normal(size=(len(labels), 4)).astype(np.float32)
    return VideoAnswers(name, logits, np.array(labels))


@pytest.mark.parametrize("scale", [1, 30, 1e4])
def test_softmax_leaves_the_ignored_class_out(scale: float) -> None:
    logits = scale * np.random.default_rng(0).normal(size=(50, 4))
    result = probabilities(logits, ignored=1)
    expected = torch.from_numpy(logits[:, [0, 2, 3]]).softmax(dim=1).numpy()
    np.testing.assert_allclose(result[:, [0, 2, 3]], expected, atol=1e-12)
    assert (result[:, 1] == 0).all()
    np.testing.assert_allclose(probabilities(logits), torch.from_numpy(logits).softmax(dim=1).numpy(), atol=1e-12)


def test_sure_float32_answers_stay_in_order() -> None:
    sure = probabilities(np.array([[20.0, 0.0], [25.0, 0.0]], dtype=np.float32))
    assert sure[0, 0] < sure[1, 0] < 1


def test_softmax_refuses_a_class_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="index 4"):
        probabilities(np.zeros((2, 4)), ignored=4)


def test_mean_per_video_accuracy_weighs_videos_not_frames() -> None:
    right = VideoAnswers("right", np.eye(3, dtype=np.float32)[[0, 1, 2, 1]], np.array([0, 1, 2, 1]))
    wrong = VideoAnswers("wrong", np.eye(3, dtype=np.float32)[[0, 1]], np.array([1, 1]))
    result = evaluate_answers([right, wrong], class_names=["a", "b", "c"], background=0, window=1)
    assert result["accuracy"] == pytest.approx(5 / 6)
    assert result["mean_per_video_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert result["videos"] == result["videos_scored"] == 2


def test_absent_ignored_and_background_classes() -> None:
    result = evaluate_answers(
        iter([scores("a", [0, 1, 1, 3, 0]), scores("b", [3, 3], seed=1)]),
        class_names=NAMES,
        background=0,
        ignored=3,
        window=4,
    )
    assert result["classes_absent"] == ["jump"]
    assert list(result["per_class_AP"]) == list(result["per_class_cAP"]) == ["run"]
    assert result["mAP"] == result["per_class_AP"]["run"]
    assert (result["background"], result["ignored"]) == ("none", "unclear")
    assert (result["videos"], result["videos_scored"]) == (2, 1)
    counts = [result[f"frames_{what}"] for what in ("total", "scored", "ignored", "outside")]
    assert counts == [7, 4, 3, 0]
    assert result["protocol"]["name"] == "all"
    assert result["protocol"]["version"] == 1


def test_all_classes_count_without_background() -> None:
    result = evaluate_answers([scores("a", [0, 1, 2, 3])], class_names=NAMES, window=4)
    assert list(result["per_class_AP"]) == NAMES


def test_multi_hot_frames_without_a_class_have_no_accuracy() -> None:
    labels = np.zeros((12, 2), dtype=np.uint8)
    labels[0, 0] = 1
    video = VideoAnswers("a", np.zeros((12, 2)), labels)
    assert evaluate_answers([video], class_names=["x", "y"], window=1)["accuracy"] == 1.0
    with pytest.raises(DataError, match="no class has a positive frame"):
        evaluate_answers([video], class_names=["x", "y"], window=2, protocol="oadtr")


@pytest.mark.parametrize(
    ("videos", "options", "error", "words"),
    [
        ([], {}, DataError, "none of 0 frames in 0 videos"),
        ([scores("a", [3, 3])], {"ignored": 3}, DataError, "none of 2 frames"),
        ([scores("a", [0] * 9)], {"protocol": "oadtr"}, DataError, "none of 9 frames"),
        ([scores("a", [0, 0])], {}, DataError, "no class has a positive frame"),
        ([scores("a", [0, 1]), scores("a", [0, 1])], {}, DataError, "'a' comes twice"),
        ([scores("a", [0, 4])], {}, DataError, "'a': class index 4"),
        ([scores("a", [0, 1])], {"class_names": NAMES[:2]}, ShapeError, "'a': 4 logits a frame but 2 class"),
        ([scores("a", [0, 1])], {"ignored": 9}, ConfigError, "ignored class index 9"),
        ([scores("a", [0, 1])], {"protocol": "any"}, ConfigError, "'any'"),
        (
            [scores("a", [0]), VideoAnswers("b", np.zeros((1, 4)), np.eye(4)[:1])],
            {},
            DataError,
            "use one form",
        ),
    ],
)
def test_bad_input_is_named(
    videos: list[VideoAnswers], options: dict[str, Any], error: type[CoadtrError], words: str
) -> None:
    settings: dict[str, Any] = {"class_names": NAMES, "background": 0, "window": 2, **options}
    with pytest.raises(error, match=words):
        evaluate_answers(videos, **settings)


def test_scores_that_are_no_answers_are_refused() -> None:
    with pytest.raises(ShapeError, match="'v'"):
        VideoAnswers("v", np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(DataError, match="'v': the answer to frame 1"):
        VideoAnswers("v", np.array([[0.0, 1.0], [np.nan, 0.0]]), np.zeros(2))
