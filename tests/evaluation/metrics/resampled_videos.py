"""Random short videos, and the plain way to score a resample of them: frames written out, a video drawn twice twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from coadtr.evaluation.metrics.accuracy import accuracy
from coadtr.evaluation.metrics.ranking import mean_average_precision, per_frame_average_precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = ["none", "run", "jump", "unclear"]
ACTIONS: dict[str, Any] = {"class_names": NAMES, "background": 0, "ignored": 3}


class Video(NamedTuple):
    name: str
    scores: NDArray[np.float64]
    labels: NDArray[Any]
    scored: NDArray[np.bool_]


def make_videos(seed: int, *, videos: int = 5, multi_hot: bool = False, ties: bool = True) -> list[Video]:
    """Return short videos with ties in their scores, frames that are not scored, and often a class missing."""
    random = np.random.default_rng(seed)
    made = []
    for index in range(videos):
        frames = int(random.integers(1, 12))
        labels = random.integers(2, size=(frames, 4)) if multi_hot else random.integers(4, size=frames)
        scores = random.integers(5, size=(frames, 4)) / 4 if ties else random.random((frames, 4))
        made.append(Video(f"video_{index}", scores, labels, random.random(frames) < 0.8))
    made[0].scored[:] = True
    made[0].labels[0] = np.eye(4, dtype=int)[1] if multi_hot else 1
    return made


def split(videos: list[Video]) -> tuple[list[Any], list[Any], list[Any]]:
    return [v.labels for v in videos], [v.scores for v in videos], [v.scored for v in videos]


def obvious(videos: list[Video], drawn: NDArray[np.int64]) -> dict[str, float]:
    """Write out the frames of one resample, a video drawn twice twice, and score them the plain way."""
    repeated = [video for video, times in zip(videos, drawn, strict=True) for _ in range(times)]
    labels = np.concatenate([video.labels[video.scored] for video in repeated])
    scores = np.concatenate([video.scores[video.scored] for video in repeated])
    found = {"accuracy": accuracy(labels, scores, ignored=3)}
    for key, calibrated in (("mAP", False), ("mcAP", True)):
        per_class = per_frame_average_precision(labels, scores, **ACTIONS, calibrated=calibrated)
        found[key] = mean_average_precision(per_class) if per_class else float("nan")
        found |= {f"{key} {name}": per_class.get(name, float("nan")) for name in ("run", "jump")}
    return found


def written_out_interval(
    values: list[float], estimate: float, left_out: list[float], level: float, within: tuple[float, float]
) -> tuple[float, float]:
    """Stretch the middle of the values of all resamples until they spread as those without one video each do."""
    known = [value for value in values if not np.isnan(value)]
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    mean = sum(left_out) / len(left_out)
    error = ((len(left_out) - 1) / len(left_out) * sum((value - mean) ** 2 for value in left_out)) ** 0.5
    stretch = max(1.0, error / (sum((value - np.mean(known)) ** 2 for value in known) / len(known)) ** 0.5)
    low, high = estimate - stretch * (estimate - low), estimate + stretch * (high - estimate)
    return max(low, within[0]), min(high, within[1])
