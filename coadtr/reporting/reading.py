"""Read the files of a run, and check in them all that a report is made of: they may come from anywhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pandas as pd

from coadtr.errors import DataError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["read_curves", "read_report"]

_FORMAT: Final = "coadtr-report"
_VERSION: Final = 2

# What a key holds: a type, a list of one kind, a mapping with at least these keys ("*": any names); or, in a tuple,
# null.
_NUMBER: Final = (float, None)
_TEXT: Final = (str, None)
_RANGE: Final = ([_NUMBER], None)
_FIELDS: Final[Mapping[str, Any]] = {
    "mAP": float,
    "mcAP": float,
    "per_class_AP": {"*": float},
    "per_class_cAP": {"*": float},
    "classes_absent": [str],
    "accuracy": _NUMBER,
    "mean_per_video_accuracy": _NUMBER,
    "class_names": [str],
    "background": _TEXT,
    "ignored": _TEXT,
    "protocol": {"name": str, "version": float, "window": float, "description": str},
    "videos": float,
    "videos_scored": float,
    "frames_total": float,
    "frames_scored": float,
    "frames_ignored": float,
    "frames_outside": float,
    "machine": {},
    "origin": {"data": {"path": str, "fingerprint": str}, "split": _TEXT, "seed": _NUMBER},
}
# These are null where they were not measured or cannot be had, and may be missing.
_PARTS: Final[Mapping[str, Any]] = {
    "macs_per_frame": float,
    "macs_per_frame_published": float,
    "macs_by_block": {"*": float},
    "parameters": float,
    "step_latency_ms": {"p50": float, "p95": float, "p99": float},
    "state_bytes_per_stream": float,
    "peak_memory_bytes": float,
    "throughput": [{"streams": float, "frames_per_second": {"median": float, "low": float, "high": float}}],
    "intervals": {"level": float, "mAP": _RANGE, "mcAP": _RANGE, "accuracy": _RANGE},
    "portions": {"mAP": [_NUMBER], "mcAP": [_NUMBER]},
    "segmental": {"edit": _NUMBER, "f1": {"10": _NUMBER, "25": _NUMBER, "50": _NUMBER}},
    "starts": {"offsets_s": [float], "mAP": [_NUMBER]},
    "delay": {"false_positives_per_hour": float, "median_s": _NUMBER, "mean_s": _NUMBER, "detected": _NUMBER},
    "calibration": {
        "ece": _NUMBER,
        "bins": [{"low": float, "high": float, "confidence": _NUMBER, "accuracy": _NUMBER, "frames": float}],
    },
    "warmup": {"edges": [float], "mAP": [_NUMBER], "frames": [float]},
    "anticipation": {"horizons_s": [float], "mAP": [_NUMBER], "mcAP": [_NUMBER]},
    "clips": {
        "recordings": float,
        "answer": str,
        "accuracy": float,
        "interval": _RANGE,
        "by_seconds": {
            "seconds": [float],
            "recordings": [float],
            "accuracy_going_on": [_NUMBER],
            "accuracy_all": [_NUMBER],
        },
        "by_share": {"share": [float], "accuracy": [_NUMBER]},
    },
    "smoothing": {},
    "mode": str,
    "audit": {},
}
_LIMIT: Final = 2**63
_WORDS: Final = {float: "a number", str: "a text", list: "a list", dict: "an object"}


def read_report(path: Path) -> dict[str, Any]:
    """Read a ``report.json`` of version 2, and check the kind of every value that reports use.

    Parts that are missing are null in what is returned, so that all keys of ``docs/evaluation.md`` are there.

    Args:
        path: The file.

    Returns:
        Its contents.

    Raises:
        DataError: It cannot be read, is not whole, or a value is missing or of another kind.
        SchemaError: It is not a report of coadtr, or one of another version.

    Example:
        >>> from pathlib import Path
        >>> read_report(Path("no_such.json"))
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such.json: cannot be read (No such file or directory): run `coadtr replay`
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): run `coadtr replay`") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not a whole JSON file ({error}): run `coadtr replay` again") from error
    found = (report.get("format"), report.get("version")) if isinstance(report, dict) else (None, None)
    if found[0] != _FORMAT:
        raise SchemaError(f"{path}: is not a report of coadtr: give a folder that `coadtr replay` wrote")
    if found[1] != _VERSION:
        older = isinstance(found[1], int) and found[1] < _VERSION
        remedy = "run `coadtr replay` again" if older else "use the coadtr that wrote it, or replay with this one"
        raise SchemaError(f"{path}: is a report of version {found[1]!r}, and this coadtr reads {_VERSION}: {remedy}")
    report = {**dict.fromkeys(_PARTS), **report}
    fault = _fault(report, {**_FIELDS, **{name: (kind, None) for name, kind in _PARTS.items()}}, "")
    if fault is not None:
        raise DataError(f"{path}: {fault}: run `coadtr replay` again")
    return report


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _fault(value: object, kind: Any, where: str) -> str | None:
    """Say what is wrong with a value, or none."""
    if isinstance(kind, tuple):
        return None if value is None else _fault(value, kind[0], where)
    expected = type(kind) if isinstance(kind, (list, dict)) else (int, float) if kind is float else kind
    if not isinstance(value, expected) or isinstance(value, bool):
        return f"{where} must be {_WORDS[type(kind) if isinstance(kind, (list, dict)) else kind]}, got {value!r:.60}"
    if isinstance(value, list):
        return _first(_fault(item, kind[0], f"{where}[{index}]") for index, item in enumerate(value))
    if isinstance(value, dict):
        before = f"{where}." if where else ""
        wanted = dict.fromkeys(value, kind["*"]) if "*" in kind else kind
        return _first(
            _fault(value[name], inner, before + name) if name in value else f"{before}{name} is missing"
            for name, inner in wanted.items()
        )
    # 1e999 reads as infinite, and a whole number may have any length.
    return (
        f"{where} is out of range, got {value!r:.60}"
        if isinstance(value, (int, float)) and not abs(value) < _LIMIT
        else None
    )


def _first(faults: Iterable[str | None]) -> str | None:
    return next((fault for fault in faults if fault is not None), None)


def read_curves(folder: Path) -> pd.DataFrame | None:
    """Read the training curves of a run: ``logs/csv/version_*/metrics.csv``, one folder for each time it was taken up.

    Args:
        folder: The run folder.

    Returns:
        One row an epoch, in order: ``epoch``, and what was logged (``train_loss``, ``val_loss``, ``val_mAP``,
        ``learning_rate``). An epoch that was run again has its last values. None if there are no curves.

    Raises:
        DataError: A file is not a table with numbers and a column ``epoch``.

    Example:
        >>> from pathlib import Path
        >>> read_curves(Path("no_such_run")) is None
        True
    """
    logs = [path for path in folder.glob("logs/csv/version_*/metrics.csv") if path.parent.name[8:].isdecimal()]
    tables = [_read_table(path) for path in sorted(logs, key=lambda path: int(path.parent.name[8:]))]
    rows = [table for table in tables if not table.empty]
    if not rows:
        return None
    # `last` takes the last value of each column that is one: a row of validation has no training loss, and so on.
    return pd.concat(rows).groupby("epoch", sort=True).last().reset_index()


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
        numbers: pd.DataFrame = table.apply(pd.to_numeric).dropna(subset="epoch").astype({"epoch": "int64"})
    except pd.errors.EmptyDataError:  # a run that was stopped before its first epoch ended
        return pd.DataFrame()
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: is not a table of training curves ({error}): mend or remove it") from error
    return numbers
