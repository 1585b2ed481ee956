"""Import a table of segments, with features that lie in files of their own: data as users have it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coadtr.data.importers.feature_sources import FeatureSources, find_features
from coadtr.data.importers.plan import ImportPlan, PlannedVideo, VideoArrays
from coadtr.data.importers.seeded_splits import table_splits
from coadtr.data.sources.class_names import alike_warnings, class_roles
from coadtr.data.sources.coverage import Coverage
from coadtr.data.sources.label_rules import LABEL_RULES, OUTSIDE, OVERLAPS, frame_labels, frame_span
from coadtr.data.sources.rate_options import check_rate
from coadtr.data.sources.segments import SegmentTable, TableSegment, action_segments, nearest_name, read_segments
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coadtr.data.sources.feature_files import FeatureFile

__all__ = ["plan_segment_table"]

_UNLISTED: Final = ("background", "skip", "error")
_MISSING: Final = ("error", "skip")


@dataclass(frozen=True, slots=True)
class _Labels:
    """How segments become frame labels, and in which classes."""

    class_names: tuple[str, ...]
    background: int | None
    rule: str
    overlap: str
    outside: str

    def read(
        self, files: Mapping[str, FeatureFile], widths: Mapping[str, int], segments: Sequence[TableSegment], rate: float
    ) -> VideoArrays:
        """Read the features of a video and label its frames."""
        features: dict[str, Any] = {}
        for stream, file in files.items():
            array = features[stream] = file.read()
            if array.shape[1] != widths[stream] == array.shape[0]:
                raise DataError(
                    f"{file.path.name}: stream {stream!r} has shape {array.shape} where others have (T, "
                    f"{widths[stream]}): it seems to be (D, T), transpose it"
                )
        frames = max(len(array) for array in features.values())
        # A video without frames is a fault of its own.
        actions, places = action_segments(segments if frames else (), self.class_names, self.background)
        labels = frame_labels(
            actions,
            frames=frames,
            rate_hz=rate,
            classes=len(self.class_names),
            background=self.background,
            rule=self.rule,
            overlap=self.overlap,
            outside=self.outside,
            names=places,
        )
        return features, labels


def plan_segment_table(
    source: Path,
    *,
    features: Mapping[str, str] | str | FeatureSources | None = None,
    rate_hz: float | None = None,
    rule: str = "centre",
    overlap: str = "multi-hot",
    outside: str = "error",
    unit: str = "seconds",
    fps: float | None = None,
    classes: Sequence[str] | None = None,
    background: str | None = "background",
    ignored: str | None = None,
    unlisted: str = "background",
    missing: str = "error",
    test_fraction: float = 0.2,
    validation_fraction: float = 0.15,
    seed: int = 0,
) -> ImportPlan:
    """Plan the import of a table of segments and of the features of its videos.

    `read_segments` describes the table (CSV with ``video,start,end,label``, or JSON in the form of ActivityNet), and
    `find_feature_files` the features. Splits are those of the table; what it does not give is chosen by seed.
    Where it has no training but validation videos, as THUMOS14, these train.

    Args:
        source: The table: ``.csv``, ``.tsv`` or ``.json``.
        features: Folder, HDF5 file, or feature store made by ``coadtr extract``; with several streams, their paths by
            name. Relative to the working folder, or to that of the table.
        rate_hz: Feature frames a second; needed unless the table (column ``rate_hz``) or the feature store tells.
        rule: Which frames a segment covers, one of `LABEL_RULES`. The default, ``centre``, moves neither edge of an
            action at any rate; the others are for comparison with published numbers.
        overlap: What a frame in several segments becomes: ``multi-hot``, ``first``, ``last`` or ``error``.
        outside: Segments past the end of their video: ``error``, or ``cut`` to drop what is outside.
        unit: Unit of start and end: ``seconds``, or video ``frames``.
        fps: Video frames a second, for ``frames``, where the table has no column ``fps``.
        classes: Class names in the order wanted; none takes the order of the table.
        background: Name of the class of frames in no segment, whatever its case; put first unless table or
            ``classes`` name it; null for none.
        ignored: Name of the class whose frames are neither trained on nor scored, whatever its case.
        unlisted: Videos with features that the table does not name: all ``background``, ``skip`` or ``error``.
        missing: Videos of the table without features: ``error`` or ``skip``.
        test_fraction: Part of the videos to test on, where the table names no splits at all; 0 for none.
        validation_fraction: Part of the training videos to validate on, where the table names none; 0 for none.
        seed: Seed of both choices.

    Returns:
        The plan.

    Raises:
        DataError: If table or features cannot be found or read at all.
        ConfigError: If an option is unknown, out of range, or must be given.

    Example:
        >>> plan_segment_table(Path("segments.csv"))
        Traceback (most recent call last):
        coadtr.errors.ConfigError: features must be given: a folder, an HDF5 file or a feature store
    """
    _check_options(features, rate_hz, rule=rule, overlap=overlap, outside=outside, unlisted=unlisted, missing=missing)
    table = read_segments(source, unit=unit, fps=fps, classes=classes)
    sources = find_features(features or {}, table=source)
    class_names, no_action, left_out = class_roles(table.class_names, background, ignored)
    problems, warnings = list(table.problems), list[str]()
    names = _videos(table, sources, unlisted=unlisted, missing=missing, problems=problems, warnings=warnings)
    rates = _rates(names, table, sources.stored_rates(), rate_hz, problems)
    widths, faults = sources.widths(names)
    problems += [f"video {name!r}: {fault}" for name, fault in faults.items()]
    for rate in set(rates.values()):
        frame_span(0.0, 1.0, rate_hz=rate, rule=rule)
    splits, told, choices = table_splits(
        names,
        {name: table.splits[name] for name in names if name in table.splits},
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        seed=seed,
        source=source,
        problems=problems,
    )
    warnings += choices
    labels = _Labels(class_names, no_action, rule, overlap, outside)
    coverage = Coverage(class_names, rule=rule, unneeded=(no_action, left_out))
    videos = []
    for name in names:
        actions, places = action_segments(table.segments.get(name, []), class_names, no_action)
        coverage.add(name, actions, rate_hz=rates[name], names=places)
        files = sources.of(name)
        if name not in faults and len(files) == len(sources.files):
            read = partial(labels.read, files, widths, table.segments.get(name, []), rates[name])
            videos.append(PlannedVideo(name=name, split=splits[name], rate_hz=rates[name], read=read))
    used = dict.fromkeys(file.path for name in names for file in sources.of(name).values())
    extractors, kept_in = sources.extractors(), dict.fromkeys(path.name for path in sources.paths.values())
    return ImportPlan(
        source=source,
        class_names=class_names,
        background=no_action,
        ignored=left_out,
        streams=widths,
        attributes={
            "origin": f"segments of {source.name}, features of {', '.join(kept_in)}",
            "label_rule": rule,
            "overlap": overlap,
            "outside": outside,
            "unit": unit if fps is None else f"{unit} at {fps:g} fps",
            **told,
            **({"extractors": extractors} if extractors else {}),
        },
        videos=tuple(videos),
        files=(source, *used),
        problems=tuple(problems),
        warnings=(*warnings, *alike_warnings(class_names), *coverage.warnings()),
    )


def _check_options(features: object, rate_hz: float | None, **choices: str) -> None:
    if not features:
        raise ConfigError("features must be given: a folder, an HDF5 file or a feature store")
    if rate_hz is not None:
        check_rate("rate_hz", rate_hz)
    known = {"rule": LABEL_RULES, "overlap": OVERLAPS, "outside": OUTSIDE, "unlisted": _UNLISTED, "missing": _MISSING}
    for option, value in choices.items():
        if value not in known[option]:
            raise ConfigError(f"{option}={value!r}: use one of {listing(known[option])}")


def _videos(
    table: SegmentTable,
    sources: FeatureSources,
    *,
    unlisted: str,
    missing: str,
    problems: list[str],
    warnings: list[str],
) -> list[str]:
    """Return the videos to import; those that table and features do not share become problems or warnings."""
    everywhere = dict.fromkeys(sources.videos)
    for stream, files in sources.files.items():
        lacking = [name for name in everywhere if name not in files]
        problems += [f"video {name!r} has no features in stream {stream!r}: add or drop it" for name in lacking]
    absent = [name for name in table.segments if name not in everywhere]
    if absent and missing == "skip":
        warnings.append(f"{len(absent)} videos of the table have no features and are left out: {listing(absent)}")
    elif absent:
        problems += [_absent(name, table, list(everywhere)) for name in absent]
    unnamed = [name for name in everywhere if name not in table.segments]
    if unlisted == "error":
        problems += [f"video {name!r} has features but no row: add one, or say unlisted=background" for name in unnamed]
    if unnamed and unlisted == "skip":
        warnings.append(f"{len(unnamed)} videos have features but no row and are left out: {listing(unnamed)}")
    names = [name for name in everywhere if name in table.segments or unlisted == "background"]
    silent = [name for name in names if not table.segments.get(name)]
    if silent:
        told = f"{len(silent)} videos have no segment and are background only: {listing(silent)}"
        warnings.append(f"{told}; unlisted=skip leaves such videos out")
    return names


def _absent(name: str, table: SegmentTable, known: list[str]) -> str:
    near, bare = nearest_name(name, known), Path(name).stem
    hint = f" ({near})" if near.startswith("did") else ""
    if bare in known:
        hint = f" (those of {bare!r} are there: name it without the suffix)"
    at = next((segment.where for segment in table.segments[name]), "no segment")
    return f"video {name!r} ({at}) has no features{hint}: add them, drop its rows, or say missing=skip"


def _rates(
    names: Sequence[str],
    table: SegmentTable,
    stored: Mapping[str, float],
    rate_hz: float | None,
    problems: list[str],
) -> dict[str, float]:
    """Return the feature frames a second of each video: the table's, the option's, or the store's."""
    rates: dict[str, float] = {}
    for name in names:
        rate = table.rates_hz.get(name, rate_hz if rate_hz is not None else stored.get(name))
        if rate is None:
            raise ConfigError(f"rate_hz must be given: the feature frames a second (video {name!r} has no rate)")
        if name in stored and not math.isclose(rate, stored[name], rel_tol=1e-3):
            where = "the column rate_hz" if name in table.rates_hz else "rate_hz"
            problems.append(
                f"video {name!r}: {rate:g} Hz, but its features were made at {stored[name]:g} Hz: drop {where}"
            )
        rates[name] = rate
    return rates
