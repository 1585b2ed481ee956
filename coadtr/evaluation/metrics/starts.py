"""Point-level average precision of action starts: was the start noticed, and how near in time?"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError, ShapeError
from coadtr.evaluation.labels import check_classes
from coadtr.evaluation.metrics.ranking import average_precision
from coadtr.evaluation.metrics.videos import check_rates, means_over_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coadtr.evaluation.metrics.start_points import Starts

__all__ = ["OFFSETS_S", "StartPrecision", "point_average_precision"]

OFFSETS_S = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)


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


def point_average_precision(
    starts: Starts,
    detections: Starts,
    *,
    rates_hz: Sequence[float],
    class_names: Sequence[str],
    offsets_s: Sequence[float] = OFFSETS_S,
) -> StartPrecision:
    """Return the point-level average precision of every class that starts, for each offset.

    Detections of a class, from all videos, are taken from the surest down. Each looks for the nearest start of its
    class and video that none before it took. If that lies within the offset the detection is right, and takes it;
    otherwise it is wrong. If that start is not ``scored``, the detection is neither right nor wrong and is left out
    (as PASCAL VOC does with objects marked difficult); such a start is never used up. Then, over the distinct
    confidences n from the highest down,

        p-AP = sum over n of (R_n - R_{n-1}) P_n,    P_n = right / detections so far,    R_n = right so far / starts

    Nothing is interpolated. Published values are: over 11 points of recall, or with the highest precision to the right
    as VOC does since 2011; and they are of an official list of instances, of which frame labels know less
    (`action_starts`). So these values do not compare with published ones.

    Nothing depends on the order of the arrays: equal confidences form one threshold, detections of one video that are
    equally sure take their starts in order of time, and of two equally near starts the earlier is taken. Classes
    without a scored start are left out, with their detections; starts without detections give 0.

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
        >>> from coadtr.evaluation.metrics import action_starts, detect_starts
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
    counted = np.ones(starts.frame.size, np.bool_) if starts.scored is None else starts.scored
    per_class: dict[str, tuple[float, ...]] = {}
    for index, name in enumerate(class_names):
        true = starts.class_index == index
        total = int((true & counted).sum())
        if not total:
            continue
        points = list(zip(*(part[true].tolist() for part in (starts.video, starts.frame, counted)), strict=True))
        found = np.flatnonzero(detections.class_index == index)
        order = found[np.lexsort((detections.frame[found], -detections.confidence[found]))]
        verdicts = (_right(points, detections, order, rates_hz=rates_hz, offset_s=offset_s) for offset_s in offsets_s)
        per_class[name] = tuple(_recalled(right, detections.confidence[order], total) for right in verdicts)
    return StartPrecision(
        offsets_s=tuple(offsets_s), per_class=per_class, mean=means_over_classes({**per_class}, len(offsets_s))
    )


def _right(
    points: list[tuple[int, int, bool]],
    detections: Starts,
    order: NDArray[np.int64],
    *,
    rates_hz: Sequence[float],
    offset_s: float,
) -> NDArray[np.float64]:
    """Return for each detection of one class, taken in ``order``, 1 if it is right, 0 if wrong, nan if neither."""
    free: dict[int, list[tuple[int, bool]]] = {}
    for video, frame, counts in sorted(points):
        free.setdefault(video, []).append((frame, counts))
    right = np.zeros(order.size)
    pairs = zip(detections.video[order].tolist(), detections.frame[order].tolist(), strict=True)
    for place, (video, frame) in enumerate(pairs):
        left = free.get(video)
        if not left:
            continue
        after = bisect_left(left, (frame, False))
        nearest = min(range(max(after - 1, 0), min(after + 1, len(left))), key=lambda at: abs(left[at][0] - frame))
        start, counts = left[nearest]
        # Frames are compared, not seconds: 6 / 5 - 1 / 5 must not exceed 1 by a rounding error.
        if abs(start - frame) <= offset_s * rates_hz[video] * (1 + 1e-9):
            right[place] = 1.0 if counts else np.nan
            if counts:
                del left[nearest]
    return right


def _recalled(right: NDArray[np.float64], confidence: NDArray[np.float64], total: int) -> float:
    """Return AP where starts may stay undetected: recall ends at the share of starts that were found."""
    judged = ~np.isnan(right)
    hit = right[judged] > 0
    return average_precision(hit, confidence[judged]) * int(hit.sum()) / total if hit.any() else 0.0
