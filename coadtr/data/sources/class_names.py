"""Find classes by name, whatever the case of letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coadtr.data.sources.segments import nearest_name
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["alike_warnings", "class_roles", "find_class"]


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


def class_roles(
    names: tuple[str, ...], background: str | None, ignored: str | None
) -> tuple[tuple[str, ...], int | None, int | None]:
    """Return class names with the background among them, and the places of background and ignored class.

    Args:
        names: Names of the classes.
        background: Name of the background class, put first if it is not there; none for no background.
        ignored: Name of the class that is neither trained on nor scored, or none.

    Raises:
        ConfigError: If there is no class of the name ``ignored``.

    Example:
        >>> class_roles(("cut", "unclear"), "background", "Unclear")
        (('background', 'cut', 'unclear'), 0, 2)
    """
    if background is not None and find_class(background, names) is None:
        names = (background, *names)
    left_out = None if ignored is None else find_class(ignored, names)
    if ignored is not None and left_out is None:
        raise ConfigError(f"ignored={ignored!r} is no class of the table: {nearest_name(ignored, names)}")
    return names, None if background is None else find_class(background, names), left_out


def _plain(name: str) -> str:
    return name.strip().casefold()
