"""Keep the answers of a replay video by video, so that a killed one goes on, and several processes share the work."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from coadtr.data.atomic import make_folders, remove_empty
from coadtr.data.scores import read_scores, write_scores
from coadtr.errors import DataError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coadtr.data.scores import VideoScores

__all__ = ["ScoreJournal"]

_LOCK: Final = "lock"
_FAILED: Final = "failed"


class ScoreJournal:
    """Hold the answers to videos in a hidden folder ``.<name>.parts`` beside a score file, each in a file of its own.

    A part has its final name only when it is whole. One process opens the journal (`open`), which removes what belongs
    to another replay; then any number of processes add videos, until that one closes it.

    Args:
        path: The score file that is being made.
        class_names: The C class names.
        identity: Text that is the same if, and only if, the same answers are being made.

    Example:
        >>> import tempfile, numpy as np
        >>> from coadtr.data import VideoScores
        >>> path = Path(tempfile.mkdtemp()) / "scores.h5"
        >>> journal = ScoreJournal(path, class_names=["rest", "lift"], identity="b1")
        >>> _ = journal.open()
        >>> journal.add(VideoScores("a", np.eye(2), np.array([0, 1]), np.array([True, True])))
        >>> "a" in ScoreJournal(path, class_names=["rest", "lift"], identity="b1"), "b" in journal
        (True, False)
        >>> journal.close()
    """

    def __init__(self, path: str | Path, *, class_names: Sequence[str], identity: str) -> None:
        self.path, self.class_names = Path(path), tuple(class_names)
        told = repr((self.class_names, identity)).encode()
        # In the name of every part, so that a process of a dead replay cannot put its answers among those of another.
        self._prefix = f"{hashlib.sha256(told).hexdigest()[:32]}-"
        self.folder = self.path.absolute().parent / f".{self.path.name}.parts"
        self._lock = FileLock(self.folder / _LOCK, timeout=0)
        self._made: list[Path] = []

    def open(self) -> int:
        """Make the folder, claim it, and remove what an interrupted replay with another identity has left in it.

        Returns:
            How many videos were removed.

        Raises:
            DataError: Another replay is at work in it.
            StorageError: The folder cannot be written.
        """
        try:
            self._made = make_folders(self.folder.parent)
            self.folder.mkdir(exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise DataError(f"{self.path}: another replay is writing it: wait, or choose another out") from None
        except OSError as error:
            raise StorageError(
                f"{self.folder}: cannot be written ({error.strerror}): choose an out that you may write"
            ) from error
        try:
            (self.folder / _FAILED).unlink(missing_ok=True)
            for part in self.folder.glob(".*.part"):
                part.unlink(missing_ok=True)
            others = [part for part in self.folder.glob("*.h5") if not part.name.startswith(self._prefix)]
            for part in others:
                part.unlink()
            return len(others)
        except OSError as error:
            raise StorageError(
                f"{self.folder}: cannot be written ({error.strerror}): choose an out that you may write"
            ) from error

    def __contains__(self, name: object) -> bool:
        """Return whether a video is there, whole."""
        try:
            return isinstance(name, str) and self.read(name) is not None
        except DataError:
            return False

    def add(self, video: VideoScores) -> None:
        """Write the answers to one video; they are on disk, whole, when this returns.

        Raises:
            DataError: The answers are not what a score file holds, or cannot be written.
        """
        write_scores(self._part(video.name), class_names=self.class_names, attributes={}, videos=[video])

    def read(self, name: str) -> VideoScores | None:
        """Return the answers to one video, or None if they are not there.

        Raises:
            DataError: The part is damaged.
        """
        part = self._part(name)
        return read_scores(part).videos[0] if part.is_file() else None

    @property
    def failed(self) -> bool:
        """Whether a process that shares the work has given up."""
        return (self.folder / _FAILED).exists()

    def give_up(self) -> None:
        """Tell the others that share the work."""
        (self.folder / _FAILED).touch()

    def read_all(self, names: Sequence[str]) -> Iterator[VideoScores]:
        """Yield the answers to videos in the order of their names.

        Raises:
            DataError: One is missing.
        """
        for name in names:
            video = self.read(name)
            if video is None:
                raise DataError(
                    f"video {name!r}: its scores are not in {self.folder}: all processes must write to the same folder"
                )
            yield video

    def close(self) -> None:
        """Give the folder free; what is in it stays for a later replay, and an empty one goes."""
        if not self._lock.is_locked:
            return
        if self.folder.is_dir() and not any(self.folder.glob("*.h5")):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        remove_empty(self._made)

    def discard(self) -> None:
        """Remove all parts."""
        for part in self.folder.glob("*.h5"):
            part.unlink(missing_ok=True)

    def _part(self, name: str) -> Path:
        return self.folder / f"{self._prefix}{hashlib.sha256(name.encode()).hexdigest()[:32]}.h5"
