"""Triangular filters on the mel scale."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import numpy as np

from coadtr.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SLOPES", "mel_bank"]

SLOPES: Final = ("mel", "hz")


def mel_bank(
    rate_hz: int, fft_length: int, bands: int, low_hz: float, high_hz: float, *, slopes: str = "mel"
) -> NDArray[np.float64]:
    """Return what each bin of a spectrum weighs in each band.

    Args:
        rate_hz: Samples a second.
        fft_length: Samples of the transform.
        bands: Bands, evenly spaced on the mel scale of HTK, 1127 log(1 + f / 700).
        low_hz: Where the lowest begins.
        high_hz: Where the highest ends.
        slopes: ``mel`` for sides that are straight on the mel scale (VGGish), ``hz`` for sides that are straight
            in Hz (``librosa.filters.mel(htk=True, norm=None)``).

    Returns:
        ``(fft_length / 2 + 1, bands)`` weights from 0 to 1.

    Raises:
        ConfigError: If a band holds no bin.
        MissingExtraError: If ``slopes`` is ``hz`` and librosa is not installed.

    Example:
        >>> mel_bank(16000, 512, 64, 125.0, 7500.0).shape
        (257, 64)
    """
    if slopes == "hz":
        bank = _librosa(rate_hz, fft_length, bands, low_hz, high_hz)
    else:
        edges = np.linspace(_mel(np.asarray(low_hz)), _mel(np.asarray(high_hz)), bands + 2)
        bins = _mel(np.linspace(0.0, rate_hz / 2, fft_length // 2 + 1))[:, None]
        rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
        bank = np.maximum(0.0, np.minimum(rising, falling))
        bank[0] = 0.0  # a constant is no sound
    if not bank.any(0).all():
        empty = int(np.flatnonzero(~bank.any(0))[0])
        raise ConfigError(
            f"band {empty} of bands={bands} is narrower than the bins of {rate_hz / fft_length:.3g} Hz and holds none: "
            "use fewer bands, a longer window_s or a higher low_hz"
        )
    return bank


def _mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1127.0 * np.log1p(hz / 700.0)


def _librosa(rate_hz: int, fft_length: int, bands: int, low_hz: float, high_hz: float) -> NDArray[np.float64]:
    try:
        import librosa  # noqa: PLC0415 - comes with an extra, and takes a second
    except ImportError as error:
        raise MissingExtraError(
            'slopes=hz needs the package librosa: install it with `pip install "coadtr[audio]"`'
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # empty bands are an error of ours
        weights: NDArray[np.float64] = librosa.filters.mel(
            sr=rate_hz,
            n_fft=fft_length,
            n_mels=bands,
            fmin=low_hz,
            fmax=high_hz,
            htk=True,
            norm=None,
            dtype=np.float64,
        )
    return np.ascontiguousarray(weights.T)
