"""Share videos out over train, validation and test, where the source says nothing or not all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coadtr.data.splits import choose_validation
from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["complete_splits"]

# An attribute of a store has room for so many names.
_NAMED: Final = 500


def complete_splits(
    names: Iterable[str],
    given: Mapping[str, str],
    *,
    test_fraction: float,
    validation_fraction: float,
    seed: int,
    source: Path | None = None,
    remedy: str = "",
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
    for split, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise ConfigError(
                f"{split}_fraction={fraction!r}: give a number between 0 and 1, such as 0.15, or 0 for none"
            )
    splits = {name: given.get(name, "train") for name in names}
    wanted = [split for split, fraction in fractions.items() if fraction and split not in splits.values()]
    where, told = "" if source is None else f"{source}: ", dict[str, object]()
    for place, split in enumerate(wanted):
        training = [name for name, of in splits.items() if of == "train"]
        needed = 1 + len(wanted) - place
        if len(training) < needed:
            none = " or ".join(f"{other}_fraction=0" for other in wanted[place:])
            raise ConfigError(
                f"{where}{len(training)} videos are left to train on and to choose {' and '.join(wanted[place:])} "
                f"videos from, and at least {needed} are needed: add videos, {remedy + ', ' if remedy else ''}"
                f"or say {none}"
            )
        chosen = choose_validation(training, fraction=fractions[split], seed=seed)
        if len(training) - len(chosen) < needed - 1:
            raise ConfigError(
                f"{where}{split}_fraction={fractions[split]} leaves {len(training) - len(chosen)} of {len(training)} "
                "videos to train and validate on: choose a smaller one"
            )
        splits |= dict.fromkeys(chosen, split)
        told[split] = {
            "fraction": fractions[split],
            "seed": seed,
            "videos": sorted(chosen)[:_NAMED],
            "count": len(chosen),
        }
    return splits, told
