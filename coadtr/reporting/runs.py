"""Find the runs to report on, and refuse to set beside each other what cannot be compared."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coadtr.data import ScoreFile, read_scores
from coadtr.errors import ConfigError, DataError, SchemaError
from coadtr.evaluation import PROTOCOLS
from coadtr.reporting.reading import read_curves, read_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas as pd

__all__ = ["Run", "check_comparable", "common_folder", "differences", "find_runs"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One replayed run: its report, its scores, and how it was trained where that is known.

    Attributes:
        name: Short, and unique among the runs that were found together.
        folder: The run folder; the replay folder where the replay does not lie in a folder named ``replay``.
        report: What ``report.json`` holds, version 2, all keys there.
        scores: What ``scores.h5`` holds.
        curves: One row an epoch, see `coadtr.reporting.reading.read_curves`; None if there are no curves.
    """

    name: str
    folder: Path
    report: Mapping[str, Any]
    scores: ScoreFile
    curves: pd.DataFrame | None


def find_runs(paths: Iterable[str | Path]) -> list[Run]:
    """Read all runs that some paths name.

    A path is a replay folder (``report.json`` and ``scores.h5``), a run folder (with such a folder ``replay``), or a
    folder below which there are some, as those of a sweep: then all of them are found, sorted by path. Hidden folders
    and links to folders are not entered. A run that is named twice is read once.

    Args:
        paths: The paths, in the order in which to show them.

    Returns:
        The runs. Names are paths below the folder that is common to all runs.

    Raises:
        ConfigError: No path was given.
        DataError: A path is missing, no run is below it, or a file of a run is missing or damaged.
        SchemaError: A report or score file is of another version.

    Example:
        >>> find_runs(["no_such_run"])
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such_run: there is no such folder: give folders that `coadtr replay` wrote to
    """
    replays: dict[Path, Path] = {}  # resolved, so that no run comes twice: as the user wrote it
    for path in map(Path, paths):
        for replay in _replays(path):
            replays.setdefault(replay.resolve(), replay)
    if not replays:
        raise ConfigError("no run was given: name one or more folders that `coadtr replay` wrote to")
    folders = [resolved.parent if resolved.name == "replay" else resolved for resolved in replays]
    above = common_folder(folders)
    runs = []
    for folder, (resolved, replay) in zip(folders, replays.items(), strict=True):
        report, scores = _read(replay)
        name = folder.relative_to(above).as_posix()
        curves = read_curves(resolved.parent)
        runs.append(Run(name=name, folder=folder, report=report, scores=scores, curves=curves))
    return runs


def common_folder(folders: Sequence[Path]) -> Path:
    """Return the innermost folder that all of some folders are in.

    Args:
        folders: One or more absolute paths.

    Example:
        >>> common_folder([Path("/runs/sweep/0"), Path("/runs/sweep/1/int8")]).as_posix()
        '/runs/sweep'
    """
    return Path(os.path.commonpath([folder.parent for folder in folders]))


def _replays(path: Path) -> Iterator[Path]:
    """Name the folders below a path that hold a replay."""
    if path.name == "report.json" and path.is_file():
        path = path.parent
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "there is no such folder"
        raise DataError(f"{path}: {what}: give folders that `coadtr replay` wrote to")
    for folder in (path, path / "replay"):
        if (folder / "report.json").exists():
            yield folder
            return
    found = 0
    for place, inner, files in os.walk(path):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if "report.json" in files:
            found += 1
            yield Path(place)
    if not found:
        raise DataError(
            f"{path}: holds no run: neither report.json, nor replay/report.json, nor a folder with one of them; "
            "run `coadtr replay` first"
        )


def _read(replay: Path) -> tuple[dict[str, Any], ScoreFile]:
    report = read_report(replay / "report.json")
    path = replay / "scores.h5"
    if not path.is_file():
        raise DataError(f"{path}: is missing, and a report needs the scores: run `coadtr replay` again")
    scores = read_scores(path)
    frames = sum(len(video.scored) for video in scores.videos)
    scored = sum(int(video.scored.sum()) for video in scores.videos)
    held = (list(scores.class_names), len(scores.videos), frames, scored)
    if held != (report["class_names"], report["videos"], report["frames_total"], report["frames_scored"]):
        raise DataError(
            f"{path}: holds {len(held[0])} classes and {frames} frames ({scored} scored) in {held[1]} videos, not what "
            "report.json beside it tells of: run `coadtr replay` again"
        )
    for role in ("background", "ignored"):
        if report[role] is not None and report[role] not in held[0]:
            raise SchemaError(f"{replay / 'report.json'}: {role} {report[role]!r} is no class: replay again")
    return report, scores


def differences(runs: Sequence[Run]) -> list[str]:
    """Say in what runs differ that must be equal for their numbers to be compared.

    That is the protocol (its name and version, and the window N where the protocol leaves out frames by it), the data
    (fingerprint and split), the classes, and the smoothing of scores. How a replay ran (step by step or in chunks, in
    which precision, on which machine) leaves accuracy comparable.

    Args:
        runs: The runs.

    Returns:
        One clause for each such difference, naming the values and the runs that have them; empty if they are
        comparable.

    Example:
        >>> differences([])
        []
    """
    found = []
    for what, value in _MUST_AGREE.items():
        groups: dict[object, list[Run]] = {}
        for run in runs:
            groups.setdefault(value(run.report)[0], []).append(run)
        if len(groups) > 1:
            words = [
                f"{value(alike[0].report)[1]} ({', '.join(run.name for run in alike)})" for alike in groups.values()
            ]
            found.append(f"{what}: {' against '.join(words)}")
    return found


def check_comparable(runs: Sequence[Run]) -> None:
    """Refuse runs that were not evaluated alike.

    Args:
        runs: The runs.

    Raises:
        ConfigError: They differ in protocol, data, classes or smoothing.

    Example:
        >>> check_comparable([])
    """
    if found := differences(runs):
        raise ConfigError(
            f"the runs cannot be compared; they differ in {'; and in '.join(found)}: replay them alike, "
            "or say mixed=true to set them beside each other all the same"
        )


# What is compared, and how to name it to a reader.
_Value = tuple[object, str]


def _protocol(report: Mapping[str, Any]) -> _Value:
    protocol = report["protocol"]
    known = PROTOCOLS.get(protocol["name"])
    # Models of several windows compare where all of them are scored on the same frames.
    by_window = known is None or known.skips_warmup
    shown = f"{protocol['name']} v{protocol['version']}" + (f" with N = {protocol['window']}" if by_window else "")
    return shown, shown


def _data(report: Mapping[str, Any]) -> _Value:
    data, split = report["origin"]["data"], report["origin"]["split"]
    where = "all videos" if split is None else f"split {split}"
    return (data["fingerprint"], split), f"{where} of {data['path']} [{data['fingerprint']}]"


def _classes(report: Mapping[str, Any]) -> _Value:
    names, special = report["class_names"], (report["background"], report["ignored"])
    few = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return (tuple(names), special), f"{len(names)} ({few}; background {special[0]}, ignored {special[1]})"


def _smoothing(report: Mapping[str, Any]) -> _Value:
    smoothing = report["smoothing"] or {}
    shown = ", ".join(f"{name} {value}" for name, value in smoothing.items() if value is not None) or "none"
    return shown, shown


_MUST_AGREE: Mapping[str, Callable[[Mapping[str, Any]], _Value]] = {
    "protocol": _protocol,
    "data": _data,
    "classes": _classes,
    "smoothing": _smoothing,
}
