"""Import THUMOS14 from its official annotation: segments in seconds, and features at each video's own rate."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from coadtr.data.importers.lstr import extractor_of
from coadtr.data.importers.plan import ImportPlan, PlannedVideo, VideoArrays
from coadtr.data.importers.session_lists import find_lists, read_lists
from coadtr.data.importers.thumos14_annotation import (
    CLASS_NAMES,
    Annotation,
    find_annotation,
    read_annotation,
    read_rates,
)
from coadtr.data.sources.coverage import Coverage
from coadtr.data.sources.feature_files import (
    DEFAULT_STREAM,
    FeatureFile,
    find_feature_files,
    find_feature_streams,
    is_feature_store,
)
from coadtr.data.sources.label_rules import LABEL_RULES, OVERLAPS, Segment, frame_labels
from coadtr.data.sources.rate_options import check_rate
from coadtr.data.splits import choose_validation
from coadtr.data.storage.extractors import extractors_of
from coadtr.data.storage.schema import check_name, listing
from coadtr.data.storage.store import FeatureStore
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["plan_thumos14"]

_VIDEO_FRAMES: Final = 6
"""Video frames to a feature."""

_LSTR_FPS: Final = 24.0
_PREFIXES: Final = {"video_validation": "train", "video_test": "test"}
_STREAMS: Final = ("rgb", "flow")
_DATASET: Final = "THUMOS"
_IGNORED: Final = "Ambiguous"

# Of 6,553 official segments 30 run past the end of their video: more than this points at a wrong rate.
_MOST_PAST_THE_END: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Source:
    """What the videos are made of."""

    features: Mapping[str, Mapping[str, FeatureFile]]
    annotation: Annotation
    rule: str
    overlap: str
    frames: dict[str, int] = field(default_factory=dict)
    widths: dict[str, Counter[int]] = field(default_factory=dict)

    def look(self, name: str) -> list[str]:
        """Note frames and widths of a video; return what is wrong with its features."""
        faults: list[str] = []
        for stream, files in self.features.items():
            if name not in files:
                faults.append(f"has no features of stream {stream!r}: add them, or take it off the list")
                continue
            try:
                frames, width = files[name].shape
            except DataError as error:
                faults.append(str(error))
                continue
            self.frames.setdefault(name, frames)
            self.widths.setdefault(stream, Counter())[width] += 1
        return faults

    def past_the_end(self, name: str, rate_hz: float) -> int:
        """Return how many segments of a video end more than a second after it."""
        seconds = self.frames[name] / rate_hz
        return sum(end > seconds + 1.0 for _, end, _ in self.annotation.segments[name])

    def read(self, name: str, rate_hz: float) -> VideoArrays:
        """Read the features of one video and label its frames."""
        actions, places = self.actions(name)
        labels = frame_labels(
            actions,
            frames=self.frames[name],
            rate_hz=rate_hz,
            classes=len(CLASS_NAMES),
            background=0,
            rule=self.rule,
            overlap=self.overlap,
            outside="cut",
            names=places,
        )
        return {stream: files[name].read() for stream, files in self.features.items()}, labels

    def actions(self, name: str) -> tuple[list[Segment], list[str]]:
        """Return the segments of one video by class index, and where each stands."""
        rows = self.annotation.segments[name]
        actions = [Segment(start, end, CLASS_NAMES.index(label)) for start, end, label in rows]
        return actions, [self.annotation.places[name, *row] for row in rows]


def plan_thumos14(
    source: Path,
    *,
    features: str | Mapping[str, str] | None = None,
    segments: str | None = None,
    info: str | None = None,
    rule: str = "oadtr",
    overlap: str = "first",
    fps: str | float | None = None,
    missing_fps: float | None = None,
    validation_fraction: float = 0.15,
    seed: int = 0,
) -> ImportPlan:
    """Plan the import of THUMOS14 from the official annotation and features of one's own.

    A feature stands for 6 video frames, so each video has its own rate, its frames a second / 6. THUMOS14 counts a
    cliff dive as a dive too: its frames are in two segments. The published per-frame labels give them one class, the
    first in the order of the classes (CliffDiving, not Diving; any class rather than Ambiguous), and so does
    ``overlap='first'``; ``'multi-hot'`` keeps all. Segments past the end of a video are cut there, and told.

    Args:
        source: Folder of the annotation, or its JSON file (see `read_annotation` for the layouts).
        features: Folder or HDF5 file of the features (see `find_feature_files`), or one for each stream. Paths are in
            or below the source, or from here.
        segments: The annotation, if it is not found in the source.
        info: List file with an entry ``THUMOS``; none takes the one in the source, or else the names of the videos:
            ``video_validation`` is trained on, ``video_test`` tested on.
        rule: Which frames a segment covers, one of `LABEL_RULES`. ``lstr`` is for videos resampled to 24 fps.
        overlap: What a frame in several segments becomes, one of `OVERLAPS`; segments are listed in the order of the
            classes.
        fps: Video frames a second: a number, or a file with that of each video (see `read_rates`).
        missing_fps: Video frames a second where that file does not know them.
        validation_fraction: Part of the training videos set aside for validation; at least one is, so 0 is refused.
        seed: Seed of that choice.

    Returns:
        The plan.

    Raises:
        DataError: If annotation, lists, rates or features cannot be found or read.
        ConfigError: If an option is unknown, out of range, or must be given.

    Example:
        >>> plan_thumos14(Path("annotation"))
        Traceback (most recent call last):
        coadtr.errors.ConfigError: format 'thumos14' needs features: give a folder or HDF5 file as features=
    """
    if not features:
        raise ConfigError("format 'thumos14' needs features: give a folder or HDF5 file as features=")
    for option, value, known in (("rule", rule, LABEL_RULES), ("overlap", overlap, OVERLAPS)):
        if value not in known:
            raise ConfigError(f"{option}={value!r}: use one of {listing(known)}")
    for option, rate in (("fps", None if isinstance(fps, str) else fps), ("missing_fps", missing_fps)):
        if rate is not None:
            check_rate(option, rate, told="the video frames a second")
    annotation = read_annotation(find_annotation(source, segments))
    folder = source if source.is_dir() else source.parent
    streams, extractors = _find_features(folder, features)
    found = _Source(streams, annotation, rule, overlap)
    rates, rate_files = read_rates(folder, _LSTR_FPS if fps is None and rule == "lstr" else fps)
    problems, warnings = list(annotation.problems), list[str]()
    subsets, list_files = _subsets(found, folder, info, warnings)
    validation = choose_validation(
        [name for name, split in subsets.items() if split == "train"], fraction=validation_fraction, seed=seed
    )
    videos: list[PlannedVideo] = []
    coverage = Coverage(CLASS_NAMES, rule=rule, unneeded=(0, CLASS_NAMES.index(_IGNORED)))
    for name, split in subsets.items():
        hertz = _rate(rates, name, missing_fps)
        faults = _faults(found, name, hertz)
        problems += [f"video {name!r}: {fault}" for fault in faults]
        if not faults and hertz is not None:
            chosen = "validation" if name in validation else split
            videos.append(PlannedVideo(name=name, split=chosen, rate_hz=hertz, read=partial(found.read, name, hertz)))
            actions, places = found.actions(name)
            coverage.add(name, actions, rate_hz=hertz, names=places)
    _tell_past_the_end(found, videos, problems, warnings)
    return ImportPlan(
        source=source,
        class_names=CLASS_NAMES,
        background=0,
        ignored=CLASS_NAMES.index(_IGNORED),
        # The width that most videos have: those of another are named by the import.
        streams={stream: (found.widths.get(stream) or Counter([1])).most_common(1)[0][0] for stream in streams},
        attributes={
            "origin": "THUMOS14, official annotation "
            f"({annotation.files[0].name if len(annotation.files) == 1 else f'{len(annotation.files)} text files'})",
            "label_rule": rule,
            "overlap": overlap,
            "rate_rule": "video frames a second / 6" + (f", {missing_fps:g} where unknown" if missing_fps else ""),
            "extractors": extractors,
            "validation": {"fraction": validation_fraction, "seed": seed, "videos": sorted(validation)},
        },
        videos=tuple(videos),
        files=(*annotation.files, *rate_files, *list_files, *_feature_paths(found, videos)),
        problems=tuple(problems),
        warnings=(*warnings, *coverage.warnings()),
    )


def _find_features(
    folder: Path, given: str | Mapping[str, str]
) -> tuple[dict[str, Mapping[str, FeatureFile]], dict[str, dict[str, str]]]:
    """Return the feature files of each stream by video, and what made them as far as that is known."""
    found: dict[str, Mapping[str, FeatureFile]] = {}
    extractors: dict[str, dict[str, str]] = {}
    for wanted, path in ({"": given} if isinstance(given, str) else given).items():
        places = [place for place in (folder / str(path), Path(str(path))) if place.exists()]
        if not places:
            raise DataError(f"{folder}: no folder or file {path}: correct features=")
        place = places[0]
        told = {}
        if is_feature_store(place):
            with FeatureStore(place) as store:
                told = extractors_of(store.attributes)
        held: dict[str, Mapping[str, FeatureFile]] = dict(find_feature_streams(place))
        if wanted:
            held = {wanted: held[wanted] if wanted in held else find_feature_files(place)}
        for name, files in held.items():
            label = place.name if name == DEFAULT_STREAM else name
            # `rgb_kinetics_resnet50` is the stream rgb.
            stream = wanted or next((known for known in _STREAMS if label.startswith(known)), name)
            made = told.get(name) or extractor_of(label if not wanted else place.name)
            if stream in found:
                folders = sorted(other for other in held if other.startswith(stream))
                choice = f"{stream}: {path}/{folders[0]}" if place.is_dir() else f"{folders[0]}: {path}"
                raise DataError(
                    f"{place}: several {'folders' if place.is_dir() else 'groups'} for stream {stream!r} "
                    f"({listing(folders)}): choose with features, as {{{choice}}}"
                )
            found[stream] = files
            extractors |= {stream: made} if made else {}
    return found, extractors


def _subsets(source: _Source, folder: Path, info: str | None, warnings: list[str]) -> tuple[dict[str, str], list[Path]]:
    """Return which videos are trained and tested on, and the list file that says so, if one does."""
    known = set.union(*(set(files) for files in source.features.values()))
    path = None
    try:
        path = find_lists(folder, info)
    except DataError:
        if info is not None:
            raise
    if path is not None:
        lists = read_lists(path, _DATASET, fixed=True)
        subsets = dict.fromkeys(lists.train, "train") | dict.fromkeys(lists.test, "test")
    else:
        subsets = {
            name: split
            for name in sorted(known & set(source.annotation.segments))
            for prefix, split in _PREFIXES.items()
            if name.startswith(prefix)
        }
    if others := sorted(known - set(subsets)):
        warnings.append(f"{len(others)} videos with features are not annotated or listed, left out: {listing(others)}")
    return subsets, [path] if path is not None else []


def _rate(rates: Mapping[str, float] | float, name: str, missing: float | None) -> float | None:
    """Return the frames a second of the features of a video, or none if they are not known."""
    fps = rates if isinstance(rates, float) else rates.get(name, np.nan)
    fps = missing if missing is not None and not np.isfinite(fps) else fps
    return fps / _VIDEO_FRAMES if np.isfinite(fps) and fps > 0 else None


def _faults(source: _Source, name: str, rate: float | None) -> list[str]:
    try:
        check_name(name, what="video")
    except DataError as error:
        return [str(error)]
    faults = source.look(name)
    if name not in source.annotation.segments:
        faults.append("has no segment: add its annotation, or take it off the list")
    if rate is None:
        faults.append("its frames a second are not known: add them to the file, or say missing_fps=30")
    return faults


def _tell_past_the_end(source: _Source, videos: list[PlannedVideo], problems: list[str], warnings: list[str]) -> None:
    """Warn of segments that run past the end of their video; too many of them are a problem."""
    past = {video.name: count for video in videos if (count := source.past_the_end(video.name, video.rate_hz))}
    total = sum(len(source.annotation.segments[video.name]) for video in videos)
    told = f"{sum(past.values())} of {total} segments run past the end of their video (in {listing(past)})"
    if sum(past.values()) > _MOST_PAST_THE_END * total:
        problems.append(f"{told}: check that fps is that of the videos, and that a feature stands for 6 video frames")
    elif past:
        warnings.append(f"{told}: they are cut there")


def _feature_paths(source: _Source, videos: list[PlannedVideo]) -> list[Path]:
    return sorted({files[video.name].path for files in source.features.values() for video in videos})
