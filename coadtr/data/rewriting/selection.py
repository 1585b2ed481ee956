"""Choose videos by name or pattern."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["matching"]


def matching(names: Sequence[str], patterns: Sequence[str], *, setting: str) -> tuple[str, ...]:
    """Return the names that are among ``patterns`` or match one, in their own order.

    Args:
        names: All names.
        patterns: Names, or patterns with ``*``, ``?`` and ``[...]`` as a shell has them.
        setting: What gave the patterns, for the message.

    Raises:
        ConfigError: If a pattern fits no name.

    Example:
        >>> matching(["P01_tea", "P02_tea", "P10_tea"], ["P0*"], setting="videos")
        ('P01_tea', 'P02_tea')
        >>> matching(["P01_tea"], ["P1*"], setting="videos")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: videos: 'P1*' fits no video: the videos are 'P01_tea'
    """
    known, chosen = set(names), set()
    for pattern in patterns:
        # A name may hold the characters that mean something in a pattern.
        found = {pattern} if pattern in known else {name for name in names if fnmatchcase(name, pattern)}
        if not found:
            raise ConfigError(f"{setting}: {pattern!r} fits no video: the videos are {listing(names)}")
        chosen |= found
    return tuple(name for name in names if name in chosen)
