"""Is one run better than another on the same videos? A paired test, with the video as its unit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from coadtr.errors import DataError
from coadtr.evaluation.metrics.intervals import check_resampling, draw_videos, interval_of, with_jackknife
from coadtr.evaluation.metrics.resampling import (
    JoinedFrames,
    join_scored_frames,
    resampled_accuracy,
    resampled_metrics,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coadtr.evaluation.metrics.resampling import ResampledMetrics
    from coadtr.evaluation.metrics.stretching import Interval

__all__ = ["PairedDifference", "PairedTest", "ScoredVideo", "paired_precision_test"]

_METRICS = ("mAP", "mcAP", "accuracy")
# Equal values reached by different sums: a permutation that ties with the observed difference counts as such.
_ROUNDING = 1e-12


class ScoredVideo(Protocol):
    """What the test reads of one video; `coadtr.data.read_scores` returns such videos."""

    @property
    def name(self) -> str:
        """Name of the video."""

    @property
    def scores(self) -> NDArray[Any]:
        """Scores ``(T, C)``."""

    @property
    def labels(self) -> NDArray[Any]:
        """Class indices ``(T,)`` or multi-hot ``(T, C)``."""

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which frames the metric counts ``(T,)``."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Hold the difference of one metric, first run minus second.

    Attributes:
        difference: Its value on all videos, in [-1, 1].
        interval: Bootstrap interval ``(low, high)`` of the difference; None with fewer than two videos.
        p_value: Two-sided, in (0, 1]; None with fewer than two videos.
    """

    difference: float
    interval: Interval | None
    p_value: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        interval = None if self.interval is None else list(self.interval)
        return {"difference": self.difference, "interval": interval, "p_value": self.p_value}


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Hold what `paired_precision_test` found; a metric that is undefined is None.

    Attributes:
        level: Level of the intervals.
        resamples: Number of bootstrap resamples, and of permutations.
        seed: Seed of the draws.
        videos: Number of videos with a scored frame.
        smallest_p: The smallest p-value that so many videos and permutations can give.
        mAP: Difference of the mean average precision.
        mcAP: Difference of the mean calibrated average precision.
        accuracy: Difference of the share of right frames.
    """

    level: float
    resamples: int
    seed: int
    videos: int
    smallest_p: float
    mAP: PairedDifference | None  # noqa: N815 - the name of the field's literature
    mcAP: PairedDifference | None  # noqa: N815
    accuracy: PairedDifference | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; ``unit`` says what was drawn and swapped."""
        found: dict[str, PairedDifference | None] = {metric: getattr(self, metric) for metric in _METRICS}
        return {
            "level": self.level,
            "resamples": self.resamples,
            "seed": self.seed,
            "unit": "video",
            "videos": self.videos,
            "smallest_p": self.smallest_p,
            **{metric: None if value is None else value.to_dict() for metric, value in found.items()},
        }


def paired_precision_test(
    first: Sequence[ScoredVideo],
    second: Sequence[ScoredVideo],
    *,
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedTest:
    """Test whether two runs on the same videos differ in mAP, mcAP and accuracy.

    The interval is that of a paired bootstrap: both runs are scored on the same resamples of the videos. It is
    stretched as those of `bootstrap_precision` are.

    The p-value is that of a permutation test: if the runs were alike, each video could as well have got the answers of
    the other run. So the runs swap them at a random half of the videos, again and again, and p is the share
    ``(1 + b) / (1 + resamples)`` with b the permutations whose difference is at least as large as the observed one
    in absolute value. Where the videos can be swapped in no more ways than that, every way is taken once.

    For mAP and mcAP the answers are ranks, each run's own: that of a score among all scores of the class at frames
    that count, equal ones sharing the mean of their ranks. For scores of two runs may mean different things, and
    rescaling those of one should change p as little as its mAP. For accuracy the answers are whether each frame is
    right.

    p cannot fall below that of the number of videos: V videos can be swapped in ``2**V`` ways, and two of these give
    the observed difference, so with 5 videos p is at least 1/16 (``smallest_p``), however clear the difference. An
    interval from few videos may leave out 0 where p is large.

    Frames that are not scored or carry the ignored class never count, nor do background and ignored class in mAP; a
    class that does not occur is left out, in a resample too.

    Args:
        first: Videos of the first run.
        second: The same videos of the second run, in any order.
        class_names: The C names, each once.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        resamples: Number of bootstrap resamples, and of permutations.
        level: Level of the intervals, in (0, 1).
        seed: Seed of the draws.

    Returns:
        The differences, first minus second; a positive one says that the first run is better.

    Raises:
        ConfigError: A setting is out of range, or the classes do not fit.
        ShapeError: The arrays of a video do not match.
        DataError: Videos, labels or scored frames of the runs differ, or a score is nan.

    Source:
        Good, "Permutation, Parametric, and Bootstrap Tests of Hypotheses", 3rd edition, 2005; p-value with the
        observed case counted: Phipson and Smyth, "Permutation P-values Should Never Be Zero", 2010.

    Example:
        >>> from types import SimpleNamespace as Video
        >>> def run(score):
        ...     rows = np.array([[1 - score, score], [0.5, 0.5]])
        ...     frames = {"labels": np.array([1, 0]), "scored": np.ones(2, bool), "scores": rows}
        ...     return [Video(name=f"v{index}", **frames) for index in range(8)]
        >>> found = paired_precision_test(run(0.9), run(0.1), class_names=["none", "run"], background=0)
        >>> found.mAP.difference, found.mAP.interval, found.mAP.p_value < 0.05
        (0.5, (0.5, 0.5), True)
    """
    check_resampling(resamples=resamples, level=level, seed=seed)
    paired = _pair(first, second)
    special: dict[str, Any] = {"class_names": class_names, "background": background, "ignored": ignored}
    labels, scored = [video.labels for video, _ in paired], [video.scored for video, _ in paired]
    runs = [join_scored_frames(labels, [pair[side].scores for pair in paired], scored, **special) for side in (0, 1)]
    videos = runs[0].videos
    drawn = with_jackknife(draw_videos(videos, resamples=resamples, seed=seed))
    bootstrap = _differences(*(resampled_metrics(frames, drawn, **special) for frames in runs))
    swapped = _permuted(*runs, resamples=resamples, seed=seed, special=special)
    found = {metric: _judge(bootstrap[metric], swapped[metric], videos=videos, level=level) for metric in _METRICS}
    smallest = max(2.0 ** (1 - videos), 1 / (1 + resamples))
    return PairedTest(level=level, resamples=resamples, seed=seed, videos=videos, smallest_p=smallest, **found)


def _permuted(
    first: JoinedFrames, second: JoinedFrames, *, resamples: int, seed: int, special: dict[str, Any]
) -> dict[str, NDArray[np.float64]]:
    """Return the differences when the runs swap scores at random videos; column 0 is the one observed."""
    videos = first.videos
    both = JoinedFrames(
        labels=np.concatenate([first.labels, second.labels]),
        scores=np.concatenate([first.scores, second.scores]),
        video=np.concatenate([first.video, second.video + videos]),
        videos=2 * videos,
    )
    ranked = replace(both, scores=np.concatenate([_mid_ranks(first.scores), _mid_ranks(second.scores)]))
    if 2**videos <= resamples + 1:  # every way once; the first is the one observed
        own = 1 - (np.arange(2**videos) >> np.arange(videos)[:, None] & 1)
    else:
        # A stream of its own: the swaps do not go with the draws of the bootstrap.
        own = np.random.default_rng([seed, 1]).integers(2, size=(resamples + 1, videos)).T
        own[:, 0] = 1
    one, other = (
        replace(
            resampled_metrics(ranked, halves, **special),
            accuracy=resampled_accuracy(both, halves, ignored=special["ignored"]),
        )
        for halves in (np.concatenate([own, 1 - own]), np.concatenate([1 - own, own]))
    )
    return _differences(one, other)


def _mid_ranks(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return the rank of each score among those of its class, from 1; equal scores share the mean of their ranks."""
    ranks = np.empty(scores.shape)
    for index, column in enumerate(scores.T):
        _, place, count = np.unique(column, return_inverse=True, return_counts=True)
        ranks[:, index] = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


def _differences(first: ResampledMetrics, second: ResampledMetrics) -> dict[str, NDArray[np.float64]]:
    return {metric: getattr(first, metric) - getattr(second, metric) for metric in _METRICS}


def _judge(
    bootstrap: NDArray[np.float64], swapped: NDArray[np.float64], *, videos: int, level: float
) -> PairedDifference | None:
    observed = float(swapped[0])
    if np.isnan(observed):
        return None
    if videos < 2:
        return PairedDifference(difference=observed, interval=None, p_value=None)
    extreme = np.abs(swapped) >= abs(observed) - _ROUNDING
    p_value = int(extreme.sum()) / swapped.size
    interval = interval_of(bootstrap, videos=videos, level=level, within=(-1.0, 1.0))
    return PairedDifference(difference=observed, interval=interval, p_value=p_value)


def _pair(first: Sequence[ScoredVideo], second: Sequence[ScoredVideo]) -> list[tuple[ScoredVideo, ScoredVideo]]:
    remedy = "replay both runs on the same split of the same store under the same protocol"
    for videos in (first, second):
        names = [video.name for video in videos]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"video {twice!r} comes twice in one run; give every video once")
    others = {video.name: video for video in second}
    alone = sorted({video.name for video in first} ^ set(others))
    if alone:
        raise DataError(f"video {alone[0]!r} is in one run only ({len(alone)} such videos); {remedy}")
    paired = [(video, others[video.name]) for video in first]
    for video, other in paired:
        if not np.array_equal(video.labels, other.labels):
            raise DataError(f"video {video.name!r} has other labels in the second run; {remedy}")
        if not np.array_equal(video.scored, other.scored):
            raise DataError(f"video {video.name!r} has other scored frames in the second run; {remedy}")
    return paired
