"""Import the embedded data set `exercises`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from coadtr.data.exercises import SPLIT_OF, STREAMS, describe, load_recordings, locate_recordings, subject_stream
from coadtr.data.importers.plan import ImportPlan, PlannedVideo, VideoArrays
from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["plan_exercises"]

_RATE_HZ = 5.0


def plan_exercises(source: Path | None, *, seed: int = 0) -> ImportPlan:
    """Plan the import of the smartwatch recordings that come with the package ``seglearn``.

    Args:
        source: None; the recordings are found in the installed package.
        seed: Seed of the order in which each subject's recordings are joined.

    Returns:
        What is to be imported: one untrimmed stream a subject, split by subject.

    Raises:
        MissingExtraError: If the package is not installed.
        ConfigError: If a source is given, or the seed is negative.
        DataError: If the data file is damaged.

    Example:
        >>> from pathlib import Path
        >>> plan_exercises(Path("elsewhere"))
        Traceback (most recent call last):
        coadtr.errors.ConfigError: source=elsewhere: exercises come with the package seglearn, drop source
    """
    if source is not None:
        raise ConfigError(f"source={source}: exercises come with the package seglearn, drop source")
    if seed < 0:
        raise ConfigError(f"seed={seed!r}: give 0 or a positive whole number")
    path = locate_recordings()
    recordings = load_recordings(path)

    def read(subject: int) -> VideoArrays:
        features, labels = subject_stream(recordings, subject, seed=seed)
        return {"imu": features}, labels

    return ImportPlan(
        source=path,
        class_names=recordings.class_names,
        background=None,
        ignored=None,
        streams=STREAMS,
        attributes=describe(seed),
        videos=tuple(
            PlannedVideo(name=f"subject_{subject:02d}", split=split, rate_hz=_RATE_HZ, read=partial(read, subject))
            for subject, split in SPLIT_OF.items()
        ),
        files=(path,),
        label_kind="index",
    )
