"""A progress bar on standard error, for people only."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["progress"]

ItemT = TypeVar("ItemT")


def progress(items: Iterable[ItemT], *, total: int, description: str) -> Iterator[ItemT]:
    """Yield ``items``, with a progress bar if standard error is a terminal.

    Args:
        items: What to go through.
        total: How many there are.
        description: What is being done, in a word or two.

    Yields:
        The items, unchanged.

    Example:
        >>> list(progress("ab", total=2, description="import"))
        ['a', 'b']
    """
    if not sys.stderr.isatty():
        yield from items
        return
    yield from track(items, description=description, total=total, console=Console(stderr=True), transient=True)
