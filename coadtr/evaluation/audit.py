"""Test on the data at hand that no answer depends on what comes after it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from coadtr.errors import CausalityError, ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from coadtr.evaluation.replay import ReplayVideo

__all__ = ["CausalityAudit", "Tolerance", "audit_causality"]

_LOUD = 10.0  # noise of ten times the features' own spread: what leaks through a small weight shows
_SIDE_BY_SIDE = 16  # versions of a video that are answered at once
_LONGEST = 512  # frames of a video that are looked at; bounds memory


class Tolerance(NamedTuple):
    """How far two scores of one frame may lie apart that come from sums of other shapes."""

    absolute: float = 1e-7
    relative: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class CausalityAudit:
    """What an audit looked at, having found nothing.

    Attributes:
        videos: Videos that were perturbed.
        cuts: Frames after which the future was replaced.
        every_cut_of: Frames at the start of each video after every one of which it was replaced.
        perturbations: What the future was replaced by.
        largest_change: Largest change of an earlier score when the future was replaced; always 0.
        largest_change_at_end: Largest change of a score when the video ended right after its frame.
        largest_difference_from_steps: Largest difference of a score from what single steps answer; None if the answers
            came from single steps.
        tolerance: What was allowed for the last two, see `audit_causality`.
    """

    videos: int
    cuts: int
    every_cut_of: int
    perturbations: tuple[str, ...]
    largest_change: float
    largest_change_at_end: float
    largest_difference_from_steps: float | None
    tolerance: Tolerance

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            **asdict(self),
            "perturbations": list(self.perturbations),
            "tolerance": {"absolute": self.tolerance.absolute, "relative": self.tolerance.relative},
        }


def audit_causality(
    answer: Callable[[Sequence[NDArray[Any]]], Sequence[NDArray[Any]]],
    videos: Sequence[ReplayVideo],
    *,
    every_cut_of: int = 32,
    further_cuts: int = 4,
    most_videos: int = 4,
    stepped: Callable[[Sequence[NDArray[Any]]], Sequence[NDArray[Any]]] | None = None,
    tolerance: Tolerance | None = None,
    seed: int = 0,
) -> CausalityAudit:
    """Replace the future of a video, answer again, and fail if any earlier score moves.

    After a cut at frame t the features are replaced in two ways: by loud noise, and by the video's own frames
    in another order. The scores of the frames 0 .. t have to stay the same, bit for bit. Many versions of a
    video are answered side by side, each cut elsewhere, and held against as many whole ones: rows that leak into
    each other show too. Cut is

    - the start of each sampled video (its first ``every_cut_of`` frames, answered as a video of that length) after
      every frame, so that even an answer that uses the next frame alone, once, is found there;
    - the whole video (its first 512 frames) after some frames, the first and the last but one among them.

    Then the video ends after these frames: the scores have to stay the same within ``tolerance``, which finds what
    depends on the length alone. Answers made many at a time are held against those of single steps within it.

    It is a test by samples: a detector that looks ahead rarely, and only later than the first frames, can pass.

    Args:
        answer: Maps features ``(T, D)`` of several videos of one length, to be answered side by side, to scores
            ``(T, ...)``, the way the evaluation does, with all that it does to scores. A detector that keeps something
            from call to call has to be made anew in each.
        videos: The videos to sample from.
        every_cut_of: Frames at the start of each video after every one of which it is cut.
        further_cuts: Cuts of each whole video, at least 2.
        most_videos: How many videos to sample.
        stepped: What the same detector answers frame by frame, if ``answer`` works in another way.
        tolerance: How far scores may lie apart where the shape of the sums is another; the defaults are for float32.
        seed: Seed of the sample and of the noise.

    Returns:
        What was looked at.

    Raises:
        ConfigError: ``most_videos`` is below 1, or ``every_cut_of`` or ``further_cuts`` is below 2.
        DataError: No video has two frames, so there is no future to replace.
        CausalityError: A score moved; names the video, the frame and what was done to its future. Or the answers are
            not those of single steps.

    Example:
        >>> from coadtr.evaluation import ReplayVideo
        >>> video = ReplayVideo("v", np.random.default_rng(0).normal(size=(30, 2)), np.zeros(30, dtype=int))
        >>> audit_causality(lambda found: [np.cumsum(one, axis=0) for one in found], [video]).largest_change
        0.0
        >>> try:
        ...     audit_causality(lambda found: [one - one.mean(axis=0) for one in found], [video])
        ... except CausalityError as error:
        ...     print(str(error).partition(" by ")[0])
        video 'v': the score of frame 0 changed
    """
    if most_videos < 1 or every_cut_of < 2 or further_cuts < 2:
        raise ConfigError(
            f"most_videos={most_videos}, every_cut_of={every_cut_of}, further_cuts={further_cuts}: "
            "audit at least 1 video and 2 cuts"
        )
    random = np.random.default_rng(seed)
    long = [video for video in videos if len(video.labels) > 1]
    if not long:
        raise DataError("no video has two frames: there is no future to replace; audit longer videos")
    chosen = [long[index] for index in sorted(random.permutation(len(long))[:most_videos])]
    allowed = tolerance or Tolerance()
    cuts, at_end, apart = 0, 0.0, 0.0
    for video in chosen:
        features = np.asarray(video.features() if callable(video.features) else video.features)[:_LONGEST]
        if not (np.issubdtype(features.dtype, np.floating) or np.issubdtype(features.dtype, np.integer)):
            raise DataError(f"video {video.name!r}: features have dtype {features.dtype}; give real numbers")
        start = features[:every_cut_of]
        look = _Look(video.name, answer, random)
        look.compare(start, range(len(start) - 1))
        sampled = _sample(len(features), further_cuts, random)
        look.compare(features, sampled)
        cuts += len(start) - 1 + len(sampled)
        (whole,) = answer([features])
        at_end = max(at_end, *(look.ended(features, whole, frame, allowed) for frame in sampled))
        if stepped is not None:
            (steps,) = stepped([features])
            apart = max(apart, look.beside(whole, steps, allowed))
    return CausalityAudit(
        videos=len(chosen),
        cuts=cuts,
        every_cut_of=every_cut_of,
        perturbations=("noise", "shuffled", "ended"),
        largest_change=0.0,
        largest_change_at_end=at_end,
        largest_difference_from_steps=None if stepped is None else apart,
        tolerance=allowed,
    )


@dataclass(frozen=True)
class _Look:
    """Perturb one video."""

    name: str
    answer: Callable[[Sequence[NDArray[Any]]], Sequence[NDArray[Any]]]
    random: np.random.Generator

    def compare(self, features: NDArray[Any], cuts: Sequence[int]) -> None:
        """Fail if a score moves when the future of any of the cuts is replaced."""
        futures = [(cut, what) for cut in cuts for what in (_noise, _shuffle)]
        whole: Sequence[NDArray[Any]] = ()
        for first in range(0, len(futures), _SIDE_BY_SIDE):
            part = futures[first : first + _SIDE_BY_SIDE]
            changed = [what(features, cut, self.random) for cut, what in part]
            # The perturbed ones go first: what a detector settles on at its first call is not the truth.
            moved = self.answer(changed)
            if len(whole) != len(part):  # as many rows: the shape of the sums is the same
                whole = self.answer([features] * len(part))
            for (cut, what), after, before in zip(part, moved, whole, strict=True):
                self._unmoved(before, after, cut, "noise" if what is _noise else "its own frames, shuffled")

    def _unmoved(self, before: NDArray[Any], after: NDArray[Any], cut: int, what: str) -> None:
        moved = np.flatnonzero(_rows(before[: cut + 1]) != _rows(after[: cut + 1]))
        if moved.size:
            first = int(moved[0]) // _rows(before).shape[1]
            change = float(np.abs(before[first] - after[first]).max())
            raise CausalityError(
                f"video {self.name!r}: the score of frame {first} changed by {change:.3g} when the frames after {cut} "
                f"were replaced by {what}: the detector looks ahead; answer each frame from what came before it"
            )

    def ended(self, features: NDArray[Any], whole: NDArray[Any], cut: int, allowed: Tolerance) -> float:
        """Fail if a score moves when the video ends after a cut; return the largest change."""
        (short,) = self.answer([features[: cut + 1]])
        return self._within(
            whole[: cut + 1],
            short,
            allowed,
            f"when the video ends after frame {cut}: the detector knows how long it is, or what comes; "
            "answer each frame from its past",
        )

    def beside(self, whole: NDArray[Any], steps: NDArray[Any], allowed: Tolerance) -> float:
        """Fail if the answers are not those of single steps; return the largest difference."""
        return self._within(
            steps,
            whole,
            allowed,
            "from what single steps answer: what was evaluated is not the stream; replay with mode=step",
        )

    def _within(self, wanted: NDArray[Any], found: NDArray[Any], allowed: Tolerance, fault: str) -> float:
        difference = np.abs(wanted - found)
        wrong = ~(difference <= allowed.absolute + allowed.relative * np.abs(wanted))
        if wrong.any():
            frame = int(np.argwhere(wrong)[0][0])
            off = float(difference[frame].max())
            raise CausalityError(f"video {self.name!r}: the score of frame {frame} is off by {off:.3g} {fault}")
        return float(difference.max())


def _rows(scores: NDArray[Any]) -> NDArray[Any]:
    return scores.reshape(len(scores), -1)


def _sample(length: int, cuts: int, random: np.random.Generator) -> list[int]:
    """Choose frames that have a future: the first, the last but one, and others at random."""
    inner = random.permutation(np.arange(1, max(1, length - 2)))[: cuts - 2]
    return sorted({0, length - 2, *inner.tolist()})


def _noise(features: NDArray[Any], cut: int, random: np.random.Generator) -> NDArray[Any]:
    noisy = features.copy()  # the past keeps its bits
    spread = float(np.std(features, dtype=np.float64)) or 1.0
    floating = np.issubdtype(features.dtype, np.floating)
    limits = np.finfo(features.dtype) if floating else np.iinfo(features.dtype)
    future = noisy[cut + 1 :]
    future[:] = random.normal(0, _LOUD * spread, future.shape).clip(limits.min, limits.max)
    return noisy


def _shuffle(features: NDArray[Any], cut: int, random: np.random.Generator) -> NDArray[Any]:
    shuffled = features.copy()
    shuffled[cut + 1 :] = random.permutation(features[cut + 1 :])[:, ::-1]
    return shuffled
