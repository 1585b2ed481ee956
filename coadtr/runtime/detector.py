"""The one object that a live program holds: frames of any number of streams in, scores out, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import CoadtrError, DataError, ShapeError
from coadtr.runtime.answers import BatchAnswers, StreamInfo
from coadtr.runtime.frames import Frames, FramesReader
from coadtr.runtime.gaps import GapPolicy
from coadtr.runtime.memory import fresh_stream
from coadtr.runtime.snapshots import Capture, read_snapshot
from coadtr.runtime.stepper import OnnxStepper
from coadtr.runtime.table import StreamTable
from coadtr.runtime.turns import NonFinite, Rules, Turn, require_answer, take
from coadtr.scoring import probabilities

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from coadtr.runtime.description import Description
    from coadtr.runtime.memory import Stream
    from coadtr.runtime.stepper import Stepper

__all__ = ["OnlineDetector"]


class OnlineDetector:
    """Answer any number of named streams, frame by frame, each from its first frame on.

    It answers as the detector of `coadtr.checkpoint`, and needs no torch. A stream begins with its first frame; each
    push takes its next one, in order and at the model's rate. What a stream remembers is bounded. A push that fails,
    for whatever reason, leaves everything as it was.

    Any number of threads may use it: one lock lets them step one after the other.

    Args:
        stepper: What steps streams: an :class:`OnnxStepper`, or another.
        non_finite: ``"reject"`` refuses a frame with a value that is not finite; ``"mask"`` takes the last finite value
            of that channel instead, 0 before any.
        gaps: What happens when frames are missing, which their times tell; nothing if None.
        max_streams: Most streams at a time, or None for no limit.

    Attributes:
        stepper: The stepper.

    Raises:
        ConfigError: If a setting is unknown or out of range.

    Example:
        >>> from coadtr.runtime import Description, Leaf
        >>> class Counter:
        ...     description = Description(
        ...         class_names=("even", "odd"), background=None, ignored=None, streams={"imu": 3}, rate_hz=5.0,
        ...         head="softmax", state=(Leaf("count", np.zeros(1, np.float32)),), source={"weights_sha256": "-"},
        ...     )
        ...     def step(self, frames, state):
        ...         return np.concatenate([1 - state[0] % 2, state[0] % 2], axis=1) * 50, [state[0] + 1]
        >>> detector = OnlineDetector(Counter())
        >>> detector.push([0.1, 0.2, 0.3]).round(3).tolist(), detector.push([0.1, 0.2, 0.3]).round(3).tolist()
        ([1.0, 0.0], [0.0, 1.0])
        >>> detector.push([0.1, 0.2, 0.3], stream="yard").round(3).tolist(), detector.streams, detector.frames_seen()
        ([1.0, 0.0], ('default', 'yard'), 2)
    """

    def __init__(
        self,
        stepper: Stepper,
        *,
        non_finite: NonFinite = "reject",
        gaps: GapPolicy | None = None,
        max_streams: int | None = None,
    ) -> None:
        self.stepper = stepper
        self._told = stepper.description
        self._reader = FramesReader(self._told)
        fresh = fresh_stream(self._told)
        self._table = StreamTable(fresh, max_streams)
        self._rules = Rules(gaps or GapPolicy(), non_finite, rate_hz=self._told.rate_hz, fresh=fresh)
        self._lock = Lock()

    @classmethod
    def from_onnx(
        cls,
        path: str | Path,
        *,
        threads: int = 1,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        non_finite: NonFinite = "reject",
        gaps: GapPolicy | None = None,
        max_streams: int | None = None,
    ) -> OnlineDetector:
        """Load an exported ONNX file and return a detector of it.

        Args:
            path: The file, as ``coadtr export format=onnx`` writes it.
            threads: Threads that compute one step.
            providers: Execution providers of ONNX Runtime, the most wanted first.
            non_finite: As for the class.
            gaps: As for the class.
            max_streams: As for the class.

        Raises:
            MissingExtraError: If onnxruntime is not installed.
            CheckpointError: If the file is missing, damaged, or no export that this version reads.
            ConfigError: If a setting is unknown or out of range.
        """
        stepper = OnnxStepper(path, threads=threads, providers=providers)
        return cls(stepper, non_finite=non_finite, gaps=gaps, max_streams=max_streams)

    @property
    def description(self) -> Description:
        """What the stepper says of itself: classes, feature streams, rate, source."""
        return self._told

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the C classes, in the order of the scores."""
        return self._told.class_names

    @property
    def rate_hz(self) -> float:
        """Frames a second that the model was trained on."""
        return self._told.rate_hz

    @property
    def input_dim(self) -> int:
        """Channels D of one frame, all feature streams joined."""
        return self._told.input_dim

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams that began and were not closed, in the order in which they began."""
        with self._lock:
            return tuple(self._table.known)

    def info(self, stream: str = "default") -> StreamInfo:
        """Return what is known of a stream; of one that did not begin, that it has seen no frame."""
        known = self._table.known.get(stream, self._table.fresh)
        return StreamInfo(known.seen, known.time, known.masked, known.missing, known.held, known.restarts)

    def frames_seen(self, stream: str = "default") -> int:
        """Return the number of frames of a stream that were answered since it began, or began anew."""
        return self._table.known.get(stream, self._table.fresh).seen

    def masked(self, stream: str = "default") -> int:
        """Return the number of a stream's values that were not finite and were replaced."""
        return self._table.known.get(stream, self._table.fresh).masked

    def push(self, frame: Frames, *, stream: str = "default", time: float | None = None) -> NDArray[np.float32]:
        """Take a stream's next frame and return its scores.

        Args:
            frame: ``(D,)``, the feature streams joined in the model's order; or a mapping from the name of each
                feature stream to its vector, in any order.
            stream: Name of the stream; a new one begins.
            time: Of the frame in seconds, on any clock that does not go back. A frame without one ends no gap, and the
                next one neither.

        Returns:
            Scores ``(C,)`` from 0 to 1: a softmax in which the ignored class has no part, or for a multi-label
            model a sigmoid of each class. The ignored class scores 0.

        Raises:
            ShapeError: If the frame is not D channels wide.
            DataError: If the frame holds anything but finite numbers, lacks a feature stream or has an unknown one, is
                so large that the answer is not finite, or if its time went back.
            ConfigError: If the stream would be one too many.
        """
        given = self._reader.read(frame, 1, "push")
        with self._lock:
            before = self._table.find(stream)
            self._rules.require_finite(given, before.seen)
            ((logits, after),) = take(self.stepper, [self._rules.turn(before, given, time)])
            require_answer(logits, after.seen - 1)
            scores = self._score(logits)
            self._table.commit({stream: after})  # last: what fails or is interrupted before leaves no trace
        return scores

    def push_many(
        self, frames: Frames, *, stream: str = "default", times: Sequence[float] | NDArray[Any] | None = None
    ) -> NDArray[np.float32]:
        """Take a stream's next T frames, all or none, and return their scores: what T pushes return.

        Args:
            frames: ``(T, D)``, or a mapping from the name of each feature stream to ``(T, channels)``.
            stream: Name of the stream; a new one begins.
            times: Time of each frame in seconds, or None.

        Returns:
            Scores ``(T, C)``.

        Raises:
            ShapeError: If the frames are not D channels wide, or there are not as many times.
            DataError: As `push` does; then no frame was taken.
            ConfigError: If the stream would be one too many.
        """
        given = self._reader.read(frames, 2, "push_many")
        moments: Sequence[float | None] = [None] * len(given) if times is None else list(times)
        if len(moments) != len(given):
            raise ShapeError(f"push_many got {len(given)} frames and {len(moments)} times; give a time for each frame")
        logits = np.empty((len(given), len(self.class_names)), np.float32)
        with self._lock:
            now = self._table.find(stream)
            self._rules.require_finite(given, now.seen)
            for index, (frame, moment) in enumerate(zip(given, moments, strict=True)):
                ((logits[index], now),) = take(self.stepper, [self._rules.turn(now, frame, moment)])
                require_answer(logits[index], now.seen - 1)
            scores = self._score(logits)
            self._table.commit({stream: now})
        return scores

    def push_batch(self, frames: Mapping[str, Frames], times: Mapping[str, float] | None = None) -> BatchAnswers:
        """Take the next frame of several streams in one step.

        Each stream is answered as it would be alone, up to the rounding of other batch sizes. What is wrong with the
        frame of one stream is told for that stream, which stays as it was, and does not disturb the others.

        Args:
            frames: The frame of each stream by the stream's name: what `push` takes.
            times: Time of each frame in seconds by the stream's name; streams may be left out.

        Returns:
            Scores ``(C,)`` by stream; ``errors`` holds the others.

        Raises:
            DataError: If ``times`` names a stream that has no frame.
        """
        moments = dict(times or {})
        if unknown := [name for name in moments if name not in frames]:
            raise DataError(f"times names the stream {unknown[0]!r}, which has no frame; leave it out")
        answers = BatchAnswers()
        with self._lock:
            turns = self._plan(frames, moments, answers.errors)
            # Side by side as they were in their last step, so that their state need not be gathered.
            order = sorted(turns, key=lambda name: (turns[name].stream.block.number, turns[name].stream.row))
            ran = dict(zip(order, take(self.stepper, [turns[name] for name in order]), strict=True))
            after: dict[str, Stream] = {}
            for name in turns:  # the order of the frames, in which new streams begin and answers are given
                logits, now = ran[name]
                try:
                    require_answer(logits, now.seen - 1)
                except DataError as error:
                    answers.errors[name] = error.with_traceback(None)
                else:
                    after[name] = now
            if after:
                scores = self._score(np.stack([ran[name][0] for name in after]))
                answers.update(zip(after, scores, strict=True))
            self._table.commit(after)
        return answers

    def _plan(
        self, frames: Mapping[str, Frames], moments: Mapping[str, float], errors: dict[str, CoadtrError]
    ) -> dict[str, Turn]:
        """Plan the turn of each stream; what is wrong with a frame goes to ``errors``."""
        turns: dict[str, Turn] = {}
        new = 0
        for name, frame in frames.items():
            try:
                given = self._reader.read(frame, 1, "push_batch")
                stream = self._table.find(name, beside=new)
                self._rules.require_finite(given, stream.seen)
                turns[name] = self._rules.turn(stream, given, moments.get(name))
            except CoadtrError as error:
                errors[name] = error.with_traceback(None)  # it would keep all of this call alive
            else:
                new += name not in self._table.known
        return turns

    def reset(self, stream: str | None = None) -> None:
        """Forget what a stream saw, or all of them if None: its next frame is the first of a new one."""
        with self._lock:
            known = tuple(self._table.known)
            self._table.commit({name: self._table.fresh for name in known if stream is None or name == stream})

    def close(self, stream: str) -> None:
        """End a stream and give its memory back. One that did not begin is left at that."""
        with self._lock:
            self._table.close(stream)

    def snapshot(
        self, path: str | Path, streams: Sequence[str] | None = None, *, extras: Mapping[str, Any] | None = None
    ) -> None:
        """Write what streams remember to a file, from which this or another process goes on with the same answers.

        The file is whole or absent, and what was at ``path`` stays until it is whole. Pushes go on meanwhile: the file
        has every stream as it was at one moment.

        Args:
            path: The file, ``*.npz`` by custom.
            streams: Names of the streams; all if None.
            extras: What the caller wants to find again beside it, JSON-ready: the states of event decoders, say.

        Raises:
            DataError: If a stream did not begin, ``extras`` is not JSON-ready, or the file cannot be written.
        """
        self.capture(streams).write(path, extras=extras)

    def capture(self, streams: Sequence[str] | None = None) -> Capture:
        """Return what streams remember now, to be written later: nothing is copied, and pushes go on.

        Args:
            streams: Names of the streams; all if None.

        Returns:
            What `snapshot` writes.

        Raises:
            DataError: If a stream did not begin.
        """
        with self._lock:
            kept = dict(self._table.known)  # values: no push changes what is kept here
        if streams is not None:
            if unknown := [name for name in streams if name not in kept]:
                raise DataError(f"no stream {unknown[0]!r} has begun; name of {', '.join(kept) or 'none'}")
            kept = {name: kept[name] for name in streams}
        return Capture(self._told, kept)

    def restore(self, path: str | Path) -> dict[str, Any]:
        """Go on with the streams of a snapshot as they were. They take the place of streams of the same names.

        Args:
            path: The file, written by `snapshot` on the same exported weights.

        Returns:
            The extras that were written with it.

        Raises:
            CheckpointError: If the file is missing, damaged, or of other weights; then nothing changes.
            ConfigError: If there would be too many streams; then nothing changes.
        """
        streams, extras = read_snapshot(path, self._told)
        with self._lock:
            self._table.require_room(sum(name not in self._table.known for name in streams))
            self._table.commit(streams)
        return extras

    def _score(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        return probabilities(logits, self._told.ignored, head=self._told.head).astype(np.float32)
