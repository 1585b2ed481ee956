"""Settings by their full names, in messages of code that does not know the groups that they are in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from coadtr.errors import ConfigError

__all__ = ["full_names", "in_full", "named_in_full"]


def full_names(groups: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Give each setting of some groups its full name; one of the same name as another is left out.

    Args:
        groups: Names of the groups, and the settings of each; those of a group inside a group are found too.

    Example:
        >>> full_names({"model": ["window", "kind"], "trainer": {"seed": 0, "loss": {"kind": "focal", "gamma": 2.0}}})
        {'window': 'model.window', 'seed': 'trainer.seed', 'loss': 'trainer.loss', 'gamma': 'trainer.loss.gamma'}
    """
    found: dict[str, list[str]] = {}
    for name, full in _members(groups):
        found.setdefault(name, []).append(full)
    return {name: full[0] for name, full in found.items() if len(full) == 1}


def in_full(text: str, names: Mapping[str, str]) -> str:
    """Write settings in a message by their full names.

    A setting is known by ``NAME=``, by ``NAME must be`` and ``NAME is`` at the start, and in arithmetic:
    ``NAME - NAME`` and ``a multiple of NAME``. Elsewhere the word may be meant.

    Args:
        text: The message.
        names: Full name of each setting.

    Example:
        >>> in_full("window must be a whole number of at least 1, got 0", {"window": "model.window"})
        'model.window must be a whole number of at least 1, got 0'
    """
    if not names:
        return text
    name = rf"({'|'.join(map(re.escape, names))})\b"
    # Not inside other names, paths, quoted values, or settings that have their group already.
    alone = rf"(?<![\w./,'\"-]){name}(?==|\ -\ )|^{name}(?=\ must\ (?:not\ )?be\b|\ is\b)"
    operand = rf"(?:(?<=\ a\ multiple\ of\ )|(?<=\w\ -\ )){name}(?![.=/])"
    return re.sub(f"{alone}|{operand}", lambda found: names[found[0]], text)


@contextmanager
def named_in_full(groups: Mapping[str, Iterable[str]]) -> Iterator[None]:
    """Raise the `ConfigError` of code that takes some groups of settings with their full names in it.

    Args:
        groups: As in `full_names`.

    Example:
        >>> with named_in_full({"trainer": ["max_epochs"]}):
        ...     raise ConfigError("max_epochs must be a whole number of at least 1, got 0")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: trainer.max_epochs must be a whole number of at least 1, got 0
    """
    try:
        yield
    except ConfigError as error:
        error.args = (in_full(str(error), full_names(groups)),)
        raise


def _members(groups: Mapping[str, Iterable[str]], before: str = "") -> Iterator[tuple[str, str]]:
    for group, members in groups.items():
        for name in members:
            yield name, f"{before}{group}.{name}"
            if isinstance(members, Mapping) and isinstance(members[name], Mapping):
                yield from _members({name: members[name]}, f"{before}{group}.")
