"""From a video or sound that is going on to answers: read on one thread, look and step on another."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from coadtr.errors import ConfigError
from coadtr.live.hearing import Block
from coadtr.live.lag import Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from coadtr.live.senses import Chunk, FeatureStream, Senses
    from coadtr.live.source import LiveSource, Seen
    from coadtr.runtime import Event, EventDecoder, OnlineDetector
    from coadtr.video.sampling import Shown

__all__ = ["LATE", "Answer", "LiveDetector", "Sight", "Totals", "View"]

Late = Literal["hold", "skip", "wait"]
LATE: Final[tuple[Late, ...]] = ("hold", "skip", "wait")
# Frames between the two threads. What lies here is late, and takes memory.
_WAITING: Final = 32
_POLL_S: Final = 0.2
_JOIN_S: Final = 2.0


class Answer(NamedTuple):
    """What is known after a chunk of frames.

    Attributes:
        frame: Number of the feature, from 0.
        time: Seconds of the video at which its chunk starts; of sound, at which its feature is complete.
        scores: ``(C,)`` float32.
        events: What started or ended.
        lag: Seconds from when all of the chunk could have been there to this answer; 0 of a file that is
            read as fast as it goes.
        look_seconds: What decoding the pictures and the networks took; 0 if nothing was looked at, and of sound, whose
            features are made while it is read.
        step_seconds: What the detector took.
        held: Whether the stream was late, and the last feature stands in for one that was not looked at.
    """

    frame: int
    time: float
    scores: NDArray[np.float32]
    events: tuple[Event, ...]
    lag: float
    look_seconds: float
    step_seconds: float
    held: bool


class Sight(NamedTuple):
    """A frame that is shown, after all answers that were to be had before it.

    Attributes:
        frame: Its picture; None of a block of sound, which has none.
        time: Seconds of the video.
        late: Whether the stream lags: a view that shows pictures for people may leave this one out.
    """

    frame: Shown | None
    time: float
    late: bool


class View(Protocol):
    """What shows a live stream."""

    def answer(self, answer: Answer) -> None:
        """Show an answer."""
        ...

    def frame(self, sight: Sight) -> None:
        """Show a frame."""
        ...

    def end(self, events: tuple[Event, ...]) -> None:
        """Come to the end of the stream; ``events`` ends what was still going on."""
        ...

    def close(self) -> None:
        """Let go of everything, whether the stream came to its end or failed."""
        ...


@dataclass(eq=False)
class Totals:
    """What a live stream came to.

    Attributes:
        frames: Frames of the video, or blocks of sound.
        answers: Answers given.
        held: Of them, those with the feature before, because the stream was late.
        skipped: Features that were left out, because the stream was late.
        events: Events told.
        lag: Seconds from when an answer could have been to when it was.
        look: Seconds of the networks, where they looked.
        step: Seconds of the detector.
        sound: Whether it is sound.
    """

    frames: int = 0
    answers: int = 0
    held: int = 0
    skipped: int = 0
    events: int = 0
    lag: Spread = field(default_factory=Spread)
    look: Spread = field(default_factory=Spread)
    step: Spread = field(default_factory=Spread)
    sound: bool = False


class LiveDetector:
    """Answer a video, or sound, while it goes on.

    Frames are read on a thread of their own. An answer is given as soon as its chunk is complete, and what comes
    before a frame in the video is answered before that frame is shown. Where the answers lag by more than
    ``max_lag`` seconds of a stream that goes on at the speed of the world, chunks are not looked at until they do not:

    - ``late="hold"``: the detector takes the last feature again, so that its memory keeps its rate;
    - ``late="skip"``: the detector takes nothing, and what it does with a gap is its own policy;
    - ``late="wait"``: everything is looked at, however late.

    Args:
        source: The video or sound.
        senses: Make features of what it gives: `coadtr.video.Eyes` of frames, `coadtr.live.Ears` of sound.
        detector: Takes the features.
        decoder: Makes a decoder of events, at the start and whenever the detector begins anew.
        stream: Name of the stream at the detector.
        late: What to do when late.
        max_lag: Seconds that are not yet late.

    Attributes:
        totals: What it came to so far.
        stream: Name of the stream.

    Raises:
        ConfigError: If an option is unknown or out of range.
    """

    def __init__(
        self,
        source: LiveSource,
        senses: Senses,
        detector: OnlineDetector,
        decoder: Callable[[], EventDecoder],
        *,
        stream: str = "live",
        late: Late = "hold",
        max_lag: float = 1.0,
    ) -> None:
        if late not in LATE:
            raise ConfigError(f"late={late!r}: use one of {', '.join(LATE)}")
        if not max_lag > 0:
            raise ConfigError(f"max_lag={max_lag!r}: give seconds above 0")
        self.totals, self.stream = Totals(sound=source.sound), stream
        self._source, self._senses, self._detector = source, senses, detector
        self._decoder, self._events = decoder, decoder()
        self._late, self._max_lag = late, max_lag
        self._restarts = 0
        self._last: NDArray[np.float32] | None = None

    def run(self, views: Sequence[View]) -> Totals:
        """Go on to the end of the video, or until the source is stopped.

        Args:
            views: What shows it; to close them is the caller's.

        Returns:
            What it came to.

        Raises:
            DataError: If the video cannot be read (on).
        """
        for item in self._read():
            self._take(item, views)
        events = tuple(self._events.finish())
        self.totals.events += len(events)
        for view in views:
            view.end(events)
        return self.totals

    def _take(self, item: _Item, views: Sequence[View]) -> None:
        for chunk in item.chunks:
            if (answer := self._answer(chunk, item)) is not None:
                for view in views:
                    view.answer(answer)
        if item.shown:
            seen = item.seen
            self.totals.frames += 1
            picture = None if isinstance(seen.frame, Block) else seen.frame
            sight = Sight(picture, seen.offset + seen.frame.time, late=self._is_late(seen.frame.time, seen))
            for view in views:
                view.frame(sight)

    def _answer(self, chunk: Chunk, item: _Item) -> Answer | None:
        """Look and step; None if the chunk is left out."""
        begun, held, totals = time.monotonic(), False, self.totals
        values = self._last
        if self._late == "wait" or not self._is_late(chunk.ready, item.seen):
            values = self._last = item.features.look(chunk).values
        elif self._late == "hold" and values is not None:
            held = True
        else:
            totals.skipped += 1
            return None
        looked = time.monotonic()
        moment = item.seen.offset + chunk.time
        scores = self._detector.push(values, stream=self.stream, time=moment)
        stepped = time.monotonic()
        answer = Answer(
            frame=totals.answers,
            time=moment,
            scores=scores,
            events=self._told(scores, moment),
            lag=item.seen.lag.behind(chunk.ready, time.monotonic()) if self._source.live else 0.0,
            look_seconds=0.0 if held else looked - begun,
            step_seconds=stepped - looked,
            held=held,
        )
        totals.answers += 1
        totals.held += held
        totals.events += len(answer.events)
        if self._source.live:
            totals.lag.add(answer.lag)
        totals.step.add(answer.step_seconds)
        if not held:
            totals.look.add(answer.look_seconds)
        return answer

    def _told(self, scores: NDArray[np.float32], moment: float) -> tuple[Event, ...]:
        events: list[Event] = []
        restarts = self._detector.info(self.stream).restarts
        if restarts != self._restarts:  # what the detector has forgotten in a gap, its events end with
            events += self._events.finish()
            self._events, self._restarts = self._decoder(), restarts
        return (*events, *self._events.push(scores, moment))

    def _is_late(self, moment: float, seen: Seen) -> bool:
        return self._source.live and seen.lag.behind(moment, time.monotonic()) > self._max_lag

    def _read(self) -> Iterator[_Item]:
        """Yield what the reading thread finds; raise what it raises."""
        items: queue.Queue[_Item | Exception | None] = queue.Queue(_WAITING)
        over = threading.Event()

        def put(item: _Item | Exception | None) -> None:
            while not over.is_set():
                with contextlib.suppress(queue.Full):
                    items.put(item, timeout=_POLL_S)
                    return

        def read() -> None:
            outcome: Exception | None = None
            try:
                for item in _items(self._source, self._senses):
                    put(item)
                    if over.is_set():
                        return
            except Exception as error:  # noqa: BLE001 - it is raised on the other thread
                outcome = error
            put(outcome)

        thread = threading.Thread(target=read, name="coadtr-read", daemon=True)
        thread.start()
        try:
            while (item := items.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            over.set()
            self._source.stop()
            thread.join(_JOIN_S)  # one that waits for a camera is left to itself


class _Item(NamedTuple):
    """A frame, and the chunks that it completes; or at the end of a part its last frame again, and what that leaves."""

    seen: Seen
    features: FeatureStream
    chunks: Sequence[Chunk]
    shown: bool


def _items(source: LiveSource, senses: Senses) -> Iterator[_Item]:
    """Put the frames of a source together to chunks. After a lost connection chunks begin anew."""
    last: Seen | None = None
    features = senses.stream()
    for seen in source.frames():
        if last is not None and seen.part != last.part:
            yield _Item(last, features, features.rest(), shown=False)
            features = senses.stream()
        last = seen
        yield _Item(seen, features, features.chunks(seen.frame), shown=True)
    if last is not None:
        yield _Item(last, features, features.rest(), shown=False)
