"""Make a feature store out of videos, so that a killed run goes on and a broken video stops no other."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from coadtr.data.atomic import replacing
from coadtr.data.inspect import Summary, summarise
from coadtr.data.storage.journal import StoreJournal
from coadtr.data.storage.schema import Header
from coadtr.data.storage.store import FeatureStore
from coadtr.errors import ConfigError, DataError, StorageError
from coadtr.video.labelling import Labelling, findings_path
from coadtr.video.pool import extract_all
from coadtr.video.sources import refuse_endless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from coadtr.video.sources import Source
    from coadtr.video.workers import Extraction, Networks, VideoFeatures

__all__ = ["UNLABELLED", "ExtractionReport", "check_task", "extract"]

UNLABELLED: Final = ("background", "unlabelled")
"""Classes of a store without labels; all frames are of the second, which is neither trained on nor scored."""

_RATE_RULES: Final = {
    "lstr": "24 frames a second / 6",
    "oadtr": "rate of each video / 6",
    "rate": "as asked for",
}
_MOST_NOTES: Final = 100
_MOST_TEXT: Final = 200


@dataclass(frozen=True, kw_only=True)
class ExtractionReport:
    """What an extraction has done.

    Attributes:
        path: The store.
        summary: What it holds.
        skipped: Why a video is not in it, by name.
        warnings: What a user should know, though nothing is wrong.
        kept: Videos that an interrupted run had done before.
        frames: Video frames decoded by this run.
        seconds: Seconds that this run took.
        labelled: Whether it has labels.
    """

    path: Path
    summary: Summary
    skipped: dict[str, str]
    warnings: tuple[str, ...]
    kept: int
    frames: int
    seconds: float
    labelled: bool


def extract(
    sources: Sequence[Source],
    out: str | Path,
    extraction: Extraction,
    *,
    workers: int = 1,
    segments: str | Path | None = None,
    labels: dict[str, Any] | None = None,
    compression: str | None = None,
    watched: bool = False,
    work: Callable[..., Iterator[VideoFeatures]] = extract_all,
) -> ExtractionReport:
    """Make the features of videos and write them as a feature store.

    A run that is killed goes on when it is called again with the same videos and settings, and the store is the
    same, byte for byte; the number of workers does not change it either. A video that cannot be read to its end is
    skipped and named in the report and in the store's attributes.

    Args:
        sources: The videos, as `find_videos` returns them.
        out: Feature store to write.
        extraction: How features are made.
        workers: Processes that work at the same time, each on a video of its own.
        segments: Table of segments that labels the frames (see `coadtr.data.sources.segments`); none for a store
            whose frames are all unlabelled. Features are kept until the table is sound.
        labels: Options of ``coadtr data import format=csv`` for that table, such as ``{"rule": "centre"}``.
        compression: ``'gzip'`` or ``'lzf'``, or none.
        watched: Show a progress bar on standard error.
        work: What goes through the videos; it takes the arguments of `extract_all`.

    Returns:
        What was done.

    Raises:
        DataError: If no video can be read, or the table does not fit the videos.
        StorageError: If the disk is full; what is done is kept.
        ConfigError: If an option is unknown or out of range.
        MissingExtraError: If a package is missing.

    Example:
        >>> from coadtr.video.workers import Extraction
        >>> extract([], "out.h5", Extraction())
        Traceback (most recent call last):
        coadtr.errors.ConfigError: no video is given: `find_videos` finds those of a folder
    """
    if workers < 1:
        raise ConfigError(f"workers={workers!r}: give 1 or more")
    begun, out = time.monotonic(), Path(out)
    labelling = check_task(sources, extraction, segments=segments, labels=labels)
    networks = extraction.load()
    run = _Run(sources, extraction, networks, labelled=labelling is not None)
    target = out if labelling is None else labelling.features_path(out)
    if labelling is None or not run.take_over(target):
        with StoreJournal(
            target, run.header, identity=run.identity, dtype=extraction.dtype, compression=compression
        ) as journal:
            run.go(journal, workers=workers, watched=watched, work=work)
    warnings = run.warnings
    if labelling is not None:
        warnings += labelling.label(target, out, attributes=run.attributes(), compression=compression)
    with FeatureStore(out) as store:
        summary = summarise(store)
    return ExtractionReport(
        path=out,
        summary=summary,
        skipped=run.skipped,
        warnings=tuple(warnings),
        kept=run.kept,
        frames=run.frames,
        seconds=time.monotonic() - begun,
        labelled=labelling is not None,
    )


def check_task(
    sources: Sequence[Source],
    extraction: Extraction,
    *,
    segments: str | Path | None = None,
    labels: dict[str, Any] | None = None,
) -> Labelling | None:
    """Check all that can be known before a video is read, and return the labelling, if there is one.

    Args:
        sources: The videos.
        extraction: How features are to be made.
        segments: Table of segments, or none.
        labels: Options for that table.

    Raises:
        DataError: If the table is unsound, or names videos that are not there.
        ConfigError: If an option is unknown or out of range, or a live address is to be read without an end.

    Example:
        >>> from coadtr.video.sources import Source
        >>> from coadtr.video.workers import Extraction
        >>> check_task([Source("door", "rtsp://camera/door")], Extraction())
        Traceback (most recent call last):
        coadtr.errors.ConfigError: rtsp://camera/door: may never end: give max_seconds
    """
    if not sources:
        raise ConfigError("no video is given: `find_videos` finds those of a folder")
    refuse_endless(sources, extraction.max_seconds)
    if segments is None:
        return None
    return Labelling.read(Path(segments), labels or {}, sources, extraction.sampling)


class _Run:
    """One run over the videos, and what it finds."""

    def __init__(
        self, sources: Sequence[Source], extraction: Extraction, networks: Networks, *, labelled: bool
    ) -> None:
        self.sources, self.extraction, self.networks = sources, extraction, networks
        self.labelled = labelled
        self.skipped: dict[str, str] = {}
        self.warnings: list[str] = []
        self.kept = self.frames = 0
        streams = {stream: network.dim for stream, network in networks.items()}
        self.header = Header(UNLABELLED, 0, 1, streams, {})

    @property
    def identity(self) -> str:
        """Text that tells this store from any other."""
        told = asdict(self.extraction)
        described = self._extractors()
        text = repr((told, described, [(source.name, *source.stamp) for source in self.sources]))
        return hashlib.sha256(text.encode()).hexdigest()

    def _extractors(self) -> dict[str, dict[str, str]]:
        sampling = self.extraction.sampling
        return {stream: network.describe(sampling) for stream, network in self.networks.items()}

    def attributes(self) -> dict[str, object]:
        """Return what the store says of where it comes from; the same however the run went."""
        sampling = self.extraction.sampling
        attributes: dict[str, object] = {
            "origin": f"features of {len(self.sources) - len(self.skipped)} videos, by coadtr extract",
            "extractors": self._extractors(),
            "sampling": sampling.describe(),
            "rate_rule": _RATE_RULES[sampling.preset],
        }
        if not self.labelled:
            attributes["label_rule"] = "no labels"
        if self.skipped:
            first = {name: text[:_MOST_TEXT] for name, text in sorted(self.skipped.items())[:_MOST_NOTES]}
            attributes["skipped"] = {"videos": len(self.skipped), "first": first}
        return attributes

    def take_over(self, path: Path) -> bool:
        """Take over the features that a run left whose table did not fit, with all it found; say if there are any."""
        try:
            with FeatureStore(path) as store:
                kept, same = len(store.videos()), store.attributes.get("identity") == self.identity
            found = json.loads(findings_path(path).read_text(encoding="utf-8"))
            if not same or found["identity"] != self.identity:
                return False
            self.skipped, self.warnings = dict(found["skipped"]), list(found["warnings"])
        except (DataError, OSError, ValueError, TypeError, KeyError):
            return False
        self.kept = kept
        return True

    def _note(self, path: Path) -> None:
        """Write what was found, for `take_over`: an attribute of the features has no room for all of it."""
        found = {"identity": self.identity, "skipped": self.skipped, "warnings": self.warnings}
        with replacing(path) as part:
            part.write_text(json.dumps(found), encoding="utf-8")

    def go(
        self, journal: StoreJournal, *, workers: int, watched: bool, work: Callable[..., Iterator[VideoFeatures]]
    ) -> None:
        """Go through the videos that are not done, and put the store together."""
        self.kept = len(journal.done)
        todo = [source for source in self.sources if source.name not in journal.done]
        with _bar(len(self.sources), self.kept, watched=watched) as (advance, tell):
            for done in work(todo, self.extraction, networks=self.networks, workers=workers, tell=tell):
                self.frames += done.frames
                if done.problem is None:
                    self._add(journal, done)
                else:
                    self.skipped[done.name] = done.problem
                advance()
        order = [source.name for source in self.sources if source.name in journal.done]
        if not order:
            told = "; ".join(f"video {name!r}: {text}" for name, text in list(self.skipped.items())[:20])
            raise DataError(f"none of {len(self.sources)} videos can be used: {told}")
        self.warnings = [f"video {name!r}: {journal.notes[name]}" for name in order if journal.notes.get(name)]
        extra = {"identity": self.identity} if self.labelled else {}
        if self.labelled:
            self._note(findings_path(journal.path))
        journal.finish(order, attributes={**self.attributes(), **extra}, label_kind="index")

    def _add(self, journal: StoreJournal, done: VideoFeatures) -> None:
        frames = len(next(iter(done.features.values())))
        try:
            journal.add(
                done.name,
                split="test",
                rate_hz=done.rate_hz,
                features=done.features,
                labels=np.full(frames, UNLABELLED.index("unlabelled")),
                note="; ".join(done.warnings) or None,
            )
        except StorageError as error:
            # Nothing is wrong with this video, and the next one would not find more room.
            raise StorageError(f"{error}; what is done is kept: run the same command again to go on") from error
        except DataError as error:
            self.skipped[done.name] = str(error)


@contextmanager
def _bar(total: int, kept: int, *, watched: bool) -> Iterator[tuple[Callable[[], None], Callable[[int], None]]]:
    """Show videos done and frames a second; yield what to call after a video, and with frames decoded."""
    columns = (TextColumn("extract"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    begun, frames = time.monotonic(), 0
    with Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True, disable=not watched
    ) as bar:
        task = bar.add_task("", total=total, completed=kept, speed="")

        def tell(more: int) -> None:
            nonlocal frames
            frames += more
            bar.update(task, speed=f"{frames / max(1e-3, time.monotonic() - begun):.0f} frames/s")

        yield (lambda: bar.advance(task)), tell
