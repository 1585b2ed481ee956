"""What a report says beyond the headline: by portion, by start, by segment, in seconds, and how sure all that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from coadtr.errors import ConfigError, DataError
from coadtr.evaluation.metrics import (
    HORIZONS_S,
    OFFSETS_S,
    ClipAnswer,
    action_starts,
    anticipation_average_precision,
    bootstrap_precision,
    calibration_error,
    clip_scores,
    detect_starts,
    detection_delay,
    point_average_precision,
    portion_average_precision,
    segmental_scores,
    warmup_precision,
)
from coadtr.evaluation.metrics.anticipation import frames_ahead
from coadtr.evaluation.metrics.delay import FALSE_POSITIVES_PER_HOUR
from coadtr.evaluation.metrics.videos import kept_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from coadtr.data import VideoScores

__all__ = ["ClipSettings", "DetailSettings", "evaluate_clips", "evaluate_details", "feature_seconds"]


@dataclass(frozen=True, kw_only=True)
class DetailSettings:
    """How the details of a report are made.

    Attributes:
        resamples: Resamples of the videos for the confidence intervals; 0 leaves the intervals out.
        level: Share of such intervals that are to hold the truth.
        seed: Seed of the resamples.
        false_positives_per_hour: False alarms allowed where the detection delay is taken.

    Raises:
        ConfigError: A value is out of range.
    """

    resamples: int = 1000
    level: float = 0.95
    seed: int = 0
    false_positives_per_hour: float = FALSE_POSITIVES_PER_HOUR

    def __post_init__(self) -> None:
        if self.resamples < 0 or not 0 < self.level < 1 or self.seed < 0:
            raise ConfigError(
                f"resamples={self.resamples}, level={self.level}, seed={self.seed}: "
                "give resamples >= 0, a level between 0 and 1, and a seed >= 0"
            )
        if not self.false_positives_per_hour >= 0:
            raise ConfigError(f"false_positives_per_hour is {self.false_positives_per_hour}; give a number >= 0")


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """How whole recordings are scored.

    Attributes:
        answer: ``"last"``: the class that the newest frame scores highest; ``"mean"``: that of the mean score so far.

    Raises:
        ConfigError: There is no such answer.
    """

    answer: ClipAnswer = "last"

    def __post_init__(self) -> None:
        if self.answer not in get_args(ClipAnswer):
            raise ConfigError(f"answer must be one of {', '.join(get_args(ClipAnswer))}, got {self.answer!r}")


def evaluate_clips(
    videos: Iterable[VideoScores],
    *,
    first_s: float | None = None,
    clips: ClipSettings | None = None,
    settings: DetailSettings | None = None,
) -> dict[str, Any]:
    """Compute the key ``clips`` of a report: how soon and how surely whole recordings are recognised.

    Args:
        videos: Recordings of one class each. All frames count, whatever the protocol scores.
        first_s: Seconds after which frame 0 of a recording is complete; None for the time of a frame.
        clips: How they are scored; the defaults if None.
        settings: How the interval is made; the defaults if None.

    Returns:
        JSON-ready values, as `coadtr.evaluation.metrics.ClipScores` has them.

    Raises:
        DataError: A recording has several classes, or no rate.
        ShapeError: The arrays do not match.

    Example:
        >>> from coadtr.data import VideoScores
        >>> one = VideoScores("v", np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([1, 1]), np.array([True, True]), 5.0)
        >>> evaluate_clips([one])["by_seconds"]["accuracy_all"][-1]
        1.0
    """
    wanted, made = clips or ClipSettings(), settings or DetailSettings()
    held = list(videos)
    return clip_scores(
        [video.labels for video in held],
        [video.scores for video in held],
        rates_hz=[math.nan if video.rate_hz is None else video.rate_hz for video in held],
        first_s=first_s,
        answer=wanted.answer,
        resamples=made.resamples,
        level=made.level,
        seed=made.seed,
    ).to_dict()


def feature_seconds(record: Mapping[str, str]) -> float | None:
    """Read how much sound one feature of a log-mel front end takes in, in seconds.

    None of any other extractor, and of sound that was joined to video: its frames are complete with the video's.

    Args:
        record: What a store says of the extractor of a stream.

    Example:
        >>> feature_seconds({"window_s": "0.025", "hop_s": "0.01", "patch_frames": "96"})
        0.975
    """
    if "align" in record:  # joined to the frames of other streams, at their times
        return None
    try:
        window, hop, frames = (float(record[name]) for name in ("window_s", "hop_s", "patch_frames"))
    except (KeyError, ValueError):
        return None
    seconds = round((frames - 1) * hop + window, 9)
    return seconds if 0 < seconds < math.inf else None


def evaluate_details(
    videos: Iterable[VideoScores],
    *,
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    settings: DetailSettings | None = None,
) -> dict[str, Any]:
    """Compute the further keys of a report from the scores of all videos.

    Args:
        videos: Scores, labels, scored frames and rate, one entry per video; all are held.
        class_names: The C names, each once.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        settings: How; the defaults if None.

    Returns:
        JSON-ready values: ``intervals``, ``portions``, ``segmental`` (None for labels of several classes a frame),
        ``starts`` (likewise), ``delay``, ``calibration``, ``warmup``, ``anticipation`` (None where nothing is
        predicted ahead). ``starts``, ``delay`` and ``anticipation`` are None where the rate of a video is unknown: not
        given, or no positive number. ``anticipation`` has those horizons that every video can be scored at: they
        lie at least half a frame ahead at its rate, and not beyond what the detector predicts, so one fast or slow
        video takes horizons from all. It is None where none is left. If all rates are equal, of several horizons that
        mean the same frame the one nearest to it is kept.

    Raises:
        ConfigError: The classes do not fit.
        ShapeError: A video has another number of classes.
        DataError: There is no video, or no frame is scored; a label is outside the classes, or a score is nan.

    Example:
        >>> from coadtr.data import VideoScores
        >>> one = VideoScores("v", np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]), np.array([True, True]), 5.0)
        >>> details = evaluate_details([one], class_names=["none", "run"], background=0)
        >>> details["segmental"], details["delay"]["median_s"]
        ({'edit': 1.0, 'f1': {'10': 1.0, '25': 1.0, '50': 1.0}}, 0.0)
    """
    settings = settings or DetailSettings()
    held = list(videos)
    labels, scores = [video.labels for video in held], [video.scores for video in held]
    masks = [video.scored for video in held]
    named: dict[str, Any] = {"class_names": class_names, "background": background, "ignored": ignored}
    everywhere = {**named, "scored": masks}
    if not any(mask.any() for mask in kept_frames(labels, num_classes=len(class_names), ignored=ignored, scored=masks)):
        raise DataError(f"no frame is scored in {len(held)} videos; check the split and the protocol")
    plain, calibrated = (
        portion_average_precision(labels, scores, **everywhere, calibrated=wanted) for wanted in (False, True)
    )
    several = any(part.ndim == 2 for part in labels)
    calibration = calibration_error(
        np.concatenate([part[mask] for part, mask in zip(labels, masks, strict=True)]),
        np.concatenate([part[mask] for part, mask in zip(scores, masks, strict=True)]),
        ignored=ignored,
    )
    return {
        "intervals": _intervals(labels, scores, everywhere, settings),
        "portions": {"mAP": list(plain.mean), "mcAP": list(calibrated.mean)},
        "segmental": None if several else segmental_scores(labels, scores, **everywhere).to_dict(),
        "starts": None if several else _starts(held, everywhere),
        "delay": _delay(held, everywhere, settings),
        "calibration": None if calibration is None else calibration.to_dict(),
        "warmup": warmup_precision(labels, scores, **everywhere).to_dict(),
        "anticipation": _anticipation(held, labels, everywhere),
    }


def _intervals(
    labels: list[NDArray[Any]], scores: list[NDArray[Any]], everywhere: dict[str, Any], settings: DetailSettings
) -> dict[str, Any] | None:
    if settings.resamples == 0:
        return None
    found = bootstrap_precision(
        labels, scores, **everywhere, resamples=settings.resamples, level=settings.level, seed=settings.seed
    )
    return found.to_dict() if found.videos > 1 else None


def _rates(held: list[VideoScores]) -> list[float] | None:
    """Return frames a second of all videos, or None if that of one is unknown."""
    known = [video.rate_hz for video in held if video.rate_hz is not None]
    known = [rate for rate in known if math.isfinite(rate) and rate > 0]
    return known if len(known) == len(held) else None


def _starts(held: list[VideoScores], everywhere: dict[str, Any]) -> dict[str, Any] | None:
    rates = _rates(held)
    if rates is None:
        return None
    class_names = everywhere["class_names"]
    special = {role: everywhere[role] for role in ("background", "ignored", "scored")}
    return point_average_precision(
        action_starts([video.labels for video in held], num_classes=len(class_names), **special),
        detect_starts([video.scores for video in held], **special),
        rates_hz=rates,
        class_names=class_names,
        offsets_s=OFFSETS_S,
    ).to_dict()


def _delay(held: list[VideoScores], everywhere: dict[str, Any], settings: DetailSettings) -> dict[str, Any] | None:
    rates = _rates(held)
    if rates is None:
        return None
    allowed = settings.false_positives_per_hour
    labels, scores = [video.labels for video in held], [video.scores for video in held]
    return detection_delay(labels, scores, **everywhere, rates_hz=rates, false_positives_per_hour=allowed).to_dict()


def _anticipation(
    held: list[VideoScores], labels: list[NDArray[Any]], everywhere: dict[str, Any]
) -> dict[str, Any] | None:
    ahead, rates = [video.ahead for video in held if video.ahead is not None], _rates(held)
    if len(ahead) < len(held) or rates is None:
        return None
    # Horizons that cannot be scored at every rate are left out, not guessed.
    reach = list(zip(ahead, rates, strict=True))
    horizons = [
        at
        for at in HORIZONS_S
        if all(at * rate >= 0.5 and frames_ahead(at, rate) <= part.shape[1] for part, rate in reach)
    ]
    if len(set(rates)) == 1:
        far_first = sorted(horizons, key=lambda at: -abs(at * rates[0] - frames_ahead(at, rates[0])))
        horizons = sorted({frames_ahead(at, rates[0]): at for at in far_first}.values())
    if not horizons:
        return None
    return anticipation_average_precision(labels, ahead, rates_hz=rates, horizons_s=horizons, **everywhere).to_dict()
