"""Confidence intervals by bootstrap over videos.

Frames of one video resemble each other, so it is videos that are drawn, not frames: as many as there are, with
replacement. An interval holds the middle ``level`` of the values of all resamples (percentile method). It says how
far a number depends on which videos were filmed, and nothing about another seed of the training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError, ShapeError
from coadtr.evaluation.metrics.resampling import join_scored_frames, resampled_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Interval",
    "PrecisionIntervals",
    "bootstrap_mean",
    "bootstrap_precision",
    "check_resampling",
    "draw_videos",
    "percentile_interval",
]

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class PrecisionIntervals:
    """Hold the intervals of a report, each ``(low, high)``; None where there is none.

    Attributes:
        level: Share of resamples inside.
        resamples: Number of resamples.
        seed: Seed of the draws.
        videos: Number of videos drawn from, those with a scored frame.
        mAP: Interval of the mean average precision.
        mcAP: Interval of the mean calibrated average precision.
        accuracy: Interval of the share of right frames.
        per_class_AP: Interval by the name of each class that occurs.
        per_class_cAP: The same of the calibrated precision.
    """

    level: float
    resamples: int
    seed: int
    videos: int
    mAP: Interval | None  # noqa: N815 - the name of the field's literature
    mcAP: Interval | None  # noqa: N815
    accuracy: Interval | None
    per_class_AP: dict[str, Interval | None]  # noqa: N815
    per_class_cAP: dict[str, Interval | None]  # noqa: N815

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; ``unit`` says what was drawn."""
        return {
            "level": self.level,
            "resamples": self.resamples,
            "seed": self.seed,
            "unit": "video",
            "videos": self.videos,
            "mAP": _listed(self.mAP),
            "mcAP": _listed(self.mcAP),
            "accuracy": _listed(self.accuracy),
            "per_class_AP": {name: _listed(interval) for name, interval in self.per_class_AP.items()},
            "per_class_cAP": {name: _listed(interval) for name, interval in self.per_class_cAP.items()},
        }


def bootstrap_precision(
    labels: Sequence[NDArray[Any]],
    scores: Sequence[NDArray[Any]],
    *,
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> PrecisionIntervals:
    """Return bootstrap intervals of mAP, mcAP, accuracy and the AP of each class.

    Each resample ranks all its frames anew, exactly and with ties, as `per_frame_average_precision` does; a video
    drawn twice counts twice. A class that a resample does not show is left out of the mean of that resample, and a
    resample where a value is undefined is left out of its interval. Frames that are not scored or carry the ignored
    class never count; a video with no other frames is not drawn. With fewer than two videos there is no interval.

    Args:
        labels: One array per video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        scores: One array per video ``(T, C)``.
        class_names: The C names, each once.
        background: Index of the background class, which has no AP but counts for accuracy; None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        scored: Which frames the protocol scores, one array per video ``(T,)``; None for all.
        resamples: How many times to draw.
        level: Share of resamples that the interval holds, in (0, 1).
        seed: Seed of the draws; equal seeds give equal intervals.

    Returns:
        The intervals, inside [0, 1].

    Raises:
        ConfigError: A setting is out of range, or the classes do not fit.
        ShapeError: The arrays do not match.
        DataError: No frame is scored, a label is outside the classes, or a score is nan.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile intervals).

    Example:
        >>> labels = [np.array([0, 1]), np.array([1, 0])]
        >>> scores = [np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.5, 0.5], [0.1, 0.9]])]
        >>> found = bootstrap_precision(labels, scores, class_names=["none", "run"], background=0)
        >>> found.mAP, found.accuracy
        ((0.5, 1.0), (0.0, 1.0))
    """
    check_resampling(resamples=resamples, level=level, seed=seed)
    frames = join_scored_frames(labels, scores, scored, class_names=class_names, background=background, ignored=ignored)
    found = resampled_metrics(
        frames,
        draw_videos(frames.videos, resamples=resamples, seed=seed),
        class_names=class_names,
        background=background,
        ignored=ignored,
    )

    def interval(values: NDArray[np.float64]) -> Interval | None:
        return percentile_interval(values, level=level) if frames.videos > 1 else None

    return PrecisionIntervals(
        level=level,
        resamples=resamples,
        seed=seed,
        videos=frames.videos,
        mAP=interval(found.mAP),
        mcAP=interval(found.mcAP),
        accuracy=interval(found.accuracy),
        per_class_AP={name: interval(values) for name, values in found.per_class_AP.items()},
        per_class_cAP={name: interval(values) for name, values in found.per_class_cAP.items()},
    )


def bootstrap_mean(values: ArrayLike, *, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> Interval | None:
    """Return the bootstrap interval of a mean over videos, for any number that each video has on its own.

    Args:
        values: One value per video, such as its accuracy or edit score; a video with nan has none, and is not drawn.
        resamples: How many times to draw.
        level: Share of resamples that the interval holds, in (0, 1).
        seed: Seed of the draws.

    Returns:
        ``(low, high)``; None with fewer than two values, which say nothing of their spread.

    Raises:
        ConfigError: A setting is out of range.
        ShapeError: ``values`` are not ``(V,)``.

    Example:
        >>> low, high = bootstrap_mean([0.2, 0.4, 0.6, 0.8])
        >>> round(low, 2), round(high, 2)
        (0.3, 0.7)
    """
    check_resampling(resamples=resamples, level=level, seed=seed)
    known = np.asarray(values, dtype=np.float64)
    if known.ndim != 1:
        raise ShapeError(f"values have shape {known.shape}; give one value per video (V,)")
    known = known[~np.isnan(known)]
    if known.size < 2:
        return None
    # Sums row by row, and not by a product of matrices, whose order of summation is the machine's.
    drawn = draw_videos(known.size, resamples=resamples, seed=seed)
    return percentile_interval(np.sum(known[:, None] * drawn, axis=0) / known.size, level=level)


def draw_videos(videos: int, *, resamples: int, seed: int) -> NDArray[np.int64]:
    """Draw resamples of ``videos`` videos with replacement.

    Args:
        videos: Number V of videos.
        resamples: Number R of resamples.
        seed: Seed of the draws.

    Returns:
        How often each video was drawn ``(V, R)``; each column sums to V.

    Example:
        >>> draw_videos(3, resamples=5, seed=0).sum(axis=0).tolist()
        [3, 3, 3, 3, 3]
    """
    drawn = np.random.default_rng(seed).integers(videos, size=(resamples, videos))
    cells = drawn + np.arange(resamples)[:, None] * videos
    counts = np.bincount(cells.ravel(), minlength=resamples * videos).reshape(resamples, videos)
    return np.ascontiguousarray(counts.T)


def percentile_interval(values: NDArray[np.float64], *, level: float) -> Interval | None:
    """Return the middle ``level`` of values, nan left out; None if none is left.

    Args:
        values: One value per resample ``(R,)``.
        level: Share of the values inside, in (0, 1).

    Returns:
        The quantiles ``(1 - level) / 2`` and ``(1 + level) / 2``, linear between values.

    Example:
        >>> percentile_interval(np.arange(101.0), level=0.5)
        (25.0, 75.0)
    """
    known = values[~np.isnan(values)]
    if known.size == 0:
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def check_resampling(*, resamples: int, level: float, seed: int) -> None:
    """Refuse settings of a resampling that make no sense.

    Args:
        resamples: At least 1.
        level: Between 0 and 1, both left out.
        seed: Not negative.

    Raises:
        ConfigError: One is out of range.

    Example:
        >>> check_resampling(resamples=1000, level=0.95, seed=0)
    """
    if resamples < 1:
        raise ConfigError(f"resamples is {resamples}; draw at least 1, usually 1000")
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; give a share between 0 and 1, such as 0.95")
    if seed < 0:
        raise ConfigError(f"seed is {seed}; give a whole number from 0 on")


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)
