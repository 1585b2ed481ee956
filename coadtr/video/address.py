"""Addresses of videos: what is one, and how it is shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["is_live", "is_url", "shown"]

_URL: Final = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_url(source: str | Path) -> bool:
    """Say whether ``source`` is an address such as ``rtsp://camera/1`` rather than a file.

    Example:
        >>> is_url("rtsp://camera/1"), is_url("clips/a.mp4")
        (True, False)
    """
    return isinstance(source, str) and _URL.match(source) is not None


def is_live(source: str | Path) -> bool:
    """Say whether ``source`` is an address that may never end, as that of a camera; ``http`` is taken for a file.

    Example:
        >>> is_live("rtsp://camera/1"), is_live("https://host/a.mp4")
        (True, False)
    """
    return is_url(source) and not str(source).lower().startswith(("http://", "https://"))


def shown(source: str | Path) -> str:
    """Return a source as messages show it: without the user, password and query that an address may carry.

    Passwords may hold any sign, so all up to the last ``@`` is hidden, even where that takes a host along.

    Example:
        >>> shown("rtsp://me:secret@camera/1"), shown("https://host/a.mp4?token=secret")
        ('rtsp://***@camera/1', 'https://host/a.mp4?***')
    """
    if not is_url(source):
        return str(source)
    scheme, _, rest = str(source).partition("://")
    user, at, place = rest.rpartition("@")
    if re.search(r"[?#]", user):  # a sign of the password, or an @ in the query: either way nothing is safe to show
        return f"{scheme}://***"
    hidden = re.sub(r"([?#]).*", r"\1***", place, flags=re.DOTALL)
    return f"{scheme}://***@{hidden}" if at else f"{scheme}://{hidden}"
