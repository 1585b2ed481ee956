"""Bootstrap intervals over videos that are as wide as the spread of a number really is.

The percentile method alone is too narrow for precisions: few videos show a class, and a resample that shows one of them
twice has frames that agree, so that its values lie closer together than those of other videos would. Leaving out one
video at a time (jackknife) repeats none. Its standard error tends to be too large rather than too small.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Interval", "percentile_interval", "stretched_interval"]

Interval = tuple[float, float]

_ROUNDING = 1e-12  # a spread below it comes from the order of sums


def stretched_interval(
    values: NDArray[np.float64],
    *,
    estimate: float,
    jackknife: NDArray[np.float64],
    level: float,
    within: Interval,
) -> Interval | None:
    """Return the percentile interval, stretched about the estimate until its spread is that of the jackknife.

    With ``[low, high]`` from `percentile_interval`, e the estimate, SD the standard deviation of the resamples, and j
    the n values of the jackknife:

        [e - k (e - low), e + k (high - e)]    k = max(1, SE / SD)    SE = sqrt((n - 1) / n sum (j - mean j)^2)

    An end on the wrong side of the estimate moves to it, so the interval holds the estimate. Values that are nan are
    left out; k is 1 where fewer than two values of the jackknife, or no spread of the resamples, are left.

    Args:
        values: One value per resample ``(R,)``.
        estimate: The value of all videos.
        jackknife: The value of all videos but one, for each video ``(V,)``.
        level: Share of the intervals that are to hold the truth, in (0, 1).
        within: Lowest and highest value there can be; the interval is cut off there.

    Returns:
        ``(low, high)``; None if no value is left, or the estimate is nan.

    Source:
        Own. Percentile method and standard error of the jackknife: Efron and Tibshirani, "An Introduction to the
        Bootstrap", 1993, chapters 13 and 11; that the latter is too large on average rather than too small: Efron
        and Stein, "The Jackknife Estimate of Variance", Annals of Statistics, 1981.

    Example:
        >>> values = np.linspace(0.4, 0.6, 101)
        >>> low, high = stretched_interval(
        ...     values, estimate=0.5, jackknife=np.array([0.4, 0.5, 0.6]), level=0.5, within=(0, 1)
        ... )
        >>> round(low, 3), round(high, 3)
        (0.401, 0.599)
    """
    plain = percentile_interval(values, level=level)
    if plain is None or math.isnan(estimate):
        return None
    spread = float(np.nanstd(values))
    left_out = jackknife[~np.isnan(jackknife)]
    stretch = 1.0
    if spread > _ROUNDING and left_out.size > 1:
        error = math.sqrt((left_out.size - 1) * float(np.var(left_out)))
        stretch = max(1.0, error / spread)
    low = estimate - stretch * max(estimate - plain[0], 0.0)
    high = estimate + stretch * max(plain[1] - estimate, 0.0)
    return max(low, within[0]), min(high, within[1])


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
