"""Import the Free Spoken Digit Dataset: one recording a digit, to be classified as it is heard."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.data.importers.plan import ImportPlan, PlannedVideo, VideoArrays
from coadtr.data.sources.sounds import STREAM, choose_front_end, features_of_samples
from coadtr.data.sources.spoken_digits import DIGITS, find_spoken_digits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["plan_fsdd"]


def plan_fsdd(
    source: Path,
    *,
    front_end: str = "telephone",
    log_mel: Mapping[str, Any] | None = None,
    validation_takes: int = 5,
) -> ImportPlan:
    """Plan the import of the spoken digits as recordings to classify (Jackson et al., FSDD 1.0.10).

    Every utterance is a video whose frames all have its digit; there is no background. The official test split is
    takes 0 to 4 of each digit and speaker.

    Args:
        source: Folder of ``{digit}_{speaker}_{index}.wav``, or ``fsdd.npz``; see `find_spoken_digits`.
        front_end: Preset of the log-mel front end, see `coadtr.audio.log_mel_preset`.
        log_mel: Settings of the front end that differ from the preset.
        validation_takes: Takes after the test's that validate; 0 for none.

    Returns:
        What is to be imported.

    Raises:
        DataError: If the source is missing, damaged, or not in the layout; all problems in one message.
        ConfigError: If an option is out of range.

    Example:
        >>> from pathlib import Path
        >>> plan_fsdd(Path("nowhere.npz"))
        Traceback (most recent call last):
        coadtr.errors.DataError: nowhere.npz: no such file or folder: give the folder of recordings, or fsdd.npz
    """
    chosen = choose_front_end(front_end, log_mel)
    digits = find_spoken_digits(source)
    splits = digits.splits(validation_takes)
    split_of = {place: split for split, places in splits.items() for place in places}

    def read(place: int) -> VideoArrays:
        samples, rate = digits.read(place)
        features = features_of_samples(samples, rate, chosen)
        return {STREAM: features}, np.full(len(features), digits.utterances[place].digit)

    warnings = [
        f"no utterance is in the split {split}"
        for split, places in splits.items()
        if not places and (split != "validation" or validation_takes)
    ]
    return ImportPlan(
        source=source,
        class_names=DIGITS,
        background=None,
        ignored=None,
        streams={STREAM: chosen.dim},
        attributes={
            "task": "audio",
            "origin": f"Free Spoken Digit Dataset, {source.name}",
            "label_rule": "the digit of the recording that the frame belongs to",
            "test": "takes 0 to 4, as published",
            "validation": {"takes": validation_takes, "first": 5},
            "extractors": {STREAM: chosen.describe()},
        },
        videos=tuple(
            PlannedVideo(
                name=utterance.name,
                split=split_of[place],
                rate_hz=chosen.feature_rate_hz,
                read=partial(read, place),
            )
            for place, utterance in enumerate(digits.utterances)
        ),
        files=digits.files,
        warnings=tuple(warnings),
        label_kind="index",
    )
