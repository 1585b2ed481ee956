"""Gather scores and labels of videos from all processes, in an order that does not depend on who gave what."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from coadtr.errors import DataError, ShapeError
from coadtr.evaluation.labels import check_classes, check_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["GatheredVideos", "RunningMetric"]

_VIDEO, _RANK, _SCORED = 0, 1, 2  # columns of the table of frames


class GatheredVideos(NamedTuple):
    """All that was given to a running metric, by video in the order of their numbers.

    Attributes:
        labels: Class indices ``(T,)``, or multi-hot ``(T, C)``, of each video.
        scores: Scores ``(T, C)`` of each video, float64.
        scored: Frames that count ``(T,)`` of each video.

    Example:
        >>> videos = GatheredVideos([np.array([0, 1])], [np.eye(2)], [np.array([False, True])])
        >>> videos.joined()[0].tolist()
        [1]
    """

    labels: list[NDArray[Any]]
    scores: list[NDArray[np.float64]]
    scored: list[NDArray[np.bool_]]

    def joined(self) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return labels and scores of the frames that count, of all videos in a row."""
        kept = np.concatenate(self.scored)
        return np.concatenate(self.labels)[kept], np.concatenate(self.scores)[kept]


class RunningMetric(Metric):
    """Keep scores and labels of videos until they are wanted; the base of the running metrics.

    Each process gives videos of its own, as many as it has, or none; `compute` gathers those of all processes. A video
    may come in parts, in order, with those of others between them. So a video that is given twice to one process cannot
    be told from one that goes on, and is taken for a longer one: give each once. The value does not depend on which
    process gave which video, nor on the order of the videos. Kept are 8 (C + 4) bytes a frame (16 C + 24 for multi-hot
    labels), on the device of the metric.

    Args:
        class_names: The C names, each once.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        multi_label: Whether labels are multi-hot ``(T, C)`` and not class indices ``(T,)``.
        **options: Settings of `torchmetrics.Metric`, e.g. ``process_group``.

    Raises:
        ConfigError: A class name occurs twice, or a class index is outside 0..C-1.

    Example:
        >>> class FramesScored(RunningMetric):
        ...     def result(self):
        ...         return sum(int(scored.sum()) for scored in self.gathered().scored)
        ...     def compute(self):
        ...         return torch.tensor(self.result())
        >>> metric = FramesScored(class_names=["none", "run"])
        >>> metric.update(torch.zeros(3, 2), torch.tensor([0, 1, 1]), video=0)
        >>> metric.compute().item()
        3
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    scores: list[Tensor]
    labels: list[Tensor]
    frames: list[Tensor]

    def __init__(
        self,
        *,
        class_names: Sequence[str],
        background: int | None = None,
        ignored: int | None = None,
        multi_label: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_classes(class_names, background=background, ignored=ignored)
        self.class_names = tuple(class_names)
        self.background = background
        self.ignored = ignored
        self.multi_label = multi_label
        for name in ("scores", "labels", "frames"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor, video: int, scored: Tensor | None = None) -> None:
        """Take a video, or the next part of one.

        Args:
            scores: Scores ``(T, C)`` from `coadtr.scoring.probabilities`; kept in float64.
            labels: Class indices ``(T,)``, or multi-hot ``(T, C)`` with ``multi_label``.
            video: Number of the video, its own among those of all processes: the index in the list of all videos.
            scored: Frames that count ``(T,)`` bool; all if None.

        Raises:
            ShapeError: The shapes do not fit.
            DataError: A label is outside the classes, or ``video`` is negative.
        """
        scores, labels = torch.as_tensor(scores), torch.as_tensor(labels)
        classes, form = len(self.class_names), 2 if self.multi_label else 1
        kept = torch.ones(len(labels), dtype=torch.bool) if scored is None else torch.as_tensor(scored)
        if scores.shape != (len(labels), classes) or labels.ndim != form or kept.shape != (len(labels),):
            wanted = f"(T, {classes}), {f'(T, {classes})' if self.multi_label else '(T,)'} and (T,)"
            raise ShapeError(
                f"video {video}: scores {tuple(scores.shape)}, labels {tuple(labels.shape)} and scored "
                f"{tuple(kept.shape)}; give {wanted}"
            )
        if video < 0:
            raise DataError(f"video {video}: give the number of the video in the list of all, from 0 up")
        check_labels(labels.cpu().numpy(), classes)
        table = torch.empty(len(labels), 3, dtype=torch.int64, device=self.device)
        table[:, _VIDEO], table[:, _RANK], table[:, _SCORED] = video, _rank(), kept.to(self.device, torch.int64)
        self.scores.append(scores.detach().to(self.device, torch.float64))
        self.labels.append(labels.detach().to(self.device, torch.int64))
        self.frames.append(table)

    def sync(self, *args: Any, **options: Any) -> None:
        """Gather the videos of all processes; torchmetrics calls this in `compute`."""
        self._begin()
        super().sync(*args, **options)

    def gathered(self) -> GatheredVideos:
        """Return what was given, as the pure functions take it; of all processes inside `compute`.

        Raises:
            DataError: No frame was given, or two processes gave the same video.
        """
        self._begin()
        scores, labels, table = (
            dim_zero_cat(getattr(self, name)).cpu().numpy() for name in ("scores", "labels", "frames")
        )
        if not len(table):
            raise DataError(f"{type(self).__name__} was given no frame; call update before compute")
        owners = np.unique(table[:, : _RANK + 1], axis=0)
        twice = np.flatnonzero(np.diff(owners[:, _VIDEO]) == 0)
        if twice.size:
            video, ranks = owners[twice[0], _VIDEO], owners[twice[0] : twice[0] + 2, _RANK]
            raise DataError(
                f"video {video} was given by the processes {ranks[0]} and {ranks[1]}; give each to one (a "
                "DistributedSampler repeats some to make shares equal), under its number in the list of all"
            )
        order = np.argsort(table[:, _VIDEO], kind="stable")
        cuts = np.flatnonzero(np.diff(table[order, _VIDEO])) + 1
        return GatheredVideos(
            np.split(labels[order], cuts),
            np.split(scores[order], cuts),
            np.split(table[order, _SCORED].astype(np.bool_), cuts),
        )

    def by_video(self) -> dict[str, Any]:
        """Return what the pure functions over videos take: labels, scores, frames that count, and the classes."""
        return {
            **self.gathered()._asdict(),
            "class_names": self.class_names,
            "background": self.background,
            "ignored": self.ignored,
        }

    @abstractmethod
    def result(self) -> Any:
        """Return what the pure function says of the videos.

        Of all processes inside `compute`, or between ``sync()`` and ``unsync()``; else of this process alone.
        """

    @abstractmethod
    def compute(self) -> Any:
        """Return the value over all videos of all processes, as float64 tensors that Lightning can log."""

    def _begin(self) -> None:
        # A process without a frame has to take part in the gathering with tensors of the shapes of the others.
        if len(self.frames) == 0:
            classes, device = len(self.class_names), self.device
            shape = (0, classes) if self.multi_label else (0,)
            self.scores = [torch.empty(0, classes, dtype=torch.float64, device=device)]
            self.labels = [torch.empty(shape, dtype=torch.int64, device=device)]
            self.frames = [torch.empty(0, 3, dtype=torch.int64, device=device)]


def _rank() -> int:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if distributed else 0
