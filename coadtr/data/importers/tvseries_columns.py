"""What the columns of a TVSeries annotation pickle are: it carries no names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from coadtr.data.importers.problems import raise_problems
from coadtr.data.importers.tvseries_text import match_name
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from coadtr.data.importers.session_lists import SessionLists

__all__ = ["ORDERS", "Columns", "columns_of", "reorder"]

ORDERS: Final = ("published", "alphabetical", "cooadtr")


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of an annotation are.

    Attributes:
        names: Name of the class of each column.
        shared: Whether the first column also marks frames without any action, and the last is not used.
    """

    names: tuple[str, ...]
    shared: bool = False


def columns_of(order: str, lists: SessionLists, folder: Path) -> Columns:
    """Return what the columns are in a named order.

    CoOadTR's parser (data/tvseries_parser.py) numbers the 30 actions by name from 0, and then sets column 0 where no
    action is; so that column is the first action and the background at once, and column 30 is never set.

    Args:
        order: One of `ORDERS`, or a text file with one class name a line.
        lists: The list file.
        folder: Where to look for that text file.

    Raises:
        ConfigError: If there is no such order or file.
        DataError: If the names in the file are not those of the list.

    Example:
        >>> from coadtr.data.importers.session_lists import SessionLists
        >>> lists = SessionLists(
        ...     dataset="X", class_names=("background", "Write", "Eat"), train=(), test=(), rate_hz=None, ignored=None,
        ...     background=0,
        ... )
        >>> columns_of("alphabetical", lists, None).names, columns_of("cooadtr", lists, None).names
        (('background', 'Eat', 'Write'), ('Eat', 'Write'))
    """
    background = () if lists.background is None else (lists.class_names[lists.background],)
    actions = tuple(sorted((name for name in lists.class_names if name not in background), key=str.casefold))
    if order == "published":
        return Columns(lists.class_names)
    if order == "alphabetical":
        return Columns(background + actions)
    if order == "cooadtr":
        return Columns(actions, shared=True)
    path = folder / order
    if not path.is_file():
        raise ConfigError(
            f"class_order={order!r}: use one of {', '.join(ORDERS)}, or a file with one class name a line"
        )
    try:
        written = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise DataError(f"{path}: is no text ({error}): give one class name a line") from error
    return Columns(_matched(path, written, lists))


def _matched(path: Path, written: list[str], lists: SessionLists) -> tuple[str, ...]:
    problems, names = [], []
    for row, text in enumerate(written, start=1):
        index = match_name(text, lists.class_names)
        if isinstance(index, str):
            problems.append(f"row {row}: class {text!r} is not on the list: the nearest known name is {index!r}")
        else:
            names.append(lists.class_names[index])
    missing = [name for name in lists.class_names if name not in names]
    if not problems and (missing or len(names) != len(lists.class_names)):
        problems.append(f"lists {len(names)} classes, without {missing}: give all {len(lists.class_names)} once each")
    raise_problems(path, problems)
    return tuple(names)


def reorder(labels: NDArray[np.uint8], columns: Columns, lists: SessionLists) -> tuple[str | None, NDArray[np.uint8]]:
    """Put the columns of an annotation into the order of the list file.

    Args:
        labels: ``(T, C)`` zeros and ones.
        columns: What its columns are.
        lists: The list file.

    Returns:
        What is wrong with it, or none, and the ``(T, C)`` labels in the order of the list.

    Example:
        >>> from coadtr.data.importers.session_lists import SessionLists
        >>> lists = SessionLists(
        ...     dataset="X", class_names=("background", "Write", "Eat"), train=(), test=(), rate_hz=None, ignored=None,
        ...     background=0,
        ... )
        >>> columns = Columns(("background", "Eat", "Write"))
        >>> reorder(np.array([[0, 1, 0], [1, 0, 0]], np.uint8), columns, lists)[1].tolist()
        [[0, 0, 1], [1, 0, 0]]
    """
    ordered = np.zeros_like(labels)
    for column, name in enumerate(columns.names):
        ordered[:, lists.class_names.index(name)] = labels[:, column]
    if not columns.shared or lists.background is None:
        return None, ordered
    used = np.flatnonzero(labels[:, -1])
    if used.size:
        return f"last column is set at frame {used[0]}, where class_order=cooadtr has none: name another order", ordered
    others = labels[:, 1:].any(axis=1)
    ordered[:, lists.class_names.index(columns.names[0])] = labels[:, 0] & others
    ordered[:, lists.background] = labels[:, 0] & ~others
    return None, ordered
