"""Sound into frames: decoding, resampling, log-mel features of whole recordings and of streams.

Decoding (PyAV) and other sample rates (soxr) need the extra ``audio``; log-mel features of samples need numpy alone.
Names resolve on first use (PEP 562).

Example:
    >>> from coadtr.audio import log_mel_preset
    >>> log_mel_preset("vggish").dim
    64
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coadtr.audio.address import microphone
    from coadtr.audio.decode import AudioReader, read_audio
    from coadtr.audio.logmel import LogMel, LogMelStream
    from coadtr.audio.presets import PRESETS, log_mel_preset
    from coadtr.audio.resampling import Resampling, resample

__all__ = [
    "PRESETS",
    "AudioReader",
    "LogMel",
    "LogMelStream",
    "Resampling",
    "log_mel_preset",
    "microphone",
    "read_audio",
    "resample",
]

_HOME = {
    "PRESETS": "presets",
    "AudioReader": "decode",
    "LogMel": "logmel",
    "LogMelStream": "logmel",
    "Resampling": "resampling",
    "log_mel_preset": "presets",
    "microphone": "address",
    "read_audio": "decode",
    "resample": "resampling",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"coadtr.audio.{_HOME[name]}"), name)
    raise AttributeError(f"module 'coadtr.audio' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
