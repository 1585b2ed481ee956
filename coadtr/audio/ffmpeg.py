"""What reading sound and reading pictures share of FFmpeg, by PyAV."""

from __future__ import annotations

import re
from typing import Any, Final

from coadtr.errors import DataError, MissingExtraError

__all__ = ["LOCAL_ONLY", "cause", "import_av", "open_container", "tag_seconds"]

# A local file (a play list, say) is not to make this machine call another. FFmpeg has the same default for files; it
# is said here so that nobody's build or setting decides.
LOCAL_ONLY: Final = {"protocol_whitelist": "file,crypto,data"}


def import_av(purpose: str, extra: str) -> Any:
    """Import PyAV, which comes with an extra.

    Args:
        purpose: What it is needed for, such as ``decoding sound``.
        extra: The extra to install.

    Raises:
        MissingExtraError: If it is not installed.

    Example:
        >>> import_av("decoding sound", "audio").time_base
        1000000
    """
    try:
        import av  # noqa: PLC0415 - comes with an extra
    except ImportError as error:
        raise MissingExtraError(
            f'{purpose} needs the package av: install it with `pip install "coadtr[{extra}]"`'
        ) from error
    return av


def open_container(av: Any, name: str, options: dict[str, Any], *, shown: str, remedy: str) -> Any:
    """Open a file, an address or a device.

    Args:
        av: PyAV.
        name: What FFmpeg opens.
        options: Of ``av.open``.
        shown: The source, for messages.
        remedy: What to do where it cannot be opened.

    Raises:
        DataError: If it cannot be opened.

    Example:
        >>> av = import_av("decoding sound", "audio")
        >>> open_container(av, "file:no_such_file.wav", {}, shown="no_such_file.wav", remedy="give a sound file")
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such_file.wav: cannot be opened (No such file or directory): give a sound file
    """
    try:
        return av.open(name, metadata_errors="replace", **options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{shown}: cannot be opened ({cause(error)}): {remedy}") from error


def cause(error: Exception) -> str:
    """Return what FFmpeg or the system says of an error, in one line.

    Example:
        >>> cause(FileNotFoundError(2, "No such file or directory", "a.wav"))
        'No such file or directory'
    """
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def tag_seconds(text: str | None) -> float | None:
    """Read a length in seconds, as Matroska keeps it for each stream; None of anything else.

    Example:
        >>> tag_seconds("00:00:10.333000000"), tag_seconds("unknown"), tag_seconds(None)
        (10.333, None, None)
    """
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text or "")
    return None if match is None else 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])
