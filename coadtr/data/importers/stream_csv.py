"""Import recordings of sensors: one CSV file a recording, one row a frame, its class in a column."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

from coadtr.data.importers.csv_recording import TIME_UNITS, Recording, RecordingColumns, look_at, read_recording
from coadtr.data.importers.plan import ImportPlan, PlannedVideo
from coadtr.data.importers.seeded_splits import complete_splits
from coadtr.data.sources.class_names import alike_warnings, find_class
from coadtr.data.sources.rate_options import check_rate
from coadtr.data.sources.segments import nearest_name
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["plan_stream_csv"]


def plan_stream_csv(
    source: Path,
    *,
    label: str = "label",
    timestamp: str | None = None,
    timestamp_unit: str = "ms",
    rate_hz: float | None = None,
    classes: Sequence[str] | None = None,
    aliases: Mapping[str, str] | Sequence[str] | None = None,
    background: str | None = None,
    ignored: str | None = None,
    drop: Sequence[str] | None = None,
    test: Sequence[str] | None = None,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.15,
    seed: int = 0,
    stream: str = "features",
) -> ImportPlan:
    """Plan the import of recordings in CSV files, one row a frame.

    The name of a file is that of its video. The first line names the columns: one holds the class of each frame, one
    perhaps the time, and all others are numbers, the features. All files have the same columns, in any order.

    Args:
        source: Folder of ``.csv`` files, or one file.
        label: Column with the name of the class.
        timestamp: Column with the time of the frame; none if there is none.
        timestamp_unit: Its unit: ``s``, ``ms``, ``us`` or ``ns``.
        rate_hz: Frames a second; none takes, for each recording, that of the median step between its timestamps.
        classes: Names of the classes in the order wanted; none takes the order of first appearance, files by name.
        aliases: Other spellings of classes, and the names that they stand for; or a list of texts ``spelling=name``.
        background: Name of the class that stands for "no action", whatever its case, or none.
        ignored: Name of the class whose frames are neither trained on nor scored, whatever its case, or none.
        drop: Columns to leave out.
        test: Names of the test videos, or patterns such as ``c*``; none chooses by seed.
        test_fraction: Part of the videos to test on, where ``test`` is not given; 0 for none.
        validation_fraction: Part of the training videos set aside for validation; 0 for none.
        seed: Seed of both choices.
        stream: Name of the feature stream in the store.

    Returns:
        The plan. Gaps in the timestamps, steps of more than 5 times the median, are among its warnings, the 5
        longest of each file.

    Raises:
        DataError: If there is no file to read.
        ConfigError: If an option is unknown, out of range, or must be given.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a1", "a2", "b1"):
        ...     _ = (folder / f"{name}.csv").write_text("x,y,label" + chr(10) + "1,2,rest" + chr(10) + "1,3,lift")
        >>> plan = plan_stream_csv(folder, rate_hz=30, test=["b*"])
        >>> plan.class_names, plan.streams, [video.split for video in plan.videos].count("test")
        (('rest', 'lift'), {'features': 2}, 1)
    """
    if rate_hz is None and timestamp is None:
        raise ConfigError("give rate_hz, the frames a second, or timestamp, the column that tells it")
    if rate_hz is not None:
        check_rate("rate_hz", rate_hz, told="the frames a second")
    if timestamp_unit not in TIME_UNITS:
        raise ConfigError(f"timestamp_unit={timestamp_unit!r}: use one of {listing(TIME_UNITS)}")
    columns = RecordingColumns(
        label=label, timestamp=timestamp, unit=timestamp_unit, drop=tuple(drop or ()), aliases=_aliases(aliases)
    )
    looked = [look_at(path, columns, classes) for path in _files(source)]
    problems = [f"{one.path.name}: {problem}" for one in looked for problem in one.problems]
    whole = [one for one in looked if not one.problems]
    names = tuple(classes) if classes is not None else _names_in_order(whole)
    features, faults = _shared_columns(whole)
    splits, told = complete_splits(
        [one.path.stem for one in looked],
        _test_videos([one.path.stem for one in looked], test),
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        seed=seed,
        source=source,
    )
    return ImportPlan(
        source=source,
        class_names=names,
        background=_place(background, names, "background"),
        ignored=_place(ignored, names, "ignored"),
        streams={stream: max(1, len(features))},
        attributes={
            "origin": f"stream-csv, column {label!r} of {len(looked)} files: {source.name}",
            "label_rule": "one class a frame, as in the source",
            "rate_rule": "given" if rate_hz is not None else f"median step of column {timestamp!r} of each recording",
            **({"aliases": dict(columns.aliases)} if columns.aliases else {}),
            **told,
        },
        videos=tuple(
            PlannedVideo(
                name=one.path.stem,
                split=splits[one.path.stem],
                rate_hz=rate_hz or one.rate_hz or 1.0,
                read=partial(read_recording, one, stream, features, names),
            )
            for one in whole
        ),
        files=tuple(one.path for one in looked),
        problems=(*problems, *faults),
        warnings=(
            *(f"{one.path.name}: {warning}" for one in looked for warning in one.warnings),
            *alike_warnings(names),
        ),
    )


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder: give the one with the recordings (.csv)")
    found = sorted(path for path in source.iterdir() if path.suffix.lower() == ".csv" and path.name[0] != ".")
    if not found:
        raise DataError(f"{source}: holds no .csv file: give the folder with the recordings")
    return found


def _names_in_order(looked: Sequence[Recording]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for one in looked for name in one.labels))


def _shared_columns(looked: Sequence[Recording]) -> tuple[list[str], list[str]]:
    """Return the feature columns of the first recording, and what the others have else."""
    if not looked:
        return [], []
    columns, faults = looked[0].columns, []
    for one in looked[1:]:
        for what, names in (
            ("lacks", [name for name in columns if name not in one.columns]),
            ("also has", [name for name in one.columns if name not in columns]),
        ):
            if names:
                faults.append(
                    f"{one.path.name}: {what} columns {listing(names)}, unlike {looked[0].path.name}: "
                    "write the same columns, or name some in drop"
                )
    return columns, faults


def _test_videos(names: Sequence[str], patterns: Sequence[str] | None) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for pattern in patterns or ():
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise ConfigError(f"test={pattern!r} is the name of no video: the videos are {listing(names)}")
        chosen |= dict.fromkeys(found, "test")
    return chosen


def _place(name: str | None, names: Sequence[str], option: str) -> int | None:
    if name is None:
        return None
    index = find_class(name, names)
    if index is None:
        raise ConfigError(f"{option}={name!r} is no class: {nearest_name(name, names)}")
    return index


def _aliases(given: Mapping[str, str] | Sequence[str] | None) -> dict[str, str]:
    """Return the name that each spelling stands for."""
    if given is None or isinstance(given, Mapping):
        return dict(given or {})
    pairs = [text.partition("=") for text in given]
    wrong = [text for text, (spelling, _, name) in zip(given, pairs, strict=True) if not (spelling and name)]
    if wrong:
        raise ConfigError(f"aliases={wrong[0]!r}: give spelling=name")
    return {spelling: name for spelling, _, name in pairs}
