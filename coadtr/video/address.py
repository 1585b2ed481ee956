"""Addresses of videos: what is one, and how it is shown."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["camera", "is_live", "is_url", "shown"]

_CAMERA: Final = re.compile(r"^camera:((?P<format>[a-z0-9]+):)?(?P<device>.+)$", re.IGNORECASE)
_FILES: Final = ("http://", "https://", "ftp://", "ftps://", "sftp://", "file://")
_URL: Final = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def camera(source: str | Path) -> tuple[str, str] | None:
    """Return FFmpeg's input format and the device of a camera: ``camera:0`` is the first one of this machine.

    ``/dev/video0`` is a camera too, and ``camera:FORMAT:DEVICE`` names any input device that FFmpeg has.

    Example:
        >>> camera("/dev/video2"), camera("camera:dshow:video=Integrated Camera"), camera("film.mp4")
        (('v4l2', '/dev/video2'), ('dshow', 'video=Integrated Camera'), None)
    """
    text = str(source)
    if re.fullmatch(r"/dev/video\d+", text):
        return "v4l2", text
    match = _CAMERA.match(text)
    if match is None:
        return None
    if match["format"] is not None:
        return match["format"].lower(), match["device"]
    if sys.platform == "darwin":
        return "avfoundation", f"{match['device']}:none"
    if sys.platform == "win32":
        return "dshow", f"video={match['device']}"
    return "v4l2", f"/dev/video{match['device']}"


def is_url(source: str | Path) -> bool:
    """Say whether ``source`` is an address such as ``rtsp://camera/1`` rather than a file.

    Example:
        >>> is_url("rtsp://camera/1"), is_url("clips/a.mp4")
        (True, False)
    """
    return isinstance(source, str) and _URL.match(source) is not None


def is_live(source: str | Path) -> bool:
    """Say whether ``source`` may never end: a camera, or an address; those of ``http``, ``ftp`` and ``file`` end.

    Example:
        >>> is_live("rtsp://camera/1"), is_live("camera:0"), is_live("https://host/a.mp4"), is_live("file:///a.mp4")
        (True, True, False, False)
    """
    return camera(source) is not None or (is_url(source) and not str(source).lower().startswith(_FILES))


def shown(source: str | Path) -> str:
    """Return a source as messages show it: without the user, password and query that an address may carry.

    An address may be that of a camera's device, too.

    Passwords may hold any sign, so all up to the last ``@`` is hidden, even where that takes a host along.

    Example:
        >>> shown("rtsp://me:secret@camera/1"), shown("https://host/a.mp4?token=secret")
        ('rtsp://***@camera/1', 'https://host/a.mp4?***')
        >>> shown("camera:mjpeg:http://me:secret@camera/1")
        'camera:mjpeg:http://***@camera/1'
    """
    if (device := _CAMERA.match(str(source))) is not None and is_url(device["device"]):
        return f"{str(source)[: device.start('device')]}{shown(device['device'])}"
    if not is_url(source):
        return str(source)
    scheme, _, rest = str(source).partition("://")
    user, at, place = rest.rpartition("@")
    if re.search(r"[?#]", user):  # a sign of the password, or an @ in the query: either way nothing is safe to show
        return f"{scheme}://***"
    hidden = re.sub(r"([?#]).*", r"\1***", place, flags=re.DOTALL)
    return f"{scheme}://***@{hidden}" if at else f"{scheme}://{hidden}"
