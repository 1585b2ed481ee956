"""The further keys of a report: each is what its metric says, and null where it cannot be had."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from coadtr.data import VideoScores
from coadtr.errors import ConfigError, DataError
from coadtr.evaluation import DetailSettings, evaluate_details
from coadtr.evaluation.metrics import bootstrap_precision, portion_average_precision, segmental_scores

NAMES = ("none", "run", "jump", "unclear")
CLASSES: dict[str, Any] = {"class_names": NAMES, "background": 0, "ignored": 3}
QUICK = DetailSettings(resamples=20, seed=4)


def videos(*, multi_hot: bool = False, rate_hz: float | None = 4.0, ahead: int = 0) -> list[VideoScores]:
    random = np.random.default_rng(0)
    made = []
    for name, runs in (("a", 12), ("b", 7), ("c", 20)):
        labels = random.integers(4, size=runs).repeat(6)
        scores = random.dirichlet(np.ones(4), size=labels.size)
        scores[np.arange(labels.size), labels] += 0.5
        scores /= scores.sum(axis=1, keepdims=True)
        shown = np.eye(4, dtype=np.uint8)[labels] if multi_hot else labels
        expected = random.dirichlet(np.ones(4), size=(labels.size, ahead)) if ahead else None
        made.append(VideoScores(name, scores, shown, labels != 3, rate_hz, expected))
    return made


def test_all_keys_are_there_and_are_what_the_metrics_say() -> None:
    held = videos()
    details = evaluate_details(held, **CLASSES, settings=QUICK)
    assert set(details) == {
        *("intervals", "portions", "segmental", "starts", "delay", "calibration", "warmup", "anticipation"),
    }
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    given = [video.labels for video in held], [video.scores for video in held]
    masks = [video.scored for video in held]
    drawn = bootstrap_precision(*given, **CLASSES, scored=masks, resamples=20, seed=4)
    assert details["intervals"] == drawn.to_dict()
    assert details["portions"]["mAP"] == list(portion_average_precision(*given, **CLASSES, scored=masks).mean)
    assert details["segmental"] == segmental_scores(*given, **CLASSES, scored=masks).to_dict()
    assert details["delay"]["false_positives_per_hour"] == 60.0
    assert details["starts"]["offsets_s"] == list(range(1, 11))
    assert details["warmup"]["edges"][:3] == [0, 1, 2]
    assert details["anticipation"] is None


def test_several_classes_a_frame_have_no_segments_and_no_starts() -> None:
    details = evaluate_details(videos(multi_hot=True), **CLASSES, settings=QUICK)
    assert (details["segmental"], details["starts"]) == (None, None)
    assert details["delay"] is not None
    assert details["intervals"]["mAP"] is not None


@pytest.mark.parametrize("rate_hz", [None, float("nan"), 0.0, -5.0, float("inf")])
def test_without_a_rate_there_are_no_seconds(rate_hz: float | None) -> None:
    first, *rest = videos(ahead=4)
    details = evaluate_details([dataclasses.replace(first, rate_hz=rate_hz), *rest], **CLASSES, settings=QUICK)
    assert (details["starts"], details["delay"], details["anticipation"]) == (None, None, None)


def test_horizons_are_those_that_every_video_reaches() -> None:
    details = evaluate_details(videos(ahead=4), **CLASSES, settings=QUICK)
    assert details["anticipation"]["horizons_s"] == [0.25, 0.5, 0.75, 1.0]  # 4 frames ahead at 4 Hz
    counted = details["anticipation"]["frames"]  # fewer, the later the frame that has to be there
    assert counted == sorted(counted, reverse=True)
    far = evaluate_details(videos(ahead=1, rate_hz=100.0), **CLASSES, settings=QUICK)
    assert far["anticipation"] is None
    first, *rest = videos(ahead=4)
    fast = evaluate_details([dataclasses.replace(first, rate_hz=8.0), *rest], **CLASSES, settings=QUICK)
    assert fast["anticipation"]["horizons_s"] == [0.25, 0.5]  # 4 frames ahead at 8 Hz
    assert fast["anticipation"]["frames_ahead"] is None


def test_horizons_of_no_frame_or_of_the_same_frame_are_left_out() -> None:
    slow = evaluate_details(videos(ahead=4, rate_hz=1.0), **CLASSES, settings=QUICK)["anticipation"]
    assert (slow["horizons_s"], slow["frames_ahead"]) == ([1.0, 2.0], [1, 2])
    first, *rest = videos(ahead=4, rate_hz=1.0)
    mixed = evaluate_details([dataclasses.replace(first, rate_hz=2.0), *rest], **CLASSES, settings=QUICK)
    assert mixed["anticipation"]["horizons_s"] == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]


@pytest.mark.parametrize("resamples", [0, 20])
def test_nothing_to_score_is_refused(resamples: int) -> None:
    few = DetailSettings(resamples=resamples)
    with pytest.raises(DataError, match="no frame is scored in 0 videos; check the split"):
        evaluate_details([], **CLASSES, settings=few)
    none = [dataclasses.replace(video, scored=video.labels == 3) for video in videos()]  # 3 is ignored
    with pytest.raises(DataError, match="no frame is scored in 3 videos"):
        evaluate_details(none, **CLASSES, settings=few)


def test_intervals_can_be_left_out() -> None:
    assert evaluate_details(videos(), **CLASSES, settings=DetailSettings(resamples=0))["intervals"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resamples": -1}, "resamples=-1"),
        ({"level": 1.0}, "level=1.0"),
        ({"seed": -2}, "seed=-2"),
        ({"false_positives_per_hour": -1.0}, "false_positives_per_hour is -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        DetailSettings(**options)


def test_one_video_has_no_intervals() -> None:
    assert evaluate_details(videos()[:1], **CLASSES, settings=QUICK)["intervals"] is None
