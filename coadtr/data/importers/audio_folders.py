"""Import recordings of sound that lie in a folder for each class: GTZAN, and what users have."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from coadtr.data.importers.plan import ImportPlan, PlannedVideo, VideoArrays
from coadtr.data.importers.problems import raise_problems
from coadtr.data.importers.recording_splits import read_split_lists, stratified_splits
from coadtr.data.sources.feature_files import FeatureFile
from coadtr.data.sources.named_files import NamedFiles, recording_names
from coadtr.data.sources.rate_options import check_rate
from coadtr.data.sources.sounds import (
    AUDIO_SUFFIXES,
    STREAM,
    choose_front_end,
    features_of_file,
    files_below,
    readable,
)
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coadtr.audio import LogMel

__all__ = ["check_damaged", "plan_audio_folders"]

_EMBEDDINGS: Final = (".npy",)
_SPLIT_FOLDERS: Final = {"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"}


def check_damaged(damaged: str) -> Literal["error", "skip"]:
    """Return what is to be done about files that cannot be read.

    Raises:
        ConfigError: If it is neither ``error`` nor ``skip``.

    Example:
        >>> check_damaged("skip")
        'skip'
    """
    choices: tuple[Literal["error", "skip"], ...] = ("error", "skip")
    for choice in choices:
        if damaged == choice:
            return choice
    raise ConfigError(f"damaged={damaged!r}: use one of {listing(choices)}")


def plan_audio_folders(
    source: Path,
    *,
    front_end: str = "vggish",
    log_mel: Mapping[str, Any] | None = None,
    rate_hz: float | None = None,
    splits: Mapping[str, Any] | None = None,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.15,
    damaged: str = "error",
    seed: int = 0,
) -> ImportPlan:
    """Plan the import of recordings in a folder for each class, to be classified as they are heard.

    The classes are the folders, in the order of their names; hidden files are left out. Every recording is a video
    whose frames all have its class; there is no background. Without ``splits``, a seeded choice takes the same part
    of each class.

    Args:
        source: Folder of folders with sound files, or with embeddings ``(T, D)`` as ``.npy`` files.
        front_end: Preset of the log-mel front end, see `coadtr.audio.log_mel_preset`.
        log_mel: Settings of the front end that differ from the preset.
        rate_hz: Embeddings a second, for ``.npy`` files.
        splits: Paths of lists of file names, by split; recordings in none are left out.
        test_fraction: Part of each class to test on, without ``splits``; 0 for none.
        validation_fraction: Part of the training recordings of each class to validate on, unless a list gives them.
        damaged: What is done about files that cannot be read: ``error``, or ``skip`` to leave them out.
        seed: Seed of both choices.

    Returns:
        What is to be imported.

    Raises:
        DataError: If the folder is missing, or lists name files that are not there; all problems in one message.
        ConfigError: If an option is out of range.

    Example:
        >>> from pathlib import Path
        >>> plan_audio_folders(Path("nowhere"))
        Traceback (most recent call last):
        coadtr.errors.DataError: nowhere: no such folder: give one with a folder of sound files for each class
    """
    on_damage = check_damaged(damaged)
    if rate_hz is not None:
        check_rate("rate_hz", rate_hz, told="the embeddings a second of .npy files")
    chosen = choose_front_end(front_end, log_mel)
    labels, warnings = _recordings(source)
    embedded = _embedded(source, labels, rate_hz)
    names = recording_names(list(labels), source)
    given: dict[Path, str] = {}
    lists: dict[str, Path] = {}
    problems = list[str]()
    if splits:
        given, lists, problems = read_split_lists(
            splits, NamedFiles(source, labels, (*AUDIO_SUFFIXES, *_EMBEDDINGS)), source
        )
        if unlisted := [names[path] for path in labels if path not in given]:
            warnings.append(f"{len(unlisted)} recordings are in no list and are left out: {listing(unlisted)}")
        labels = {path: label for path, label in labels.items() if path in given}
    chosen_splits, told, faults = stratified_splits(
        {names[path]: label for path, label in labels.items()},
        {names[path]: split for path, split in given.items()},
        test_fraction=0.0 if splits else test_fraction,  # who names splits has chosen what to test on
        validation_fraction=validation_fraction,
        seed=seed,
    )
    if splits and "validation" in told:
        faults.append(
            "no list gives validation recordings: they are taken from each class of the training ones by seed"
        )
    classes = tuple(sorted(set(labels.values())))
    rate = chosen.feature_rate_hz if rate_hz is None else rate_hz
    width = _width(labels, problems) if embedded else chosen.dim
    read = _read_embeddings if embedded else partial(_read_sound, chosen)
    return ImportPlan(
        source=source,
        class_names=classes,
        background=None,
        ignored=None,
        streams={STREAM: width},
        attributes={
            "task": "audio",
            "origin": f"recordings of {source.name}, a folder for each class",
            "label_rule": "the class of the recording that the frame belongs to",
            **({"lists": {split: path.name for split, path in lists.items()}} if splits else {}),
            **told,
            **({} if embedded else {"extractors": {STREAM: chosen.describe()}}),
        },
        videos=tuple(
            PlannedVideo(
                name=names[path],
                split=chosen_splits[names[path]],
                rate_hz=rate,
                read=partial(read, path, classes.index(label)),
            )
            for path, label in labels.items()
        ),
        files=(*labels, *lists.values()),
        problems=tuple(problems),
        warnings=(*warnings, *faults),
        damaged=on_damage,
        label_kind="index",
    )


def _recordings(source: Path) -> tuple[dict[Path, str], list[str]]:
    """Return the class of each file, and what a user should know of the folder."""
    if not source.is_dir():
        raise DataError(f"{source}: no such folder: give one with a folder of sound files for each class")
    suffixes, warnings = (*AUDIO_SUFFIXES, *_EMBEDDINGS), list[str]()
    labels: dict[Path, str] = {}
    entries = [path for path in sorted(source.iterdir()) if not path.name.startswith(".")]
    for folder in filter(Path.is_dir, entries):
        files = list(files_below(folder, suffixes))
        labels |= dict.fromkeys(files, folder.name)
        if not files:
            warnings.append(f"folder {folder.name!r} holds no sound file and is no class: remove it, or add files")
    if loose := [path.name for path in entries if path.is_file() and path.suffix.lower() in AUDIO_SUFFIXES]:
        warnings.append(f"{len(loose)} files are in no folder of a class and are left out: {listing(loose)}")
    if labels and {label.lower() for label in labels.values()} <= _SPLIT_FOLDERS:
        told = listing(sorted(set(labels.values())))
        remedy = "put the folders of the classes into one, and say with lists which file is in which split"
        raise_problems(source, [f"its folders {told} are splits, not classes: {remedy}"])
    if not labels:
        raise_problems(source, ["holds no folder with sound files: give the folder of the folders of the classes"])
    return labels, warnings


def _embedded(source: Path, labels: Mapping[Path, str], rate_hz: float | None) -> bool:
    """Return whether the recordings are embeddings; all of them are, or none."""
    arrays = [path for path in labels if path.suffix.lower() in _EMBEDDINGS]
    if arrays and len(arrays) < len(labels):
        raise_problems(
            source,
            [f"holds {len(arrays)} .npy files and {len(labels) - len(arrays)} sound files: keep those of one kind"],
        )
    if arrays and rate_hz is None:
        raise ConfigError("rate_hz must be given: the embeddings a second of .npy files")
    if not arrays and rate_hz is not None:
        raise ConfigError(f"rate_hz={rate_hz!r}: is for .npy files, and there are none: drop rate_hz")
    return bool(arrays)


def _width(files: Sequence[Path] | Mapping[Path, str], problems: list[str]) -> int:
    """Return the channels of the first embedding that can be read; those of others are checked as they are read."""
    for path in files:
        try:
            return max(1, FeatureFile(path).width)
        except DataError:  # told when it is read
            continue
    problems.append("no .npy file can be read: give embeddings (T, D)")
    return 1


def _read_sound(front_end: LogMel, path: Path, label: int) -> VideoArrays:
    features, _seconds = features_of_file(path, front_end)
    return {STREAM: features}, np.full(len(features), label)


def _read_embeddings(path: Path, label: int) -> VideoArrays:
    with readable():
        features = FeatureFile(path).read()
    return {STREAM: features}, np.full(len(features), label)
