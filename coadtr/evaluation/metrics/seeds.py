"""A model trained with several seeds: the mean of a metric over the seeds, and how two models differ in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError, DataError
from coadtr.evaluation.metrics.intervals import check_resampling, draw_videos, interval_of, with_jackknife
from coadtr.evaluation.metrics.resampling import join_scored_frames, resampled_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coadtr.evaluation.metrics.paired import ScoredVideo
    from coadtr.evaluation.metrics.stretching import Interval

__all__ = ["MeanOverSeeds", "difference_over_seeds", "mean_over_seeds"]

METRICS = ("mAP", "mcAP", "accuracy")


@dataclass(frozen=True, kw_only=True)
class MeanOverSeeds:
    """Hold the mean of a metric over seeds, or the difference of two such means.

    Attributes:
        value: The mean over the seeds, or the first model's less the second's.
        interval: Bootstrap interval ``(low, high)`` over the videos; None with fewer than two videos. It says how far
            the value depends on which videos were filmed.
        deviation: Standard deviation over the seeds, with n - 1 in the denominator (of the difference seed by seed, in
            the order given); None with one seed. It says how far one run's value depends on its seed.
        seeds: Number of seeds.
    """

    value: float
    interval: Interval | None
    deviation: float | None
    seeds: int


def mean_over_seeds(
    runs: Sequence[Sequence[ScoredVideo]],
    *,
    metric: str = "mAP",
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> MeanOverSeeds:
    """Average a metric over the runs of one model, with an interval over the videos.

    Every resample draws the same videos for all runs, scores each run on them, and averages.

    Args:
        runs: The runs, one for each seed: videos with scores, as `coadtr.data.read_scores` returns them.
        metric: ``"mAP"``, ``"mcAP"`` or ``"accuracy"``.
        class_names: The C names.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        resamples: Number of bootstrap resamples.
        level: Level of the interval, in (0, 1).
        seed: Seed of the draws.

    Returns:
        The mean, its interval and the spread over the seeds.

    Raises:
        ConfigError: A setting is out of range, or the classes do not fit.
        DataError: There is no run, the runs are of different videos, or the metric is undefined.

    Example:
        >>> from types import SimpleNamespace as Video
        >>> def run(score):
        ...     rows = np.array([[1 - score, score], [0.5, 0.5]])
        ...     frames = {"labels": np.array([1, 0]), "scored": np.ones(2, bool), "scores": rows}
        ...     return [Video(name=f"v{index}", **frames) for index in range(4)]
        >>> found = mean_over_seeds([run(0.9), run(0.1)], class_names=["none", "run"], background=0)
        >>> found.value, round(found.deviation, 3), found.seeds
        (0.75, 0.354, 2)
    """
    check_resampling(resamples=resamples, level=level, seed=seed)
    special: dict[str, Any] = {"class_names": class_names, "background": background, "ignored": ignored}
    values, videos = _resampled([runs], metric, special, resamples, seed)
    return _judge(values, videos=videos, level=level, within=(0.0, 1.0))


def difference_over_seeds(
    first: Sequence[Sequence[ScoredVideo]],
    second: Sequence[Sequence[ScoredVideo]],
    *,
    metric: str = "mAP",
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> MeanOverSeeds:
    """Compare two models, each trained with the same number of seeds, on the same videos.

    Args:
        first: Runs of the first model, one for each seed.
        second: Runs of the second model.
        metric: ``"mAP"``, ``"mcAP"`` or ``"accuracy"``.
        class_names: The C names.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        resamples: Number of bootstrap resamples.
        level: Level of the interval, in (0, 1).
        seed: Seed of the draws.

    Returns:
        The difference of the means, first minus second, with the interval of a paired bootstrap over the videos.

    Raises:
        ConfigError: A setting is out of range, or the classes do not fit.
        DataError: The models have different numbers of runs, the runs are of different videos, or the metric is
            undefined.

    Example:
        >>> from types import SimpleNamespace as Video
        >>> def run(score):
        ...     rows = np.array([[1 - score, score], [0.5, 0.5]])
        ...     frames = {"labels": np.array([1, 0]), "scored": np.ones(2, bool), "scores": rows}
        ...     return [Video(name=f"v{index}", **frames) for index in range(4)]
        >>> classes = {"class_names": ["none", "run"], "background": 0}
        >>> found = difference_over_seeds([run(0.9), run(0.8)], [run(0.1), run(0.2)], **classes)
        >>> found.value, found.interval
        (0.5, (0.5, 0.5))
    """
    check_resampling(resamples=resamples, level=level, seed=seed)
    if len(first) != len(second):
        raise DataError(f"{len(first)} runs of one model and {len(second)} of the other: compare as many seeds of both")
    special: dict[str, Any] = {"class_names": class_names, "background": background, "ignored": ignored}
    values, videos = _resampled([first, second], metric, special, resamples, seed)
    return _judge(values, videos=videos, level=level, within=(-1.0, 1.0))


def _resampled(
    models: Sequence[Sequence[Sequence[ScoredVideo]]], metric: str, special: dict[str, Any], resamples: int, seed: int
) -> tuple[NDArray[np.float64], int]:
    """Return the metric of each seed under each draw ``(seeds, draws)``, the first model's less the second's."""
    if metric not in METRICS:
        raise ConfigError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    by_name = [[{video.name: video for video in run} for run in runs] for runs in models]
    if not by_name[0]:
        raise DataError("there is no run to average: give the videos of at least one")
    names = sorted(by_name[0][0])
    drawn: NDArray[np.int64] | None = None
    total: NDArray[np.float64] | float = 0.0
    videos = 0
    for runs, sign in zip(by_name, (1.0, -1.0), strict=False):
        values = []
        for run in runs:
            _check_same(by_name[0][0], run, names)
            parts = [run[name] for name in names]
            frames = join_scored_frames(
                [video.labels for video in parts],
                [video.scores for video in parts],
                [v.scored for v in parts],
                **special,
            )
            if drawn is None:
                videos = frames.videos
                drawn = with_jackknife(draw_videos(videos, resamples=resamples, seed=seed))
            values.append(getattr(resampled_metrics(frames, drawn, **special), metric))
        total = total + sign * np.stack(values)
    found = np.asarray(total)
    if np.isnan(found[:, 0]).any():
        raise DataError(f"no scored frame shows an action, so {metric} is undefined: score other videos")
    return found, videos


def _check_same(first: dict[str, ScoredVideo], other: dict[str, ScoredVideo], names: Sequence[str]) -> None:
    remedy = "replay all runs on the same split of the same store under the same protocol"
    if sorted(other) != list(names):
        raise DataError(f"runs of different videos cannot be compared; {remedy}")
    for name in names:
        same = np.array_equal(first[name].labels, other[name].labels)
        if not same or not np.array_equal(first[name].scored, other[name].scored):
            raise DataError(f"video {name!r} has other labels or other scored frames in another run; {remedy}")


def _judge(values: NDArray[np.float64], *, videos: int, level: float, within: Interval) -> MeanOverSeeds:
    seeds = len(values)
    mean = values.mean(axis=0)
    return MeanOverSeeds(
        value=float(mean[0]),
        interval=interval_of(mean, videos=videos, level=level, within=within),
        deviation=float(values[:, 0].std(ddof=1)) if seeds > 1 else None,
        seeds=seeds,
    )
