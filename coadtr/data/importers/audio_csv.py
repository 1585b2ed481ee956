"""Import a table of segments of sound files: labels for every frame, or each segment as a recording to classify."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coadtr.data.importers.audio_clips import AudioClips, repeated
from coadtr.data.importers.audio_folders import check_damaged
from coadtr.data.importers.plan import ImportPlan, PlannedVideo, VideoArrays
from coadtr.data.importers.seeded_splits import table_splits
from coadtr.data.sources.class_names import alike_warnings, class_roles
from coadtr.data.sources.coverage import Coverage
from coadtr.data.sources.label_rules import LABEL_RULES, OUTSIDE, OVERLAPS, check_ends
from coadtr.data.sources.named_files import NamedFiles, recording_names
from coadtr.data.sources.segments import SegmentTable, TableSegment, action_segments, read_segments
from coadtr.data.sources.sound_labels import frame_offset, sound_labels
from coadtr.data.sources.sounds import (
    AUDIO_SUFFIXES,
    STREAM,
    VIDEO_SUFFIXES,
    choose_front_end,
    features_of_file,
    files_below,
)
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coadtr.audio import LogMel

__all__ = ["plan_audio_csv"]

_UNLISTED: Final = ("skip", "background", "error")
_MISSING: Final = ("error", "skip")


@dataclass(frozen=True, slots=True)
class _Labels:
    """How segments become labels of features."""

    front_end: LogMel
    class_names: tuple[str, ...]
    background: int | None
    frame_time: str
    rule: str
    overlap: str
    outside: str

    def read(self, path: Path, segments: Sequence[TableSegment]) -> VideoArrays:
        features, seconds = features_of_file(path, self.front_end)
        check_ends(segments, seconds, outside=self.outside)
        actions, places = action_segments(segments, self.class_names, self.background)
        labels = sound_labels(
            actions,
            frames=len(features),
            front_end=self.front_end,
            frame_time=self.frame_time,
            classes=len(self.class_names),
            background=self.background,
            rule=self.rule,
            overlap=self.overlap,
            names=places,
        )
        return {STREAM: features}, labels


def plan_audio_csv(
    source: Path,
    *,
    audio: str | None = None,
    clips: bool = False,
    front_end: str = "vggish",
    log_mel: Mapping[str, Any] | None = None,
    frame_time: str = "complete",
    rule: str = "centre",
    overlap: str = "multi-hot",
    outside: str = "error",
    classes: Sequence[str] | None = None,
    background: str | None = "background",
    ignored: str | None = None,
    unlisted: str = "skip",
    missing: str = "error",
    damaged: str = "error",
    test_fraction: float = 0.2,
    validation_fraction: float = 0.15,
    seed: int = 0,
) -> ImportPlan:
    """Plan the import of a table of segments of sound files.

    `read_segments` describes the table; its column ``file`` takes the place of ``video``, and names a file in the
    folder ``audio``, with or without folders and suffix. Splits are those of the table; what it does not give is
    chosen by seed, file by file. Where it has no training but validation files, these train.

    Args:
        source: The table: ``.csv``, ``.tsv`` or ``.json``.
        audio: Folder of the sound files, or of videos with sound; relative to the working folder or to that of the
            table; null for that of the table.
        clips: Whether each segment is one recording to classify, of which nothing else is known; background, rules
            and unlisted files mean nothing then.
        front_end: Preset of the log-mel front end, see `coadtr.audio.log_mel_preset`.
        log_mel: Settings of the front end that differ from the preset.
        frame_time: The time that a frame stands for, ``complete`` or ``centre``; see `sound_labels`.
        rule: Which frames a segment covers, one of `LABEL_RULES`.
        overlap: What a frame in several segments becomes: ``multi-hot``, ``first``, ``last`` or ``error``.
        outside: Segments past the end of their file, as it was decoded: ``error``, or ``cut``.
        classes: Class names in the order wanted; none takes the order of the table.
        background: Name of the class of frames in no segment, whatever its case; null for none.
        ignored: Name of the class whose frames are neither trained on nor scored, whatever its case.
        unlisted: Files that the table does not name: ``skip``, all ``background``, or ``error``.
        missing: Files of the table that are not there: ``error`` or ``skip``.
        damaged: Files that cannot be read: ``error`` or ``skip``.
        test_fraction: Part of the files to test on, where the table names no splits at all; 0 for none.
        validation_fraction: Part of the training files to validate on, where the table names none; 0 for none.
        seed: Seed of both choices.

    Returns:
        The plan.

    Raises:
        DataError: If table or folder cannot be found or read at all.
        ConfigError: If an option is unknown or out of range.

    Example:
        >>> plan_audio_csv(Path("events.csv"), frame_time="begin")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: frame_time='begin': use one of 'complete', 'centre'
    """
    on_damage = check_damaged(damaged)
    known = {"rule": LABEL_RULES, "overlap": OVERLAPS, "outside": OUTSIDE, "unlisted": _UNLISTED, "missing": _MISSING}
    given = {"rule": rule, "overlap": overlap, "outside": outside, "unlisted": unlisted, "missing": missing}
    for option, value in given.items():
        if value not in known[option]:
            raise ConfigError(f"{option}={value!r}: use one of {listing(known[option])}")
    chosen = choose_front_end(front_end, log_mel)
    offset = frame_offset(chosen, frame_time)
    table = read_segments(source, classes=classes, subject="file")
    found = _find(table, _folder(source, audio), unlisted="skip" if clips else unlisted, missing=missing)
    by_name, told, choices = table_splits(
        list(found.names.values()),
        {found.names[path]: split for path, split in found.splits.items()},
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        seed=seed,
        source=source,
        problems=found.problems,
        subject="file",
    )
    splits = {path: by_name[name] for path, name in found.names.items()}
    names, no_action, left_out = class_roles(table.class_names, None if clips else background, ignored)
    attributes: dict[str, object] = {
        "origin": f"segments of {source.name}, sound of {found.folder.name}",
        **({"task": "audio"} if clips else {"label_rule": rule, "overlap": overlap}),
        **({} if clips else {"frame_time": frame_time, "first_frame_s": offset}),
        "outside": outside,
        **told,
        "extractors": {STREAM: chosen.describe()},
    }
    warnings = [*found.warnings, *choices, *alike_warnings(names)]
    if clips:
        found.problems.extend(problem for segments in found.segments.values() for problem in repeated(segments))
        reading = AudioClips(chosen, names, outside=outside)
        videos = [
            PlannedVideo(name=name, split=splits[path], rate_hz=chosen.feature_rate_hz, read=read)
            for path, segments in found.segments.items()
            for name, read in reading.plan(path, found.names[path], segments)
        ]
        attributes["label_rule"] = "the class of the segment that the frame belongs to"
    else:
        labels = _Labels(chosen, names, no_action, frame_time, rule, overlap, outside)
        coverage = Coverage(names, rule=rule, unneeded=(no_action, left_out))
        for path, segments in found.segments.items():
            actions, rows = action_segments(segments, names, no_action)
            rate = chosen.feature_rate_hz
            coverage.add(found.names[path], actions, rate_hz=rate, names=rows, offset_s=offset)
        warnings += coverage.warnings()
        videos = [
            PlannedVideo(
                name=found.names[path],
                split=splits[path],
                rate_hz=chosen.feature_rate_hz,
                read=partial(labels.read, path, segments),
            )
            for path, segments in found.segments.items()
        ]
    return ImportPlan(
        source=source,
        class_names=names,
        background=no_action,
        ignored=left_out,
        streams={STREAM: chosen.dim},
        attributes=attributes,
        videos=tuple(videos),
        files=(source, *found.segments),
        problems=tuple(found.problems),
        warnings=tuple(warnings),
        damaged=on_damage,
        label_kind="index" if clips else "auto",
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """The files that a table is about."""

    folder: Path
    segments: Mapping[Path, list[TableSegment]]
    splits: Mapping[Path, str]
    names: Mapping[Path, str]
    problems: list[str]
    warnings: list[str]


def _folder(source: Path, audio: str | None) -> Path:
    folder = source.parent if audio is None else Path(audio)
    folder = folder if folder.exists() else source.parent / folder
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder: give the one with the sound files as audio=FOLDER")
    return folder


def _find(table: SegmentTable, folder: Path, *, unlisted: str, missing: str) -> _Found:
    """Return the files to import; those that table and folder do not share become problems or warnings."""
    suffixes = (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES)
    files = list(files_below(folder, suffixes))
    index = NamedFiles(folder, files, suffixes)
    problems, warnings = list(table.problems), list[str]()
    segments: dict[Path, list[TableSegment]] = {}
    called: dict[Path, str] = {}
    absent: list[str] = []
    for text, rows in table.segments.items():
        try:
            path = index.find(text)
        except DataError as error:
            absent.append(text)
            where = next((segment.where for segment in rows), f"entry {text!r}")
            problems += [] if missing == "skip" else [f"{where}: {error}, or say missing=skip"]
            continue
        if path in called:
            problems.append(f"file {path.name!r} is named {called[path]!r} and {text!r}: write one of them")
        called[path] = text
        segments[path] = rows
    if absent and missing == "skip":
        warnings.append(f"{len(absent)} files of the table are not there and are left out: {listing(absent)}")
    others = [path for path in files if path not in segments]
    told = listing(path.relative_to(folder).as_posix() for path in others)
    if others and unlisted == "skip":
        warnings.append(f"{len(others)} files have no row and are left out: {told}")
    elif others and unlisted == "error":
        problems.append(f"{len(others)} files have no row: {told}: add rows, or say unlisted=background or skip")
    elif others:
        segments |= {path: [] for path in others}
        warnings.append(f"{len(others)} files have no row and are background only: {told}")
    splits = {path: table.splits[text] for path, text in called.items() if text in table.splits}
    return _Found(folder, segments, splits, recording_names(list(segments), folder), problems, warnings)
