"""Addresses of videos: what is one, and how it is shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["is_url", "shown"]

_URL: Final = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_url(source: str | Path) -> bool:
    """Say whether ``source`` is an address such as ``rtsp://camera/1`` rather than a file.

    Example:
        >>> is_url("rtsp://camera/1"), is_url("clips/a.mp4")
        (True, False)
    """
    return isinstance(source, str) and _URL.match(source) is not None


def shown(source: str | Path) -> str:
    """Return a source as messages show it: without the user and password that an address may carry.

    Example:
        >>> shown("rtsp://me:secret@camera/1")
        'rtsp://***@camera/1'
    """
    return re.sub(r"(?<=://)[^/@]*@", "***@", str(source)) if is_url(source) else str(source)
