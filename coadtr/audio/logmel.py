"""Log-mel features of sound, of whole recordings and of streams alike."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from coadtr.audio.mel import SLOPES, mel_bank
from coadtr.audio.resampling import check_rate, check_samples
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["LogMel", "LogMelStream"]

_KIND: Final = "log-mel"
# A file could ask for any amount of memory.
_MOST_BANDS, _MOST_WINDOW_S, _MOST_FRAMES = 1024, 10.0, 100_000
_MOST_DIM: Final = 1 << 20
_BLOCK: Final = 1024  # frames that are transformed at once


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Settings of log-mel features, and their computation; the defaults are VGGish's.

    The spectrum of a frame is the magnitude of the Fourier transform of a window of samples under a periodic Hann
    window, filled with zeros to the next power of two. Triangular filters on the mel scale of HTK sum it up, and the
    feature is log(sum + offset). Nothing is padded at the ends: feature t is made of the samples from
    t patch_hop hop on, ``feature_s`` seconds of them, and is known when the last of them is (`complete_s`).
    So no feature sees what comes after it, and a stream gives those of the whole recording.

    Args:
        rate_hz: Samples a second.
        window_s: Seconds of a window; rounded to samples.
        hop_s: Seconds from window to window; rounded to samples.
        bands: Mel bands.
        low_hz: Where the lowest band begins.
        high_hz: Where the highest band ends.
        offset: Added before the logarithm.
        patch_frames: How many frames are joined to one feature, the oldest first: 96 in a VGGish patch of 0.96 s.
        patch_hop: Frames from feature to feature.
        slopes: ``mel``: the sides of a triangle are straight on the mel scale, as in VGGish; ``hz``: in Hz,
            as in librosa and torchaudio (needs librosa).

    Raises:
        ConfigError: If a setting is out of range, or a band would hold nothing of the spectrum.

    Source:
        S. Hershey et al., CNN architectures for large-scale audio classification, ICASSP 2017; code in
        tensorflow/models, ``research/audioset/vggish`` (``mel_features.py``, ``vggish_params.py``).

    Example:
        >>> front_end = LogMel()
        >>> front_end.features(np.zeros(16000, np.float32)).shape, front_end.feature_rate_hz, front_end.feature_s
        ((98, 64), 100.0, 0.025)
    """

    rate_hz: int = 16000
    window_s: float = 0.025
    hop_s: float = 0.010
    bands: int = 64
    low_hz: float = 125.0
    high_hz: float = 7500.0
    offset: float = 0.01
    patch_frames: int = 1
    patch_hop: int = 1
    slopes: str = "mel"

    def __post_init__(self) -> None:
        """Check the settings."""
        for field in fields(self):
            value = getattr(self, field.name)
            _check_type(field.name, value, field.type)
            if field.type == "float":  # a whole number is one too, and the record has one spelling for it
                object.__setattr__(self, field.name, float(value))
        check_rate(self.rate_hz, "rate_hz")
        for name, most in (("window_s", _MOST_WINDOW_S), ("hop_s", _MOST_WINDOW_S)):
            if not 1 / self.rate_hz <= getattr(self, name) <= most:
                raise ConfigError(f"{name}={getattr(self, name)!r}: give seconds, from one sample to {most:g}")
        for name, limit in (("bands", _MOST_BANDS), ("patch_frames", _MOST_FRAMES), ("patch_hop", _MOST_FRAMES)):
            if not 1 <= getattr(self, name) <= limit:
                raise ConfigError(f"{name}={getattr(self, name)!r}: give a whole number from 1 to {limit}")
        if not 0 <= self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise ConfigError(
                f"low_hz={self.low_hz!r}, high_hz={self.high_hz!r}: the bands lie between 0 and half of "
                f"rate_hz={self.rate_hz}, the lower bound first; set high_hz to at most {self.rate_hz / 2:g}"
            )
        if not 0 < self.offset < np.inf:
            raise ConfigError(f"offset={self.offset!r}: give a number above 0")
        if self.slopes not in SLOPES:
            raise ConfigError(f"slopes={self.slopes!r}: use one of {', '.join(SLOPES)}")
        if self.dim > _MOST_DIM:
            raise ConfigError(f"a feature would have {self.dim} channels; use fewer bands or patch_frames")
        if self.window_samples < 2:
            raise ConfigError(f"window_s={self.window_s!r} is a single sample; use a longer window")
        _ = self._bank  # says which bands would be empty

    @property
    def window_samples(self) -> int:
        """Samples of a window."""
        return round(self.window_s * self.rate_hz)

    @property
    def hop_samples(self) -> int:
        """Samples from window to window."""
        return max(1, round(self.hop_s * self.rate_hz))

    @property
    def dim(self) -> int:
        """Channels D of a feature."""
        return self.bands * self.patch_frames

    @property
    def feature_rate_hz(self) -> float:
        """Features a second."""
        return self.rate_hz / (self.hop_samples * self.patch_hop)

    @property
    def feature_samples(self) -> int:
        """Samples that a feature is made of."""
        return (self.patch_frames - 1) * self.hop_samples + self.window_samples

    @property
    def feature_s(self) -> float:
        """Seconds of sound that a feature is made of: the first one is complete after so long."""
        return self.feature_samples / self.rate_hz

    def count(self, samples: int) -> int:
        """Return how many features so many samples have.

        Example:
            >>> LogMel().count(399), LogMel().count(400), LogMel().count(560)
            (0, 1, 2)
        """
        beyond = samples - self.feature_samples
        return 0 if beyond < 0 else beyond // (self.hop_samples * self.patch_hop) + 1

    def complete_s(self, index: int) -> float:
        """Return the seconds from the start after which feature ``index`` is complete.

        Example:
            >>> LogMel().complete_s(0), LogMel().complete_s(100)
            (0.025, 1.025)
        """
        return (index * self.hop_samples * self.patch_hop + self.feature_samples) / self.rate_hz

    def features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the features of a whole recording.

        Args:
            samples: ``(n,)`` floats between -1 and 1, at ``rate_hz``.

        Returns:
            ``(T, D)`` float32.

        Raises:
            ShapeError: If ``samples`` is no ``(n,)`` array of floats.
            DataError: If it is shorter than one feature, or holds a number that is not finite.
        """
        found = self.stream().push(samples)
        if not len(found):
            raise DataError(
                f"{len(samples)} samples ({len(samples) / self.rate_hz:.3g} s) are shorter than one feature of "
                f"{self.feature_s:.3g} s: give a longer recording, or use a shorter window_s or fewer patch_frames"
            )
        return found

    def stream(self) -> LogMelStream:
        """Begin with a stream of samples."""
        return LogMelStream(self)

    def describe(self) -> dict[str, str]:
        """Return the record of the front end, as stores and checkpoints keep it for a stream of features.

        Example:
            >>> LogMel().describe()["bands"], LogMel.recorded(LogMel().describe()) == LogMel()
            ('64', True)
        """
        return {"front_end": _KIND} | {field.name: str(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def recorded(cls, record: Mapping[str, str]) -> Self:
        """Read what `describe` wrote.

        Raises:
            ConfigError: If it is the record of something else.
        """
        remedy = "compute the features anew, or push features of your own (docs/audio.md)"
        if record.get("front_end") != _KIND:
            raise ConfigError(f"the record of the features {dict(record)!r} is not of a log-mel front end; {remedy}")
        values: dict[str, Any] = {}
        for field in fields(cls):
            if field.name not in record:
                raise ConfigError(f"the record of the log-mel front end has no {field.name}; {remedy}")
            try:
                values[field.name] = _READ[str(field.type)](record[field.name])
            except ValueError as error:
                raise ConfigError(f"{field.name}={record[field.name]!r} on record is no number; {remedy}") from error
        found = cls(**values)
        if found.describe() != dict(record):
            raise ConfigError(f"the record {dict(record)!r} says more than is known here; {remedy}")
        return found

    @cached_property
    def _bank(self) -> NDArray[np.float64]:
        length = _fft_length(self.window_samples)
        return mel_bank(self.rate_hz, length, self.bands, self.low_hz, self.high_hz, slopes=self.slopes)

    @cached_property
    def _hann(self) -> NDArray[np.float64]:
        return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window_samples) / self.window_samples)

    def frames(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log-mel frame of each window.

        Args:
            windows: ``(T, window_samples)``.

        Returns:
            ``(T, bands)`` float32.
        """
        out = np.empty((len(windows), self.bands), np.float32)
        for begin in range(0, len(windows), _BLOCK):  # a long recording is not held as overlapping windows
            part = slice(begin, begin + _BLOCK)
            spectra = np.abs(np.fft.rfft(windows[part] * self._hann, n=_fft_length(self.window_samples)))
            out[part] = np.log(spectra @ self._bank + self.offset)
        return out


class LogMelStream:
    """The features of a stream of samples, each as soon as its last sample is there.

    Args:
        front_end: The settings.

    Example:
        >>> stream = LogMel().stream()
        >>> [len(stream.push(np.zeros(size, np.float32))) for size in (300, 0, 100, 160, 1600)]
        [0, 0, 1, 1, 10]
    """

    def __init__(self, front_end: LogMel) -> None:
        self._front_end = front_end
        self._samples = _Sliding(front_end.window_samples, front_end.hop_samples, ())
        self._frames = _Sliding(front_end.patch_frames, front_end.patch_hop, (front_end.bands,))

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples and return the features that they complete.

        Args:
            samples: ``(n,)`` floats between -1 and 1; n may be 0.

        Returns:
            ``(t, D)`` float32; t may be 0.

        Raises:
            ShapeError: If ``samples`` is no ``(n,)`` array of floats.
            DataError: If it holds a number that is not finite; the stream is left as it was.
        """
        check_samples(samples)
        if not np.isfinite(samples).all():
            place = int(np.flatnonzero(~np.isfinite(samples))[0])
            raise DataError(f"sample {place} is {samples[place]}: give finite numbers between -1 and 1")
        frames = self._front_end.frames(self._samples.push(samples))
        patches = np.moveaxis(self._frames.push(frames), -1, 1)  # (t, patch_frames, bands): the oldest frame first
        return np.ascontiguousarray(patches).reshape(len(patches), self._front_end.dim)


class _Sliding:
    """Windows over rows that come bit by bit."""

    def __init__(self, size: int, hop: int, shape: tuple[int, ...]) -> None:
        self._size, self._hop = size, hop
        self._kept = np.zeros((0, *shape), np.float32)
        self._skip = 0  # rows between two windows, where the hop is longer than a window

    def push(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the complete windows, ``(n, ..., size)``."""
        kept = np.concatenate([self._kept, rows], dtype=np.float32)
        kept, self._skip = kept[self._skip :], max(0, self._skip - len(kept))
        if len(kept) < self._size:
            self._kept = kept
            return np.zeros((0, *kept.shape[1:], self._size), np.float32)
        windows: NDArray[np.float32] = sliding_window_view(kept, self._size, axis=0)[:: self._hop]
        beyond = len(windows) * self._hop
        # A copy: what is kept of a long block is not to keep all of it.
        self._kept, self._skip = kept[beyond:].copy(), max(0, beyond - len(kept))
        return windows


_READ: Final[dict[str, Any]] = {"int": int, "float": float, "str": str}


def _check_type(name: str, value: object, kind: object) -> None:
    right = {"int": isinstance(value, int), "float": isinstance(value, int | float), "str": isinstance(value, str)}
    if isinstance(value, bool) or not right[str(kind)]:
        wanted = {"int": "a whole number", "float": "a number", "str": "a text"}[str(kind)]
        raise ConfigError(f"{name}={value!r}: give {wanted}")


def _fft_length(window: int) -> int:
    return 1 << (window - 1).bit_length()
