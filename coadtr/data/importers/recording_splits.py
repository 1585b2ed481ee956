"""Splits of recordings that have a class each: lists that users supply, or a seeded choice out of every class."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.data.importers.seeded_splits import check_fractions
from coadtr.data.storage.schema import SPLITS, listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coadtr.data.sources.named_files import NamedFiles

__all__ = ["read_split_lists", "stratified_splits"]


def read_split_lists(
    lists: Mapping[str, Any], files: NamedFiles, folder: Path
) -> tuple[dict[Path, str], dict[str, Path], list[str]]:
    """Read lists of file names, one a line; empty lines and those that begin with ``#`` are left out.

    Args:
        lists: Path of the list of each split; relative to the working folder, or to ``folder``.
        files: The files that the lists name.
        folder: Folder of the files.

    Returns:
        The split of each file that is listed, the list of each split, and the problems of the others.

    Raises:
        ConfigError: If a split is unknown, or no list is of the training split.
        DataError: If a list is missing or no text.

    Example:
        >>> from coadtr.data.sources.named_files import NamedFiles
        >>> read_split_lists({"test": "test.txt"}, NamedFiles(Path("a"), [], ()), Path("a"))
        Traceback (most recent call last):
        coadtr.errors.ConfigError: splits has no list of the split train: give splits={train: FILE, test: FILE}
    """
    given = {split: text for split, text in lists.items() if text is not None}
    for split, text in given.items():
        if split not in SPLITS:
            raise ConfigError(f"splits={{{split}: ...}}: unknown split, use {listing(SPLITS)}")
        if not isinstance(text, str):
            raise ConfigError(f"splits={{{split}: {text!r}}}: give the path of a list of file names")
    if "train" not in given:
        raise ConfigError("splits has no list of the split train: give splits={train: FILE, test: FILE}")
    found: dict[Path, str] = {}
    paths, problems = dict[str, Path](), list[str]()
    for split, text in given.items():
        path = paths[split] = Path(text) if Path(text).exists() else folder / text
        for number, line in enumerate(_lines(path), start=1):
            name = line.partition("\t")[0].strip()
            if not name or name.startswith("#"):
                continue
            try:
                file = files.find(name)
            except DataError as error:
                problems.append(f"{path.name}, line {number}: {error}")
                continue
            if found.setdefault(file, split) != split:
                other = f"{name!r} is also in the list of {found[file]}: a recording is in one split, drop one"
                problems.append(f"{path.name}, line {number}: {other}")
    return found, paths, problems


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path}: no such file: give a list of file names, one a line")
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start}): give a list of file names") from error


def stratified_splits(
    labels: Mapping[str, str],
    given: Mapping[str, str],
    *,
    test_fraction: float,
    validation_fraction: float,
    seed: int,
) -> tuple[dict[str, str], dict[str, object], list[str]]:
    """Give every recording a split: the one given, or a seeded choice that takes the same part of every class.

    The choice in a class depends on the names of its recordings alone.

    Args:
        labels: Class of each recording.
        given: Splits that are known; a split that any recording has is not chosen for.
        test_fraction: Part of each class set aside for testing; 0 for none.
        validation_fraction: Part of what is left of each class set aside for validation; 0 for none.
        seed: Seed of both choices.

    Returns:
        The split of every recording, the attributes that tell of the choice, and warnings of classes that are too
        small for it.

    Raises:
        ConfigError: If a fraction or the seed is out of range.

    Example:
        >>> labels = {f"{label}{index}": label for label in ("cat", "dog") for index in range(10)}
        >>> splits, told, _ = stratified_splits(labels, {}, test_fraction=0.2, validation_fraction=0.25, seed=0)
        >>> [name for name, split in splits.items() if split == "test"]
        ['cat4', 'cat9', 'dog1', 'dog6']
    """
    fractions = {"test": test_fraction, "validation": validation_fraction}
    check_fractions(fractions)
    if seed < 0:
        raise ConfigError(f"seed={seed!r}: give 0 or a positive whole number")
    splits = {name: given.get(name, "train") for name in labels}
    wanted = [split for split, fraction in fractions.items() if fraction and split not in given.values()]
    warnings = list[str]()
    for label in sorted(set(labels.values())):
        for place, split in enumerate(wanted):
            members = sorted(name for name, of in labels.items() if of == label and splits[name] == "train")
            count = max(1, round(fractions[split] * len(members)))
            if len(members) - count < 1:
                warnings.append(
                    f"class {label!r} has {len(members)} recordings to train on, none is set aside: {split}"
                )
                continue
            rng = np.random.default_rng([seed, place, zlib.crc32(label.encode())])
            splits |= {members[index]: split for index in rng.permutation(len(members))[:count]}
    told: dict[str, object] = {
        split: {"fraction": fractions[split], "seed": seed, "of": "each class"} for split in wanted
    }
    return splits, told, warnings
