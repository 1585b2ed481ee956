"""Label the frames of extracted features by a table of segments, as ``coadtr data import format=csv`` does."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any, Self

from coadtr.data.importers.engine import carry_out
from coadtr.data.importers.feature_sources import PromisedFeatures
from coadtr.data.importers.problems import raise_problems
from coadtr.data.importers.segment_table import plan_segment_table
from coadtr.data.sources.segments import nearest_name, read_segments
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from coadtr.video.sampling import Sampling
    from coadtr.video.sources import Source

__all__ = ["Labelling", "findings_path"]

_TAKEN = ("features", "rate_hz")

# Stands for the rate of a video that has not been opened: nothing that is checked before hangs on it.
_ANY_RATE_HZ = 5.0


def findings_path(features: Path) -> Path:
    """Return where a run notes what it found beside the features that wait for their labels.

    Example:
        >>> from pathlib import Path
        >>> findings_path(Path(".kitchen.features.h5")).name
        '.kitchen.features.h5.json'
    """
    return features.with_name(f"{features.name}.json")


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
    def read(cls, table: Path, options: Mapping[str, Any], sources: Sequence[Source], sampling: Sampling) -> Self:
        """Read the table, and check all of it and of its options that needs no features.

        Args:
            table: The file.
            options: Options of `plan_segment_table`.
            sources: The videos.
            sampling: How many features a second there will be.

        Raises:
            DataError: If rows are unsound or name videos that are not there; all of it in one message.
            ConfigError: If an option is unknown or out of range, or the videos are too few to share out.
        """
        parameters = inspect.signature(plan_segment_table).parameters.values()
        known = [item.name for item in parameters if item.kind is item.KEYWORD_ONLY and item.name not in _TAKEN]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise ConfigError(f"labels.{unknown[0]} is not an option: the options are {listing(known, most=20)}")
        if options.get("rule") == "lstr" and sampling.preset == "oadtr":
            raise ConfigError(
                "labels.rule=lstr is for 4 features a second, and sampling=oadtr makes a sixth of each video's frames: "
                "choose sampling=lstr, or labels.rule=oadtr"
            )
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
        rate = None if sampling.preset == "oadtr" else sampling.feature_rate_hz(_ANY_RATE_HZ)
        promised = PromisedFeatures({}, {}, dict.fromkeys(names, rate))
        given = _ANY_RATE_HZ if rate is None else None
        raise_problems(table, plan_segment_table(table, features=promised, rate_hz=given, **options).problems)
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
            ConfigError: If the videos that could be read are too few to share out. The features stay.
        """
        try:
            # A video that could not be read is told elsewhere, and is no reason to label none.
            plan = plan_segment_table(self.table, features=str(features), **{**self.options, "missing": "skip"})
            told = {**attributes, **plan.attributes, "origin": f"{attributes['origin']}; segments of {self.table.name}"}
            report = carry_out(
                dataclasses.replace(plan, attributes=told),
                out,
                identity=repr(sorted(self.options.items())),
                compression=compression,
            )
        except (ConfigError, DataError) as error:
            error.args = (f"{error}; the features are kept: put it right and run the same command again",)
            raise
        for left in (features, findings_path(features)):
            left.unlink(missing_ok=True)
        return list(report.warnings)
