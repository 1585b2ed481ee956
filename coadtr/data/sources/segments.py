"""Read tables of segments: ``video,start,end,label`` as CSV, or JSON in the form of ActivityNet."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd

from coadtr.data.importers.problems import raise_problems
from coadtr.data.sources.json_files import read_json
from coadtr.data.sources.label_rules import Segment
from coadtr.data.sources.rate_options import check_rate
from coadtr.data.sources.text_tables import read_text_table
from coadtr.data.storage import schema
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["UNITS", "SegmentTable", "TableSegment", "action_segments", "nearest_name", "read_segments"]

UNITS: Final = ("seconds", "frames")

_COLUMNS: Final = ("video", "start", "end", "label")
_RATES: Final = ("fps", "rate_hz")
_SUBSETS: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class TableSegment(NamedTuple):
    """One row of a table.

    Attributes:
        start: Seconds from the start of the video at which the action begins.
        end: Seconds at which it is over.
        label: Name of its class.
        where: Place in the table, for messages.
    """

    start: float
    end: float
    label: str
    where: str


@dataclass(kw_only=True)
class SegmentTable:
    """What a table of segments says.

    Attributes:
        path: The file.
        class_names: Names of the classes: as asked for, or in the order in which the table brings them.
        segments: Segments of each video, in the order of the table; empty for a video without any.
        splits: Split of each video, where the table gives one.
        fps: Video frames a second of each video, where the table gives them.
        rates_hz: Feature frames a second of each video, where the table gives them.
        problems: What is wrong with its rows, each with its place, value and remedy.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "segments.csv"
        >>> _ = path.write_text("video,start,end,label" + chr(10) + "salad,0.5,4,cut" + chr(10))
        >>> read_segments(path).segments["salad"]
        [TableSegment(start=0.5, end=4.0, label='cut', where='row 2')]
    """

    path: Path
    class_names: tuple[str, ...] = ()
    segments: dict[str, list[TableSegment]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    fps: dict[str, float] = field(default_factory=dict)
    rates_hz: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def action_segments(
    segments: Sequence[TableSegment], class_names: Sequence[str], background: int | None
) -> tuple[list[Segment], list[str]]:
    """Return segments by class index, and their places in the table; frames in none are background anyway.

    Args:
        segments: Segments of one video.
        class_names: Names of the classes.
        background: Class whose segments are left out; none keeps all.

    Example:
        >>> rows = [TableSegment(0.0, 2.0, "cut", "row 2"), TableSegment(2.0, 3.0, "rest", "row 3")]
        >>> action_segments(rows, ["rest", "cut"], background=0)
        ([Segment(start=0.0, end=2.0, label=1)], ['row 2'])
    """
    kept = [segment for segment in segments if background is None or segment.label != class_names[background]]
    return [Segment(row.start, row.end, class_names.index(row.label)) for row in kept], [row.where for row in kept]


def nearest_name(name: str, known: Sequence[str]) -> str:
    """Return a hint at the class that an unknown name may mean: the nearest name, or all there are.

    Example:
        >>> nearest_name("Stoke", ["Rest", "Stroke"])
        "did you mean 'Stroke'?"
    """
    lowered = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f"did you mean {lowered[near[0]]!r}?" if near else f"the classes are {schema.listing(known)}"


def read_segments(
    path: Path,
    *,
    unit: str = "seconds",
    fps: float | None = None,
    classes: Sequence[str] | None = None,
    subject: str = "video",
) -> SegmentTable:
    """Read a table of segments, and collect all that is wrong with its rows.

    CSV (tabs in a ``.tsv`` file): a heading, then one row a segment; columns ``video``, ``start``, ``end``, ``label``,
    and if wanted ``split``, ``fps`` (of the video) and ``rate_hz`` (of the features). JSON: ``{"database": {video:
    {"subset": "training", "annotations": [{"segment": [start, end], "label": "cut"}]}}}``, and if wanted ``fps`` and
    ``rate_hz`` of each video; seconds as published, or frames as the unit says.

    Args:
        path: The file: ``.csv``, ``.tsv`` or ``.json``.
        unit: Unit of start and end, ``seconds`` or ``frames``: video frames counted from 0, the end being the frame
            after the last.
        fps: Video frames a second, for ``frames`` where the table does not give them.
        classes: Names of the classes in the order wanted; labels that are not among them are problems.
        subject: Name of the column that names what a row is of, such as ``file`` for sound.

    Returns:
        The segments that are sound, and the problems of the others.

    Raises:
        DataError: If the file cannot be read as a table at all.
        ConfigError: If an option has no sensible value.

    Example:
        >>> from pathlib import Path
        >>> read_segments(Path("nowhere.csv"))
        Traceback (most recent call last):
        coadtr.errors.DataError: nowhere.csv: no such file: give a table of segments (.csv, .tsv or .json)
    """
    if unit not in UNITS:
        raise ConfigError(f"unit={unit!r}: use one of {schema.listing(UNITS)}")
    if fps is not None:
        check_rate("fps", fps, told="the video frames a second")
    if not path.is_file():
        raise DataError(f"{path}: no such file: give a table of segments (.csv, .tsv or .json)")
    table = SegmentTable(path=path)
    rows = _json_rows(path, table) if path.suffix.lower() == ".json" else _csv_rows(path, table, subject)
    _enter(table, rows, unit, fps, classes)
    return table


def _csv_rows(path: Path, table: SegmentTable, subject: str) -> pd.DataFrame:
    """Return the rows of a CSV file as text, and enter what it says of whole videos."""
    try:
        rows = read_text_table(path, separator="\t" if path.suffix.lower() == ".tsv" else ",")
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    rows.columns = pd.Index([column.lower() for column in rows.columns])
    twice = list(rows.columns[rows.columns.duplicated()])
    raise_problems(path, [f"column {column!r} is there twice, in upper and lower case: drop one" for column in twice])
    columns = (subject, *_COLUMNS[1:])
    missing = [column for column in columns if column not in rows.columns]
    raise_problems(
        path,
        [
            f"column {column!r} is missing (there are {schema.listing(rows.columns)}): "
            f"the first line names the columns {', '.join(columns)}"
            for column in missing
        ],
    )
    rows = rows.rename(columns={subject: "video"}) if subject != "video" else rows
    rows = rows.assign(where=[f"row {row}" for row in rows.index])
    for column in ("split", *_RATES):
        if column in rows.columns:
            for video, text, where in zip(rows["video"], rows[column], rows["where"], strict=True):
                _enter_fact(table, video, column, text, f"{where}, column {column!r}")
    return rows


def _json_rows(path: Path, table: SegmentTable) -> pd.DataFrame:
    """Return the annotations of a JSON file as rows, and enter what it says of whole videos."""
    content = read_json(path)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not database:
        raise DataError(f"{path}: has no entry 'database' with videos: give segments in the form of ActivityNet")
    rows: list[tuple[object, ...]] = []
    for video, entry in database.items():
        listed = entry.get("annotations") if isinstance(entry, dict) else None
        if not isinstance(listed, list):
            table.problems.append(f"video {video!r}: has no list 'annotations': add it, empty if nothing happens")
            continue
        table.segments[video] = []
        for key, column in (("subset", "split"), *((rate, rate) for rate in _RATES)):
            if entry.get(key) is not None:
                _enter_fact(table, video, column, str(entry[key]), f"video {video!r}, field {key!r}")
        for index, item in enumerate(listed):
            where = f"video {video!r}, annotation {index}"
            span = item.get("segment") if isinstance(item, dict) else None
            label = item.get("label") if isinstance(item, dict) else None
            if not isinstance(span, list) or len(span) != 2 or not isinstance(label, str):
                table.problems.append(f"{where}: is {str(item)[:80]!r}: give 'segment': [start, end] and 'label'")
            else:
                rows.append((video, *(str(bound) for bound in span), label.strip(), where))
    return pd.DataFrame(rows, columns=[*_COLUMNS, "where"], dtype=str)


def _enter_fact(table: SegmentTable, video: str, column: str, text: str, where: str) -> None:
    """Enter what a row says of its whole video: all rows of one video must agree."""
    if not text or not video:
        return
    value: str | float
    if column == "split":
        known: dict[str, Any] = table.splits
        value = _SUBSETS.get(text.lower(), "")
        if not value:
            table.problems.append(f"{where}: unknown split {text!r}: use train, validation or test")
            return
    else:
        known = table.fps if column == "fps" else table.rates_hz
        value = float(pd.to_numeric(text, errors="coerce"))
        if not (math.isfinite(value) and value > 0):
            table.problems.append(f"{where}: {text!r} is no rate: give a positive number a second")
            return
    if known.setdefault(video, value) != value:
        table.problems.append(
            f"{where}: {value!r} for video {video!r}, but {known[video]!r} before: give all its rows one value"
        )


def _enter(
    table: SegmentTable, rows: pd.DataFrame, unit: str, fps: float | None, classes: Sequence[str] | None
) -> None:
    """Check every row, enter those that are sound, and keep the faults of the others."""
    bounds = rows[["start", "end"]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64).reshape(-1, 2)
    names: dict[str, None] = dict.fromkeys(classes or ())
    seen: dict[tuple[str, float, float, str], str] = {}
    for row, (start, end) in zip(rows.itertuples(index=False), bounds, strict=True):
        video, label, where = str(row.video), str(row.label), str(row.where)
        faults = _row_faults(row, float(start), float(end), classes)
        rate = table.fps.get(video, fps)
        if unit == "frames" and rate is None:
            faults.append(f"unit=frames needs the rate of video {video!r}: add a column fps, or give fps=")
        key = (video, float(start), float(end), label)
        if not faults and key in seen:
            faults.append(f"repeats {seen[key]}: drop one of the two")
        seen.setdefault(key, where)
        table.problems += [f"{where}: {fault}" for fault in faults]
        if not faults:
            names.setdefault(label)
            scale = rate if unit == "frames" and rate is not None else 1.0
            table.segments.setdefault(video, []).append(
                TableSegment(float(start) / scale, float(end) / scale, label, where)
            )
    table.class_names = tuple(names)
    if not table.segments and not table.problems:
        table.problems.append("holds no segment: write one row for each")


def _row_faults(row: Any, start: float, end: float, classes: Sequence[str] | None) -> list[str]:
    faults = [f"column {column!r} is empty: fill it in" for column in _COLUMNS if not getattr(row, column)]
    for column, value in (("start", start), ("end", end)):
        text = getattr(row, column)
        if text and not math.isfinite(value):
            remedy = "write seconds, such as 61.5" if ":" in text else "correct it"
            faults.append(f"column {column!r}: {text!r} is not a number: {remedy}")
    if start < 0:
        faults.append(f"column 'start': {row.start} is before the video: correct it")
    if end <= start:
        faults.append(f"start {row.start} is not before end {row.end}: correct one of them")
    if row.label and classes is not None and row.label not in classes:
        faults.append(f"unknown label {row.label!r}: {nearest_name(row.label, classes)}")
    return faults
