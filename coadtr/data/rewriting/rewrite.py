"""Write the videos of feature stores into a new one, in another number type or compression if asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.data.importers.problems import raise_problems
from coadtr.data.progress import progress
from coadtr.data.storage.checking import check_dtype
from coadtr.data.storage.journal import StoreJournal
from coadtr.data.storage.schema import Header, VideoRecord
from coadtr.data.storage.store import FeatureStore
from coadtr.errors import ConfigError, DataError, StorageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coadtr.data.storage.schema import Labels

__all__ = ["Copied", "Rounding", "convert_store", "header_of", "provenance", "write_copies"]

_ROWS: Final = 4096
_LARGEST_HALF: Final = 65504


@dataclass(frozen=True, slots=True)
class Copied:
    """One video on its way from a store into another.

    Attributes:
        record: Its record in the store that it goes into.
        store: The store that it comes from.
        source: Its name there.
    """

    record: VideoRecord
    store: FeatureStore
    source: str


@dataclass(frozen=True, slots=True, order=True)
class Rounding:
    """The largest error that rounding to float16 made, and where.

    Attributes:
        error: Absolute difference.
        value: The value before.
        video: Video.
        stream: Stream.
        frame: Frame.
        channel: Channel.
    """

    error: float
    value: float
    video: str
    stream: str
    frame: int
    channel: int


def header_of(store: FeatureStore, *, attributes: Mapping[str, object], streams: Sequence[str] | None = None) -> Header:
    """Return the header of a store, with other attributes and only some of its streams."""
    kept = {stream: store.streams[stream] for stream in store.check_streams(streams)}
    return Header(store.class_names, store.background, store.ignored, kept, attributes)


def provenance(store: FeatureStore) -> dict[str, str]:
    """Return what tells later which store something was made of: the name of its file, and its fingerprint."""
    return {"file": store.path.name, "fingerprint": store.fingerprint()}


def write_copies(
    out: str | Path,
    header: Header,
    videos: Sequence[Copied],
    *,
    settings: object,
    multi_hot: bool,
    relabel: Callable[[FeatureStore, Labels], NDArray[Any]] | None = None,
    dtype: str | None = None,
    compression: str | None = None,
    attributes: Callable[[Rounding | None], Mapping[str, object]] | None = None,
    made: Mapping[str, Callable[[Copied], NDArray[Any]]] | None = None,
) -> Rounding | None:
    """Write videos of other stores into a new one; a run that is interrupted goes on when it is called again.

    Args:
        out: File to write.
        header: Header of the new store.
        videos: The videos, in order.
        settings: What, apart from the sources, decides what is written.
        multi_hot: Whether to store labels as zeros and ones.
        relabel: Makes the labels of the new store out of those of a source; none keeps them.
        dtype: Type to store features in; none keeps each one's.
        compression: ``'gzip'`` or ``'lzf'``, or none.
        attributes: Makes the attributes of the new store once the rounding is known; none: those of the header.
        made: Streams of the new store that no source has, each with what makes ``(T, D)`` features of a video. All
            that is wrong with them is found before an error is raised.

    Returns:
        The largest rounding error if float32 became float16, or none.

    Raises:
        DataError: If a source is damaged or a value does not fit.
        StorageError: If the disk is full; what is written stays, and the next call goes on with it.
        ConfigError: If ``out`` is one of the sources, or a setting is unknown.
    """
    sources = {video.store.path.resolve(): video.store for video in videos}
    if Path(out).resolve() in sources:
        raise ConfigError(f"out={out}: is also read from: choose another out")
    stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
    order = [video.record.name for video in videos]
    identity = json.dumps([stamps, order, repr(settings), header.attributes], default=str, sort_keys=True)
    with StoreJournal(out, header, identity=identity, dtype=dtype, compression=compression) as journal:
        try:
            new, problems = made or {}, list[str]()
            for video in progress(videos, total=len(videos), description="copy"):
                if video.record.name in journal.done:
                    continue
                try:
                    extra = {stream: make(video) for stream, make in new.items()}
                except DataError as error:
                    problems.append(f"video {video.record.name!r}: {error}")
                    continue
                _copy(journal, header, video, relabel=relabel, dtype=dtype, extra=extra)
            raise_problems(next(iter(sources)), problems)
        except StorageError:  # no fault of a source: what is written stays, to be gone on with
            raise
        except DataError:
            # The same call would end the same way: there is nothing to go on with.
            journal.discard()
            raise
        roundings = [Rounding(**json.loads(note)) for note in journal.notes.values()]
        worst = max(roundings, default=None)
        final = None if attributes is None else attributes(worst)
        journal.finish(order, attributes=final, label_kind="multi-hot" if multi_hot else "index")
    return worst


def _copy(
    journal: StoreJournal,
    header: Header,
    video: Copied,
    *,
    relabel: Callable[[FeatureStore, Labels], NDArray[Any]] | None,
    dtype: str | None,
    extra: Mapping[str, NDArray[Any]],
) -> None:
    features, worst = dict(extra), []
    labels = video.store.labels(video.source)
    try:
        for stream in header.streams:
            if stream in extra:
                continue
            features[stream] = video.store.stored_features(video.source, stream)
            if dtype == "float16" and features[stream].dtype == np.float32:
                features[stream], rounding = _halve(features[stream], video.record.name, stream)
                worst.append(rounding)
        journal.add(
            video.record.name,
            split=video.record.split,
            rate_hz=video.record.rate_hz,
            features=features,
            labels=labels if relabel is None else relabel(video.store, labels),
            note=json.dumps({name: getattr(max(worst), name) for name in Rounding.__slots__}) if worst else None,
        )
    except StorageError:
        raise
    except DataError as error:
        where = f"{video.store.path}: video {video.source!r}: "
        raise DataError(where + str(error).removeprefix(where)) from error


def _halve(values: NDArray[np.float32], video: str, stream: str) -> tuple[NDArray[np.float16], Rounding]:
    """Round float32 features to float16, some frames at a time, and find the largest error."""
    half = np.empty(values.shape, np.float16)
    worst = Rounding(-1.0, 0.0, video, stream, 0, 0)
    for start in range(0, len(values), _ROWS):
        block = values[start : start + _ROWS]
        with np.errstate(over="ignore"):
            half[start : start + _ROWS] = block
        error = np.abs(half[start : start + _ROWS].astype(np.float32) - block)
        frame, channel = (int(index) for index in np.unravel_index(int(error.argmax()), error.shape))
        value, at = float(block[frame, channel]), (start + frame, channel)
        # What is not finite to begin with is refused, as everywhere, when it is written.
        if math.isfinite(value) and not math.isfinite(error[frame, channel]):
            raise DataError(
                f"field {stream!r}: value {value:g} at frame {at[0]}, channel {at[1]}: beyond the range of float16 "
                f"(±{_LARGEST_HALF}): keep float32, or scale the features"
            )
        worst = max(worst, Rounding(float(error[frame, channel]), value, video, stream, *at))
    return half, worst


def convert_store(
    path: str | Path, out: str | Path, *, dtype: str | None = None, compression: str | None = None
) -> Rounding | None:
    """Write a store anew in another number type or compression.

    Args:
        path: The feature store.
        out: File to write.
        dtype: ``'float16'`` or ``'float32'``; none keeps that of each stream.
        compression: ``'gzip'`` or ``'lzf'``; none for a file that reads faster.

    Returns:
        The largest rounding error if float32 became float16, or none. If the type was changed, it stands in the
        attribute ``converted`` too.

    Raises:
        DataError: If the store is damaged, a value is beyond float16, or the file cannot be written.
        ConfigError: If ``dtype`` or ``compression`` is unknown, or ``out`` is the store itself.

    Example:
        >>> import tempfile
        >>> from coadtr.data import write_exercises
        >>> folder = Path(tempfile.mkdtemp())
        >>> rounding = convert_store(write_exercises(folder / "a.h5"), folder / "b.h5", dtype="float16")
        >>> rounding.error < 0.001 * abs(rounding.value)
        True
    """
    check_dtype(dtype)

    def attributes(worst: Rounding | None) -> Mapping[str, object]:
        if dtype is None:
            return store.attributes
        error = None if worst is None else worst.error
        told = {"from": provenance(store), "dtype": dtype, "largest_rounding_error": error}
        return {**store.attributes, "converted": told}

    with FeatureStore(path) as store:
        return write_copies(
            out,
            header_of(store, attributes=store.attributes),
            [Copied(record, store, record.name) for record in store.videos()],
            settings=("convert", dtype, compression),
            multi_hot=store.label_kind == "multi-hot",
            dtype=dtype,
            compression=compression,
            attributes=attributes,
        )
