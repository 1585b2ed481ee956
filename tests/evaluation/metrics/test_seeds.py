"""Means over seeds: every resample scored the plain way for every run, and averaged in loops."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest

from coadtr.errors import ConfigError, DataError
from coadtr.evaluation.metrics import MeanOverSeeds, difference_over_seeds, mean_over_seeds, paired_precision_test
from coadtr.evaluation.metrics.intervals import bootstrap_precision, draw_videos
from tests.evaluation.metrics.resampled_videos import (
    ACTIONS,
    Video,
    make_videos,
    obvious,
    split,
    written_out_interval,
)

METRICS = ("mAP", "mcAP", "accuracy")


def runs_of(model: int, *, seeds: int = 3, videos: int = 5, multi_hot: bool = False) -> list[list[Video]]:
    """Return runs on the same videos: each frame has scores of its own in each run, the right answer in some."""
    shown = [
        video._replace(scored=video.scored | (np.arange(len(video.scored)) == 0))  # no video falls out
        for video in make_videos(5, videos=videos, multi_hot=multi_hot)
    ]
    runs = []
    for seed in range(seeds):
        random = np.random.default_rng([model, seed])
        run = []
        for video in shown:
            truth = video.labels if multi_hot else np.eye(4)[video.labels]
            right = random.random(len(truth)) < 0.2 * (1 + model)
            run.append(video._replace(scores=np.where(right[:, None], truth, random.random(truth.shape))))
        runs.append(run)
    return runs


def every_draw(videos: int, resamples: int, seed: int) -> tuple[Any, Any, Any]:
    """Return the multiplicities of all videos once, of those without one video each, and of the resamples."""
    ones = np.ones(videos, dtype=np.int64)
    return ones, list(1 - np.eye(videos, dtype=np.int64)), list(draw_videos(videos, resamples=resamples, seed=seed).T)


def counted(runs: list[list[Video]]) -> list[list[Video]]:
    """Leave out the videos without a frame that counts, which are not drawn."""
    return [[video for video in run if _counts(video)] for run in runs]


def _counts(video: Video) -> bool:
    ignored = video.labels[:, 3] == 1 if video.labels.ndim == 2 else video.labels == 3
    return bool((video.scored & ~ignored).any())


@pytest.mark.parametrize("multi_hot", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_the_mean_and_its_interval_written_out(metric: str, multi_hot: bool) -> None:
    runs = runs_of(1, multi_hot=multi_hot)
    found = mean_over_seeds(runs, metric=metric, **ACTIONS, resamples=60, level=0.9, seed=2)
    kept = counted(runs)
    ones, left_out, drawn = every_draw(len(kept[0]), 60, 2)

    def average(multiplicities: Any) -> float:
        return mean(obvious(run, multiplicities)[metric] for run in kept)

    interval = written_out_interval(
        [average(one) for one in drawn], average(ones), [average(one) for one in left_out], 0.9, (0, 1)
    )
    assert isinstance(found, MeanOverSeeds)
    assert found.value == pytest.approx(average(ones), abs=1e-12)
    assert found.interval == pytest.approx(interval, abs=1e-12)
    assert found.deviation == pytest.approx(stdev(obvious(run, ones)[metric] for run in kept), abs=1e-12)
    assert found.seeds == 3


@pytest.mark.parametrize("metric", METRICS)
def test_the_difference_and_its_interval_written_out(metric: str) -> None:
    first, second = runs_of(2), runs_of(0)
    found = difference_over_seeds(first, second, metric=metric, **ACTIONS, resamples=60, level=0.9, seed=3)
    kept = counted(first), counted(second)
    ones, left_out, drawn = every_draw(len(kept[0][0]), 60, 3)

    def by_seed(multiplicities: Any) -> list[float]:
        pairs = zip(*kept, strict=True)
        return [obvious(a, multiplicities)[metric] - obvious(b, multiplicities)[metric] for a, b in pairs]

    value = mean(by_seed(ones))
    interval = written_out_interval(
        [mean(by_seed(one)) for one in drawn], value, [mean(by_seed(one)) for one in left_out], 0.9, (-1, 1)
    )
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.interval == pytest.approx(interval, abs=1e-12)
    assert found.deviation == pytest.approx(stdev(by_seed(ones)), abs=1e-12)
    turned = difference_over_seeds(second, first, metric=metric, **ACTIONS, resamples=60, level=0.9, seed=3)
    assert turned.value == -found.value
    assert found.interval is not None
    assert turned.interval == pytest.approx((-found.interval[1], -found.interval[0]), abs=1e-12)


def test_one_seed_has_the_interval_of_its_run_and_no_deviation() -> None:
    (run,), (other,) = runs_of(2, seeds=1), runs_of(0, seeds=1)
    labels, scores, scored = split(run)
    alone = bootstrap_precision(labels, scores, scored=scored, **ACTIONS, resamples=80, seed=1)
    found = mean_over_seeds([run], **ACTIONS, resamples=80, seed=1)
    assert found.interval == pytest.approx(alone.mAP, abs=1e-12)
    assert (found.deviation, found.seeds) == (None, 1)
    paired = paired_precision_test(run, other, **ACTIONS, resamples=80, seed=1).mAP
    difference = difference_over_seeds([run], [other], **ACTIONS, resamples=80, seed=1)
    assert paired is not None
    assert difference.value == pytest.approx(paired.difference, abs=1e-12)
    assert difference.interval == pytest.approx(paired.interval, abs=1e-12)


def test_videos_are_found_by_name_and_one_video_has_no_interval() -> None:
    runs = runs_of(1)
    shuffled = [run[::-1] for run in runs]
    assert mean_over_seeds(shuffled, **ACTIONS, resamples=20) == mean_over_seeds(runs, **ACTIONS, resamples=20)
    single = mean_over_seeds([run[:1] for run in runs], **ACTIONS, resamples=20)
    assert single.interval is None
    assert single.deviation is not None


def test_a_run_against_itself_does_not_differ() -> None:
    runs = runs_of(1)
    assert difference_over_seeds(runs, runs, **ACTIONS, resamples=20) == MeanOverSeeds(
        value=0.0, interval=(0.0, 0.0), deviation=0.0, seeds=3
    )


REPLAY = "replay all runs on the same split of the same store under the same protocol"


def spoilt(what: str) -> list[list[Video]]:
    """Return runs of which the last one does not fit."""
    runs = runs_of(1)
    video = runs[2][1]
    changes = {
        "fewer videos": runs[2][1:],
        "another name": [runs[2][0]._replace(name="other"), *runs[2][1:]],
        "labels": [runs[2][0], video._replace(labels=(video.labels + 1) % 4), *runs[2][2:]],
        "scored": [runs[2][0], video._replace(scored=~video.scored), *runs[2][2:]],
    }
    return [*runs[:2], changes[what]]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("fewer videos", f"runs of different videos cannot be compared; {REPLAY}"),
        ("another name", f"runs of different videos cannot be compared; {REPLAY}"),
        ("labels", f"video 'video_1' has other labels or other scored frames in another run; {REPLAY}"),
        ("scored", f"video 'video_1' has other labels or other scored frames in another run; {REPLAY}"),
    ],
)
def test_runs_of_other_videos_are_refused(what: str, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}$"):
        mean_over_seeds(spoilt(what), **ACTIONS)
    with pytest.raises(DataError, match=f"^{message}$"):
        difference_over_seeds(runs_of(1), spoilt(what), **ACTIONS)


def test_what_cannot_be_averaged_is_refused() -> None:
    with pytest.raises(DataError, match=r"^there is no run to average: give the videos of at least one$"):
        mean_over_seeds([], **ACTIONS)
    with pytest.raises(DataError, match=r"^there is no run to average"):
        difference_over_seeds([], [], **ACTIONS)
    with pytest.raises(DataError, match=r"^2 runs of one model and 3 of the other: compare as many seeds of both$"):
        difference_over_seeds(runs_of(1)[:2], runs_of(0), **ACTIONS)
    rest = [[video._replace(labels=np.zeros_like(video.labels)) for video in run] for run in runs_of(1)]
    with pytest.raises(DataError, match=r"^no scored frame shows an action, so mAP is undefined: score other videos$"):
        mean_over_seeds(rest, **ACTIONS)


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"resamples": 0}, "resamples is 0"), ({"level": 1.0}, "level is 1.0"), ({"seed": -1}, "seed is -1")],
)
def test_bad_settings_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        mean_over_seeds(runs_of(1), **ACTIONS, **setting)
    with pytest.raises(ConfigError, match=f"^{message}"):
        difference_over_seeds(runs_of(1), runs_of(0), **ACTIONS, **setting)


@pytest.mark.parametrize("metric", ["F1", "per_class_AP"])
def test_an_unknown_metric_is_refused_by_name(metric: str) -> None:
    message = f"^metric must be one of mAP, mcAP, accuracy, got '{metric}'$"
    with pytest.raises(ConfigError, match=message):
        mean_over_seeds(runs_of(1), metric=metric, **ACTIONS)
    with pytest.raises(ConfigError, match=message):
        difference_over_seeds(runs_of(1), runs_of(0), metric=metric, **ACTIONS)
