"""Front ends by name."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final

from coadtr.audio.logmel import LogMel
from coadtr.errors import ConfigError

__all__ = ["PRESETS", "log_mel_preset"]

PRESETS: Final[dict[str, LogMel]] = {
    "vggish": LogMel(),
    "vggish_patches": LogMel(patch_frames=96, patch_hop=96),
    "telephone": LogMel(rate_hz=8000, high_hz=3800.0),
}


def log_mel_preset(name: str, /, **changes: Any) -> LogMel:
    """Return the front end of a name, with changes.

    Args:
        name: ``vggish`` (64 bands from 125 to 7500 Hz, windows of 25 ms every 10 ms, 16 kHz), ``vggish_patches``
            (96 such frames joined to a feature, one after the other), or ``telephone`` (8 kHz, up to 3800 Hz).
        changes: Settings of `LogMel` to change.

    Raises:
        ConfigError: If the name or a setting is unknown or out of range.

    Example:
        >>> log_mel_preset("vggish_patches", patch_hop=48).dim
        6144
    """
    if name not in PRESETS:
        raise ConfigError(f"front_end={name!r}: use one of {', '.join(PRESETS)}")
    known = [field.name for field in fields(LogMel)]
    if unknown := sorted(set(changes) - set(known)):
        raise ConfigError(f"{unknown[0]!r} is no setting of a log-mel front end: use {', '.join(known)}")
    return replace(PRESETS[name], **changes)
