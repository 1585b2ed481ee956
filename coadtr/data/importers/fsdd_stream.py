"""Import the Free Spoken Digit Dataset as untrimmed streams: utterances joined with gaps, a label for every frame."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from coadtr.data.importers.plan import ImportPlan, PlannedVideo, VideoArrays
from coadtr.data.sources.label_rules import Segment
from coadtr.data.sources.sound_labels import frame_offset, sound_labels
from coadtr.data.sources.sounds import STREAM, choose_front_end, features_of_samples
from coadtr.data.sources.spoken_digits import DIGITS, SpokenDigits, find_spoken_digits
from coadtr.data.storage.schema import SPLITS, listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from coadtr.audio import LogMel

__all__ = ["plan_fsdd_stream"]

_BACKGROUND: Final = "background"
_LONGEST_GAP_S: Final = 3600


class _Joining(NamedTuple):
    """How utterances become a stream."""

    digits: SpokenDigits
    front_end: LogMel
    gap_min_s: float
    gap_max_s: float
    noise_db: float | None
    frame_time: str
    seed: int

    def read(self, split: str, number: int, places: Sequence[int]) -> VideoArrays:
        """Join utterances with gaps before, between and after them; noise lies over all of it, so no edge is told."""
        rng = np.random.default_rng([self.seed, SPLITS.index(split), number])
        samples, rate, segments = self.join(rng, places)
        features = features_of_samples(samples, rate, self.front_end)
        labels = sound_labels(
            segments,
            frames=len(features),
            front_end=self.front_end,
            frame_time=self.frame_time,
            classes=1 + len(DIGITS),
            background=0,
        )
        return {STREAM: features}, labels.argmax(axis=1)

    def join(self, rng: np.random.Generator, places: Sequence[int]) -> tuple[NDArray[np.float32], int, list[Segment]]:
        """Return the samples of a stream, their rate, and when each digit is spoken."""
        blocks: list[NDArray[np.float32]] = []
        segments, rate, length = list[Segment](), 0, 0
        for place in places:
            samples, own_rate = self.digits.read(place)
            rate = rate or own_rate
            if own_rate != rate:
                raise DataError(
                    f"utterance {self.digits.utterances[place].name!r} has {own_rate} samples a second where others "
                    f"have {rate}: convert it"
                )
            gap = round(rng.uniform(self.gap_min_s, self.gap_max_s) * rate)
            begin = length + gap
            length = begin + len(samples)
            segments.append(Segment(begin / rate, length / rate, 1 + self.digits.utterances[place].digit))
            blocks += [np.zeros(gap, np.float32), samples]
        blocks.append(np.zeros(round(rng.uniform(self.gap_min_s, self.gap_max_s) * rate), np.float32))
        stream = np.concatenate(blocks)
        if self.noise_db is not None:
            stream += rng.standard_normal(len(stream), np.float32) * np.float32(10 ** (self.noise_db / 20))
        return stream, rate, segments


def plan_fsdd_stream(
    source: Path,
    *,
    front_end: str = "telephone",
    log_mel: Mapping[str, Any] | None = None,
    validation_takes: int = 5,
    utterances: int = 50,
    streams: Mapping[str, Any] | None = None,
    gap_min_s: float = 0.2,
    gap_max_s: float = 1.5,
    noise_db: float | None = -50.0,
    frame_time: str = "complete",
    seed: int = 0,
) -> ImportPlan:
    """Plan the import of the spoken digits as streams with gaps: online detection of key words.

    The utterances of a split are put in a seeded order, again and again where a split gets more streams than its
    utterances fill, and joined with gaps of random length. No utterance is in two splits. Frames between digits are
    ``background``; white noise lies over the whole stream.

    Args:
        source: Folder of ``{digit}_{speaker}_{index}.wav``, or ``fsdd.npz``; see `find_spoken_digits`.
        front_end: Preset of the log-mel front end, see `coadtr.audio.log_mel_preset`.
        log_mel: Settings of the front end that differ from the preset.
        validation_takes: Takes after the test's (0 to 4) that validate; 0 for none.
        utterances: Utterances in a stream.
        streams: Number of streams by split; null, or a split that is not named: each utterance is heard once.
        gap_min_s: Seconds of the shortest gap.
        gap_max_s: Seconds of the longest.
        noise_db: Level of the noise in decibels below full scale (root mean square); null for none.
        frame_time: The time that a frame stands for, ``complete`` or ``centre``; see `sound_labels`.
        seed: Seed of order, gaps and noise.

    Returns:
        What is to be imported.

    Raises:
        DataError: If the source is missing, damaged, or not in the layout; all problems in one message.
        ConfigError: If an option is out of range.

    Example:
        >>> from pathlib import Path
        >>> plan_fsdd_stream(Path("fsdd.npz"), gap_min_s=2.0)
        Traceback (most recent call last):
        coadtr.errors.ConfigError: gap_min_s=2.0, gap_max_s=1.5: give seconds, from 0 to 3600, the shorter first
    """
    _check(utterances, gap_min_s, gap_max_s, noise_db, seed)
    chosen = choose_front_end(front_end, log_mel)
    offset = frame_offset(chosen, frame_time)
    counts = _counts(streams)
    digits = find_spoken_digits(source)
    joining = _Joining(digits, chosen, gap_min_s, gap_max_s, noise_db, frame_time, seed)
    videos = [
        PlannedVideo(
            name=f"{split}_{number:03d}",
            split=split,
            rate_hz=chosen.feature_rate_hz,
            read=partial(joining.read, split, number, places),
        )
        for split, members in digits.splits(validation_takes).items()
        for number, places in enumerate(_share(members, utterances, counts.get(split), [seed, SPLITS.index(split)]))
    ]
    return ImportPlan(
        source=source,
        class_names=(_BACKGROUND, *DIGITS),
        background=0,
        ignored=None,
        streams={STREAM: chosen.dim},
        attributes={
            "origin": f"utterances of the Free Spoken Digit Dataset ({source.name}), joined with gaps",
            "label_rule": "centre",
            "frame_time": frame_time,
            "first_frame_s": offset,
            "test": "takes 0 to 4, as published",
            "validation": {"takes": validation_takes, "first": 5},
            "streams": {"utterances": utterances, "gap_s": [gap_min_s, gap_max_s], "noise_db": noise_db, "seed": seed},
            "extractors": {STREAM: chosen.describe()},
        },
        videos=tuple(videos),
        files=digits.files,
        label_kind="index",
    )


def _check(utterances: int, gap_min_s: float, gap_max_s: float, noise_db: float | None, seed: int) -> None:
    if utterances < 1:
        raise ConfigError(f"utterances={utterances}: give a positive whole number")
    if not 0 <= gap_min_s <= gap_max_s <= _LONGEST_GAP_S:
        raise ConfigError(
            f"gap_min_s={gap_min_s}, gap_max_s={gap_max_s}: give seconds, from 0 to {_LONGEST_GAP_S}, the shorter first"
        )
    if noise_db is not None and not -math.inf < noise_db <= 0:
        raise ConfigError(f"noise_db={noise_db}: give decibels below full scale, such as -50, or null for none")
    if seed < 0:
        raise ConfigError(f"seed={seed}: give 0 or a positive whole number")


def _counts(streams: Mapping[str, Any] | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for split, count in (streams or {}).items():
        if split not in SPLITS:
            raise ConfigError(f"streams={{{split}: {count!r}}}: unknown split, use {listing(SPLITS)}")
        if count is None:
            continue
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ConfigError(f"streams={{{split}: {count!r}}}: give a whole number of streams")
        found[split] = count
    return found


def _share(members: Sequence[int], utterances: int, count: int | None, seed: Sequence[int]) -> list[list[int]]:
    """Share utterances out over streams: all of them once, and again in another order where more are wanted."""
    if not members:
        return []
    wanted = len(members) if count is None else count * utterances
    rng = np.random.default_rng([*seed, len(SPLITS)])
    order = [int(place) for _ in range(-(-wanted // len(members))) for place in rng.permutation(np.asarray(members))]
    return [order[start : min(start + utterances, wanted)] for start in range(0, wanted, utterances)]
