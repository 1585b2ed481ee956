"""One recording in a CSV file: look at all its cells, and read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from coadtr.data.sources.segments import nearest_name
from coadtr.data.sources.text_tables import read_text_table
from coadtr.data.storage.schema import listing
from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from coadtr.data.importers.plan import VideoArrays

__all__ = ["TIME_UNITS", "Recording", "RecordingColumns", "look_at", "read_recording"]

TIME_UNITS: Final = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""How many of each unit make a second."""

# A step this many times the usual one is a hole in the recording, not jitter.
_GAP: Final = 5.0

_MOST_FAULTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingColumns:
    """What the columns of a recording are.

    Attributes:
        label: Column with the name of the class.
        timestamp: Column with the time, or none.
        unit: Unit of the time, one of `TIME_UNITS`.
        drop: Columns to leave out.
        aliases: Other spellings of classes, and the names that they stand for.

    Example:
        >>> RecordingColumns(label="phase", timestamp="t", unit="ms").features(["x", "t", "y", "phase"])
        ['x', 'y']
    """

    label: str
    timestamp: str | None
    unit: str
    drop: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    def features(self, header: Sequence[str]) -> list[str]:
        """Return the columns that are features."""
        return [column for column in header if column not in (self.label, self.timestamp, *self.drop)]


@dataclass(slots=True)
class Recording:
    """What a first look at a recording has found; its features are read again when their turn comes.

    Attributes:
        path: The file.
        columns: Columns with features.
        labels: Name of the class of each frame, aliases replaced.
        rate_hz: Frames a second, from the median step of the timestamps, where there are any.
        problems: What is wrong, with row, column, value and remedy.
        warnings: Gaps in the timestamps.
    """

    path: Path
    columns: list[str] = field(default_factory=list)
    labels: tuple[str, ...] = ()
    rate_hz: float | None = None
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def look_at(path: Path, columns: RecordingColumns, classes: Sequence[str] | None = None) -> Recording:
    """Check all cells of a recording, and keep its labels and its rate.

    Args:
        path: The CSV file.
        columns: What its columns are.
        classes: Names of the classes, if they are known; other labels are problems.

    Returns:
        What was found, problems included.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text("x,t,label" + chr(10) + "1.5,0,rest" + chr(10) + "oops,40,lift" + chr(10))
        >>> found = look_at(path, RecordingColumns(label="label", timestamp="t", unit="ms"))
        >>> found.rate_hz, found.problems
        (25.0, ["row 3, column 'x': 'oops' is not a number: correct it or leave the row out"])
    """
    found = Recording(path)
    try:
        table = read_text_table(path)
    except DataError as error:
        found.problems.append(str(error))
        return found
    found.columns = columns.features(list(table.columns))
    wanted = {"label": columns.label, "timestamp": columns.timestamp}
    missing = [(what, name) for what, name in wanted.items() if name is not None and name not in table.columns]
    missing += [("drop", name) for name in columns.drop if name not in table.columns]
    found.problems += [
        f"column {name!r} ({what}) is missing: the columns are {listing(table.columns)}" for what, name in missing
    ]
    if not found.columns:
        found.problems.append("has no column of features: give at least one beside label and timestamp")
    if not len(table):
        found.problems.append("has no row below the heading: leave the file out")
    if found.problems:
        return found
    for column in found.columns:
        _numbers(table[column], found)
    labels = table[columns.label].map(lambda text: columns.aliases.get(text, text))
    found.labels = tuple(labels)
    _check_labels(labels, found, columns, classes)
    if columns.timestamp is not None:
        times = pd.Series(_numbers(table[columns.timestamp], found), index=table.index)
        _measure(times, columns, found)
    return found


def _numbers(cells: pd.Series[str], found: Recording) -> NDArray[np.float64]:
    """Return a column as numbers, and enter the cells that are none."""
    values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    for index in wrong[:_MOST_FAULTS]:
        text = cells.iloc[index]
        fault = f"{text!r} is not a number" if text else "is empty"
        found.problems.append(
            f"row {cells.index[index]}, column {cells.name!r}: {fault}: correct it or leave the row out"
        )
    if len(wrong) > _MOST_FAULTS:
        found.problems.append(f"column {cells.name!r}: {len(wrong) - _MOST_FAULTS} more cells are not numbers")
    return values


def _check_labels(
    labels: pd.Series[str], found: Recording, columns: RecordingColumns, classes: Sequence[str] | None
) -> None:
    for text, rows in labels.groupby(labels, sort=False).groups.items():
        where = f"row {rows[0]}, column {columns.label!r}"
        more = f" ({len(rows)} rows)" if len(rows) > 1 else ""
        if text == "":
            found.problems.append(f"{where}: is empty{more}: fill in the class")
        elif classes is not None and text not in classes:
            hint = nearest_name(str(text), classes)
            found.problems.append(f"{where}: unknown label {str(text)!r}{more}: {hint}; correct it or give aliases")


def _measure(times: pd.Series[float], columns: RecordingColumns, found: Recording) -> None:
    """Derive the rate from the timestamps; what runs back is a problem, gaps are warnings."""
    steps = np.diff(times.to_numpy()) / TIME_UNITS[columns.unit]
    if not np.isfinite(steps).all():
        return  # told cell by cell
    where = f"column {columns.timestamp!r}"
    back = np.flatnonzero(steps < 0)
    if len(back):
        found.problems.append(
            f"row {times.index[back[0] + 1]}, {where}: runs back by {-steps[back[0]]:g} s: put rows in order"
        )
        return
    median = float(np.median(steps)) if len(steps) else 0.0
    if median <= 0:
        found.problems.append(f"{where}: has no step to derive a rate from: give rate_hz and drop the column")
        return
    found.rate_hz = round(1 / median, 6)
    gaps = np.flatnonzero(steps > _GAP * median)
    longest = np.sort(gaps[np.argsort(-steps[gaps], kind="stable")[:_MOST_FAULTS]])
    found.warnings += [
        f"row {times.index[gap + 1]}, {where}: gap of {steps[gap]:.3g} s, where the median step is {median:.3g} s"
        for gap in longest
    ]
    if len(gaps) > _MOST_FAULTS:
        found.warnings.append(f"{where}: {len(gaps) - _MOST_FAULTS} more gaps, shorter ones")


def read_recording(recording: Recording, stream: str, columns: Sequence[str], names: Sequence[str]) -> VideoArrays:
    """Read the features of a recording that was looked at, and number its labels.

    Args:
        recording: What the look has found.
        stream: Name of the feature stream.
        columns: The D columns with features, in the order wanted.
        names: The C class names.

    Returns:
        ``(T, D)`` float32 features of the stream, and ``(T,)`` class indices.

    Raises:
        DataError: If the file has changed in between.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text("x,label" + chr(10) + "1.5,rest" + chr(10))
        >>> recording = look_at(path, RecordingColumns(label="label", timestamp=None, unit="s"))
        >>> features, labels = read_recording(recording, "imu", ["x"], ["lift", "rest"])
        >>> features["imu"].tolist(), labels.tolist()
        ([[1.5]], [1])
    """
    changed = f"{recording.path.name}: has changed since it was looked at: leave the file alone and start again"
    table = read_text_table(recording.path)
    if len(table) != len(recording.labels) or any(column not in table.columns for column in columns):
        raise DataError(changed)
    try:
        features = table[list(columns)].apply(pd.to_numeric).to_numpy(np.float32)
    except ValueError as error:
        raise DataError(changed) from error
    place = {name: index for index, name in enumerate(names)}
    return {stream: features}, np.array([place[label] for label in recording.labels], np.int64)
