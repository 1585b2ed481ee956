from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coadtr.errors import CoadtrError, ConfigError, DataError, ShapeError
from coadtr.evaluation.metrics.accuracy import accuracy
from coadtr.evaluation.metrics.intervals import (
    bootstrap_mean,
    bootstrap_precision,
    draw_videos,
    interval_of,
    with_jackknife,
)
from coadtr.evaluation.metrics.ranking import mean_average_precision, per_frame_average_precision
from coadtr.evaluation.metrics.resampling import join_scored_frames, resampled_average_precision, resampled_metrics
from coadtr.evaluation.metrics.stretching import percentile_interval, stretched_interval
from tests.evaluation.metrics.resampled_videos import (
    ACTIONS,
    NAMES,
    Video,
    make_videos,
    obvious,
    split,
    written_out_interval,
)

if TYPE_CHECKING:
    from pathlib import Path


@given(st.integers(0, 10**6), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=40)
def test_resampled_metrics_are_those_of_the_frames_written_out(seed: int, multi_hot: bool, ties: bool) -> None:
    videos = make_videos(seed, multi_hot=multi_hot, ties=ties)
    ignored = [v.labels[:, 3] == 1 if multi_hot else v.labels == 3 for v in videos]
    videos = [v for v, mask in zip(videos, ignored, strict=True) if (v.scored & ~mask).any()]
    frames = join_scored_frames(*split(videos), **ACTIONS)
    drawn = draw_videos(len(videos), resamples=20, seed=seed)
    found = resampled_metrics(frames, drawn, **ACTIONS)
    for index in range(20):
        expected = obvious(videos, drawn[:, index])
        for key in ("mAP", "mcAP", "accuracy"):
            assert getattr(found, key)[index] == pytest.approx(expected[key], abs=1e-12, nan_ok=True)
        for name, values in found.per_class_AP.items():
            assert values[index] == pytest.approx(expected[f"mAP {name}"], abs=1e-12, nan_ok=True)
        for name, values in found.per_class_cAP.items():
            assert values[index] == pytest.approx(expected[f"mcAP {name}"], abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("cells", [1, 100])
def test_blocks_of_thresholds_carry_their_counts_over(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    random = np.random.default_rng(0)
    positives, scores, video = (
        random.random(300) < 0.4,
        random.integers(90, size=300) / 90,
        random.integers(6, size=300),
    )
    drawn = draw_videos(6, resamples=10, seed=0)
    whole = resampled_average_precision(positives, scores, video, drawn)
    monkeypatch.setattr("coadtr.evaluation.metrics.resampling._CELLS", cells)
    blocks = resampled_average_precision(positives, scores, video, drawn)
    np.testing.assert_allclose(blocks, whole, rtol=0, atol=1e-14)


def test_large_counts_stay_exact() -> None:
    # 2**24 + 1 true and 3 false frames of a resample: more than float32 can count.
    drawn = np.array([[2**24 - 1], [2], [3]])
    positives, scores, video = np.array([True, True, False]), np.array([0.5, 0.4, 0.4]), np.arange(3)
    plain, _ = resampled_average_precision(positives, scores, video, drawn)
    true = 2**24 + 1
    assert plain[0] == pytest.approx(((true - 2) + 2 * true / (true + 3)) / true, rel=1e-15)


def test_worked_example_of_three_resamples() -> None:
    # Video 0 shows run at 0.9 (right) and none at 0.6; video 1 shows run at 0.6.
    positives, scores, video = np.array([True, False, True]), np.array([0.9, 0.6, 0.6]), np.array([0, 0, 1])
    drawn = np.array([[1, 2, 0], [1, 0, 2]])
    plain, calibrated = resampled_average_precision(positives, scores, video, drawn)
    # Both: at 0.9 precision 1, at 0.6 precision 2/3, each half of the recall.
    np.testing.assert_allclose(plain, [0.5 + 0.5 * 2 / 3, 1, 1])
    # Both: w = 1/2, at 0.6 precision is (1/2 x 2) / (1/2 x 2 + 1) = 1/2.
    np.testing.assert_allclose(calibrated, [0.5 + 0.5 * 1 / 2, 1, 1])


def test_a_resample_without_the_class_has_no_value() -> None:
    frames = np.array([True, False]), np.array([0.9, 0.8]), np.array([0, 1])
    plain, calibrated = resampled_average_precision(*frames, np.array([[0, 1], [2, 1]]))
    np.testing.assert_array_equal(plain, [np.nan, 1.0])
    np.testing.assert_array_equal(calibrated, [np.nan, 1.0])


def test_intervals_are_stretched_quantiles_over_the_resamples_where_a_value_is_defined() -> None:
    videos = make_videos(3, videos=4)
    found = bootstrap_precision(*split(videos)[:2], scored=split(videos)[2], **ACTIONS, resamples=50, level=0.8, seed=7)
    kept = [video for video in videos if (video.scored & (video.labels != 3)).any()]
    drawn = np.random.default_rng(7).integers(len(kept), size=(50, len(kept)))
    values = [obvious(kept, np.bincount(row, minlength=len(kept))) for row in drawn]
    whole = obvious(kept, np.ones(len(kept), dtype=int))
    left_out = [obvious(kept, row) for row in 1 - np.eye(len(kept), dtype=int)]
    for key in ("mAP", "mcAP", "accuracy"):
        expected = written_out_interval(
            [value[key] for value in values], whole[key], [value[key] for value in left_out], 0.8, (0, 1)
        )
        assert getattr(found, key) == pytest.approx(expected, abs=1e-12)
    assert found.videos == len(kept)
    assert set(found.to_dict()) >= {"level", "resamples", "seed", "unit", "mAP", "mcAP", "accuracy"}
    assert found.to_dict()["unit"] == "video"
    assert found.to_dict()["mAP"] == list(found.mAP or ())


def test_a_seed_gives_the_same_intervals_and_another_seed_others() -> None:
    labels, scores, scored = split(make_videos(5, videos=12, ties=False))
    first, again, other = (
        bootstrap_precision(labels, scores, scored=scored, **ACTIONS, resamples=100, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.mAP != other.mAP


def test_one_video_has_no_interval() -> None:
    video = make_videos(0, videos=1)
    found = bootstrap_precision(*split(video)[:2], **ACTIONS)
    assert (found.videos, found.mAP, found.mcAP, found.accuracy) == (1, None, None, None)
    assert set(found.per_class_AP.values()) == {None}
    assert found.to_dict()["mAP"] is None


def test_videos_without_a_scored_frame_are_not_drawn() -> None:
    videos = make_videos(9, videos=6)
    empty = Video("empty", np.zeros((3, 4)), np.array([1, 3, 3]), np.array([False, True, True]))
    results = []
    for chosen in (videos, [empty, *videos]):
        labels, scores, scored = split(chosen)
        results.append(bootstrap_precision(labels, scores, scored=scored, **ACTIONS, resamples=40))
    assert results[0] == results[1]


def test_oracle_and_constant_scores() -> None:
    random = np.random.default_rng(0)
    labels = [random.permutation([0, 0, 1, 2]) for _ in range(20)]
    oracle = bootstrap_precision(labels, [np.eye(3)[row] for row in labels], class_names=NAMES[:3], background=0)
    assert oracle.mAP == oracle.mcAP == oracle.accuracy == (1.0, 1.0)
    constant = bootstrap_precision(labels, [np.ones((4, 3))] * 20, class_names=NAMES[:3], background=0)
    assert constant.mAP == pytest.approx((0.25, 0.25))  # each video shows each action a quarter of the time
    assert constant.mcAP == pytest.approx((0.5, 0.5))


def test_every_draw_takes_as_many_videos_as_there_are() -> None:
    drawn = draw_videos(213, resamples=400, seed=0)
    assert drawn.shape == (213, 400)
    assert (drawn.sum(axis=0) == 213).all()
    assert drawn.mean(axis=1) == pytest.approx(np.ones(213), abs=0.25)  # 5 standard errors
    assert (drawn == 0).mean() == pytest.approx(np.exp(-1), abs=0.01)


def test_mean_over_videos() -> None:
    values = np.random.default_rng(0).normal(size=40)
    low, high = bootstrap_mean(values, resamples=4000) or (0.0, 0.0)
    error = values.std() / np.sqrt(40)  # the bootstrap's own standard error of a mean
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.2 * error)
    assert bootstrap_mean([*values, np.nan], resamples=4000) == (low, high)
    assert bootstrap_mean([0.5]) is None
    assert bootstrap_mean([0.5, np.nan]) is None
    assert percentile_interval(np.full(3, np.nan), level=0.9) is None


def test_95_percent_of_the_intervals_of_a_mean_hold_the_truth() -> None:
    random = np.random.default_rng(1)
    intervals = [bootstrap_mean(random.random(60), resamples=300, seed=seed) for seed in range(400)]
    covered = [low <= 0.5 <= high for low, high in filter(None, intervals)]
    assert len(covered) == 400
    assert np.mean(covered) == pytest.approx(0.95, abs=0.04)


def test_worked_example_of_a_stretched_interval() -> None:
    values, left_out = np.array([0.4, 0.5, 0.6, np.nan]), np.array([0.3, 0.5, np.nan, 0.7])
    # Middle half 0.45 to 0.55. Their spread is sqrt(0.02 / 3), that of the jackknife sqrt(2 / 3 x 0.08): k = sqrt(8).
    found = stretched_interval(values, estimate=0.5, jackknife=left_out, level=0.5, within=(0.0, 1.0))
    assert found == pytest.approx((0.5 - 8**0.5 * 0.05, 0.5 + 8**0.5 * 0.05))
    # Cut off at 0.6; never narrower than the quantiles; on the estimate where they lie on one side of it.
    options: dict[str, Any] = {"level": 0.5, "within": (0.0, 0.6)}
    cut = stretched_interval(values, estimate=0.5, jackknife=left_out, **options)
    assert cut == pytest.approx((0.5 - 8**0.5 * 0.05, 0.6))
    assert stretched_interval(values, estimate=0.5, jackknife=np.full(3, 0.5), **options) == pytest.approx((0.45, 0.55))
    assert stretched_interval(values, estimate=0.3, jackknife=np.full(3, 0.5), **options) == pytest.approx((0.3, 0.55))
    # One value of the jackknife, or none of the resamples, or no estimate.
    assert stretched_interval(values, estimate=0.5, jackknife=left_out[:1], **options) == pytest.approx((0.45, 0.55))
    assert stretched_interval(values[3:], estimate=0.5, jackknife=left_out, **options) is None
    assert stretched_interval(values, estimate=np.nan, jackknife=left_out, **options) is None
    assert stretched_interval(np.full(3, 0.5), estimate=0.5, jackknife=left_out, **options) == (0.5, 0.5)


@given(st.integers(0, 10**6), st.booleans())
@settings(deadline=None, max_examples=30)
def test_intervals_hold_their_estimate_and_stay_in_range(seed: int, multi_hot: bool) -> None:
    labels, scores, scored = split(make_videos(seed, multi_hot=multi_hot))
    found = bootstrap_precision(labels, scores, scored=scored, **ACTIONS, resamples=30, seed=seed)
    frames = join_scored_frames(labels, scores, scored, **ACTIONS)
    whole = resampled_metrics(frames, np.ones((frames.videos, 1), dtype=int), **ACTIONS)
    pairs = [(getattr(found, key), getattr(whole, key)[0]) for key in ("mAP", "mcAP", "accuracy")]
    pairs += [(found.per_class_AP[name], values[0]) for name, values in whole.per_class_AP.items()]
    for interval, estimate in pairs:
        if interval is not None:
            assert 0 <= interval[0] <= estimate + 1e-12
            assert estimate - 1e-12 <= interval[1] <= 1


def filmed(videos: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Return videos of one action each, of ten, some easy and some hard."""
    random = np.random.default_rng(seed)
    labels, scores = [], []
    for _ in range(videos):
        truth = np.zeros(100, np.int64)
        action = random.integers(1, 11)
        for begin in random.integers(80, size=2):
            truth[begin : begin + random.integers(5, 20)] = action
        logits = random.normal(size=(100, 11))
        logits[np.arange(100), truth] += random.gamma(2)
        labels.append(truth)
        scores.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    return labels, scores


@pytest.mark.slow
def test_intervals_hold_the_truth_more_often_than_percentile_intervals() -> None:
    names = [str(index) for index in range(11)]
    worlds = [join_scored_frames(*filmed(3000, seed), class_names=names, background=0) for seed in (1, 2)]
    once = np.ones((3000, 1), dtype=int)
    truths = [resampled_metrics(world, once, class_names=names, background=0) for world in worlds]
    held: dict[str, list[tuple[bool, bool]]] = {"mAP": [], "mcAP": []}
    for seed in range(100, 250):
        frames = join_scored_frames(*filmed(30, seed), class_names=names, background=0)
        drawn = with_jackknife(draw_videos(30, resamples=200, seed=seed))
        found = resampled_metrics(frames, drawn, class_names=names, background=0)
        for key, pairs in held.items():
            truth = float(np.mean([getattr(one, key)[0] for one in truths]))
            values = getattr(found, key)
            interval = interval_of(values, videos=30, level=0.95, within=(0.0, 1.0))
            plain = percentile_interval(values[31:], level=0.95)
            assert interval is not None
            assert plain is not None
            pairs.append((interval[0] <= truth <= interval[1], plain[0] <= truth <= plain[1]))
    for pairs in held.values():
        covered, plainly = np.mean(pairs, axis=0)
        assert covered > plainly
        assert covered == pytest.approx(0.95, abs=0.05)


GOOD = [np.array([0, 1])], [np.eye(4)[:2]]


@pytest.mark.parametrize(
    ("labels", "scores", "options", "error", "words"),
    [
        (*GOOD, {"resamples": 0}, ConfigError, "resamples is 0"),
        (*GOOD, {"level": 1.0}, ConfigError, "level is 1.0"),
        (*GOOD, {"seed": -1}, ConfigError, "seed is -1"),
        (*GOOD, {"ignored": 4}, ConfigError, "ignored class index 4"),
        (*GOOD, {"scored": []}, ShapeError, "scored has 0 videos but labels have 1"),
        (GOOD[0], [], {}, ShapeError, "0 videos have scores but 1 have labels"),
        (GOOD[0], [np.eye(4)], {}, ShapeError, r"video 0: scores have shape \(4, 4\); expected \(2, 4\)"),
        ([np.array([0, 4])], GOOD[1], {}, DataError, "video 0: class index 4 at frame 1"),
        (GOOD[0], [np.full((2, 4), np.nan)], {}, DataError, "video 0: a score at frame 0 is nan"),
        (*GOOD, {"scored": [np.zeros(2, bool)]}, DataError, "no frame is scored in 1 videos"),
        ([GOOD[0][0], np.eye(4, dtype=int)], [GOOD[1][0], np.eye(4)], {}, DataError, "use one form"),
    ],
)
def test_bad_input_is_named(
    labels: list[Any], scores: list[Any], options: dict[str, Any], error: type[CoadtrError], words: str
) -> None:
    with pytest.raises(error, match=words):
        bootstrap_precision(labels, scores, **{**ACTIONS, **options})


def test_real_labels_against_the_plain_way(shared_data: Path) -> None:
    with np.load(shared_data / "gtea" / "Split_1.npz") as stored:
        labels = np.split(stored["labels"].astype(np.int64), stored["offsets"][1:-1])
        names = [str(name) for name in stored["class_names"]]
    random = np.random.default_rng(0)
    # Two decimals: most scores are tied with others.
    scores = [np.round(0.3 * np.eye(len(names))[row] + random.random((row.size, len(names))), 2) for row in labels]
    frames = join_scored_frames(labels, scores, class_names=names, background=0)
    drawn = draw_videos(frames.videos, resamples=5, seed=0)
    found = resampled_metrics(frames, drawn, class_names=names, background=0)
    for index, column in enumerate(drawn.T):
        chosen = np.repeat(np.arange(len(labels)), column)
        joined = np.concatenate([labels[i] for i in chosen]), np.concatenate([scores[i] for i in chosen])
        per_class = per_frame_average_precision(*joined, class_names=names, background=0)
        assert found.mAP[index] == pytest.approx(mean_average_precision(per_class), abs=1e-12)
        assert found.accuracy[index] == pytest.approx(accuracy(*joined), abs=1e-12)


def test_values_that_are_not_one_per_video_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 2\); give one value per video"):
        bootstrap_mean(np.zeros((2, 2)))
