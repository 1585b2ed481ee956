"""Replay: stream recorded videos through a detector as if they arrived live, and collect its answers."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from coadtr.errors import ConfigError, DataError, ShapeError
from coadtr.evaluation.scores import VideoScores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from coadtr.types import Detector

__all__ = ["ReplayVideo", "answering", "placement", "replay"]

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
    """

    name: str
    features: NDArray[Any] | Callable[[], NDArray[Any]]
    labels: NDArray[Any]


@dataclass
class _Slot:
    """A video on its way through one row of the batch."""

    index: int
    video: ReplayVideo
    features: NDArray[Any]
    done: int = 0
    logits: list[NDArray[Any]] = field(default_factory=list)

    @property
    def left(self) -> int:
        return int(self.features.shape[0]) - self.done


def replay(
    model: Detector[Any],
    videos: Iterable[ReplayVideo],
    *,
    batch_size: int = 1,
    device: torch.device | str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[VideoScores]:
    """Answer every frame of every video, one frame at a time, each video from a fresh state.

    Whatever ``batch_size``, the scores are those of this loop::

        for video in videos:
            state = model.init_state(1)
            for frame in video.features:                        # arrival order
                logits, state = model.step(frame[None], state)  # all that is known of the frame and its past
                keep(logits[0])
            yield VideoScores(video.name, all logits kept, video.labels)

    With ``batch_size`` B, B videos run side by side as rows of one batch. When one ends, its row is reset
    (`Detector.reset_rows`) and the next video takes it; rows left without a video see zeros, and their
    answers are dropped. Features are held for the B running videos only; logits until the videos before it
    are done, as the videos come out in the order in which they went in.

    Args:
        model: Anything with ``init_state``, ``step`` and ``reset_rows``. A module answers in evaluation mode
            and is put back afterwards.
        videos: The videos, read one by one as slots fall free.
        batch_size: Videos side by side, at least 1.
        device: Where to compute; a module is moved there. By default where its parameters are.
        progress: Called with the number of frames answered since the last call.

    Yields:
        Name, logits ``(T, C)`` and labels of each video.

    Raises:
        ConfigError: ``batch_size`` is below 1.
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
    if device is not None and isinstance(model, nn.Module):
        model.to(device)
    where, dtype = placement(model, device)
    dtype = getattr(model, "input_dtype", dtype)  # frames are standardised before they are rounded to fewer bytes
    # A function of its own, so that the checks above run at the call and not at the first `next`.
    return _Replay(model, batch_size, where, dtype, progress).run(iter(videos))


class _Replay:
    def __init__(
        self,
        model: Detector[Any],
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self.progress = progress
        self.state: Any = None

    def run(self, videos: Iterator[ReplayVideo]) -> Iterator[VideoScores]:
        waiting = enumerate(videos)
        slots: list[_Slot | None] = []
        # Not more rows than videos: none has to run empty from the start.
        while len(slots) < self.batch_size and (not slots or slots[-1] is not None):
            slots.append(self._next(waiting))
        if slots[-1] is None:
            slots.pop()
        finished: dict[int, VideoScores] = {}
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
        steps = min(_SEGMENT, *(slot.left for slot in slots if slot is not None))
        wide = np.float64 if self.dtype == torch.float64 else np.float32
        frames = np.zeros((steps, len(slots), self.model.input_dim), dtype=wide)
        for row, slot in enumerate(slots):
            if slot is not None:
                frames[:, row] = slot.features[slot.done : slot.done + steps]
        logits = self._answer(torch.from_numpy(frames).to(self.device, self.dtype))
        ended = []
        for row, slot in enumerate(slots):
            if slot is not None:
                slot.logits.append(logits[:, row].copy())  # a view would keep the other rows' answers alive
                slot.done += steps
                if slot.left == 0:
                    ended.append(row)
        if self.progress is not None:
            self.progress(steps * sum(slot is not None for slot in slots))
        return ended

    def _answer(self, frames: torch.Tensor) -> NDArray[Any]:
        answers = []
        expected = (frames.shape[1], self.model.num_classes)
        with answering(self.model):
            if self.state is None:
                self.state = self.model.init_state(frames.shape[1])
            for frame in frames:
                logits, self.state = self.model.step(frame, self.state)
                if logits.shape != expected:
                    raise ShapeError(f"the model answers {tuple(logits.shape)}; expected (B, C) = {expected}")
                answers.append(logits.clone())  # the next step may reuse the storage
            stacked = torch.stack(answers).cpu()
        # numpy has no bfloat16, and every narrower dtype fits in float32 exactly.
        narrow = stacked if stacked.dtype == torch.float64 else stacked.float()
        result: NDArray[Any] = narrow.numpy()
        return result

    def _reset(self, ended: list[int], rows: int) -> None:
        mask = torch.zeros(rows, dtype=torch.bool)
        mask[ended] = True
        with answering(self.model):
            self.state = self.model.reset_rows(self.state, mask.to(self.device))


def _finish(slots: list[_Slot | None], row: int, finished: dict[int, VideoScores]) -> None:
    # In a function of its own, so that no local of the generator keeps the features of an ended video alive.
    slot, slots[row] = slots[row], None
    if slot is not None:
        finished[slot.index] = VideoScores(slot.video.name, np.concatenate(slot.logits), slot.video.labels)


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


def placement(model: Detector[Any], device: torch.device | str | None = None) -> tuple[torch.device, torch.dtype]:
    """Return the device and floating dtype that frames for ``model`` should have.

    Args:
        model: A detector; a module answers with its first floating parameter.
        device: Taken instead of the model's own, if given.

    Returns:
        Device and dtype; CPU and float32 for a detector without parameters.

    Example:
        >>> placement(nn.Linear(2, 2).double())
        (device(type='cpu'), torch.float64)
    """
    found = torch.device("cpu"), torch.float32
    if isinstance(model, nn.Module):
        for parameter in model.parameters():
            if parameter.is_floating_point():
                found = parameter.device, parameter.dtype
                break
    return (found[0] if device is None else torch.device(device)), found[1]


@contextmanager
def answering(model: Detector[Any]) -> Iterator[None]:
    """Hold a detector in evaluation mode without gradients, and put every submodule back as it was.

    Args:
        model: A detector; one that is not a module is left alone.

    Example:
        >>> layer = nn.Dropout()
        >>> with answering(layer):
        ...     layer.training
        False
        >>> layer.training
        True
    """
    trained = [part for part in model.modules() if part.training] if isinstance(model, nn.Module) else []
    for part in trained:
        part.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for part in trained:
            part.training = True
