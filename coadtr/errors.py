"""Errors that coadtr raises on purpose: one tree, so that one ``except`` catches them all.

::

    CoadtrError
    ├── ConfigError          a setting is unknown, out of range or at odds with another
    ├── DataError            a file of features or labels is not what it should be
    │   ├── SchemaError      not a feature store, or one of another schema version
    │   └── UnsafeFileError  a file asks for more than data (a pickle that imports something)
    ├── CheckpointError      an exported checkpoint is damaged, or does not fit what it meets
    ├── ShapeError           a tensor has another shape than the documented one
    ├── TrainingError        training cannot go on, for instance because the loss is not finite
    └── MissingExtraError    an optional dependency is not installed

Every message names the offending value and says what to do about it. The command line prints the message
as one line and leaves with a non-zero exit code; ``--debug`` adds the traceback.
"""

__all__ = [
    "CheckpointError",
    "CoadtrError",
    "ConfigError",
    "DataError",
    "MissingExtraError",
    "SchemaError",
    "ShapeError",
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


class UnsafeFileError(DataError):
    """A file asks for more than data, for instance a pickle that imports a function."""


class CheckpointError(CoadtrError, ValueError):
    """An exported checkpoint is damaged, or does not fit the data or model that it meets."""


class ShapeError(CoadtrError, ValueError):
    """A tensor has another shape than the documented one."""


class TrainingError(CoadtrError, RuntimeError):
    """Training cannot go on, for instance because the loss is not finite."""


class MissingExtraError(CoadtrError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""
