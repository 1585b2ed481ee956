"""Where actions start: in labels, and as per-frame scores announce it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import DataError, ShapeError
from coadtr.evaluation.labels import check_classes
from coadtr.evaluation.metrics.videos import kept_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Starts", "action_starts", "detect_starts"]


@dataclass(frozen=True, kw_only=True)
class Starts:
    """Hold M starts of actions, true or detected.

    Attributes:
        video: Index of the video ``(M,)``.
        frame: Frame within the video ``(M,)``.
        class_index: Class ``(M,)``.
        confidence: How sure the detector is ``(M,)``, 1 for true starts.
        scored: Whether each true start counts ``(M,)``; None if all do.

    Raises:
        ShapeError: The arrays are not one-dimensional and equally long.
        DataError: A confidence is nan.
    """

    video: NDArray[np.int64]
    frame: NDArray[np.int64]
    class_index: NDArray[np.int64]
    confidence: NDArray[np.float64]
    scored: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        parts = (self.video, self.frame, self.class_index, self.confidence, self.scored)
        shapes = [part.shape for part in parts if part is not None]
        if self.video.ndim != 1 or len(set(shapes)) > 1:
            raise ShapeError(
                f"video, frame, class_index, confidence, scored have shapes {shapes}; give one value each per start"
            )
        if np.isnan(self.confidence).any():
            raise DataError(
                f"the confidence of start {int(np.flatnonzero(np.isnan(self.confidence))[0])} is nan; "
                "a confidence must be a number to be ranked"
            )


def action_starts(
    labels: Sequence[NDArray[Any]],
    *,
    num_classes: int,
    background: int | None = None,
    ignored: int | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
) -> Starts:
    """Return the true starts: each frame that shows an action which the frame before does not show.

    An action that the first frame of a video shows starts there. One that frames of the ignored class interrupt
    starts again behind them. Background and ignored class do not start. Starts at frames that are not scored, or
    labelled with the ignored class, are there too, but not ``scored``.

    So an instance is a run of frames, and not an entry of an official list: instances that touch are one, and of two
    classes at one frame an index keeps one. On the test labels of THUMOS14 (an index for each 6 video frames) there are
    2,968 starts; its list has 3,358 instances, where a cliff dive is a dive too.

    Args:
        labels: One entry per video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        num_classes: Number of classes C.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        scored: One entry per video: frames ``(T,)`` that the protocol scores. None: all.

    Returns:
        The starts, video by video, in order of time, and which of them count.

    Raises:
        ConfigError: A class index is outside 0..C-1.
        ShapeError: Labels fit neither form, or ``scored`` does not fit the labels.
        DataError: A label is outside the classes, or videos differ in the form of labels.

    Example:
        >>> action_starts([np.array([0, 1, 1, 2, 0, 1])], num_classes=3, background=0).frame.tolist()
        [1, 3, 5]
    """
    check_classes([str(index) for index in range(num_classes)], background=background, ignored=ignored)
    kept = kept_frames(labels, num_classes=num_classes, ignored=ignored, scored=scored)
    counts: list[NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    points: list[NDArray[np.int64]] = [np.zeros((0, 3), np.int64)]
    for video, (truth, counted) in enumerate(zip(labels, kept, strict=True)):
        shown = truth.astype(np.bool_) if truth.ndim == 2 else truth[:, None] == np.arange(num_classes)
        begins = shown.copy()
        begins[1:] &= ~shown[:-1]
        begins[:, [index for index in (background, ignored) if index is not None]] = False
        frame, class_index = np.nonzero(begins)
        points.append(np.stack([np.full(frame.size, video), frame, class_index], axis=1))
        counts.append(counted[frame])
    joined = np.concatenate(points)
    return Starts(
        video=joined[:, 0],
        frame=joined[:, 1],
        class_index=joined[:, 2],
        confidence=np.ones(joined.shape[0]),
        scored=np.concatenate(counts),
    )


def detect_starts(
    scores: Sequence[NDArray[Any]],
    *,
    background: int | None = None,
    ignored: int | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
) -> Starts:
    """Return the starts that per-frame scores announce.

    A start of class c is detected at frame t when c has the highest score at t, is an action, and did not have
    the highest score at t - 1; its confidence is its score at t. At the first frame any action starts. Only
    frames up to t are used. The ignored class is never answered; of equal scores the lowest index wins. Detections
    at frames that are not scored are left out (their scores still say what came before). As one class at a frame is
    the highest, this says little where labels are multi-hot: of two actions at once, one is not announced.

    Args:
        scores: One entry per video: scores ``(T, C)``, higher is surer.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        scored: One entry per video: frames ``(T,)`` that the protocol scores. None: all. Protocols leave out the
            frames labelled with the ignored class, which scores alone do not show.

    Returns:
        The detections, video by video, in order of time; at most one a frame.

    Raises:
        ConfigError: A class index is outside 0..C-1.
        ShapeError: Scores are not ``(T, C)``, or ``scored`` does not fit them.
        DataError: A score is nan.

    Source:
        Gao et al., "StartNet: Online Detection of Action Start in Untrimmed Videos", ICCV 2019 (with a
        least score besides, which ranking by confidence makes needless).

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.6, 0.4]])
        >>> found = detect_starts([scores], background=0)
        >>> found.frame.tolist(), found.confidence.tolist()
        ([1], [0.8])
    """
    if scored is not None and len(scored) != len(scores):
        raise ShapeError(f"scored has {len(scored)} videos but scores have {len(scores)}; give one mask per video")
    points: list[NDArray[np.int64]] = [np.zeros((0, 3), np.int64)]
    confidence: list[NDArray[np.float64]] = [np.zeros(0)]
    for video, given in enumerate(scores):
        if given.ndim != 2 or (scored is not None and scored[video].shape != given.shape[:1]):
            mask = "" if scored is None else f" and scored {scored[video].shape}"
            raise ShapeError(f"video {video}: scores have shape {given.shape}{mask}; expected (T, C), and scored (T,)")
        if np.isnan(given).any():
            frame = int(np.flatnonzero(np.isnan(given).any(axis=1))[0])
            raise DataError(f"video {video}: a score at frame {frame} is nan; a score must be a number to be ranked")
        check_classes([str(index) for index in range(given.shape[1])], background=background, ignored=ignored)
        answered = given.astype(np.float64)
        if ignored is not None:
            answered[:, ignored] = -np.inf
        best = answered.argmax(axis=1)
        begins = np.ones(best.size, np.bool_) if scored is None else scored[video].astype(np.bool_)
        begins[1:] &= best[1:] != best[:-1]
        if background is not None:
            begins &= best != background
        frames = np.flatnonzero(begins)
        points.append(np.stack([np.full(frames.size, video), frames, best[frames]], axis=1))
        confidence.append(answered[frames, best[frames]])
    joined = np.concatenate(points)
    return Starts(
        video=joined[:, 0], frame=joined[:, 1], class_index=joined[:, 2], confidence=np.concatenate(confidence)
    )
