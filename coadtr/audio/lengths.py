"""How much sound a file says that it holds."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from coadtr.audio.ffmpeg import tag_seconds
from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_complete", "declared"]

# What recorders write that do not know the length before the end.
_UNKNOWN: Final = 0x7FFFF000
_TAGGED: Final = (b"Xing", b"Info", b"VBRI")
_TAG_BYTES: Final = 4096
# Bytes of the longest page of an Ogg file.
_MOST_PAGE: Final = 27 + 255 + 255 * 255
# Containers that count their samples, and such that know how long their streams are to the length of a packet.
_COUNTED: Final = {"flac", "aiff"}
_ROUNDED: Final = {"wav", "w64", "au", "caf", "mov", "mp4", "matroska", "ogg"}
_TIME_BASE: Final = 1e6  # of a whole container, in FFmpeg


def check_complete(path: Path) -> None:
    """Make sure that a WAV file holds as many bytes as its header says, and an Ogg file its last page to the end.

    FFmpeg plays what is there, whatever the header says. Other files pass.

    Raises:
        DataError: If bytes are missing.

    Example:
        >>> check_complete(Path("no_such_file.wav"))
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(12)
            if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:] == b"WAVE":
                _check_wav(path, file, size, ">" if head[:4] == b"RIFX" else "<")
            elif head[:4] == b"OggS":
                _check_ogg(path, file, size)
    except (OSError, struct.error):  # to open it properly will tell
        return


def _check_wav(path: Path, file: BinaryIO, size: int, order: str) -> None:
    large = None
    for name, length, begin in _chunks(file, order):
        if name == b"ds64":
            large = struct.unpack(f"{order}8xQ", file.read(16))[0]
        if name == b"data":
            said = large if length == 0xFFFFFFFF and large is not None else length
            if begin + said > size and (said < _UNKNOWN or said == large):
                _refuse(path, said, size - begin)
            return


def _check_ogg(path: Path, file: BinaryIO, size: int) -> None:
    begin = max(0, size - _MOST_PAGE)
    file.seek(begin)
    tail = file.read(_MOST_PAGE)
    if (page := tail.rfind(b"OggS")) >= 0:
        segments = tail[page + 26 : page + 27]
        table = tail[page + 27 : page + 27 + segments[0]] if segments else b""
        length = 27 + len(table) + sum(table)
        if not segments or len(table) < segments[0] or page + length > len(tail):
            raise DataError(f"{path}: is cut short: its last page is not complete: copy or download it again")


def _refuse(path: Path, said: int, there: int) -> None:
    raise DataError(
        f"{path}: is cut short: its header says {said} bytes of sound, and {there} are there: copy or download it again"
    )


def _chunks(file: BinaryIO, order: str) -> Iterator[tuple[bytes, int, int]]:
    while len(head := file.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", head)
        begin = file.tell()
        yield name, length, begin
        file.seek(begin + length + length % 2)


def declared(container: Any, stream: Any, path: Path | None) -> tuple[float | None, float]:
    """Return when the sound of a container ends as it declares it, and how many seconds may be missing.

    Args:
        container: Opened by PyAV.
        stream: Its stream of sound.
        path: The file; None of a device.

    Returns:
        Seconds from the start of the container; None where that is not known, or estimated from the size of the file.
    """
    names = set(container.format.name.split(","))
    if path is None:
        return None, 0.0
    seconds = tag_seconds(stream.metadata.get("DURATION"))  # which Matroska keeps for each stream
    if stream.duration and stream.time_base:
        begin = float((stream.start_time or 0) * stream.time_base) - (container.start_time or 0) / _TIME_BASE
        seconds = float(stream.duration * stream.time_base) + max(0.0, begin)
    if seconds is None:
        return None, 0.0
    if names & _COUNTED:
        return seconds, 0.5 / stream.rate
    if names & _ROUNDED or ("mp3" in names and _tagged(path)):
        return seconds, max(0.1, 0.01 * seconds)  # the coder's delay, rounded time stamps
    return None, 0.0


def _tagged(path: Path) -> bool:
    """Say whether an MP3 file says how many frames it has, in its first frame."""
    with path.open("rb") as file:
        head = file.read(10)
        begin = 0
        if head[:3] == b"ID3" and len(head) == 10:
            a, b, c, d = head[6:]
            begin = 10 + (a << 21 | b << 14 | c << 7 | d)
        file.seek(begin)
        first = file.read(_TAG_BYTES)
    return any(tag in first for tag in _TAGGED)
