"""Replay: stream recorded videos through a detector as if they arrived live, and collect its answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from coadtr.errors import ConfigError, DataError, ShapeError
from coadtr.evaluation.answering import answering, placement
from coadtr.evaluation.answers import VideoAnswers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from coadtr.types import AnticipatingDetector, ChunkDetector, Detector

__all__ = ["ReplayVideo", "replay"]

_SEGMENT = 256  # most frames per transfer to the device; bounds memory and paces the progress callback


@dataclass(frozen=True)
class ReplayVideo:
    """Name one recorded video.

    Attributes:
        name: Name of the video, for scores and errors.
        features: Features ``(T, D)`` in arrival order, or a function that reads them, called when the video's
            turn comes.
        labels: Class indices ``(T,)`` or multi-hot ``(T, C)``; handed through to the scores, never shown to
            the model.
        rate_hz: Frames a second, handed through likewise; None if unknown.
    """

    name: str
    features: NDArray[Any] | Callable[[], NDArray[Any]]
    labels: NDArray[Any]
    rate_hz: float | None = None


@dataclass
class _Slot:
    """A video on its way through one row of the batch."""

    index: int
    video: ReplayVideo
    features: NDArray[Any]
    done: int = 0
    logits: list[NDArray[Any]] = field(default_factory=list)
    ahead: list[NDArray[Any]] = field(default_factory=list)

    @property
    def left(self) -> int:
        return int(self.features.shape[0]) - self.done


def replay(
    model: Detector[Any],
    videos: Iterable[ReplayVideo],
    *,
    batch_size: int = 1,
    chunk: int = 1,
    ahead: bool = False,
    device: torch.device | str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[VideoAnswers]:
    """Answer every frame of every video, one frame at a time, each video from a fresh state.

    Whatever ``batch_size``, the scores are those of this loop::

        for video in videos:
            state = model.init_state(1)
            for frame in video.features:                        # arrival order
                logits, state = model.step(frame[None], state)  # all that is known of the frame and its past
                keep(logits[0])
            yield VideoAnswers(video.name, all logits kept, video.labels)

    With ``batch_size`` B, B videos run side by side as rows of one batch. When one ends, its row is reset
    (`Detector.reset_rows`) and the next video takes it; rows left without a video see zeros, and their
    answers are dropped. Features are held for the B running videos only; logits until the videos before it
    are done, as the videos come out in the order in which they went in.

    With ``chunk`` k > 1, k frames at a time go through the model's ``steps``, which answers what k single steps do (up
    to rounding), in less time. Use it where nobody waits for each answer.

    Args:
        model: Anything with ``init_state``, ``step`` and ``reset_rows``. A module answers in evaluation mode
            and is put back afterwards.
        videos: The videos, read one by one as slots fall free.
        batch_size: Videos side by side, at least 1.
        chunk: Frames at a time; 1 is one step after the other.
        ahead: Keep also what the model expects in the frames to come (`coadtr.types.AnticipatingDetector`).
        device: Where to compute; a module is moved there. By default where its parameters are.
        progress: Called with the number of frames answered since the last call.

    Yields:
        Name, logits ``(T, C)`` and labels of each video.

    Raises:
        ConfigError: ``batch_size`` or ``chunk`` is below 1, or the model cannot answer in chunks, or ahead.
        ShapeError: The features of a video are not ``(T, D)`` with the model's D, or the model's answer is
            not ``(B, C)``.
        DataError: A video has no frames, a feature that is not finite, or another number of labels than
            frames.

    Example:
        >>> from typing import NamedTuple
        >>> from torch import Tensor
        >>> class Count(NamedTuple):
        ...     frames: Tensor
        >>> class Adder:
        ...     input_dim, num_classes, window = 2, 2, 1
        ...     def init_state(self, batch_size=1):
        ...         return Count(torch.zeros(batch_size, 1))
        ...     def step(self, frame, state):
        ...         return frame + state.frames, Count(state.frames + 1)
        ...     def reset_rows(self, state, rows):
        ...         return Count(state.frames.masked_fill(rows[:, None], 0))
        >>> video = ReplayVideo("v", np.zeros((3, 2)), np.array([0, 1, 0]))
        >>> [scores.logits[:, 0].tolist() for scores in replay(Adder(), [video, video])]
        [[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; replay at least 1 video at a time")
    _check_way(model, chunk, ahead=ahead)
    if device is not None and isinstance(model, nn.Module):
        model.to(device)
    where, dtype = placement(model, device)
    dtype = getattr(model, "input_dtype", dtype)  # frames are standardised before they are rounded to fewer bytes
    # A function of its own, so that the checks above run at the call and not at the first `next`.
    run = _Replay(
        model=model, batch_size=batch_size, chunk=chunk, ahead=ahead, device=where, dtype=dtype, progress=progress
    )
    return run.run(iter(videos))


@dataclass(kw_only=True)
class _Replay:
    model: Detector[Any]
    batch_size: int
    chunk: int
    ahead: bool
    device: torch.device
    dtype: torch.dtype
    progress: Callable[[int], None] | None
    state: Any = None

    def run(self, videos: Iterator[ReplayVideo]) -> Iterator[VideoAnswers]:
        waiting = enumerate(videos)
        slots: list[_Slot | None] = []
        # Not more rows than videos: none has to run empty from the start.
        while len(slots) < self.batch_size and (not slots or slots[-1] is not None):
            slots.append(self._next(waiting))
        if slots[-1] is None:
            slots.pop()
        finished: dict[int, VideoAnswers] = {}
        upcoming = 0
        # Mode and grad switches are held per segment; across a `yield` they would leak into the caller.
        while any(slot is not None for slot in slots):
            ended = self._segment(slots)
            for row in ended:
                _finish(slots, row, finished)
            while upcoming in finished:
                yield finished.pop(upcoming)
                upcoming += 1
            for row in ended:
                slots[row] = self._next(waiting)
            if ended and any(slot is not None for slot in slots):
                self._reset(ended, len(slots))

    def _next(self, waiting: Iterator[tuple[int, ReplayVideo]]) -> _Slot | None:
        for index, video in waiting:
            features = np.asarray(video.features() if callable(video.features) else video.features)
            _check(video, features, self.model.input_dim)
            return _Slot(index, video, features)
        return None

    def _segment(self, slots: list[_Slot | None]) -> list[int]:
        """Step all rows until the first video ends, or for a segment; return the rows that ended."""
        steps = min(max(_SEGMENT, self.chunk), *(slot.left for slot in slots if slot is not None))
        wide = np.float64 if self.dtype == torch.float64 else np.float32
        frames = np.zeros((steps, len(slots), self.model.input_dim), dtype=wide)
        for row, slot in enumerate(slots):
            if slot is not None:
                frames[:, row] = slot.features[slot.done : slot.done + steps]
        logits, ahead = self._answer(torch.from_numpy(frames).to(self.device, self.dtype))
        ended = []
        for row, slot in enumerate(slots):
            if slot is not None:
                slot.logits.append(logits[:, row].copy())  # a view would keep the other rows' answers alive
                if ahead is not None:
                    slot.ahead.append(ahead[:, row].copy())
                slot.done += steps
                if slot.left == 0:
                    ended.append(row)
        if self.progress is not None:
            self.progress(steps * sum(slot is not None for slot in slots))
        return ended

    def _answer(self, frames: torch.Tensor) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Answer ``(T, B, D)`` frames: logits ``(T, B, C)``, and of the frames to come ``(T, B, K, C)``."""
        answers, expected = [], []
        with answering(self.model):
            if self.state is None:
                self.state = self.model.init_state(frames.shape[1])
            for part in frames.split(self.chunk):
                if self.chunk > 1:
                    logits, self.state = cast("ChunkDetector[Any]", self.model).steps(part.transpose(0, 1), self.state)
                    logits = logits.transpose(0, 1)
                elif self.ahead:
                    predicting = cast("AnticipatingDetector[Any]", self.model)
                    logits, ahead, self.state = predicting.step_ahead(part[0], self.state)
                    logits = logits[None]
                    expected.append(ahead[None].clone())
                else:
                    logits, self.state = self.model.step(part[0], self.state)
                    logits = logits[None]
                wanted = (len(part), frames.shape[1], self.model.num_classes)
                if logits.shape != wanted:
                    raise ShapeError(
                        f"the model answers {tuple(logits.shape[1:])}; expected (B, C) = {wanted[1:]} for each frame"
                    )
                answers.append(logits.clone())  # the next step may reuse the storage
            return _to_numpy(answers), _to_numpy(expected) if expected else None

    def _reset(self, ended: list[int], rows: int) -> None:
        mask = torch.zeros(rows, dtype=torch.bool)
        mask[ended] = True
        with answering(self.model):
            self.state = self.model.reset_rows(self.state, mask.to(self.device))


def _finish(slots: list[_Slot | None], row: int, finished: dict[int, VideoAnswers]) -> None:
    # In a function of its own, so that no local of the generator keeps the features of an ended video alive.
    slot, slots[row] = slots[row], None
    if slot is not None:
        finished[slot.index] = VideoAnswers(
            slot.video.name,
            np.concatenate(slot.logits),
            slot.video.labels,
            slot.video.rate_hz,
            np.concatenate(slot.ahead) if slot.ahead else None,
        )


def _to_numpy(answers: list[torch.Tensor]) -> NDArray[Any]:
    joined = torch.cat(answers).cpu()
    # numpy has no bfloat16, and every narrower dtype fits in float32 exactly.
    result: NDArray[Any] = (joined if joined.dtype == torch.float64 else joined.float()).numpy()
    return result


def _check_way(model: Detector[Any], chunk: int, *, ahead: bool) -> None:
    if chunk < 1:
        raise ConfigError(f"chunk is {chunk}; answer at least 1 frame at a time")
    if chunk > 1 and ahead:
        raise ConfigError("what is ahead is answered step by step: leave chunk at 1")
    if chunk > 1 and not hasattr(model, "steps"):
        raise ConfigError(f"{type(model).__name__} has no `steps` and cannot answer in chunks: leave chunk at 1")
    if ahead and not getattr(model, "frames_ahead", 0):
        raise ConfigError(f"{type(model).__name__} does not predict ahead: leave anticipation out")


def _check(video: ReplayVideo, features: NDArray[Any], input_dim: int) -> None:
    if features.ndim != 2:
        raise ShapeError(f"video {video.name!r}: features have shape {features.shape}; expected (T, {input_dim})")
    if features.shape[1] != input_dim:
        raise ShapeError(
            f"video {video.name!r}: got {features.shape[1]} feature channels, the model expects {input_dim}; "
            "replay the feature streams that it was trained on"
        )
    frames = features.shape[0]
    if frames == 0:
        raise DataError(f"video {video.name!r} has no frames; leave it out")
    if video.labels.shape[:1] != (frames,):
        raise DataError(
            f"video {video.name!r}: {frames} frames of features but labels of shape {video.labels.shape}; "
            "give one label per frame"
        )
    if not (np.issubdtype(features.dtype, np.floating) or np.issubdtype(features.dtype, np.integer)):
        raise DataError(f"video {video.name!r}: features have dtype {features.dtype}; give real numbers")
    for start in range(0, frames, _SEGMENT):
        finite = np.isfinite(features[start : start + _SEGMENT]).all(axis=1)
        if not finite.all():
            frame = start + int(np.flatnonzero(~finite)[0])
            raise DataError(
                f"video {video.name!r}: frame {frame} has a feature that is nan or infinite; "
                "extract the features of this video again"
            )
