"""The features that a user names beside a table: where each stream lies, how wide and how fast it is, what made it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coadtr.data.sources.feature_files import FeatureFile, find_feature_files, find_feature_streams, is_feature_store
from coadtr.data.storage.extractors import extractors_of
from coadtr.data.storage.store import FeatureStore
from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FeatureSources", "PromisedFeatures", "find_features"]


@dataclass(frozen=True, slots=True)
class FeatureSources:
    """Features of the streams of a data set.

    Attributes:
        paths: Folder or HDF5 file of each stream.
        files: Features by stream and video.
    """

    paths: Mapping[str, Path]
    files: Mapping[str, dict[str, FeatureFile]]

    @property
    def videos(self) -> tuple[str, ...]:
        """Names of all videos that are in any stream, in the order found."""
        return tuple(dict.fromkeys(name for files in self.files.values() for name in files))

    def of(self, video: str) -> dict[str, FeatureFile]:
        """Return the features of one video by stream; streams without it are left out."""
        return {stream: files[video] for stream, files in self.files.items() if video in files}

    def stored_rates(self) -> dict[str, float]:
        """Return the frames a second of each video, as far as feature stores among the sources tell."""
        rates: dict[str, float] = {}
        for path in dict.fromkeys(self.paths.values()):
            if is_feature_store(path):
                with FeatureStore(path) as store:
                    rates |= {video.name: video.rate_hz for video in store.videos()}
        return rates

    def extractors(self) -> dict[str, dict[str, str]]:
        """Return what made the features of each stream, as far as feature stores among the sources tell."""
        found: dict[str, dict[str, str]] = {}
        for stream, path in self.paths.items():
            if is_feature_store(path):
                with FeatureStore(path) as store:
                    known = extractors_of(store.attributes)
                    own = stream if stream in store.streams else next(iter(store.streams))
                    found |= {stream: known[own]} if own in known else {}
        return found

    def widths(self, videos: Sequence[str]) -> tuple[dict[str, int], dict[str, str]]:
        """Look at the features of videos, without reading them where possible.

        Returns:
            The channels D of each stream, those that most videos have; and what is wrong with videos that cannot be
            read, by name.
        """
        widths, faults = dict[str, int](), dict[str, str]()
        for stream, files in self.files.items():
            seen: Counter[int] = Counter()
            for video in videos:
                try:
                    if video in files:
                        seen[files[video].width] += 1
                except DataError as error:
                    faults.setdefault(video, str(error))
            widths[stream] = max(1, seen.most_common(1)[0][0]) if seen else 1
        return widths, faults


@dataclass(frozen=True, slots=True)
class PromisedFeatures(FeatureSources):
    """Features that are still to be made: a plan with them finds all faults but those that hang on lengths.

    Attributes:
        rates_hz: Frames a second of each video; none where only the video will tell.

    Example:
        >>> PromisedFeatures({}, {}, {"kitchen": 4.0, "garden": None}).stored_rates()
        {'kitchen': 4.0}
    """

    rates_hz: Mapping[str, float | None]

    @property
    def videos(self) -> tuple[str, ...]:
        """Names of all videos."""
        return tuple(self.rates_hz)

    def stored_rates(self) -> dict[str, float]:
        """Return the frames a second of each video, as far as they are known."""
        return {name: rate for name, rate in self.rates_hz.items() if rate is not None}


def find_features(features: Mapping[str, str] | str | FeatureSources, *, table: Path) -> FeatureSources:
    """Find features where the user says they are.

    Args:
        features: Folder or HDF5 file with one or all streams, or one for each stream by its name. Relative to the
            working folder, or to the folder of the table. Features that are found already stay as they are.
        table: The table that goes with them; it is no feature file, though it may lie among them.

    Raises:
        DataError: If there are none.

    Example:
        >>> find_features({"rgb": "nowhere"}, table=Path("segments.csv"))
        Traceback (most recent call last):
        coadtr.errors.DataError: nowhere: no such file or folder: give the one with the features
    """

    def found(text: str) -> Path:
        path = Path(text)
        beside = table.parent / path
        return path if path.exists() or not beside.exists() else beside

    if isinstance(features, FeatureSources):
        return features
    if isinstance(features, str):
        files = find_feature_streams(found(features), leave_out=[table])
        return FeatureSources(dict.fromkeys(files, found(features)), files)
    paths = {str(stream): found(str(text)) for stream, text in features.items()}
    return FeatureSources(paths, {stream: _of_stream(path, stream, table) for stream, path in paths.items()})


def _of_stream(path: Path, stream: str, table: Path) -> dict[str, FeatureFile]:
    """Return the stream of that name, or the only one there is."""
    streams = find_feature_streams(path, leave_out=[table])
    return streams[stream] if stream in streams else dict(find_feature_files(path, leave_out=[table]))
