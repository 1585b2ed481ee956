"""The cyclic sinusoidal code of positions: one table, for the layers in PyTorch and in Keras alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["cyclic_sinusoidal_table"]


def cyclic_sinusoidal_table(length: int, dim: int) -> NDArray[np.float32]:
    """Make the cyclic sinusoidal code, in which the last position is as near to the first as to the one before it.

    Channel i is a sine (even i) or cosine (odd i) of a triangle wave over the position, with a period that grows with i
    and, in the upper half of the channels, a phase that turns with i. The table is smoothed over five cyclically
    adjacent positions, and the mean over positions is taken off.

    Args:
        length: Positions P of one cycle.
        dim: Embedding width E, even.

    Returns:
        ``(P, E) float32``.

    Raises:
        ConfigError: If ``length`` is below 2 or ``dim`` is not even and positive.

    Source: Ma et al., *Learning to Iteratively Solve Routing Problems with Dual-Aspect Collaborative Transformer*,
    NeurIPS 2021 (arXiv 2110.02544), section 4.1 and the reference implementation, whose rounding is kept.

    Example:
        >>> cyclic_sinusoidal_table(127, 32).shape
        (127, 32)
    """
    if length < 2 or dim < 2 or dim % 2:
        raise ConfigError(
            f"a cyclic sinusoidal code needs length >= 2 and an even dim >= 2, got length={length}, dim={dim}"
        )
    half = dim // 2
    shortest = length ** (1 / half)
    # Periods are whole positions, spread evenly and cut off, not rounded: published tables were made so.
    periods = [int(shortest + (length - shortest) * k / (half - 1)) if half > 1 else int(shortest) for k in range(half)]
    periods[-1] = length if half > 1 else periods[-1]
    columns = []
    for channel in range(dim):
        group = channel // 3 * 3 + 1
        period = periods[group] if group < half else periods[-1]
        phase = 0.0 if channel <= half else -2 * math.pi * (channel - half) / half
        span = math.ceil(length / period) * period
        # The published grid has steps of 0.01 positions and is sampled at P evenly spaced, cut-off indices.
        grid = math.ceil(span / 0.01 - 1e-9)
        index = np.array([p * grid // length for p in range(length)], dtype=np.float64)
        triangle = np.abs((index * 0.01) % (2 * period) - period)
        angle = 2 * math.pi / period * triangle + phase
        columns.append(np.cos(angle) if channel % 2 else np.sin(angle))
    table = np.stack(columns, axis=1).astype(np.float32)
    smooth = np.stack([np.roll(table, shift, axis=0) for shift in (2, 1, 0, -1, -2)]).mean(0)
    return np.asarray(smooth - table.mean(0), dtype=np.float32)
