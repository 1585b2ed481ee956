"""Collect what is wrong with a source, so that one run tells it all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coadtr.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["raise_problems"]


def raise_problems(source: Path, problems: Iterable[str], *, most: int = 20) -> None:
    """Raise one `SourceError` that lists ``problems`` on one line; return if there are none.

    Args:
        source: File or folder that has them.
        problems: One sentence each, naming video, field, value and remedy.
        most: How many to spell out.

    Raises:
        SourceError: If there is a problem.

    Example:
        >>> from pathlib import Path
        >>> raise_problems(Path("a.npz"), ["field 'fps' is missing"])
        Traceback (most recent call last):
        coadtr.errors.SourceError: a.npz: field 'fps' is missing
    """
    every = list(problems)
    if not every:
        return
    raise SourceError(source, every, most=most)
