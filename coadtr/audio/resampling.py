"""Samples at another rate, by the SoX resampler: a stream and an array get the same numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.errors import ConfigError, MissingExtraError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MOST_HZ", "Resampling", "check_rate", "resample"]

MOST_HZ: Final = 768_000
_LEAST_HZ: Final = 100


class Resampling:
    """Bring a stream of samples to another rate, block by block.

    Sample m of the output is that of time m / to_hz: nothing is shifted. Before the first and after the last sample
    there is silence. Blocks of any size give the same bits. The filter asks for samples after those that it gives, and
    works in blocks of its own, so that samples come 40 ms (44.1 and 48 to 16 kHz) to 116 ms (8 to 16 kHz) late.

    Args:
        rate_hz: Samples a second that go in.
        to_hz: Samples a second that come out.

    Raises:
        ConfigError: If a rate is out of range.
        MissingExtraError: If the rates differ, and soxr is not installed.

    Source:
        The SoX Resampler library, https://sourceforge.net/projects/soxr, quality HQ.

    Example:
        >>> down = Resampling(48000, 16000)
        >>> out = [down.push(np.ones(1000, np.float32)), down.push(np.ones(2000, np.float32)), down.finish()]
        >>> sum(map(len, out)), round(float(np.concatenate(out)[500]), 3)
        (1000, 1.0)
    """

    def __init__(self, rate_hz: int, to_hz: int) -> None:
        check_rate(rate_hz, "rate_hz")
        check_rate(to_hz, "to_hz")
        self._stream: Any = _soxr().ResampleStream(rate_hz, to_hz, 1, dtype="float32") if rate_hz != to_hz else None

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples ``(n,)`` and return those that can be said.

        Raises:
            ShapeError: If they are no ``(n,)`` floats.
        """
        check_samples(samples)
        if self._stream is None:
            return samples.astype(np.float32)  # a copy
        given: NDArray[np.float32] = self._stream.resample_chunk(np.ascontiguousarray(samples, np.float32))
        return given

    def finish(self) -> NDArray[np.float32]:
        """Return the samples that the end of the stream completes: all of them last as long as the input."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        given: NDArray[np.float32] = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        return given


def resample(samples: NDArray[np.float32], rate_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Bring samples to another rate, as `Resampling` does.

    Args:
        samples: ``(n,)`` floats.
        rate_hz: Samples a second that go in.
        to_hz: Samples a second that come out.

    Returns:
        ``(round(n to_hz / rate_hz),)`` float32.

    Raises:
        ConfigError: If a rate is out of range.
        ShapeError: If ``samples`` is no ``(n,)`` array of floats.
        MissingExtraError: If the rates differ, and soxr is not installed.

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


def _soxr() -> Any:
    try:
        import soxr  # noqa: PLC0415 - comes with an extra
    except ImportError as error:
        raise MissingExtraError(
            'another sample rate needs the package soxr: install it with `pip install "coadtr[audio]"`'
        ) from error
    return soxr
