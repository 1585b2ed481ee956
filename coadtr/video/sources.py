"""Find the videos that a user means: a folder, a file, a pattern, an address, or several of these."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from coadtr.data.storage.schema import check_name, listing
from coadtr.errors import ConfigError, DataError
from coadtr.video.address import is_url, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["VIDEO_SUFFIXES", "Source", "find_videos", "refuse_endless"]

VIDEO_SUFFIXES: Final = frozenset(
    f".{ending}"
    for ending in (
        *("3gp", "asf", "avi", "flv", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg"),
        *("mpg", "mts", "mxf", "ogv", "ts", "vob", "webm", "wmv", "y4m"),
    )
)
"""Endings of the files that are taken out of a folder."""


@dataclass(frozen=True, slots=True)
class Source:
    """One video to read.

    Attributes:
        name: Name of the video in the store.
        location: File or address.

    Example:
        >>> Source("kitchen", "clips/kitchen.mp4").stamp
        ('kitchen.mp4', None, None)
    """

    name: str
    location: str

    @property
    def stamp(self) -> tuple[str, int | None, int | None]:
        """File name, size and time of change, by which an interrupted run knows its sources again."""
        if is_url(self.location):
            return self.location, None, None
        path = Path(self.location)
        if not path.is_file():
            return path.name, None, None
        stat = path.stat()
        return path.name, stat.st_size, stat.st_mtime_ns


def find_videos(videos: str | Path | Sequence[str | Path]) -> tuple[Source, ...]:
    """Find videos, and name each by its file name without the ending.

    A folder gives all its files, and those of the folders in it, whose ending is that of a video
    (`VIDEO_SUFFIXES`); hidden ones are passed over. A pattern such as ``clips/*.mp4`` gives what it matches.

    Args:
        videos: Folder, file, pattern or address; or a list of them.

    Returns:
        The videos, in the order of their names.

    Raises:
        DataError: If there is none, or two would have the same name; every problem in one message.

    Example:
        >>> find_videos("rtsp://camera/door?quality=1")
        (Source(name='door', location='rtsp://camera/door?quality=1'),)
        >>> find_videos("no_such_folder")
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such_folder: no such file or folder: give a folder, a video, a pattern or a URL
    """
    wanted = [videos] if isinstance(videos, (str, Path)) else list(videos)
    found: dict[str, Source] = {}
    problems: list[str] = []
    for item in wanted:
        locations = [str(item)] if is_url(item) else [str(path) for path in _files(Path(item), problems)]
        for location in locations:
            _enter(found, location, problems)
    if not wanted:
        problems.append("no video is given: give a folder, a video, a pattern or a URL")
    if problems:
        raise DataError("; ".join(problems))
    return tuple(found[name] for name in sorted(found))


def refuse_endless(sources: Sequence[Source], max_seconds: float | None) -> None:
    """Refuse live addresses that are to be read without an end.

    Args:
        sources: The videos.
        max_seconds: How much is read of each; none for all of it.

    Raises:
        ConfigError: If there are any, naming them.

    Example:
        >>> refuse_endless([Source("film", "http://host/film.mp4")], None)
        >>> refuse_endless([Source("door", "rtsp://camera/door")], None)
        Traceback (most recent call last):
        coadtr.errors.ConfigError: rtsp://camera/door: may never end: give max_seconds
    """
    places = [source.location for source in sources]
    endless = [shown(place) for place in places if is_url(place) and not place.lower().startswith("http")]
    if endless and max_seconds is None:
        raise ConfigError(f"{', '.join(endless)}: may never end: give max_seconds")


def _files(path: Path, problems: list[str]) -> list[Path]:
    """Return the files that a path or pattern stands for."""
    if path.is_dir():
        inside = [other for other in sorted(path.rglob("*")) if other.is_file()]
        kept = [
            other
            for other in inside
            if other.suffix.lower() in VIDEO_SUFFIXES
            and not any(part.startswith(".") for part in other.relative_to(path).parts)
        ]
        if not kept:
            problems.append(f"{path}: holds no video ({listing(sorted(VIDEO_SUFFIXES), most=40)}): give another folder")
        return kept
    if path.is_file():
        return [path]
    matched = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()]  # noqa: PTH207 - the pattern may be absolute
    if not matched:
        problems.append(f"{path}: no such file or folder: give a folder, a video, a pattern or a URL")
    return matched


def _enter(found: dict[str, Source], location: str, problems: list[str]) -> None:
    if is_url(location):
        parts = urlsplit(shown(location))  # a password may look like a path
        name = PurePosixPath(parts.path).stem or (parts.hostname or "").strip("*") or "stream"
    else:
        name = Path(location).stem
    try:
        check_name(name, what="video")
    except DataError as error:
        problems.append(f"{shown(location)}: {error}: rename the file")
        return
    other = found.get(name)
    if other is None:
        found[name] = Source(name, location)
    elif other.location != location:
        problems.append(
            f"{shown(other.location)} and {shown(location)} would both be video {name!r}: rename one of them"
        )
