"""Collect what is wrong with a source, so that one run tells it all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["raise_problems"]


def raise_problems(source: Path, problems: Iterable[str], *, most: int = 20) -> None:
    """Raise one `DataError` that lists ``problems`` on one line; return if there are none.

    Args:
        source: File or folder that has them.
        problems: One sentence each, naming video, field, value and remedy.
        most: How many to spell out.

    Raises:
        DataError: If there is a problem.

    Example:
        >>> from pathlib import Path
        >>> raise_problems(Path("a.npz"), ["field 'fps' is missing"])
        Traceback (most recent call last):
        coadtr.errors.DataError: a.npz: field 'fps' is missing
    """
    every = list(problems)
    if not every:
        return
    rest = f"; and {len(every) - most} more" if len(every) > most else ""
    raise DataError(f"{source}: {'; '.join(every[:most])}{rest}")
