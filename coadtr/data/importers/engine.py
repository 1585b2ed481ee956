"""Carry out an import plan: read each video, check it, and write the store, or say all that is wrong."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.data.importers.problems import raise_problems
from coadtr.data.inspect import Summary, split_summaries, summarise
from coadtr.data.progress import progress
from coadtr.data.statistics import count_labels
from coadtr.data.storage.checking import FeatureType, check_dtype, check_video
from coadtr.data.storage.journal import StoreJournal
from coadtr.data.storage.schema import Header, VideoRecord, listing
from coadtr.data.storage.store import FeatureStore
from coadtr.errors import ConfigError, DamagedError, DataError, StorageError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from coadtr.data.importers.plan import ImportPlan, PlannedVideo, VideoArrays

__all__ = ["ALIGNMENTS", "MOST_TRIMMED", "ImportReport", "carry_out"]

ALIGNMENTS: Final = ("error", "trim")
MOST_TRIMMED: Final = 2
"""Frames by which features and labels may differ: rounding makes that much; more means another release."""

_NOTES: Final = 100
_SKIPS: Final = 20
_SKIPPING: Final = " (options.damaged=skip leaves such files out)"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import has done.

    Attributes:
        path: The store, or none if nothing was written (dry run).
        summary: What the store holds, or would hold.
        warnings: What a user should know, though nothing is wrong.
        kept: Videos that an interrupted import had written before.
    """

    path: Path | None
    summary: Summary
    warnings: tuple[str, ...]
    kept: int = 0


@dataclass
class _Work:
    """How videos are taken in, and what has been found so far."""

    header: Header
    align: str
    dtype: FeatureType | None
    problems: list[str]
    notes: dict[str, str] = field(default_factory=dict)
    counted: dict[str, tuple[VideoRecord, NDArray[np.int64]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    single: bool = True
    skipping: str = ""

    def unread(self, video: str, error: Exception, *, leave_out: bool) -> None:
        """Note that a video cannot be taken in."""
        # Of what is said of a video, its labels, say: to leave the video out would hide that.
        if isinstance(error, DataError) and not isinstance(error, DamagedError):
            self.problems.append(f"video {video!r}: {error}")
        elif leave_out:
            self.skipped[video] = str(error)
        else:
            remedy, self.skipping = self.skipping, ""  # once is enough
            self.problems.append(f"video {video!r}: {error}{remedy}")

    def check_left(self) -> None:
        """Make a problem of videos that are left out where nothing else is there."""
        if not self.counted:
            self.problems += [f"video {name!r}: {error}" for name, error in self.skipped.items()]


def carry_out(
    plan: ImportPlan,
    out: Path,
    *,
    identity: str = "",
    align: str = "error",
    dry_run: bool = False,
    dtype: str | None = None,
    compression: str | None = None,
) -> ImportReport:
    """Read all videos of a plan, check them, and write the store.

    All that is wrong is found before an error is raised. An import that is interrupted goes on when it is
    called again with the same source and options. One video is in memory at a time (and what its plan holds).

    Args:
        plan: What to write.
        out: Feature store to write.
        identity: Text that tells this plan from others of the same source: the options that it was made with.
        align: ``'error'``: streams and labels of a video must have the same length; ``'trim'``: where they
            differ by at most 2 frames, all are cut to the shortest.
        dry_run: Read and check everything, and write nothing.
        dtype: Type to store features in, ``'float16'`` or ``'float32'``; none keeps that of the source.
        compression: ``'gzip'`` or ``'lzf'``, or none.

    Returns:
        What was done.

    Raises:
        DataError: If anything is wrong with the source; all of it in one message. Nothing is left behind.
        StorageError: If the disk is full; what is written stays, and the next call goes on with it.
        UnsafeFileError: If a file asks for more than data; nothing else is read then.
        ConfigError: If an option is unknown.
    """
    if align not in ALIGNMENTS:
        raise ConfigError(f"align={align!r}: use error, or trim to cut lengths that differ by {MOST_TRIMMED} frames")
    work = _Work(
        _header(plan), align, check_dtype(dtype), list(plan.problems), skipping=_SKIPPING if plan.damaged else ""
    )
    kept = 0
    with ExitStack() as stack:
        journal = None
        if not dry_run and not work.problems:
            told = f"{_identity(plan)} {identity} align={align}"
            journal = stack.enter_context(
                StoreJournal(out, work.header, identity=told, dtype=dtype, compression=compression)
            )
            kept = len(journal.done & {video.name for video in plan.videos})
        for video in progress(plan.videos, total=len(plan.videos), description="check" if dry_run else "import"):
            try:
                if journal is not None and video.name in journal.done and video.name not in work.counted:
                    _count(work, journal.record(video.name), journal.labels(video.name))
                else:
                    _take(work, video, None if work.problems else journal)
            except StorageError:  # no fault of the source: what is written stays, to be gone on with
                raise
            except UnsafeFileError:
                if journal is not None:
                    journal.discard()
                raise
            except (DataError, OSError) as error:
                work.unread(video.name, error, leave_out=plan.damaged == "skip")
        work.check_left()
        if work.problems:
            if journal is not None:
                journal.discard()
            raise_problems(plan.source, work.problems)
        noted = work.notes if journal is None else journal.notes
        notes = {video.name: noted[video.name] for video in plan.videos if video.name in noted}
        untrained = _untrained(plan, work)
        attributes = {**plan.attributes, **_told(notes), **_left_out(work.skipped)}
        warnings = (
            *plan.warnings,
            *_skips(work.skipped),
            *untrained,
            *(f"video {name!r}: {note}" for name, note in notes.items()),
        )
        if journal is None:
            return ImportReport(None, _summary(plan, work), warnings)
        order = [video.name for video in plan.videos if video.name not in work.skipped]
        journal.finish(order, attributes=attributes, label_kind=plan.label_kind)
    with FeatureStore(out) as store:
        return ImportReport(out, summarise(store), warnings, kept)


def _header(plan: ImportPlan) -> Header:
    problems = list(plan.problems)
    if not plan.videos and not problems:
        problems.append("holds no video that can be imported: check its lists and folders")
    try:
        header = Header(plan.class_names, plan.background, plan.ignored, dict(plan.streams), dict(plan.attributes))
    except DataError as error:
        # What is wrong with the source is the likely cause.
        raise_problems(plan.source, problems or [str(error)])
        raise
    if not plan.videos:
        raise_problems(plan.source, problems)
    return header


def _identity(plan: ImportPlan) -> str:
    """Tell this import from any other: the plan, and the size and time of every file it reads."""
    videos = [(video.name, video.split, video.rate_hz) for video in plan.videos]
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in plan.files]
    return repr((str(plan.source.resolve()), sorted(plan.attributes.items(), key=str), videos, files))


def _take(work: _Work, video: PlannedVideo, journal: StoreJournal | None) -> None:
    """Read and check one video; write it if there is a journal."""
    if video.name in work.counted:
        raise DataError("is there already: give every video its own name")
    (features, labels), note = _aligned(video.read(), work.align)
    if journal is None:
        checked = check_video(
            work.header,
            video.name,
            split=video.split,
            rate_hz=video.rate_hz,
            features=features,
            labels=labels,
            dtype=work.dtype,
        )
        frames, targets = checked.frames, checked.labels
        if note is not None:
            work.notes[video.name] = note
    else:
        journal.add(video.name, split=video.split, rate_hz=video.rate_hz, features=features, labels=labels, note=note)
        frames, targets = len(labels), labels
    _count(work, VideoRecord(video.name, video.split, frames, video.rate_hz), targets)


def _aligned(arrays: VideoArrays, align: str) -> tuple[VideoArrays, str | None]:
    """Cut features and labels to the shortest of them, if that is asked for and little is lost."""
    features, labels = arrays
    lengths = {**{stream: len(array) for stream, array in features.items()}, "labels": len(labels)}
    shortest, longest = min(lengths.values()), max(lengths.values())
    if shortest == longest or not shortest:
        return arrays, None
    told = ", ".join(f"{name} {length}" for name, length in lengths.items())
    if longest - shortest > MOST_TRIMMED:
        raise DataError(
            f"lengths differ ({told} frames) by more than {MOST_TRIMMED}: "
            "use features and labels of the same release and rate"
        )
    if align == "error":
        raise DataError(f"lengths differ ({told} frames): say align=trim to cut them to {shortest}")
    return ({stream: array[:shortest] for stream, array in features.items()}, labels[:shortest]), (
        f"cut to {shortest} frames ({told})"
    )


def _count(work: _Work, record: VideoRecord, labels: NDArray[Any]) -> None:
    work.counted[record.name] = record, count_labels(labels, len(work.header.class_names))
    work.single &= labels.ndim == 1 or bool((labels.sum(axis=1) == 1).all())


def _untrained(plan: ImportPlan, work: _Work) -> list[str]:
    """Warn of classes that are to be found in validation or test videos, and cannot be learnt."""
    counts = {train: np.zeros(len(plan.class_names), np.int64) for train in (True, False)}
    for record, frames in work.counted.values():
        counts[record.split == "train"] += frames
    names = [
        name
        for index, name in enumerate(plan.class_names)
        if index != plan.ignored and counts[False][index] and not counts[True][index]
    ]
    if not names or not counts[True].any():
        return []
    return [f"no training frame shows {listing(names)}, validation or test frames do: look at the splits"]


def _told(notes: Mapping[str, str]) -> dict[str, object]:
    """Return what the store keeps of its trimmed videos; an attribute has room for so many."""
    if not notes:
        return {}
    return {"trimmed": {"videos": len(notes), "first": dict(list(notes.items())[:_NOTES])}}


def _left_out(skipped: Mapping[str, str]) -> dict[str, object]:
    return {"left_out": {"videos": len(skipped), "first": list(skipped)[:_NOTES]}} if skipped else {}


def _skips(skipped: Mapping[str, str]) -> list[str]:
    """Warn of videos that are left out, and say why of the first few."""
    told = [f"video {name!r} is damaged and left out: {error}" for name, error in list(skipped.items())[:_SKIPS]]
    rest = len(skipped) - _SKIPS
    return [*told, f"{rest} more videos are damaged and left out"] if rest > 0 else told


def _summary(plan: ImportPlan, work: _Work) -> Summary:
    """Return the summary of a store that is not written."""
    header = work.header

    def named(index: int | None) -> str | None:
        return None if index is None else header.class_names[index]

    index_labels = plan.label_kind == "index" or (plan.label_kind == "auto" and work.single)
    return Summary(
        path="nothing written (dry run)",
        fingerprint="-",
        class_names=header.class_names,
        background=named(header.background),
        ignored=named(header.ignored),
        streams=dict(header.streams),
        rates_hz=tuple(sorted({record.rate_hz for record, _ in work.counted.values()})),
        label_kind="index" if index_labels else "multi-hot",
        attributes=dict(header.attributes),
        splits=split_summaries(work.counted.values()),
    )
