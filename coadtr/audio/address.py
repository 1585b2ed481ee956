"""Addresses of sound: what is a microphone."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["microphone"]

_MICROPHONE: Final = re.compile(r"^microphone:((?P<format>[a-z0-9]+):)?(?P<device>.+)$", re.IGNORECASE)


def microphone(source: str | Path) -> tuple[str, str] | None:
    """Return FFmpeg's input format and the device of a microphone: ``microphone:0`` is the usual one of this machine.

    ``microphone:FORMAT:DEVICE`` names any input device that FFmpeg has, such as ``microphone:pulse:default``.
    Without a format it is ALSA's (its device 0 is ``default``, 1 is ``hw:1``), AVFoundation's on a Mac, and
    DirectShow's on Windows, which wants the name of the device.

    Example:
        >>> microphone("microphone:pulse:default"), microphone("microphone:alsa:hw:1,0"), microphone("talk.wav")
        (('pulse', 'default'), ('alsa', 'hw:1,0'), None)
    """
    match = _MICROPHONE.match(str(source))
    if match is None:
        return None
    device = match["device"]
    if match["format"] is not None:
        return match["format"].lower(), device
    if sys.platform == "darwin":
        return "avfoundation", f":{device}"
    if sys.platform == "win32":
        return "dshow", f"audio={device}"
    if device.isdigit():
        device = "default" if device == "0" else f"hw:{device}"
    return "alsa", device
