"""Label the frames of extracted features by a table of segments, as ``coadtr data import format=csv`` does."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any, Self

from coadtr.data.importers.engine import carry_out
from coadtr.data.importers.problems import raise_problems
from coadtr.data.importers.segment_table import plan_segment_table
from coadtr.data.sources.segments import nearest_name, read_segments
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from coadtr.video.sources import Source

__all__ = ["Labelling"]

_TAKEN = ("features", "rate_hz")


@dataclasses.dataclass(frozen=True)
class Labelling:
    """A table of segments, checked as far as can be before there are features.

    Attributes:
        table: The file.
        options: Options of `plan_segment_table` but for the features and their rate.

    Example:
        >>> from pathlib import Path
        >>> Labelling(Path("segments.csv"), {}).features_path(Path("data/kitchen.h5")).name
        '.kitchen.features.h5'
    """

    table: Path
    options: Mapping[str, Any]

    @classmethod
    def read(cls, table: Path, options: Mapping[str, Any], sources: Sequence[Source]) -> Self:
        """Read the table and hold its videos against those that there are.

        Args:
            table: The file.
            options: Options of `plan_segment_table`.
            sources: The videos.

        Raises:
            DataError: If rows are unsound or name videos that are not there; all of it in one message.
            ConfigError: If an option is unknown.
        """
        parameters = inspect.signature(plan_segment_table).parameters.values()
        known = [item.name for item in parameters if item.kind is item.KEYWORD_ONLY and item.name not in _TAKEN]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise ConfigError(f"labels.{unknown[0]} is not an option: the options are {listing(known, most=20)}")
        chosen = {name: options[name] for name in ("unit", "fps", "classes") if name in options}
        found = read_segments(table, **chosen)
        problems, names = list(found.problems), [source.name for source in sources]
        if options.get("missing", "error") == "error":
            for name in found.segments:
                if name not in names:
                    near = nearest_name(name, names)
                    hint = f" ({near})" if near.startswith("did") else ""
                    problems.append(f"video {name!r} is not among the videos{hint}: add it, or say labels.missing=skip")
        raise_problems(table, problems)
        return cls(table, dict(options))

    def features_path(self, out: Path) -> Path:
        """Return where features wait for their labels: they are not made again when the table has to be corrected."""
        return out.absolute().with_name(f".{out.stem}.features{out.suffix or '.h5'}")

    def label(
        self, features: Path, out: Path, *, attributes: Mapping[str, object], compression: str | None
    ) -> list[str]:
        """Write the labelled store and remove the features it was made of.

        Args:
            features: Feature store without labels.
            out: Feature store to write.
            attributes: What is known of the features.
            compression: ``'gzip'`` or ``'lzf'``, or none.

        Returns:
            Warnings.

        Raises:
            DataError: If segments do not fit the videos; all problems in one message. The features stay.
        """
        try:
            # A video that could not be read is told elsewhere, and is no reason to label none.
            plan = plan_segment_table(self.table, features=str(features), **{**self.options, "missing": "skip"})
            told = {**attributes, **plan.attributes, "origin": f"{attributes['origin']}; segments of {self.table.name}"}
            report = carry_out(dataclasses.replace(plan, attributes=told), out, compression=compression)
        except DataError as error:
            raise DataError(f"{error}; the features are kept: correct the table and run the same command") from error
        features.unlink()
        return list(report.warnings)
