"""Importers: other layouts of features and labels into a feature store, by name of the layout."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from coadtr.data.importers.engine import ImportReport, carry_out
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coadtr.data.importers.plan import ImportPlan

__all__ = ["IMPORTERS", "ImportReport", "import_features", "planner"]

# Module and function of each layout; a module is loaded when its layout is asked for.
_PLANNERS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "audio-csv": ("audio_csv", "plan_audio_csv"),
        "audio-folders": ("audio_folders", "plan_audio_folders"),
        "csv": ("segment_table", "plan_segment_table"),
        "exercises": ("exercises", "plan_exercises"),
        "fsdd": ("fsdd", "plan_fsdd"),
        "fsdd-stream": ("fsdd_stream", "plan_fsdd_stream"),
        "lstr": ("lstr", "plan_lstr"),
        "oadtr": ("oadtr", "plan_oadtr"),
        "sequence-npz": ("sequence_npz", "plan_sequence_npz"),
        "stream-csv": ("stream_csv", "plan_stream_csv"),
        "thumos14": ("thumos14", "plan_thumos14"),
        "tvseries": ("tvseries", "plan_tvseries"),
    }
)
IMPORTERS: Final = tuple(_PLANNERS)
"""Names of the layouts that can be imported."""


def planner(format: str) -> Callable[..., ImportPlan]:  # noqa: A002 - the word of the command line
    """Return the function that plans the import of a layout; its keyword arguments are the options of the layout.

    Args:
        format: Name of the layout.

    Raises:
        ConfigError: If there is none of that name.

    Example:
        >>> planner("lstr").__name__
        'plan_lstr'
    """
    if format not in _PLANNERS:
        raise ConfigError(f"unknown format {format!r}: use one of {listing(IMPORTERS)}")
    module, function = _PLANNERS[format]
    found: Callable[..., ImportPlan] = getattr(importlib.import_module(f"coadtr.data.importers.{module}"), function)
    return found


def import_features(
    format: str,  # noqa: A002 - the word of the command line
    source: str | Path | None,
    out: str | Path,
    *,
    align: str = "error",
    dry_run: bool = False,
    dtype: str | None = None,
    compression: str | None = None,
    **options: Any,
) -> ImportReport:
    """Import features and labels of a known layout into a feature store.

    An import that is interrupted goes on when it is called again.

    Args:
        format: Name of the layout, a key of `IMPORTERS`.
        source: File or folder to import; none for ``exercises``, which comes with a package.
        out: Feature store to write.
        align: ``'error'``: streams and labels of a video must have the same length; ``'trim'``: where they
            differ by at most 2 frames, all are cut to the shortest.
        dry_run: Read and check everything, and write nothing.
        dtype: Type to store features in, ``'float16'`` or ``'float32'``; none keeps that of the source.
        compression: ``'gzip'`` or ``'lzf'``, or none.
        **options: Options of the importer, as its function documents them.

    Returns:
        What was done: path of the store, its summary, warnings.

    Raises:
        ConfigError: If the layout or an option is unknown, or an option has no sensible value.
        DataError: If the source is not what the layout asks for; all problems in one message. Nothing is left behind.
        MissingExtraError: If the layout needs a package that is not installed.

    Example:
        >>> import_features("tarball", "clips.tar", "clips.h5")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: unknown format 'tarball': use one of 'audio-csv', 'audio-folders', 'csv', ...
    """
    plan_source = planner(format)
    parameters = tuple(inspect.signature(plan_source).parameters.values())
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ConfigError(f"format {format!r} has no option {unknown[0]!r}: its options are {listing(known)}")
    if source is None and format != "exercises":
        raise ConfigError(f"format {format!r} needs a source: give source=PATH")
    plan = plan_source(None if source is None else Path(source), **options)
    chosen = {parameter.name: options.get(parameter.name, parameter.default) for parameter in parameters}
    identity = f"{format} {[(name, chosen[name]) for name in known]!r}"
    return carry_out(
        plan, Path(out), identity=identity, align=align, dry_run=dry_run, dtype=dtype, compression=compression
    )
