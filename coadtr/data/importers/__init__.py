"""Importers: other layouts of features and labels into a feature store, by name of the layout."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from coadtr.data.importers.exercises import import_exercises
from coadtr.data.importers.oadtr import import_oadtr
from coadtr.data.importers.sequence_npz import import_sequence_npz
from coadtr.data.schema import listing
from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["IMPORTERS", "import_features"]

IMPORTERS: Final[Mapping[str, Callable[..., Path]]] = MappingProxyType(
    {
        "sequence-npz": import_sequence_npz,
        "oadtr": import_oadtr,
        "exercises": import_exercises,
    }
)


def import_features(
    format: str,  # noqa: A002 - the word of the command line
    source: str | Path | None,
    out: str | Path,
    **options: Any,
) -> Path:
    """Import features and labels of a known layout into a feature store.

    Args:
        format: Name of the layout, a key of `IMPORTERS`.
        source: File or folder to import; none for ``exercises``, which comes with a package.
        out: Feature store to write.
        **options: Options of the importer, as its function documents them.

    Returns:
        The path of the store.

    Raises:
        ConfigError: If the layout or an option is unknown, or an option has no sensible value.
        DataError: If the source is not what the layout asks for. Nothing is left behind.
        MissingExtraError: If the layout needs a package that is not installed.

    Example:
        >>> import_features("tarball", "clips.tar", "clips.h5")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: unknown format 'tarball': use one of 'sequence-npz', 'oadtr', 'exercises'
    """
    if format not in IMPORTERS:
        raise ConfigError(f"unknown format {format!r}: use one of {listing(IMPORTERS)}")
    importer = IMPORTERS[format]
    parameters = inspect.signature(importer).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ConfigError(f"format {format!r} has no option {unknown[0]!r}: its options are {listing(known)}")
    if source is None and format != "exercises":
        raise ConfigError(f"format {format!r} needs a source: give source=PATH")
    return importer(None if source is None else Path(source), Path(out), **options)
