from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.data import read_scores, write_scores
from coadtr.data.scores import VideoScores
from coadtr.errors import DataError
from coadtr.evaluation.metrics.intervals import draw_videos
from coadtr.evaluation.metrics.paired import paired_precision_test
from tests.evaluation.metrics.resampled_videos import (
    ACTIONS,
    NAMES,
    Video,
    make_videos,
    obvious,
    written_out_interval,
)

if TYPE_CHECKING:
    from pathlib import Path


def better(videos: list[Video], share: float, seed: int = 0) -> list[Video]:
    """Give a share of the frames the right answer."""
    random = np.random.default_rng(seed)
    result = []
    for video in videos:
        right = random.random(len(video.labels)) < share
        result.append(video._replace(scores=np.where(right[:, None], np.eye(4)[video.labels], video.scores)))
    return result


def in_ranks(videos: list[Video]) -> list[Video]:
    """Replace each score by its rank among those of its class at the frames that count."""
    counted = np.concatenate([video.scores[video.scored & (video.labels != 3)] for video in videos])
    ranked = []
    for video in videos:
        below = (counted[None] < video.scores[:, None]).sum(axis=1)
        equal = (counted[None] == video.scores[:, None]).sum(axis=1)
        ranked.append(video._replace(scores=below + (equal + 1) / 2))
    return ranked


@pytest.mark.parametrize("resamples", [40, 6])  # 3 videos are swapped in 8 ways: all of them, or 6 drawn
def test_paired_difference_interval_and_permutations_written_out(resamples: int) -> None:
    first = better(make_videos(1, videos=3, ties=False), 0.5)
    second = make_videos(1, videos=3, ties=False)
    assert all(((video.labels != 3) & video.scored).any() for video in first)
    found = paired_precision_test(first, second, **ACTIONS, resamples=resamples, level=0.9, seed=4)
    drawn = draw_videos(3, resamples=resamples, seed=4)
    ones = np.ones(3, dtype=int)
    # What is swapped: ranks for precision, the answers themselves for accuracy.
    ranks = in_ranks(first), in_ranks(second)
    every = [list(own) for own in product((0, 1), repeat=3) if not all(own)]
    swaps = every if resamples == 40 else np.random.default_rng([4, 1]).integers(2, size=(7, 3))[1:].tolist()
    assert found.mAP is not None
    for key in ("mAP", "mcAP", "accuracy"):
        values = [obvious(first, column)[key] - obvious(second, column)[key] for column in drawn.T]
        observed = obvious(first, ones)[key] - obvious(second, ones)[key]
        extreme = 0
        runs = (first, second) if key == "accuracy" else ranks
        for own in swaps:
            one = [a if chosen else b for a, b, chosen in zip(*runs, own, strict=True)]
            other = [b if chosen else a for a, b, chosen in zip(*runs, own, strict=True)]
            extreme += abs(obvious(one, ones)[key] - obvious(other, ones)[key]) >= abs(observed) - 1e-9
        result = getattr(found, key)
        assert result.difference == pytest.approx(observed, abs=1e-12)
        left_out = [obvious(first, row)[key] - obvious(second, row)[key] for row in 1 - np.eye(3, dtype=int)]
        expected = written_out_interval(values, observed, left_out, 0.9, (-1, 1))
        assert result.interval == pytest.approx(expected, abs=1e-12)
        assert result.p_value == (1 + extreme) / (1 + len(swaps))
    assert found.smallest_p == 0.25


def test_a_clear_difference_is_found_and_turns_its_sign() -> None:
    second = make_videos(2, videos=30)
    first = better(second, 0.5)
    found, turned = (paired_precision_test(*runs, **ACTIONS) for runs in ((first, second), (second, first)))
    assert found.mAP is not None
    assert found.mAP.interval is not None
    assert found.mAP.interval[0] > 0
    assert found.mAP.p_value == pytest.approx(1 / 1001)
    assert turned.mAP is not None
    assert turned.mAP.difference == -found.mAP.difference
    assert turned.mAP.p_value == found.mAP.p_value


@pytest.mark.parametrize("rescaled", [lambda x: x**4, lambda x: x / 100, lambda x: 7 + np.exp(3 * x)])
def test_rescaling_the_scores_of_one_run_changes_no_p_value_of_precision(rescaled: Any) -> None:
    second = make_videos(6, videos=12)
    first = better(make_videos(6, videos=12), 0.15)
    plain = paired_precision_test(first, second, **ACTIONS, resamples=300)
    other = [video._replace(scores=rescaled(video.scores)) for video in second]
    found = paired_precision_test(first, other, **ACTIONS, resamples=300)
    assert found == plain
    assert plain.mAP is not None
    assert plain.mAP.p_value is not None
    assert 0.01 < plain.mAP.p_value < 0.9  # the share of a few permutations, which a rescaling could change


def test_accuracy_is_swapped_as_right_and_wrong_frames() -> None:
    # Ranks say nothing of which class of a frame is highest: p is that of the numbers of right frames.
    first, second = better(make_videos(8, videos=9, ties=False), 0.3), make_videos(8, videos=9, ties=False)
    found = paired_precision_test(first, second, **ACTIONS, resamples=200, seed=3).accuracy
    kept = [video.scored & (video.labels != 3) for video in first]
    pairs = [(one, other, mask) for one, other, mask in zip(first, second, kept, strict=True) if mask.any()]
    gain = [
        sum(int((run.scores[mask, :3].argmax(axis=1) == run.labels[mask]).sum()) * sign
            for run, sign in ((one, 1), (other, -1)))
        for one, other, mask in pairs
    ]  # fmt: skip
    swaps = np.random.default_rng([3, 1]).integers(2, size=(201, len(pairs)))[1:]
    extreme = sum(abs(int(np.where(own, gain, np.negative(gain)).sum())) >= abs(sum(gain)) for own in swaps)
    assert found is not None
    assert found.p_value == (1 + extreme) / 201


def test_equal_runs_do_not_differ() -> None:
    videos = [video._replace(scored=video.labels != 3) for video in make_videos(4, videos=6)]
    assert all(video.scored.any() for video in videos)
    found = paired_precision_test(videos, videos[::-1], **ACTIONS, resamples=50)  # found by name
    assert found.to_dict() == {
        "level": 0.95,
        "resamples": 50,
        "seed": 0,
        "unit": "video",
        "videos": 6,
        "smallest_p": 1 / 32,
        **{key: {"difference": 0.0, "interval": [0.0, 0.0], "p_value": 1.0} for key in ("mAP", "mcAP", "accuracy")},
    }


@pytest.mark.slow
def test_p_values_of_runs_that_are_alike_are_spread_evenly() -> None:
    p_values = []
    for seed in range(200):
        first, second = (
            [video._replace(scores=np.random.default_rng([seed, run, index]).random(video.scores.shape))
             for index, video in enumerate(make_videos(seed, videos=10))]
            for run in (0, 1)
        )  # fmt: skip
        found = paired_precision_test(first, second, **ACTIONS, resamples=99, seed=seed)
        assert found.mAP is not None
        assert found.mAP.p_value is not None
        p_values.append(found.mAP.p_value)
    for level in (0.1, 0.5, 0.9):
        assert np.mean(np.array(p_values) <= level) == pytest.approx(level, abs=0.12)


def test_few_videos_cannot_give_a_small_p_value() -> None:
    second = [v._replace(scores=np.zeros_like(v.scores)) for v in make_videos(2, videos=4)]
    found = paired_precision_test(better(second, 1.0), second, **ACTIONS)
    assert found.videos == 4
    assert found.mAP is not None
    assert found.mAP.p_value == pytest.approx(2 / 2**4, abs=0.03)
    one = paired_precision_test(better(second[:1], 1.0), second[:1], **ACTIONS).mAP
    assert one is not None
    assert (one.difference > 0, one.interval, one.p_value) == (True, None, None)


def test_runs_without_an_action_have_no_difference() -> None:
    videos = [v._replace(labels=np.zeros_like(v.labels)) for v in make_videos(2)]
    found = paired_precision_test(videos, videos, **ACTIONS, resamples=10)
    assert (found.mAP, found.mcAP) == (None, None)
    assert found.accuracy is not None
    assert found.to_dict()["mAP"] is None


def test_files_of_scores_can_be_compared(tmp_path: Path) -> None:
    videos = make_videos(3)
    stored = [VideoScores(v.name, v.scores, v.labels.astype(np.int64), v.scored) for v in videos]
    path = tmp_path / "scores.h5"
    write_scores(path, class_names=NAMES, attributes={}, videos=stored)
    read = read_scores(path).videos
    assert paired_precision_test(read, videos, **ACTIONS) == paired_precision_test(videos, videos, **ACTIONS)


def changed(field: str, value: Any) -> list[Video]:
    videos = make_videos(0)
    return [*videos[:1], videos[1]._replace(**{field: value}), *videos[2:]]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (changed("labels", np.zeros(3, dtype=int)), "'video_1' has other labels in the second run; replay both"),
        (changed("scored", np.zeros(3, dtype=bool)), "'video_1' has other scored frames"),
        (changed("name", "other"), r"'other' is in one run only \(2 such videos\); replay both"),
        (changed("name", "video_0"), "'video_0' comes twice in one run"),
        (make_videos(0)[:4], r"'video_4' is in one run only \(1 such"),
    ],
)
def test_runs_on_other_videos_or_labels_are_refused(second: list[Video], words: str) -> None:
    with pytest.raises(DataError, match=words):
        paired_precision_test(make_videos(0), second, **ACTIONS)
