"""Errors that coadtr raises on purpose: one tree, so that one ``except`` catches them all.

::

    CoadtrError
    ├── ConfigError          a setting is unknown, out of range or at odds with another
    ├── DataError            a file of features or labels is not what it should be
    │   ├── SchemaError      not a feature store, or one of another schema version
    │   ├── SourceError      a source of data has problems; lists them all
    │   ├── DamagedError     a recording cannot be read to its end
    │   ├── StorageError     the disk refused what was to be written
    │   └── UnsafeFileError  a file asks for more than data (a pickle that imports something)
    ├── CheckpointError      an exported checkpoint is damaged, or does not fit what it meets
    ├── ShapeError           a tensor has another shape than the documented one
    ├── TrainingError        training cannot go on, for instance because the loss is not finite
    ├── CausalityError       an answer depends on what comes after it
    └── MissingExtraError    an optional dependency is not installed

Every message names the offending value and says what to do about it. The command line prints the message
as one line and leaves with a non-zero exit code; ``--debug`` adds the traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CausalityError",
    "CheckpointError",
    "CoadtrError",
    "ConfigError",
    "DamagedError",
    "DataError",
    "MissingExtraError",
    "SchemaError",
    "ShapeError",
    "SourceError",
    "StorageError",
    "TrainingError",
    "UnsafeFileError",
]


class CoadtrError(Exception):
    """Root of all errors that coadtr raises on purpose."""


class ConfigError(CoadtrError, ValueError):
    """A setting is unknown, out of range, or at odds with another setting."""


class DataError(CoadtrError, ValueError):
    """A file of features or labels is missing, damaged, or not what it should be."""


class SchemaError(DataError):
    """A file is not a coadtr feature store, or one of another schema version."""


class SourceError(DataError):
    """A source of data has problems.

    Args:
        source: File or folder that has them.
        problems: One sentence each, naming place, value and remedy.
        most: How many the message spells out.

    Attributes:
        problems: All of them.

    Example:
        >>> error = SourceError("a.csv", ["row 2: no label: give one", "row 9: no label: give one"], most=1)
        >>> str(error), len(error.problems)
        ('a.csv: row 2: no label: give one; and 1 more (dry_run=true prints all)', 2)
    """

    def __init__(self, source: object, problems: Iterable[str], *, most: int = 20) -> None:
        self.source, self.problems, self.most = str(source), tuple(problems), most
        more = len(self.problems) - most
        rest = f"; and {more} more (dry_run=true prints all)" if more > 0 else ""
        super().__init__(f"{self.source}: {'; '.join(self.problems[:most])}{rest}")

    def __reduce__(self) -> tuple[type[SourceError], tuple[str, tuple[str, ...]]]:
        """Return what makes an equal error, so that it crosses to another process."""
        return type(self), (self.source, self.problems)


class DamagedError(DataError):
    """A recording cannot be read to its end, or is too short to be of use: an import may leave it out."""


class StorageError(DataError):
    """A file could not be written: the disk is full, or the folder may not be written."""


class UnsafeFileError(DataError):
    """A file asks for more than data, for instance a pickle that imports a function."""


class CheckpointError(CoadtrError, ValueError):
    """An exported checkpoint is damaged, or does not fit the data or model that it meets."""


class ShapeError(CoadtrError, ValueError):
    """A tensor has another shape than the documented one."""


class TrainingError(CoadtrError, RuntimeError):
    """Training cannot go on, for instance because the loss is not finite."""


class CausalityError(CoadtrError, RuntimeError):
    """An answer depends on frames that come after it: the detector is not online."""


class MissingExtraError(CoadtrError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""
