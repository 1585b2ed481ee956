"""The part of a server that computes: frames in, texts out, on one thread at a time."""

from __future__ import annotations

import logging
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from coadtr.errors import CheckpointError, CoadtrError, StorageError
from coadtr.runtime import EventDecoder
from coadtr.serving.journal import Entry
from coadtr.serving.keeping import Keeper
from coadtr.serving.known import Frame, Known
from coadtr.serving.protocol import answer_text, end_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from coadtr.runtime import Event, OnlineDetector
    from coadtr.serving.metrics import Metrics
    from coadtr.serving.settings import ServerSettings

__all__ = ["Engine", "Frame", "Known"]

_log = logging.getLogger("coadtr.serving")

# A journal of half this size makes a snapshot due, which is written beside the steps; one of this size is not waited
# for, so that neither disk nor restart suffers.
JOURNAL_BYTES: Final = 1 << 28


Outcome: TypeAlias = str | Exception
"""The text that answers a frame, or why it was not taken."""


class Engine:
    """Step the streams, decode their events, and keep what a restart needs.

    A frame is stepped, written to the journal, and then answered. Nothing here is for two threads at once, except
    that `known` may be read.

    Args:
        detector: Steps the streams.
        settings: The server's.
        metrics: What is counted.

    Attributes:
        known: What is known of each stream that took a frame.
        failure: Why frames or snapshots are not being kept, while that is so.

    Raises:
        ConfigError: If the settings of events name an unknown class, or the folder for snapshots cannot be used.
    """

    def __init__(self, detector: OnlineDetector, settings: ServerSettings, metrics: Metrics) -> None:
        self.known: dict[str, Known] = {}
        self.failure: str | None = None
        self._detector, self._settings, self._metrics = detector, settings, metrics
        self._decoder()  # settings that name a class that there is not are told here, not at the first frame
        self._keeper: Keeper | None = None
        if settings.snapshots is not None:
            self._keeper = Keeper(settings.snapshots, detector.input_dim, fsync=settings.fsync)

    def recover(self) -> None:
        """Go on where the last server with this folder was killed or stopped; then keep a first snapshot.

        Raises:
            CheckpointError: If the snapshot or the journal is damaged, or of another checkpoint.
            StorageError: If the snapshot cannot be written.
        """
        if self._keeper is None:
            return
        tick: dict[str, Entry] = {}
        for entry in self._keeper.recover(self._restore):
            if entry.stream in tick or entry.frame is None:
                self._take_again(tick.values())
                tick = {}
            if entry.frame is None:
                self._forget(entry.stream)
            else:
                tick[entry.stream] = entry
        self._take_again(tick.values())
        self._keeper.begin(lambda path: self._detector.snapshot(path, extras=self._extras()))

    def take(self, frames: Sequence[Frame]) -> list[Outcome]:
        """Take a frame each of some streams, in one step.

        Args:
            frames: At most one of each stream.

        Returns:
            For each frame, in order, the text that answers it, or why it was not taken.
        """
        begun = monotonic()
        outcomes, entries = self._step(frames)
        self._keep(entries)
        metrics = self._metrics
        metrics.step_seconds.observe(monotonic() - begun)
        metrics.step_streams.observe(len(frames))
        metrics.frames.inc(len(entries))
        metrics.streams.set(len(self.known))
        for frame in frames:
            metrics.waiting_seconds.observe(begun - frame.received)
        if self._keeper is not None and self._keeper.journal_bytes > JOURNAL_BYTES:
            self.snapshot()
        return outcomes

    def end(self, stream: str) -> str:
        """End a stream, and return the text that says so."""
        known = self.known.get(stream)
        events = [] if known is None else known.decoder.finish(known.time or 0.0)
        text = end_text(0 if known is None else known.frames, events)
        self.drop([stream])
        return text

    def drop(self, streams: Iterable[str]) -> None:
        """Forget streams: the next frame of such a name is the first of a new one."""
        entries = [Entry(name, self.known[name].frames, None) for name in streams if name in self.known]
        for entry in entries:
            self._forget(entry.stream)
        self._keep(entries)
        self._metrics.streams.set(len(self.known))

    @property
    def due(self) -> bool:
        """Whether the journal is so long that a snapshot should not wait for its time."""
        return self._keeper is not None and self._keeper.journal_bytes > JOURNAL_BYTES // 2

    def snapshot(self) -> None:
        """Write a snapshot, if there is a folder for it. A disk that refuses is reported and tried again later."""
        if self._keeper is None:
            return
        begun = monotonic()
        try:
            self._keeper.begin(lambda path: self._detector.snapshot(path, extras=self._extras()))
        except StorageError as error:
            self._fail(error)
        else:
            self.failure = None
        self._metrics.snapshot_seconds.observe(monotonic() - begun)
        self._metrics.journal_bytes.set(self._keeper.journal_bytes)

    def capture(self) -> Callable[[], None] | None:
        """Take what a snapshot holds, and return what writes it, on any thread and beside steps; None if nothing is to.

        Frames that are taken from here on go to a journal of their own.
        """
        keeper = self._keeper
        if keeper is None:
            return None
        if not keeper.whole:  # frames are missing, and only a snapshot with none behind it makes up for them
            self.snapshot()
            return None
        try:
            path = keeper.turn()
        except StorageError as error:
            self._fail(error)
            return None
        captured, extras = self._detector.capture(), self._extras()

        def write() -> None:
            begun = monotonic()
            try:
                captured.write(path, extras=extras)
            except StorageError as error:
                self._fail(error)
            else:
                keeper.settle(path)
                if keeper.whole:
                    self.failure = None
            self._metrics.snapshot_seconds.observe(monotonic() - begun)

        return write

    def close(self) -> None:
        """Let another server have the folder."""
        if self._keeper is not None:
            self._keeper.close()

    def _step(self, frames: Sequence[Frame]) -> tuple[list[Outcome], list[Entry]]:
        scores, errors = self._push(frames)
        outcomes: list[Outcome] = []
        entries: list[Entry] = []
        for frame in frames:
            if frame.stream not in scores:
                outcomes.append(errors[frame.stream])
                continue
            known = self.known.get(frame.stream) or self._new(frame.stream, timed=frame.time is not None)
            entries.append(Entry(frame.stream, known.frames, frame.values, frame.time))
            outcomes.append(self._answer(frame, known, scores[frame.stream]))
        return outcomes, entries

    def _push(self, frames: Sequence[Frame]) -> tuple[dict[str, NDArray[np.float32]], dict[str, Exception]]:
        values = {frame.stream: frame.values for frame in frames}
        times = {frame.stream: frame.time for frame in frames if frame.time is not None}
        try:
            answers = self._detector.push_batch(values, times)
        except Exception as error:  # noqa: BLE001 - what steps may raise anything, and other streams go on
            if len(frames) == 1:
                _log.exception("the step of stream %s failed", frames[0].stream)
                return {}, {frames[0].stream: error}
            # Nothing was taken. Each alone, so that the one that cannot be stepped fails alone.
            parts = [self._push([frame]) for frame in frames]
            scores = {name: one for part, _ in parts for name, one in part.items()}
            return scores, {name: one for _, part in parts for name, one in part.items()}
        return answers, dict(answers.errors)

    def _new(self, stream: str, *, timed: bool) -> Known:
        kept: deque[str] = deque(maxlen=self._settings.limits.answers)
        self.known[stream] = known = Known(timed, self._decoder(), kept)
        return known

    def _decoder(self) -> EventDecoder:
        told = self._detector.description
        return EventDecoder(told.class_names, told.background, told.rate_hz, self._settings.events)

    def _answer(self, frame: Frame, known: Known, scores: NDArray[np.float32]) -> str:
        moment = known.frames / self._detector.rate_hz if frame.time is None else frame.time
        events: list[Event] = []
        restarts = self._detector.info(frame.stream).restarts
        if restarts != known.restarts:  # what the detector has forgotten in a gap, its events end with
            events += known.decoder.finish(known.time or 0.0)
            known.decoder, known.restarts = self._decoder(), restarts
        events += known.decoder.push(scores, moment)
        text = answer_text(known.frames, moment, scores, events)
        known.answers.append(text)
        known.frames, known.time = known.frames + 1, moment
        return text

    def _forget(self, stream: str) -> None:
        self.known.pop(stream, None)
        self._detector.close(stream)

    def _keep(self, entries: list[Entry]) -> None:
        if self._keeper is None or not entries:
            return
        try:
            self._keeper.append(entries)
        except StorageError as error:
            self._fail(error)
        self._metrics.journal_bytes.set(self._keeper.journal_bytes)

    def _fail(self, error: StorageError) -> None:
        self.failure = str(error)
        self._metrics.snapshot_failures.inc()
        if self._keeper is not None and self._keeper.whole:
            loss = "and a restart goes on from the snapshot before it and what came since, and loses nothing"
        else:
            loss = "but a restart would lose what came since"
        _log.error("%s; streams go on, %s", error, loss)

    def _take_again(self, entries: Iterable[Entry]) -> None:
        """Take the frames of one tick of a journal."""
        frames = []
        for entry in entries:
            seen = self.known[entry.stream].frames if entry.stream in self.known else 0
            if entry.number != seen or entry.frame is None:
                raise CheckpointError(
                    f"{self._settings.snapshots}: the journal goes on with frame {entry.number} of {entry.stream}, "
                    f"and the snapshot ends before frame {seen}; move the folder away to start afresh"
                )
            frames.append(Frame(entry.stream, entry.frame, entry.time))
        for frame, outcome in zip(frames, self._step(frames)[0] if frames else [], strict=True):
            if isinstance(outcome, Exception):
                raise CheckpointError(
                    f"{self._settings.snapshots}: a frame of {frame.stream} cannot be taken again ({outcome}); start "
                    "with the settings it was taken with, or move the folder away to start afresh"
                )

    def _extras(self) -> dict[str, Any]:
        """Say what is known of the streams beside the detector's memory, JSON-ready."""
        streams = {
            name: {
                "timed": known.timed,
                "frames": known.frames,
                "time": known.time,
                "restarts": known.restarts,
                "events": known.decoder.state(),
                "answers": list(known.answers),
            }
            for name, known in self.known.items()
        }
        return {"serving": streams}

    def _restore(self, path: Path) -> None:
        extras: Any = self._detector.restore(path)
        try:
            for name, told in extras["serving"].items():
                known = self._new(name, timed=bool(told["timed"]))
                known.decoder.restore(told["events"])
                known.answers.extend(map(str, told["answers"]))
                known.frames, known.restarts = int(told["frames"]), int(told["restarts"])
                known.time = None if told["time"] is None else float(told["time"])
        except (KeyError, TypeError, ValueError, AttributeError, CoadtrError) as error:
            raise CheckpointError(
                f"{path}: is no snapshot of a server ({type(error).__name__}: {error}); move its folder away to start "
                "afresh"
            ) from error
