"""Write a store so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import h5py
import numpy as np
from filelock import FileLock, Timeout

from coadtr.data.atomic import make_folders, remove_empty
from coadtr.data.progress import progress
from coadtr.data.storage import schema
from coadtr.data.storage.checking import check_dtype
from coadtr.data.storage.layout import check_compression
from coadtr.data.storage.schema import VideoRecord
from coadtr.data.storage.store import FeatureStore
from coadtr.data.storage.writer import StoreWriter
from coadtr.errors import DataError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from numpy.typing import ArrayLike, NDArray

    from coadtr.data.storage.schema import Header

__all__ = ["StoreJournal"]

_IDENTITY: Final = "identity"
_LOCK: Final = "lock"


class StoreJournal:
    """Collect the videos of a store one by one, and put the store together when all are there.

    Each video is a file of its own in the hidden folder ``.<name>.parts`` beside the target, under its final
    name only when it is whole. A run that is killed leaves that folder; the next one with the same identity
    finds what is done, and the store is the same, byte for byte. Another identity starts anew. The videos lie
    on disk twice for the time that it takes to put them together.

    Args:
        path: Feature store to write.
        header: What holds for all videos.
        identity: Text that is the same if, and only if, the same store is being made of the same source.
        dtype: Type to store features in, ``'float16'`` or ``'float32'``; none keeps either.
        compression: ``'gzip'`` or ``'lzf'``, or none.

    Raises:
        DataError: If the folder cannot be written, or another process is at work in it.
        ConfigError: If ``dtype`` or ``compression`` is unknown.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "tiny.h5"
        >>> header = schema.Header(("rest", "lift"), 0, None, {"imu": 2})
        >>> features = {"imu": np.ones((3, 2), "f4")}
        >>> with StoreJournal(path, header, identity="first") as journal:
        ...     journal.add("a", split="test", rate_hz=5.0, features=features, labels=[0, 1, 1])
        >>> with StoreJournal(path, header, identity="first") as journal:  # goes on
        ...     print(sorted(journal.done), journal.finish(["a"]).name)
        ['a'] tiny.h5
    """

    def __init__(
        self,
        path: str | Path,
        header: Header,
        *,
        identity: str,
        dtype: str | None = None,
        compression: str | None = None,
    ) -> None:
        self.path, self.header = Path(path), header
        self._dtype, self._compression = check_dtype(dtype), check_compression(compression)
        told = (identity, header.class_names, header.background, header.ignored, list(header.streams.items()))
        self._identity = hashlib.sha256(repr((schema.VERSION, *told, dtype, compression)).encode()).hexdigest()
        self.folder = self.path.absolute().parent / f".{self.path.name}.parts"
        self._lock = FileLock(self.folder / _LOCK, timeout=0)
        self._records: dict[str, VideoRecord] = {}
        self._notes: dict[str, str] = {}
        self._parts: dict[str, Path] = {}
        self._labels: dict[str, NDArray[Any]] = {}
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        if self.path.is_dir():
            raise DataError(f"{self.path}: is a folder: name a file to write")
        try:
            self._made = make_folders(self.path.absolute().parent)
            self.folder.mkdir(exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise DataError(
                f"{self.path}: another process is writing it: wait for that one, or choose another out"
            ) from None
        except OSError as error:
            raise StorageError(
                f"{self.path}: cannot be written ({error.strerror}): choose a folder that you may write"
            ) from error
        self._take_up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._records:
            # Before another process may take up the folder.
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        remove_empty(self._made)

    @property
    def done(self) -> frozenset[str]:
        """Names of the videos that are there, whole."""
        return frozenset(self._records)

    @property
    def notes(self) -> dict[str, str]:
        """What was noted with each video."""
        return dict(self._notes)

    def record(self, name: str) -> VideoRecord:
        """Return the record of a video that is there."""
        return self._records[name]

    def labels(self, name: str) -> schema.Labels:
        """Return the labels of a video that is there: ``(T,)`` class indices, or ``(T, C)`` zeros and ones."""
        return self._labels[name]

    def add(
        self,
        name: str,
        *,
        split: str,
        rate_hz: float,
        features: Mapping[str, ArrayLike],
        labels: ArrayLike,
        note: str | None = None,
    ) -> None:
        """Check one video and write it. A process that is killed after this returns leaves it, whole.

        Nothing waits for the disk: what a machine that goes down had not written yet is known by its digest, and
        made again.

        Args:
            name: Name of the video, unique in the store.
            split: ``'train'``, ``'validation'`` or ``'test'``.
            rate_hz: Frames a second.
            features: ``(T, D)`` per stream.
            labels: ``(T,)`` class indices, or ``(T, C)`` zeros and ones.
            note: A text to keep with the video until the store is put together.

        Raises:
            DataError: If something is not as it should be; the message names field and value, not the video.
            StorageError: If the disk is full.
        """
        if name in self._records:
            raise DataError("is there already: give every video its own name")
        part = self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.h5"
        try:
            with StoreWriter(
                part,
                class_names=self.header.class_names,
                background=self.header.background,
                ignored=self.header.ignored,
                streams=self.header.streams,
                attributes={"note": note},
                dtype=self._dtype,
                compression=self._compression,
                settle=False,
            ) as writer:
                video = writer.put(name, split=split, rate_hz=rate_hz, features=features, labels=labels)
        except StorageError:
            raise
        except DataError as error:
            # The part is nothing that a user knows of.
            raise DataError(str(error).removeprefix(f"{part}: ").removeprefix(f"video {name!r}: ")) from error
        # The name tells the contents: a part that the machine going down has damaged is not taken for a whole one.
        part = part.rename(part.with_stem(f"{part.stem}-{_digest(part)}"))
        # What was just written need not be opened again: that takes longer than to write a short recording.
        self._admit(part, VideoRecord(name, split, video.frames, float(rate_hz)), np.array(video.labels), note)

    def finish(
        self,
        order: Sequence[str],
        *,
        attributes: Mapping[str, object] | None = None,
        label_kind: Literal["auto", "index", "multi-hot"] = "auto",
    ) -> Path:
        """Put the store together and remove what it was made of.

        Args:
            order: Names of the videos to take, in the order of the store.
            attributes: Attributes of the store, in place of those of the header.
            label_kind: How to store labels; ``'auto'``: as class indices if every frame has exactly one class.

        Returns:
            The path of the store.

        Raises:
            DataError: If a video is missing, or the store cannot be written.
        """
        missing = [name for name in order if name not in self._records]
        if missing:
            raise DataError(f"{self.path}: video {missing[0]!r} was not written: add it before the store is finished")
        labels = _alike({name: self.labels(name) for name in order}, len(self.header.class_names), label_kind)
        with StoreWriter(
            self.path,
            class_names=self.header.class_names,
            background=self.header.background,
            ignored=self.header.ignored,
            streams=self.header.streams,
            attributes=self.header.attributes if attributes is None else attributes,
            compression=self._compression,
        ) as writer:
            for name in progress(order, total=len(order), description="write"):
                with h5py.File(self._parts[name], "r") as part:
                    writer.adopt(name, part["videos"][name], labels[name])
        self.discard()
        return self.path

    def discard(self) -> None:
        """Remove all that was written so far."""
        self._records.clear()
        self._notes.clear()
        self._parts.clear()
        self._labels.clear()
        for part in self.folder.glob("*.h5"):
            part.unlink(missing_ok=True)

    def _take_up(self) -> None:
        """Find what an earlier run has done; remove it if that was for another store."""
        noted = self.folder / _IDENTITY
        if not noted.exists() or noted.read_text(encoding="utf-8") != self._identity:
            self.discard()
            noted.write_text(self._identity, encoding="utf-8")
        for part in self.folder.glob(".*.part"):
            part.unlink(missing_ok=True)
        for part in sorted(self.folder.glob("*.h5")):
            try:
                whole = part.stem.partition("-")[2] == _digest(part)
                if whole:
                    self._admit(part, *_read_part(part))
            except (DataError, OSError):
                whole = False
            if not whole:  # the machine went down while it was written: the video is read again
                part.unlink()

    def _admit(self, part: Path, record: VideoRecord, labels: NDArray[Any], note: object) -> None:
        self._records[record.name], self._parts[record.name] = record, part
        self._labels[record.name] = labels
        if isinstance(note, str):
            self._notes[record.name] = note


def _read_part(part: Path) -> tuple[VideoRecord, NDArray[Any], object]:
    with FeatureStore(part) as store:
        (record,) = store.videos()
        return record, store.labels(record.name), store.attributes.get("note")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _alike(labels: Mapping[str, NDArray[Any]], classes: int, kind: str) -> dict[str, NDArray[Any]]:
    """Return the labels of all videos in one kind and its smallest type."""
    if kind == "auto":
        single = all(array.ndim == 1 or bool((array.sum(axis=1) == 1).all()) for array in labels.values())
        kind = "index" if single else "multi-hot"
    if kind == "index":
        small = np.uint8 if classes <= 256 else np.int32
        return {name: (a.argmax(axis=1) if a.ndim == 2 else a).astype(small) for name, a in labels.items()}
    one_hot = np.eye(classes, dtype=np.uint8)
    return {name: one_hot[array] if array.ndim == 1 else array.astype(np.uint8) for name, array in labels.items()}
