"""Read THUMOS14's segments, as text files or JSON, and the frame rates of its videos."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pandas as pd

from coadtr.data.importers.problems import raise_problems
from coadtr.data.sources.json_files import read_json
from coadtr.data.sources.perframe import read_perframe
from coadtr.data.sources.rate_options import check_rate
from coadtr.data.storage.schema import listing
from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["CLASS_NAMES", "Annotation", "find_annotation", "read_annotation", "read_rates"]

CLASS_NAMES: Final = (
    *("Background", "BaseballPitch", "BasketballDunk", "Billiards", "CleanAndJerk", "CliffDiving", "CricketBowling"),
    *("CricketShot", "Diving", "FrisbeeCatch", "GolfSwing", "HammerThrow", "HighJump", "JavelinThrow", "LongJump"),
    *("PoleVault", "Shotput", "SoccerPenalty", "TennisSwing", "ThrowDiscus", "VolleyballSpiking", "Ambiguous"),
)
"""Classes in the order of the published per-frame labels."""

_FILE = re.compile(r"(?P<label>\w+)_(?P<subset>val|test)\.txt")
_PERFRAME = ("val_perframe.npz", "test_perframe.npz")


class Annotation(NamedTuple):
    """Segments by video, and where they were read.

    Attributes:
        segments: ``(start, end, class name)`` in seconds, by video, in the order of `CLASS_NAMES`, then of the file.
        files: The files read.
        problems: What is wrong with them, each naming file and line.
        places: File and line of each segment, by video, start, end and class name.
    """

    segments: dict[str, list[tuple[float, float, str]]]
    files: list[Path]
    problems: list[str]
    places: dict[tuple[str, float, float, str], str]


def find_annotation(source: Path, given: str | None) -> Path:
    """Return the JSON file, or the folder of text files, that holds the segments of a source.

    Args:
        source: The source of an import: that very file or folder, or a folder that holds it.
        given: Its path, in or below the source or from here; none looks for the names of the official release.

    Raises:
        DataError: If there is none.

    Example:
        >>> find_annotation(Path("no_such_folder"), None)
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such_folder: no such file or folder: give the THUMOS14 annotation as source
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder: give the THUMOS14 annotation as source")
    if given is not None:
        places = [source / given, Path(given)]
    else:
        places = [source, *(source / name for name in ("annotation", "annotations", "official_segments.json"))]
    for place in places:
        if place.is_file() or (place.is_dir() and any(_text_files(place))):
            return place
    if given is not None:
        raise DataError(f"{source}: no annotation {given}: correct segments=")
    raise DataError(
        f"{source}: no annotation (text files such as Diving_val.txt, in it or in annotation/, or "
        "official_segments.json): add it, or name it with segments="
    )


def read_annotation(place: Path) -> Annotation:
    """Read the segments of THUMOS14.

    Text files are those of the official release, ``<Class>_val.txt`` and ``<Class>_test.txt``, also in folders below;
    a line is ``video start end``. JSON is ``{'segments': {video: [[class, start, end], ...]}}``, or the layout of
    ActivityNet, ``{'database': {video: {'annotations': [{'label': class, 'segment': [start, end]}, ...]}}}``.

    Args:
        place: Folder of the text files, or JSON file.

    Raises:
        DataError: If the file is not JSON, or of another layout.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "Diving_val.txt").write_text("video_validation_0000001  1.5 2.5")
        >>> read_annotation(folder).segments
        {'video_validation_0000001': [(1.5, 2.5, 'Diving')]}
    """
    problems: list[str] = []
    if place.is_dir():
        files = sorted(_text_files(place))
        rows = [row for path in files for row in _text_rows(path, place, problems)]
        problems += _missing_files(files)
    else:
        files, rows = [place], list(_json_rows(place))
    segments: dict[str, list[tuple[float, float, str]]] = {}
    places: dict[tuple[str, float, float, str], str] = {}
    for where, video, start, end, label in rows:
        fault = _fault(start, end, label)
        if fault is not None:
            problems.append(f"{where}: {fault}")
            continue
        segment = (float(start), float(end), label)
        if (video, *segment) in places:
            problems.append(f"{where}: repeats {places[video, *segment]}: drop one of the two")
            continue
        places[video, *segment] = where
        segments.setdefault(video, []).append(segment)
    for found in segments.values():
        found.sort(key=lambda segment: CLASS_NAMES.index(segment[2]))
    return Annotation(segments, files, problems, places)


def _text_files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*.txt") if _FILE.fullmatch(path.name))


def _missing_files(files: list[Path]) -> list[str]:
    """Return which files a subset lacks: its frames would count as background."""
    found = [match for path in files if (match := _FILE.fullmatch(path.name))]
    problems = []
    for subset in sorted({match["subset"] for match in found}):
        there = {match["label"] for match in found if match["subset"] == subset}
        missing = [f"{name}_{subset}.txt" for name in CLASS_NAMES[1:] if name not in there]
        if missing:
            problems.append(f"no file {listing(missing)}: add it, or its actions would count as background")
    return problems


def _text_rows(path: Path, folder: Path, problems: list[str]) -> Iterable[tuple[str, str, Any, Any, str]]:
    label = path.stem.rpartition("_")[0]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        problems.append(f"{path.relative_to(folder)} cannot be read ({error}): copy or download it again")
        return
    for number, line in enumerate(lines, start=1):
        cells = line.split()
        if len(cells) == 3:
            yield f"{path.relative_to(folder)}: line {number}", cells[0], cells[1], cells[2], label
        elif cells:
            problems.append(f"{path.relative_to(folder)}: line {number} is {line!r}: give video, start and end")


def _json_rows(path: Path) -> Iterable[tuple[str, str, Any, Any, str]]:
    content = read_json(path)
    videos: Any = content.get("segments", content.get("database")) if isinstance(content, dict) else None
    if not isinstance(videos, dict):
        raise DataError(f"{path}: has neither 'segments' nor 'database': give the official segments as JSON")
    for video, entry in videos.items():
        found = entry.get("annotations") if isinstance(entry, dict) else entry
        for index, row in enumerate(found if isinstance(found, list) else [found]):
            try:
                label, (start, end) = (row["label"], row["segment"]) if isinstance(row, dict) else (row[0], row[1:])
            except (KeyError, TypeError, ValueError, IndexError):
                label, start, end = str(row), None, None
            yield f"{path.name}: video {video!r}: segment {index}", video, start, end, label


def _fault(start: Any, end: Any, label: object) -> str | None:
    if label not in CLASS_NAMES[1:]:
        return f"unknown class {label!r}: use one of {listing(CLASS_NAMES[1:], most=21)}"
    try:
        first, last = float(start), float(end)
    except (TypeError, ValueError):
        return f"start {start!r} and end {end!r} are not both numbers: give seconds"
    if not (math.isfinite(first) and math.isfinite(last)) or first < 0:
        return f"start {start!r} and end {end!r}: give seconds from the start of the video"
    if last <= first:
        return f"end {last:g} is not after start {first:g}: correct one"
    return None


def read_rates(source: Path, given: str | float | None) -> tuple[Mapping[str, float] | float, list[Path]]:
    """Return the video frames a second, one number or by video, and the files that say so.

    Args:
        source: Folder of the import.
        given: A number, or a file in or below the source or from here: JSON ``{video: fps}``, CSV with the columns
            ``video`` and ``fps``, ``.npz`` with ``names`` and ``video_fps``; or a folder with such ``.npz`` files. None
            looks for ``val_perframe.npz`` and ``test_perframe.npz`` in the source.

    Raises:
        DataError: If there is no such file, or it cannot be read.
        ConfigError: If the number is not above 0.

    Example:
        >>> read_rates(Path("thumos14"), "29.97")
        (29.97, [])
    """
    number = _number(given)
    if number is not None:
        check_rate("fps", number, told="the video frames a second")
        return number, []
    places = [source] if given is None else [source / str(given), Path(str(given))]
    for place in places:
        if place.is_file() and place.suffix != ".npz":
            return (_csv_rates(place) if place.suffix == ".csv" else _json_rates(place)), [place]
        files = [place] if place.is_file() else [place / name for name in _PERFRAME if (place / name).is_file()]
        if files:
            return {name: fps for path in files for name, fps in read_perframe(path).fps.items()}, files
    told = f"no file {given}" if given is not None else "the frame rates of the videos are not here"
    raise DataError(f"{source}: {told}: give fps=, a number or a file (JSON or CSV of video and fps, or .npz)")


def _number(text: object) -> float | None:
    try:
        return float(str(text))
    except ValueError:
        return None


def _json_rates(path: Path) -> dict[str, float]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}: give {{video: fps}}")
    return _numbers(path, ((f"video {video!r}", video, value) for video, value in content.items()))


def _csv_rates(path: Path) -> dict[str, float]:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is not a CSV file ({' '.join(str(error).split())}): copy it again") from error
    if not {"video", "fps"} <= set(table.columns):
        raise DataError(f"{path}: has columns {listing(table.columns)}: give the columns video and fps")
    rows = zip(table["video"], table["fps"], strict=True)
    return _numbers(path, ((f"row {row}: video {video!r}", video, value) for row, (video, value) in enumerate(rows, 2)))


def _numbers(path: Path, entries: Iterable[tuple[str, str, Any]]) -> dict[str, float]:
    rates: dict[str, float] = {}
    problems = []
    for where, video, value in entries:
        rate = _number(value)
        if rate is None:
            problems.append(f"{where}: fps is {value!r}: give a number")
        elif video in rates:
            problems.append(f"{where} is there twice, with {rates[video]!r} before: drop one")
        else:
            rates[video] = rate
    raise_problems(path, problems)
    return rates
