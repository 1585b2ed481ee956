"""Average precision of models that predict ahead, by how far ahead the answer looks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError, DataError, ShapeError
from coadtr.evaluation.labels import check_classes, frames_of_class
from coadtr.evaluation.metrics.ranking import precision_against
from coadtr.evaluation.metrics.videos import check_rates, kept_frames, means_over_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["HORIZONS_S", "Anticipation", "anticipation_average_precision", "frames_ahead"]

HORIZONS_S = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)


@dataclass(frozen=True, kw_only=True)
class Anticipation:
    """Hold mAP and mcAP for each horizon.

    Attributes:
        horizons_s: How far ahead the answers look, in seconds.
        frames: Pairs of answer and target that were scored at each horizon.
        frames_ahead: How many frames ahead each horizon lies; None where the rates of the videos differ.
        mean_ap: mAP in (0, 1] by horizon; None where the model does not look that far, or no target shows an action.
        mean_calibrated_ap: mcAP, likewise.
        per_class: AP by class name, one value per horizon; None where the class does not occur.
        per_class_calibrated: Calibrated AP, likewise.
    """

    horizons_s: tuple[float, ...]
    frames: tuple[int, ...]
    frames_ahead: tuple[int, ...] | None
    mean_ap: tuple[float | None, ...]
    mean_calibrated_ap: tuple[float | None, ...]
    per_class: dict[str, tuple[float | None, ...]]
    per_class_calibrated: dict[str, tuple[float | None, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: horizons, frames, ``mAP``, ``mcAP``, and both values by class."""
        return {
            "horizons_s": list(self.horizons_s),
            "frames": list(self.frames),
            "frames_ahead": None if self.frames_ahead is None else list(self.frames_ahead),
            "mAP": list(self.mean_ap),
            "mcAP": list(self.mean_calibrated_ap),
            "per_class_AP": {name: list(values) for name, values in self.per_class.items()},
            "per_class_cAP": {name: list(values) for name, values in self.per_class_calibrated.items()},
        }


def frames_ahead(horizon_s: float, rate_hz: float) -> int:
    """Return how many frames ahead a horizon lies: the nearest whole number, halves up, and at least 1.

    Args:
        horizon_s: Seconds ahead.
        rate_hz: Frames a second.

    Example:
        >>> [frames_ahead(horizon, 5.0) for horizon in (0.05, 0.25, 0.5, 2.0)]
        [1, 1, 3, 10]
    """
    return max(1, math.floor(horizon_s * rate_hz + 0.5))


def anticipation_average_precision(
    labels: Sequence[NDArray[Any]],
    ahead: Sequence[NDArray[Any]],
    *,
    rates_hz: Sequence[float],
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
    horizons_s: Sequence[float] = HORIZONS_S,
) -> Anticipation:
    """Return mAP and mcAP of the answers about the future, for each horizon.

    At rate r a horizon of h seconds means ``s = max(1, floor(h r + 1/2))`` frames, video by video: the answer
    ``ahead[t, s - 1]`` is scored against the labels of frame t + s. All such pairs of all videos are ranked
    together, as in `per_frame_average_precision`. A horizon that lies beyond the K frames that the model looks
    ahead, in any video, has no value: leaving out the videos with a higher rate would score another test set. At a low
    rate several horizons may mean the same frame, and one below half a frame the next one: ``frames_ahead`` tells.

    The protocol's mask says which frames *answer*, as in the published evaluation of OadTR. Left out are also
    pairs whose target lies beyond the end of the video, and pairs of which either frame is labelled with the
    ignored class (OadTR leaves out such answers only, and counts such targets as negative for every class).
    Background and ignored class get no value. A class that no target shows has no value at that horizon.

    OadTR counts K = 8 frames as 0.25 to 2 s at every rate; ``rates_hz`` of 4 for all videos does the same.

    Args:
        labels: One entry per video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        ahead: One entry per video: scores ``(T, K, C)``; ``[t, k]`` is the answer at frame t about t + k + 1.
        rates_hz: Frames a second, one value per video.
        class_names: The C names, each once.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        scored: One entry per video: frames ``(T,)`` whose answers the protocol scores. None: all.
        horizons_s: How far ahead, in seconds.

    Returns:
        mAP and mcAP by horizon, and the values of each class.

    Raises:
        ConfigError: A horizon is not positive, a class name occurs twice, or a class index is outside 0..C-1.
        ShapeError: The videos of the arguments differ in number or length, or in K, or do not have C classes.
        DataError: A rate is not positive, a label is outside the classes, or a score is nan.

    Source:
        Gao et al., "RED: Reinforced Encoder-Decoder Networks for Action Anticipation", BMVC 2017;
        Wang et al., "OadTR: Online Action Detection with Transformers", ICCV 2021.

    Example:
        >>> labels = [np.array([0, 0, 1, 1])]
        >>> ahead = [np.array([0.1, 0.8, 0.9, 0.9])[:, None, None] * [0, 1]]
        >>> anticipation_average_precision(
        ...     labels, ahead, rates_hz=[4.0], class_names=["none", "run"], background=0, horizons_s=[0.25, 0.5]
        ... ).mean_ap
        (1.0, None)
    """
    check_classes(class_names, background=background, ignored=ignored)
    for horizon in horizons_s:
        if not (math.isfinite(horizon) and horizon > 0):
            raise ConfigError(f"horizon {horizon} s is not ahead; give positive numbers of seconds")
    kept = kept_frames(labels, num_classes=len(class_names), ignored=ignored, scored=scored)
    targets = kept_frames(labels, num_classes=len(class_names), ignored=ignored)
    check_rates(rates_hz, len(labels))
    reach = _reach(labels, ahead, len(class_names))
    names = {name: index for index, name in enumerate(class_names) if index not in {background, ignored}}
    frames: list[int] = []
    plain: dict[str, list[float | None]] = {name: [] for name in names}
    calibrated: dict[str, list[float | None]] = {name: [] for name in names}
    for horizon in horizons_s:
        steps = [frames_ahead(horizon, rate) for rate in rates_hz]
        within = steps if max(steps, default=1) <= reach else []
        truth, answers = _pairs(labels, ahead, kept, targets, within, num_classes=len(class_names))
        frames.append(len(answers))
        for name, index in names.items():
            positive = frames_of_class(truth, index)
            scores, others = answers[positive, index], np.sort(answers[~positive, index])
            plain[name].append(precision_against(scores, others))
            calibrated[name].append(precision_against(scores, others, calibrated=True))
    same_rate = len(set(rates_hz)) == 1
    steps_ahead = tuple(frames_ahead(horizon, rates_hz[0]) for horizon in horizons_s) if same_rate else None
    return _result(tuple(horizons_s), tuple(frames), steps_ahead, plain, calibrated)


def _reach(labels: Sequence[NDArray[Any]], ahead: Sequence[NDArray[Any]], num_classes: int) -> int:
    """Return K, the same for all videos."""
    if len(ahead) != len(labels):
        raise ShapeError(f"{len(ahead)} videos have answers but {len(labels)} have labels; give both for every video")
    reach = ahead[0].shape[1] if ahead and ahead[0].ndim == 3 else 0
    for video, (truth, answers) in enumerate(zip(labels, ahead, strict=True)):
        if answers.ndim != 3 or answers.shape != (truth.shape[0], reach, num_classes):
            raise ShapeError(
                f"video {video}: answers ahead have shape {answers.shape}; expected (T, K, C) = "
                f"({truth.shape[0]}, {reach or 'K'}, {num_classes}), the same K in every video"
            )
        if np.isnan(answers).any():
            frame = int(np.flatnonzero(np.isnan(answers).any(axis=(1, 2)))[0])
            raise DataError(f"video {video}: an answer of frame {frame} is nan; a score must be a number to be ranked")
    return reach


def _pairs(
    labels: Sequence[NDArray[Any]],
    ahead: Sequence[NDArray[Any]],
    kept: Sequence[NDArray[np.bool_]],
    targets: Sequence[NDArray[np.bool_]],
    steps: Sequence[int],
    *,
    num_classes: int,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the labels of all targets, and the answers about them; none where ``steps`` is empty."""
    shown = [truth[:0] for truth in labels[:1]] or [np.zeros(0, np.int64)]
    answers = [np.zeros((0, num_classes))]
    for video, step in enumerate(steps):
        last = max(labels[video].shape[0] - step, 0)
        pairs = np.flatnonzero(kept[video][:last] & targets[video][step:])
        shown.append(labels[video][pairs + step])
        answers.append(ahead[video][pairs, step - 1])
    return np.concatenate(shown), np.concatenate(answers)


def _result(
    horizons_s: tuple[float, ...],
    frames: tuple[int, ...],
    steps_ahead: tuple[int, ...] | None,
    plain: dict[str, list[float | None]],
    calibrated: dict[str, list[float | None]],
) -> Anticipation:
    ap, cap = (
        {name: tuple(values) for name, values in table.items() if any(value is not None for value in values)}
        for table in (plain, calibrated)
    )
    return Anticipation(
        horizons_s=horizons_s,
        frames=frames,
        frames_ahead=steps_ahead,
        mean_ap=means_over_classes(ap, len(horizons_s)),
        mean_calibrated_ap=means_over_classes(cap, len(horizons_s)),
        per_class=ap,
        per_class_calibrated=cap,
    )
