"""Samples at another rate: one filter for arrays and for streams, so that both give the same numbers."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from coadtr.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MOST_HZ", "Resampling", "check_rate", "resample"]

MOST_HZ: Final = 768_000
_LEAST_HZ: Final = 100
# Zero crossings of the sinc on each side, and the shape of Kaiser's window: stop band below -100 dB.
_CROSSINGS: Final = 32
_KAISER: Final = 10.0
# The band that passes, as a part of the lower rate's: what is left is the slope of the filter.
_PASS: Final = 0.94
_BLOCK: Final = 16384
# Outputs of a phase that are too few to be taken together.
_FEW: Final = 8
# Taps of all phases. Two rates without a common divisor would need a filter for every sample of a second.
_MOST_TAPS: Final = 1 << 23


class Resampling:
    """Bring a stream of samples to another rate, block by block.

    The filter is a sinc under Kaiser's window, which keeps 94 % of the band of the lower rate. Sample m of the output
    is that of time m / to_hz: the filter is centred, so an output sample is there when ``reach`` input samples after
    its time are; before the first and after the last sample there is silence. Blocks of any size give the same bits.

    Args:
        rate_hz: Samples a second that go in.
        to_hz: Samples a second that come out.

    Attributes:
        reach: Input samples on each side of a moment that its output sample depends on.

    Raises:
        ConfigError: If a rate is out of range, or the two have next to no common divisor.

    Source:
        J. O. Smith, Digital Audio Resampling (bandlimited interpolation), https://ccrma.stanford.edu/~jos/resample/.

    Example:
        >>> down = Resampling(48000, 16000)
        >>> out = [down.push(np.ones(100, np.float32)), down.push(np.ones(200, np.float32)), down.finish()]
        >>> sum(map(len, out)), round(float(out[1][40]), 3)
        (100, 1.0)
    """

    def __init__(self, rate_hz: int, to_hz: int) -> None:
        check_rate(rate_hz, "rate_hz")
        check_rate(to_hz, "to_hz")
        common = gcd(rate_hz, to_hz)
        self._up, self._down = to_hz // common, rate_hz // common
        self._filters = _filters(self._up, self._down) if self._up != self._down else np.ones((1, 1), np.float32)
        self.reach = self._filters.shape[1] // 2
        self._kept = np.zeros(self.reach, np.float32)
        self._first = -self.reach  # number of the first input sample that is kept
        self._taken = self._given = 0

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples ``(n,)`` and return those that can be said.

        Raises:
            ShapeError: If they are no ``(n,)`` floats.
        """
        check_samples(samples)
        if self._up == self._down:
            return samples.astype(np.float32)  # a copy
        self._taken += len(samples)
        # The newest input sample that an output may ask for is number taken - 1.
        return self._up_to((self._taken - 1 - self.reach) * self._up // self._down + 1, samples)

    def finish(self) -> NDArray[np.float32]:
        """Return the samples that the end of the stream completes: as many in all as last as long as the input."""
        total = ceil(self._taken * self._up / self._down)
        return self._up_to(total, np.zeros(self.reach + 1, np.float32))

    def _up_to(self, end: int, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self._kept = np.concatenate([self._kept, samples], dtype=np.float32)
        parts = [self._outputs(np.arange(begin, min(begin + _BLOCK, end))) for begin in range(self._given, end, _BLOCK)]
        self._given = max(self._given, end)
        # The next output is centred on this input sample, and reaches so far back.
        oldest = self._given * self._down // self._up - self.reach
        if (drop := oldest - self._first) > 0:
            self._kept, self._first = self._kept[drop:], self._first + min(drop, len(self._kept))
        return np.concatenate(parts, dtype=np.float32) if parts else np.zeros(0, np.float32)

    def _outputs(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        places, phases = np.divmod(numbers * self._down, self._up)
        windows = sliding_window_view(self._kept, 2 * self.reach + 1)
        begins = places - self.reach - self._first
        if len(numbers) < _FEW * self._up:
            out: NDArray[np.float32] = np.einsum("nk,nk->n", windows[begins], self._filters[phases])
            return out
        # Outputs of one phase lie evenly apart, so that their windows need no copy.
        out = np.empty(len(numbers), np.float32)
        for place in range(self._up):
            same = out[place :: self._up]
            np.einsum(
                "nk,k->n", windows[begins[place] :: self._down][: len(same)], self._filters[phases[place]], out=same
            )
        return out


def resample(samples: NDArray[np.float32], rate_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Bring samples to another rate, by the filter of `Resampling`.

    Args:
        samples: ``(n,)`` floats.
        rate_hz: Samples a second that go in.
        to_hz: Samples a second that come out.

    Returns:
        ``(ceil(n to_hz / rate_hz),)`` float32.

    Raises:
        ConfigError: If a rate is out of range.
        ShapeError: If ``samples`` is no ``(n,)`` array of floats.

    Example:
        >>> tone = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100).astype(np.float32)
        >>> wanted = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
        >>> bool(np.abs(resample(tone, 44100, 16000) - wanted)[200:-200].max() < 1e-4)
        True
    """
    stream = Resampling(rate_hz, to_hz)
    return np.concatenate([stream.push(samples), stream.finish()], dtype=np.float32)


def check_rate(rate_hz: object, name: str) -> None:
    """Make sure that a number of samples a second is one.

    Raises:
        ConfigError: If it is not.

    Example:
        >>> check_rate(8000, "rate_hz")
    """
    if isinstance(rate_hz, bool) or not isinstance(rate_hz, int) or not _LEAST_HZ <= rate_hz <= MOST_HZ:
        raise ConfigError(f"{name}={rate_hz!r}: give samples a second, a whole number from {_LEAST_HZ} to {MOST_HZ}")


def check_samples(samples: NDArray[np.float32]) -> None:
    """Make sure that samples are ``(n,)`` floats.

    Raises:
        ShapeError: If they are not.

    Example:
        >>> check_samples(np.zeros(3, np.float32))
    """
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise ShapeError(f"samples are {samples.shape} {samples.dtype}; give (n,) floats between -1 and 1")


@lru_cache(maxsize=8)
def _filters(up: int, down: int) -> NDArray[np.float32]:
    """Return the filter of each phase, ``(up, 2 reach + 1)``: what the samples around a place weigh."""
    cutoff = _PASS * min(1.0, up / down)  # as a part of the input's band
    half = _CROSSINGS / cutoff
    reach = ceil(half) + 1
    if up * (2 * reach + 1) > _MOST_TAPS:
        raise ConfigError(f"rates of {down} to {up} have too large a filter; resample by way of another rate")
    at = np.arange(-reach, reach + 1)[None, :] - (np.arange(up) / up)[:, None]
    inside = np.clip(1 - (at / half) ** 2, 0, None)
    weights = cutoff * np.sinc(cutoff * at) * np.i0(_KAISER * np.sqrt(inside)) / np.i0(_KAISER) * (inside > 0)
    # A constant stays what it is, at every phase.
    return np.ascontiguousarray(weights / weights.sum(1, keepdims=True), dtype=np.float32)
