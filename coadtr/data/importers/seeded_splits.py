"""Share videos out over train, validation and test, where the source says nothing or not all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coadtr.data.splits import choose_validation
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
) -> tuple[dict[str, str], dict[str, object]]:
    """Give every video a split: the one given, or a seeded choice.

    Test videos are chosen only where none is given, and validation videos likewise, out of those left for training.

    Args:
        names: Names of all videos.
        given: Splits that the source gives.
        test_fraction: Part of the videos set aside for testing; 0 for none.
        validation_fraction: Part of the training videos set aside for validation; 0 for none.
        seed: Seed of both choices.

    Returns:
        The split of every video, and the attributes ``test`` and ``validation`` that tell of a choice.

    Raises:
        ConfigError: If a fraction or the seed is out of range, or so few videos cannot be shared out.

    Example:
        >>> splits, told = complete_splits("abcdefgh", {}, test_fraction=0.25, validation_fraction=0.2, seed=0)
        >>> sorted(splits.values()), told["test"]["fraction"]
        (['test', 'test', 'train', 'train', 'train', 'train', 'train', 'validation'], 0.25)
    """
    splits = {name: given.get(name, "train") for name in names}
    told: dict[str, object] = {}
    for split, fraction in (("test", test_fraction), ("validation", validation_fraction)):
        if split in splits.values() or fraction == 0:
            continue
        training = [name for name, of in splits.items() if of == "train"]
        try:
            chosen = choose_validation(training, fraction=fraction, seed=seed)
        except DataError as error:
            raise ConfigError(
                f"{split}_fraction={fraction}: {len(training)} videos are left to choose from, and at least 2 are "
                f"needed: add videos, or say {split}_fraction=0 for no {split} split"
            ) from error
        except ConfigError as error:
            raise ConfigError(str(error).replace("validation_fraction", f"{split}_fraction")) from error
        splits |= dict.fromkeys(chosen, split)
        told[split] = {"fraction": fraction, "seed": seed, "videos": sorted(chosen)[:_NAMED], "count": len(chosen)}
    return splits, told
