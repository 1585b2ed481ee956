"""Read CSV tables cell by cell, as text, so that a fault can be told by its row and column."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Final

import pandas as pd

from coadtr.data.storage.schema import listing
from coadtr.errors import DataError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ["read_text_table", "strict_rows"]

_FIRST_ROW: Final = 2


def strict_rows() -> AbstractContextManager[object]:
    """Let pandas raise `pandas.errors.ParserWarning` where it would cut rows that are longer than the heading.

    Example:
        >>> with strict_rows():
        ...     pass
    """
    return warnings.catch_warnings(action="error", category=pd.errors.ParserWarning)


def _refuse_other_separator(path: Path, separator: str) -> None:
    """Say so if the heading is parted by something else, as spreadsheets in many countries do."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        heading = file.readline()
    found = [other for other in ",;\t" if other in heading]
    if found and separator not in found:
        raise DataError(
            f"has cells parted by {found[0]!r}: save it with {separator!r} between cells, and points in numbers"
        )


def read_text_table(path: Path, *, separator: str = ",") -> pd.DataFrame:
    """Read a table with a heading; nothing is guessed, all cells are text without blanks at their ends.

    Rows without any text are left out. Cells that a short row lacks are empty.

    Args:
        path: The file, UTF-8 with or without a byte order mark.
        separator: What stands between cells.

    Returns:
        The table; its index is the number of each row in the file, the heading being row 1.

    Raises:
        DataError: If the file cannot be read as a table, or names a column twice; the caller adds the file.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text("x, label" + chr(10) + chr(10) + "007, rest" + chr(10))
        >>> read_text_table(path).loc[3].tolist()
        ['007', 'rest']
    """
    try:
        with strict_rows():
            table = pd.read_csv(
                path,
                sep=separator,
                header=None,
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
                index_col=False,
                skip_blank_lines=False,
            )
    except pd.errors.ParserWarning as error:
        raise DataError("has rows with more cells than its heading: quote cells that hold commas") from error
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except pd.errors.EmptyDataError as error:
        raise DataError("is empty: write a heading and one row a line") from error
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        _refuse_other_separator(path, separator)
        cells = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if cells:
            raise DataError(
                f"row {cells[2]} has {cells[3]} cells where the heading has {cells[1]}: "
                f"quote cells that hold {separator!r}"
            ) from error
        cause = " ".join(str(error).split())
        raise DataError(f"is not a table ({cause}): write one row a line, its cells parted by {separator!r}") from error
    _refuse_other_separator(path, separator)
    table = table.fillna("").apply(lambda column: column.str.strip())
    names = [str(name) for name in table.iloc[0]]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataError(f"column {twice[0]!r} is there twice (of {listing(names)}): name each column once")
    rows = table.iloc[1:]
    rows.columns = pd.Index(names)
    rows.index = pd.RangeIndex(_FIRST_ROW, len(rows) + _FIRST_ROW)
    filled: pd.DataFrame = rows[(rows != "").any(axis=1)]
    return filled
