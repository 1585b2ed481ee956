"""Prove on the data at hand that no answer depends on what comes after it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import CausalityError, ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from coadtr.evaluation.replay import ReplayVideo

__all__ = ["CausalityAudit", "audit_causality"]

_LOUD = 10.0  # noise of ten times the features' own spread: what leaks through a small weight shows


@dataclass(frozen=True, kw_only=True)
class CausalityAudit:
    """What an audit looked at, having found nothing.

    Attributes:
        videos: Videos that were perturbed.
        frames: Frames after which the future was perturbed.
        answers: Answers that were compared.
        perturbations: What the future was replaced by.
        largest_change: Largest change of an earlier score when the future was replaced; always 0.
        largest_change_at_end: Largest change of a score when the video ended right after its frame.
        tolerance: What was allowed there and below: another length is another shape of the same sums.
        largest_difference_from_steps: Largest difference of a score from what single steps answer; None if the answers
            came from single steps.
    """

    videos: int
    frames: int
    answers: int
    perturbations: tuple[str, ...]
    largest_change: float
    largest_change_at_end: float
    tolerance: float
    largest_difference_from_steps: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {**asdict(self), "perturbations": list(self.perturbations)}


def audit_causality(
    answer: Callable[[NDArray[Any]], NDArray[Any]],
    videos: Sequence[ReplayVideo],
    *,
    frames: int = 16,
    most_videos: int = 4,
    stepped: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> CausalityAudit:
    """Replace the future of sampled frames, answer again, and fail if any earlier score moves.

    After each sampled frame t the features are replaced in two ways: by loud noise, and by the video's own
    frames in another order. The scores of the frames 0 .. t have to stay the same, bit for bit. Then the video
    is cut off after t, and the scores of its frames have to stay the same within ``tolerance``, which finds what
    depends on the length of the video alone. Where answers are made many at a time, they are held against those of
    single steps.

    Args:
        answer: Maps features ``(T, D)`` of a whole video to scores ``(T, C)``, the way the evaluation does, with
            all that it does to scores.
        videos: The videos to sample from.
        frames: How many frames to sample in all, at least 1; the first and the last but one of each sampled video are
            always among them.
        most_videos: How many videos to sample.
        stepped: What the same detector answers frame by frame, if ``answer`` works in another way.
        tolerance: Largest change of a score that is allowed when the video ends after the frame, and largest
            difference from ``stepped``.
        seed: Seed of the sample and of the noise.

    Returns:
        What was looked at.

    Raises:
        ConfigError: ``frames`` or ``most_videos`` is below 1.
        DataError: No video has two frames, so there is no future to replace.
        CausalityError: A score moved; names the video, the frame and what was done to its future. Or the answers are
            not those of single steps.

    Example:
        >>> from coadtr.evaluation import ReplayVideo
        >>> video = ReplayVideo("v", np.random.default_rng(0).normal(size=(30, 2)), np.zeros(30, dtype=int))
        >>> audit_causality(lambda features: np.cumsum(features, axis=0), [video]).largest_change
        0.0
        >>> try:
        ...     audit_causality(lambda features: features - features.mean(axis=0), [video])
        ... except CausalityError as error:
        ...     print(str(error).partition(" by ")[0])
        video 'v': the score of frame 0 changed
    """
    if frames < 1 or most_videos < 1:
        raise ConfigError(f"frames={frames}, most_videos={most_videos}: audit at least 1 frame of 1 video")
    random = np.random.default_rng(seed)
    long = [video for video in videos if len(video.labels) > 1]
    if not long:
        raise DataError("no video has two frames: there is no future to replace; audit longer videos")
    chosen = [long[index] for index in sorted(random.permutation(len(long))[:most_videos])]
    compared, sampled, at_end, apart = 0, 0, 0.0, 0.0
    for video in chosen:
        features = np.asarray(video.features() if callable(video.features) else video.features)
        whole = answer(features)
        if stepped is not None:
            apart = max(apart, _difference_from_steps(video.name, whole, stepped(features), tolerance))
        for frame in _sample(len(features), -(-frames // len(chosen)), random):
            for what, changed in _futures(features, frame, random):
                _compare(video.name, whole, answer(changed), frame, what)
            change = np.abs(answer(features[: frame + 1]) - whole[: frame + 1]).max()
            if not change <= tolerance:
                raise CausalityError(
                    f"video {video.name!r}: a score of frames 0 to {frame} changed by {change:.3g} when the video "
                    f"ended there: the detector knows how long it is, or what comes; answer each frame from its past"
                )
            at_end = max(at_end, float(change))
            compared, sampled = compared + 3 * (frame + 1), sampled + 1
    return CausalityAudit(
        videos=len(chosen),
        frames=sampled,
        answers=compared,
        perturbations=("noise", "shuffled", "ended"),
        largest_change=0.0,
        largest_change_at_end=at_end,
        tolerance=tolerance,
        largest_difference_from_steps=None if stepped is None else apart,
    )


def _difference_from_steps(name: str, whole: NDArray[Any], steps: NDArray[Any], tolerance: float) -> float:
    difference = np.abs(whole - steps).max(axis=1)
    if not difference.max() <= tolerance:
        frame = int(np.flatnonzero(~(difference <= tolerance))[0])
        raise CausalityError(
            f"video {name!r}: the score of frame {frame} is {difference[frame]:.3g} away from what single steps "
            "answer: what was evaluated is not the stream; replay with mode=step"
        )
    return float(difference.max())


def _sample(length: int, frames: int, random: np.random.Generator) -> list[int]:
    """Choose frames that have a future: the first, the last but one, and others at random."""
    inner = random.permutation(np.arange(1, max(1, length - 2)))[: max(0, frames - 2)]
    return sorted({0, length - 2, *inner.tolist()})


def _futures(features: NDArray[Any], frame: int, random: np.random.Generator) -> list[tuple[str, NDArray[Any]]]:
    future = slice(frame + 1, None)
    noisy, shuffled = features.copy(), features.copy()  # the past keeps its bits
    spread = float(np.std(features, dtype=np.float64)) or 1.0
    limit = np.finfo(features.dtype).max if np.issubdtype(features.dtype, np.floating) else np.iinfo(features.dtype).max
    noisy[future] = random.normal(0, _LOUD * spread, noisy[future].shape).clip(-limit, limit)
    shuffled[future] = random.permutation(features[future])[:, ::-1]
    return [("noise", noisy), ("its own frames, shuffled", shuffled)]


def _compare(name: str, whole: NDArray[Any], again: NDArray[Any], frame: int, what: str) -> None:
    moved = np.flatnonzero((whole[: frame + 1] != again[: frame + 1]).any(axis=1))
    if moved.size:
        first = int(moved[0])
        change = float(np.abs(whole[first] - again[first]).max())
        raise CausalityError(
            f"video {name!r}: the score of frame {first} changed by {change:.3g} when the frames after {frame} were "
            f"replaced by {what}: the detector looks ahead; answer each frame from what came before it"
        )
