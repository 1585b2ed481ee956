"""Import the embedded data set `exercises`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coadtr.data.exercises import write_exercises
from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["import_exercises"]


def import_exercises(source: Path | None, out: Path, *, seed: int = 0) -> Path:
    """Import the smartwatch recordings that come with the package ``seglearn``.

    Args:
        source: None; the recordings are found in the installed package.
        out: Feature store to write.
        seed: Seed of the order in which each subject's recordings are joined.

    Returns:
        The path of the store.

    Raises:
        MissingExtraError: If the package is not installed.
        ConfigError: If a source is given.
        DataError: If the data file is damaged.

    Example:
        >>> from pathlib import Path
        >>> import_exercises(Path("elsewhere"), Path("out.h5"))
        Traceback (most recent call last):
        coadtr.errors.ConfigError: source=elsewhere: exercises come with the package seglearn, drop source
    """
    if source is not None:
        raise ConfigError(f"source={source}: exercises come with the package seglearn, drop source")
    return write_exercises(out, seed=seed)
