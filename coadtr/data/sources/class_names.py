"""Find classes by name, whatever the case of letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coadtr.data.storage.schema import listing

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["alike_warnings", "find_class"]


def find_class(name: str, names: Sequence[str]) -> int | None:
    """Return the index of a class: of that very name, or else of one that differs in case only; none if there is none.

    Args:
        name: Name as a user writes it.
        names: Names of the classes.

    Example:
        >>> find_class("background", ["Rest", "Background"]), find_class("rest", ["Rest", "rest"])
        (1, 1)
    """
    if name in names:
        return names.index(name)
    return next((index for index, known in enumerate(names) if _plain(known) == _plain(name)), None)


def alike_warnings(names: Sequence[str]) -> list[str]:
    """Return one warning for each group of names that differ in case only: they may be one class.

    Args:
        names: Names of the classes.

    Example:
        >>> alike_warnings(["Cut", "mix", "cut"])
        ["classes 'Cut', 'cut' differ only in case: give them one spelling if they are one class"]
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_plain(name), []).append(name)
    return [
        f"classes {listing(group)} differ only in case: give them one spelling if they are one class"
        for group in groups.values()
        if len(group) > 1
    ]


def _plain(name: str) -> str:
    return name.strip().casefold()
