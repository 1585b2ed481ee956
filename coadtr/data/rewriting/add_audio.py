"""Add sound to a feature store as a stream beside those of the pictures, joined by time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from coadtr.audio import LogMel
from coadtr.data.importers.problems import raise_problems
from coadtr.data.rewriting.alignment import align_features, check_alignment
from coadtr.data.rewriting.rewrite import Copied, header_of, provenance, write_copies
from coadtr.data.sources.feature_files import FeatureFile, find_feature_files, is_feature_store
from coadtr.data.sources.named_files import NamedFiles
from coadtr.data.sources.rate_options import check_rate
from coadtr.data.sources.sounds import (
    AUDIO_SUFFIXES,
    STREAM,
    VIDEO_SUFFIXES,
    choose_front_end,
    features_of_file,
    files_below,
)
from coadtr.data.storage.schema import listing
from coadtr.data.storage.store import FeatureStore
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["add_audio"]

_SUFFIXES: Final = (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES)


class _Source(Protocol):
    """Features of sound by the name of the video."""

    @property
    def dim(self) -> int: ...

    @property
    def record(self) -> Mapping[str, str]: ...

    @property
    def files(self) -> Sequence[Path]: ...

    def read(self, video: str) -> _Sound: ...


@dataclass(frozen=True, slots=True)
class _Sound:
    """Features ``(K, D)`` of one recording, their rate, when the first is complete, and when the sound ends."""

    features: NDArray[Any]
    rate_hz: float
    first_s: float
    ends_s: float


@dataclass(frozen=True, slots=True)
class _Files:
    """Sound or video files, and the front end that makes features of them."""

    paths: Mapping[str, Path]
    front_end: LogMel

    @property
    def dim(self) -> int:
        return self.front_end.dim

    @property
    def record(self) -> Mapping[str, str]:
        return self.front_end.describe()

    @property
    def files(self) -> Sequence[Path]:
        return list(self.paths.values())

    def read(self, video: str) -> _Sound:
        features, seconds = features_of_file(self.paths[video], self.front_end)
        return _Sound(features, self.front_end.feature_rate_hz, self.front_end.feature_s, seconds)


@dataclass(frozen=True, slots=True)
class _Embeddings:
    """Features that were made before, in files or a feature store."""

    found: Mapping[str, FeatureFile]
    rates_hz: Mapping[str, float]
    first_s: float | None
    record: Mapping[str, str]
    dim: int

    @property
    def files(self) -> Sequence[Path]:
        return list(dict.fromkeys(file.path for file in self.found.values()))

    def read(self, video: str) -> _Sound:
        features, rate = self.found[video].read(), self.rates_hz[video]
        first = 1 / rate if self.first_s is None else self.first_s
        # The last one stands until the next would be complete.
        return _Sound(features, rate, first, first + len(features) / rate)


def add_audio(
    path: str | Path,
    audio: str | Path,
    out: str | Path,
    *,
    stream: str = STREAM,
    front_end: str = "vggish",
    log_mel: Mapping[str, Any] | None = None,
    rate_hz: float | None = None,
    first_s: float | None = None,
    align: str = "mean",
    tolerance_s: float = 1.0,
) -> None:
    """Write a store anew with one more stream: the sound of its videos, joined by time, never from the future.

    The rule is that of `coadtr.data.rewriting.alignment`. Sound counts from the start of the video. A run that is
    interrupted goes on when it is called again.

    Args:
        path: The feature store.
        audio: Folder of sound or video files, named as the videos; or embeddings ``(K, D)``: a folder of ``.npy`` or
            other feature files, an HDF5 file, or a feature store.
        out: File to write.
        stream: Name of the new stream.
        front_end: For sound and video files: preset of the log-mel front end, see `coadtr.audio.log_mel_preset`.
        log_mel: For these: settings of the front end that differ from the preset.
        rate_hz: For embeddings: how many a second; none for that of a feature store.
        first_s: For embeddings: seconds at which the first is complete; none: after its own part of a second,
            ``1 / rate_hz``, or as the record of a feature store's front end has it.
        align: ``'mean'`` of the features since the frame before, the latest where there is none, or ``'latest'``.
        tolerance_s: Seconds by which sound may end before its video; the last feature stays for them.

    Raises:
        DataError: If a video has no sound, or it is damaged or ends too early; all of them in one message.
        ConfigError: If an option is unknown, out of range, or must be given, or there is a stream of that name.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from coadtr.data import write_exercises
        >>> folder = Path(tempfile.mkdtemp())
        >>> store = write_exercises(folder / "a.h5")
        >>> (folder / "sound").mkdir()
        >>> with FeatureStore(store) as opened:
        ...     for video in opened.videos():
        ...         np.save(folder / "sound" / f"{video.name}.npy", np.ones((round(video.seconds), 3), "f4"))
        >>> add_audio(store, folder / "sound", folder / "b.h5", rate_hz=1.0)
        >>> dict(FeatureStore(folder / "b.h5").streams)
        {'imu': 60, 'audio': 3}
    """
    check_alignment(align)
    _check(rate_hz, first_s, tolerance_s)
    with FeatureStore(path) as store:
        if stream in store.streams:
            raise ConfigError(f"stream={stream!r}: is in {store.path.name} already: name another, or split it off")
        names = [record.name for record in store.videos()]
        source = _find(Path(audio), names, front_end=front_end, log_mel=log_mel, rate_hz=rate_hz, first_s=first_s)

        def made(video: Copied) -> NDArray[Any]:
            sound, record = source.read(video.source), video.record
            if sound.ends_s + tolerance_s < record.seconds:
                raise DataError(
                    f"its sound ends at {sound.ends_s:.2f} s, the video at {record.seconds:.2f} s: check rates and "
                    f"files, or raise tolerance_s={tolerance_s:g}"
                )
            return align_features(
                sound.features,
                rate_hz=sound.rate_hz,
                first_s=sound.first_s,
                frames=record.frames,
                frame_rate_hz=record.rate_hz,
                align=align,
            )

        settings = {"align": align, "rate_hz": rate_hz, "first_s": first_s, "tolerance_s": tolerance_s}
        # Features at the rate of a video are no longer those of their front end: the record says what became of them.
        record = {**source.record, "align": align}
        known = store.attributes.get("extractors")
        extractors = {**(known if isinstance(known, dict) else {}), stream: record}
        told = {"from": provenance(store), "source": Path(audio).name, "stream": stream, **settings}
        header = header_of(store, attributes={**store.attributes, "extractors": extractors, "audio": told})
        stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in source.files]
        write_copies(
            out,
            replace(header, streams={**header.streams, stream: source.dim}),
            [Copied(video, store, video.name) for video in store.videos()],
            settings=("add-audio", stream, sorted(record.items()), settings, stamps),
            multi_hot=store.label_kind == "multi-hot",
            made={stream: made},
        )


def _check(rate_hz: float | None, first_s: float | None, tolerance_s: float) -> None:
    if rate_hz is not None:
        check_rate("rate_hz", rate_hz, told="the embeddings a second")
    for name, value in (("first_s", first_s), ("tolerance_s", tolerance_s)):
        if value is not None and not 0 <= value < float("inf"):
            raise ConfigError(f"{name}={value!r}: give seconds, 0 or more")


def _find(
    audio: Path,
    names: Sequence[str],
    *,
    front_end: str,
    log_mel: Mapping[str, Any] | None,
    rate_hz: float | None,
    first_s: float | None,
) -> _Source:
    """Return the sound of all videos; those without are named in one message."""
    sounds = list(files_below(audio, _SUFFIXES)) if audio.is_dir() else []
    if not sounds:
        return _embeddings(audio, names, rate_hz, first_s)
    for option, value in (("rate_hz", rate_hz), ("first_s", first_s)):
        if value is not None:
            raise ConfigError(f"{option}={value!r}: is for embeddings, and {audio.name} holds sound: drop {option}")
    chosen, index = choose_front_end(front_end, log_mel), NamedFiles(audio, sounds, _SUFFIXES)
    found: dict[str, Path] = {}
    missing, problems = list[str](), list[str]()
    for name in names:
        if index.known(name):
            try:
                found[name] = index.find(name)
            except DataError as error:
                problems.append(f"video {name!r}: {error}")
        else:
            missing.append(name)
    raise_problems(audio, [*_missing(missing), *problems])
    return _Files(found, chosen)


def _missing(names: Sequence[str]) -> list[str]:
    every = listing(names, most=len(names))
    return [f"{len(names)} videos have no sound: {every}: add files of these names"] if names else []


def _embeddings(audio: Path, names: Sequence[str], rate_hz: float | None, first_s: float | None) -> _Embeddings:
    found = find_feature_files(audio)
    rates: dict[str, float] = {}
    record: dict[str, str] = {}
    if is_feature_store(audio):
        with FeatureStore(audio) as store:
            rates = {video.name: video.rate_hz for video in store.videos()}
            record = dict(store.extractors.get(next(iter(store.streams)), {}))
        if first_s is None and record:
            first_s = _first_of(record)
    elif rate_hz is None:
        raise ConfigError("rate_hz must be given: the embeddings a second")
    raise_problems(audio, _missing([name for name in names if name not in found]))
    if rate_hz is not None:
        rates = dict.fromkeys(names, rate_hz)
    taken = {name: found[name] for name in names}
    return _Embeddings(taken, rates, first_s, record, next(iter(taken.values())).width)


def _first_of(record: Mapping[str, str]) -> float | None:
    """Return when the first feature of a recorded front end is complete, if it is one of log-mel features."""
    try:
        return LogMel.recorded(record).feature_s
    except ConfigError:
        return None
