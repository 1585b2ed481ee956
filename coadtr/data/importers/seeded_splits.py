"""Share videos out over train, validation and test, where the source says nothing or not all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coadtr.data.importers.problems import raise_problems
from coadtr.data.splits import choose_validation
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["check_fractions", "complete_splits", "table_splits"]

# An attribute of a store has room for so many names.
_NAMED: Final = 500


def check_fractions(fractions: Mapping[str, float]) -> None:
    """Check the part of the videos that is set aside for each split.

    Raises:
        ConfigError: If one is not in [0, 1).

    Example:
        >>> check_fractions({"test": 1.5})
        Traceback (most recent call last):
        coadtr.errors.ConfigError: test_fraction=1.5: give a number between 0 and 1, such as 0.15, or 0 for none
    """
    for split, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise ConfigError(
                f"{split}_fraction={fraction!r}: give a number between 0 and 1, such as 0.15, or 0 for none"
            )


def complete_splits(
    names: Iterable[str],
    given: Mapping[str, str],
    *,
    test_fraction: float,
    validation_fraction: float,
    seed: int,
    source: Path | None = None,
    remedy: str = "",
    subject: str = "video",
) -> tuple[dict[str, str], dict[str, object]]:
    """Give every video a split: the one given, or a seeded choice.

    Test videos are chosen only where none is given, and validation videos likewise, out of those left for training.

    Args:
        names: Names of all videos.
        given: Splits that the source gives.
        test_fraction: Part of the videos set aside for testing; 0 for none.
        validation_fraction: Part of the training videos set aside for validation; 0 for none.
        seed: Seed of both choices.
        source: File or folder that gives the videos, for messages.
        remedy: How that may give the splits, for messages, such as ``"add a column split"``.
        subject: What a name is of, for messages.

    Returns:
        The split of every video, and the attributes ``test`` and ``validation`` that tell of a choice.

    Raises:
        ConfigError: If a fraction or the seed is out of range, or so few videos cannot be shared out.

    Example:
        >>> splits, told = complete_splits("abcdefgh", {}, test_fraction=0.25, validation_fraction=0.2, seed=0)
        >>> sorted(splits.values()), told["test"]["fraction"]
        (['test', 'test', 'train', 'train', 'train', 'train', 'train', 'validation'], 0.25)
    """
    fractions = {"test": test_fraction, "validation": validation_fraction}
    check_fractions(fractions)
    splits = {name: given.get(name, "train") for name in names}
    wanted = [split for split, fraction in fractions.items() if fraction and split not in splits.values()]
    where, told = "" if source is None else f"{source}: ", dict[str, object]()
    for place, split in enumerate(wanted):
        training = [name for name, of in splits.items() if of == "train"]
        needed = 1 + len(wanted) - place
        if len(training) < needed:
            none = " or ".join(f"{other}_fraction=0" for other in wanted[place:])
            raise ConfigError(
                f"{where}{len(training)} {subject}s are left to train on and to choose {' and '.join(wanted[place:])} "
                f"{subject}s from, and at least {needed} are needed: add {subject}s, "
                f"{remedy + ', ' if remedy else ''}"
                f"or say {none}"
            )
        chosen = choose_validation(training, fraction=fractions[split], seed=seed)
        if len(training) - len(chosen) < needed - 1:
            raise ConfigError(
                f"{where}{split}_fraction={fractions[split]} leaves {len(training) - len(chosen)} of {len(training)} "
                f"{subject}s to train and validate on: choose a smaller one"
            )
        splits |= dict.fromkeys(chosen, split)
        told[split] = {
            "fraction": fractions[split],
            "seed": seed,
            "videos": sorted(chosen)[:_NAMED],
            "count": len(chosen),
        }
    return splits, told


def table_splits(
    names: Sequence[str],
    given: Mapping[str, str],
    *,
    test_fraction: float,
    validation_fraction: float,
    seed: int,
    source: Path,
    problems: Sequence[str],
    subject: str = "video",
) -> tuple[dict[str, str], dict[str, object], list[str]]:
    """Give everything that a table is of a split: the table's, or a seeded choice of what it does not give.

    Who names any split has chosen what to test on. Where every video has a split, and some validate but none trains,
    as in THUMOS14, those that validate train.

    Args:
        names: Names of all videos or files.
        given: Splits that the table gives.
        test_fraction: Part set aside for testing, where the table gives no split at all; 0 for none.
        validation_fraction: Part of the training videos set aside for validation; 0 for none.
        seed: Seed of both choices.
        source: The table, for messages.
        problems: What is known to be wrong with it: told where too few are left, as that is the likely reason.
        subject: What a name is of, ``video`` or ``file``.

    Returns:
        The split of each name, the attributes that tell of a choice, and warnings.

    Raises:
        ConfigError: If a fraction or the seed is out of range, or so few cannot be shared out.
        DataError: If so few cannot be, and there are problems.

    Example:
        >>> from pathlib import Path
        >>> options = {"test_fraction": 0.2, "validation_fraction": 0.0, "seed": 0, "problems": []}
        >>> splits, _, warnings = table_splits(["a", "b"], {"b": "test"}, source=Path("segments.csv"), **options)
        >>> splits, *warnings
        ({'a': 'train', 'b': 'test'}, "1 videos have no split and train: 'a'")
    """
    check_fractions({"test": test_fraction, "validation": validation_fraction})
    warnings = list[str]()
    if without := [name for name in names if given and name not in given]:
        warnings.append(f"{len(without)} {subject}s have no split and train: {listing(without)}")
    elif "train" not in given.values() and "validation" in given.values():
        told = f"the table has no training {subject}s: its validation {subject}s train, as is done with THUMOS14"
        warnings.append(told)
        given = {name: "train" if split == "validation" else split for name, split in given.items()}
    try:
        splits, choice = complete_splits(
            names,
            given,
            test_fraction=0.0 if given else test_fraction,
            validation_fraction=validation_fraction,
            seed=seed,
            source=source,
            remedy="add a column split (subset in JSON)",
            subject=subject,
        )
    except ConfigError:
        raise_problems(source, problems)
        raise
    if given and "validation" in choice:
        chosen = listing(name for name in names if splits[name] == "validation")
        warnings.append(f"no validation {subject} is given: {chosen} is taken from the training {subject}s by seed")
    return splits, choice, warnings
