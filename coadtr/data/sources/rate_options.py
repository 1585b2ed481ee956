"""Check rates that a user gives."""

from __future__ import annotations

import math
from numbers import Real

from coadtr.errors import ConfigError

__all__ = ["check_rate"]


def check_rate(option: str, value: object, *, told: str = "the frames a second of the features") -> None:
    """Raise `ConfigError` if an option is no rate: a finite number above 0.

    Args:
        option: Name of the option.
        value: What the user gives for it.
        told: What it stands for.

    Example:
        >>> check_rate("rate_hz", 25)
        >>> check_rate("rate_hz", float("nan"))
        Traceback (most recent call last):
        coadtr.errors.ConfigError: rate_hz=nan: give the frames a second of the features, a positive number
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise ConfigError(f"{option}={value!r}: give {told}, a positive number")
