"""A validation split out of the training videos, seeded and the same on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["choose_validation"]


def choose_validation(names: Sequence[str], *, fraction: float, seed: int) -> frozenset[str]:
    """Choose the training videos that are set aside for validation.

    The choice depends on the set of names, not on their order.

    Args:
        names: Names of the training videos.
        fraction: Part of them to set aside; at least one is.
        seed: Seed of the choice.

    Returns:
        The names chosen.

    Raises:
        ConfigError: If ``fraction`` is not between 0 and 1 or the seed is negative.
        DataError: If there are fewer than two videos, so that none would be left to train on.

    Example:
        >>> len(choose_validation([f"video_{i}" for i in range(20)], fraction=0.15, seed=0))
        3
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"validation_fraction={fraction!r}: give a number between 0 and 1, such as 0.15")
    if seed < 0:
        raise ConfigError(f"seed={seed!r}: give 0 or a positive whole number")
    if len(names) < 2:
        raise DataError(f"{len(names)} training videos: a validation split out of them needs at least 2")
    count = min(len(names) - 1, max(1, round(fraction * len(names))))
    order = np.random.default_rng(seed).permutation(len(names))
    ordered = sorted(names)
    return frozenset(ordered[index] for index in order[:count])
