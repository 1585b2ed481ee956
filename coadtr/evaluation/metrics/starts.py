"""Point-level average precision of action starts: was the start noticed, and how near in time?"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError, DataError, ShapeError
from coadtr.evaluation.labels import check_classes
from coadtr.evaluation.metrics.ranking import average_precision
from coadtr.evaluation.metrics.videos import check_rates, kept_frames, means_over_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "OFFSETS_S",
    "StartPrecision",
    "Starts",
    "action_starts",
    "detect_starts",
    "point_average_precision",
]

OFFSETS_S = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Starts:
    """Hold M starts of actions, true or detected.

    Attributes:
        video: Index of the video ``(M,)``.
        frame: Frame within the video ``(M,)``.
        class_index: Class ``(M,)``.
        confidence: How sure the detector is ``(M,)``, 1 for true starts.

    Raises:
        ShapeError: The four arrays are not one-dimensional and equally long.
        DataError: A confidence is nan.
    """

    video: NDArray[np.int64]
    frame: NDArray[np.int64]
    class_index: NDArray[np.int64]
    confidence: NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = [part.shape for part in (self.video, self.frame, self.class_index, self.confidence)]
        if self.video.ndim != 1 or len(set(shapes)) > 1:
            raise ShapeError(
                f"video, frame, class_index, confidence have shapes {shapes}; give one value each per start"
            )
        if np.isnan(self.confidence).any():
            raise DataError(
                f"the confidence of start {int(np.flatnonzero(np.isnan(self.confidence))[0])} is nan; "
                "a confidence must be a number to be ranked"
            )


@dataclass(frozen=True, kw_only=True)
class StartPrecision:
    """Hold point-level AP of action starts for each offset.

    Attributes:
        offsets_s: How far a detection may lie from the start, in seconds.
        per_class: p-AP in [0, 1] by class name, one value per offset.
        mean: Unweighted means over those classes; None where no class has a start.
    """

    offsets_s: tuple[float, ...]
    per_class: dict[str, tuple[float, ...]]
    mean: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: ``offsets_s``, ``mAP`` and ``per_class``."""
        return {
            "offsets_s": list(self.offsets_s),
            "mAP": list(self.mean),
            "per_class": {name: list(values) for name, values in self.per_class.items()},
        }


def action_starts(
    labels: Sequence[NDArray[Any]],
    *,
    num_classes: int,
    background: int | None = None,
    ignored: int | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
) -> Starts:
    """Return the true starts: each frame that shows an action which the frame before does not show.

    An action that the first frame of a video shows starts there. One that frames of the ignored class
    interrupt starts again behind them. Background and ignored class do not start. Starts at frames that are
    not scored, or labelled with the ignored class, are left out.

    Args:
        labels: One entry per video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        num_classes: Number of classes C.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        scored: One entry per video: frames ``(T,)`` that the protocol scores. None: all.

    Returns:
        The starts, video by video, in order of time.

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
    points: list[NDArray[np.int64]] = [np.zeros((0, 3), np.int64)]
    for video, (truth, counted) in enumerate(zip(labels, kept, strict=True)):
        shown = truth.astype(np.bool_) if truth.ndim == 2 else truth[:, None] == np.arange(num_classes)
        begins = shown & counted[:, None]
        begins[1:] &= ~shown[:-1]
        begins[:, [index for index in (background, ignored) if index is not None]] = False
        frame, class_index = np.nonzero(begins)
        points.append(np.stack([np.full(frame.size, video), frame, class_index], axis=1))
    joined = np.concatenate(points)
    return Starts(video=joined[:, 0], frame=joined[:, 1], class_index=joined[:, 2], confidence=np.ones(joined.shape[0]))


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
    at frames that are not scored are left out (their scores still say what came before).

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


def point_average_precision(
    starts: Starts,
    detections: Starts,
    *,
    rates_hz: Sequence[float],
    class_names: Sequence[str],
    offsets_s: Sequence[float] = OFFSETS_S,
) -> StartPrecision:
    """Return the point-level average precision of every class that starts, for each offset.

    Detections of a class, from all videos, are taken from the surest down. Each takes the nearest start of its
    class and video that none before it took, if that lies within the offset, and is right; otherwise it is
    wrong. Then, over the distinct confidences n from the highest down,

        p-AP = sum over n of (R_n - R_{n-1}) P_n,    P_n = right / detections so far,    R_n = right so far / starts

    Nothing is interpolated (published evaluations differ there: 11 points, or the highest precision to the
    right). Nothing depends on the order of the arrays: equal confidences form one threshold, detections of one
    video that are equally sure take their starts in order of time, and of two equally near starts the earlier
    is taken. Classes without a start are left out, with their detections; starts without detections give 0.

    Args:
        starts: The true starts, from `action_starts`.
        detections: The detected ones, from `detect_starts`.
        rates_hz: Frames a second, one value per video.
        class_names: The C names, each once.
        offsets_s: How far from the start a detection may lie, in seconds; exactly as far is near enough.

    Returns:
        Values in [0, 1] per class and offset, and means over classes.

    Raises:
        ConfigError: An offset is negative or not finite, or a class name occurs twice.
        ShapeError: A start is in a video that has no rate, or of a class that has no name.
        DataError: A rate is not positive.

    Source:
        Shou et al., "Online Detection of Action Start in Untrimmed, Streaming Videos", ECCV 2018.

    Example:
        >>> starts = action_starts([np.array([0, 0, 1, 1])], num_classes=2, background=0)
        >>> late = detect_starts([np.eye(2)[[0, 0, 0, 1]]], background=0)
        >>> names = ["none", "run"]
        >>> point_average_precision(starts, late, rates_hz=[1.0], class_names=names, offsets_s=[0.5, 1.0]).mean
        (0.0, 1.0)
    """
    check_classes(class_names)
    check_rates(rates_hz, len(rates_hz))
    for offset in offsets_s:
        if not (np.isfinite(offset) and offset >= 0):
            raise ConfigError(f"offset {offset} s is not a distance in time; give seconds, 0 or more")
    for role, values, most in (
        ("video", np.concatenate([starts.video, detections.video]), len(rates_hz)),
        ("class", np.concatenate([starts.class_index, detections.class_index]), len(class_names)),
    ):
        if values.size and not 0 <= values.min() <= values.max() < most:
            raise ShapeError(
                f"a start has {role} index {values.max()}; expected 0..{most - 1}, one rate or name for each"
            )
    per_class: dict[str, tuple[float, ...]] = {}
    for index, name in enumerate(class_names):
        true = starts.class_index == index
        if not true.any():
            continue
        found = np.flatnonzero(detections.class_index == index)
        order = found[np.lexsort((detections.frame[found], -detections.confidence[found]))]
        confidence = detections.confidence[order]
        per_class[name] = tuple(
            _recalled(
                _right(starts, true, detections, order, rates_hz=rates_hz, offset_s=offset), confidence, int(true.sum())
            )
            for offset in offsets_s
        )
    return StartPrecision(
        offsets_s=tuple(offsets_s), per_class=per_class, mean=means_over_classes({**per_class}, len(offsets_s))
    )


def _right(
    starts: Starts,
    true: NDArray[np.bool_],
    detections: Starts,
    order: NDArray[np.int64],
    *,
    rates_hz: Sequence[float],
    offset_s: float,
) -> NDArray[np.bool_]:
    """Return which detections of one class, taken in ``order``, find a start that is still free."""
    free: dict[int, list[int]] = {}
    for video, frame in sorted(zip(starts.video[true].tolist(), starts.frame[true].tolist(), strict=True)):
        free.setdefault(video, []).append(frame)
    right = np.zeros(order.size, np.bool_)
    pairs = zip(detections.video[order].tolist(), detections.frame[order].tolist(), strict=True)
    for place, (video, frame) in enumerate(pairs):
        left = free.get(video)
        if not left:
            continue
        after = bisect_left(left, frame)
        nearest = min(range(max(after - 1, 0), min(after + 1, len(left))), key=lambda at: abs(left[at] - frame))
        # Frames are compared, not seconds: 6 / 5 - 1 / 5 must not exceed 1 by a rounding error.
        if abs(left[nearest] - frame) <= offset_s * rates_hz[video] * (1 + 1e-9):
            right[place] = True
            del left[nearest]
    return right


def _recalled(right: NDArray[np.bool_], confidence: NDArray[np.float64], total: int) -> float:
    """Return AP where starts may stay undetected: recall ends at the share of starts that were found."""
    return average_precision(right, confidence) * int(right.sum()) / total if right.any() else 0.0
