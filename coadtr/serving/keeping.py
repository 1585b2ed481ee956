"""The folder that keeps the streams over a restart: a snapshot, and the journal of what came after it."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final

from coadtr.errors import CheckpointError, ConfigError, StorageError
from coadtr.serving.journal import Entry, Journal, read_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Keeper"]

_FILE: Final = re.compile(r"(snapshot|journal)-(\d{8})\.(npz|bin)")


class Keeper:
    """Keep streams in a folder of numbered files, for one server at a time.

    ``snapshot-N.npz`` holds all streams, ``journal-N.bin`` the frames that they took afterwards. A new pair takes over
    when its snapshot is whole; a kill at any moment leaves a snapshot and all journals since it. A snapshot is written
    at once (`begin`), or beside the frames that come (`turn`, `settle`).

    Args:
        folder: The folder; made if missing.
        channels: Values D of a frame.
        fsync: Whether each entry waits for the disk.

    Raises:
        ConfigError: If the folder cannot be used, or another server uses it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> keeper = Keeper(Path(tempfile.mkdtemp()), 2)
        >>> list(keeper.recover(lambda path: None))
        []
        >>> keeper.begin(lambda path: path.touch())
        >>> keeper.append([Entry("door", 0, None)])
        >>> sorted(path.name for path in keeper.folder.glob("*-*"))
        ['journal-00000001.bin', 'snapshot-00000001.npz']
        >>> keeper.close()
    """

    def __init__(self, folder: Path, channels: int, *, fsync: bool = False) -> None:
        # Imported here: what asks a server something needs neither this nor a folder.
        from filelock import FileLock, Timeout  # noqa: PLC0415

        self.folder = folder
        self._channels, self._fsync = channels, fsync
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / ".lock", timeout=0, thread_local=False)  # another thread releases it
            self._lock.acquire()
        except Timeout as error:
            raise ConfigError(
                f"snapshots={folder} is in use by another server: give each a folder of its own"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"snapshots={folder} cannot be used ({error.strerror}): name a folder that you may write"
            ) from error
        for part in folder.glob(".snapshot-*.part"):  # of a server that was killed
            part.unlink(missing_ok=True)
        numbers = (int(match[2]) for match in map(_FILE.fullmatch, self._names()) if match)
        self._number = max(numbers, default=0)
        self._journal: Journal | None = None

    def _names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def _paths(self, kind: str) -> dict[int, Path]:
        found = [match for match in map(_FILE.fullmatch, self._names()) if match and match[1] == kind]
        return {int(match[2]): self.folder / match[0] for match in found}

    @property
    def journal_bytes(self) -> int:
        """Bytes of the journal; 0 while there is none."""
        return 0 if self._journal is None else self._journal.size

    @property
    def whole(self) -> bool:
        """Whether every frame that was taken is kept."""
        return self._journal is not None

    def recover(self, restore: Callable[[Path], object]) -> Iterator[Entry]:
        """Restore the last snapshot, then yield what the journals since then hold.

        Args:
            restore: Called with the snapshot, if there is one.

        Raises:
            CheckpointError: If the snapshot or a journal is damaged, or of another checkpoint.
        """
        snapshots, journals = self._paths("snapshot"), self._paths("journal")
        if not snapshots:
            return
        last = max(snapshots)
        restore(snapshots[last])
        # A journal is made before its snapshot is written. One without a snapshot is of a server that was killed
        # between the two, or whose disk refused the snapshot: it goes on where the one before it ends.
        found: list[list[Entry]] = []
        for number in sorted((number for number in journals if number >= last), reverse=True):
            found.append(read_journal(journals[number], self._channels, mend=not any(found)))
        for entries in reversed(found):
            yield from entries

    def begin(self, snapshot: Callable[[Path], object]) -> None:
        """Write a snapshot and let the journal begin anew. No frame may be taken meanwhile.

        Args:
            snapshot: Called with the path to write.

        Raises:
            StorageError: If the disk refuses; then all stays as it was.
        """
        path, journal = self._next()
        try:
            snapshot(path)
        except BaseException as error:
            journal.close()
            journal.path.unlink(missing_ok=True)
            if isinstance(error, (OSError, CheckpointError)):
                raise StorageError(f"{path}: cannot be written ({error}); free some space") from error
            raise
        self._go_on(journal)
        self.settle(path)

    def turn(self) -> Path:
        """Let the journal go on in a new file, and return the path of the snapshot that is to stand before it.

        Only while every frame is kept: until that snapshot is there, the one before it and all journals since then
        are what a restart goes on from.

        Raises:
            StorageError: If the disk refuses; then all stays as it was.
        """
        path, journal = self._next()
        self._go_on(journal)
        return path

    def settle(self, snapshot: Path) -> None:
        """Remove what a snapshot that is whole has made superfluous. For any thread."""
        number = int(snapshot.stem.rpartition("-")[2])
        with contextlib.suppress(OSError):  # the next one tries again
            for old in (*self._paths("snapshot").items(), *self._paths("journal").items()):
                if old[0] < number:
                    with contextlib.suppress(OSError):
                        old[1].unlink(missing_ok=True)

    def _next(self) -> tuple[Path, Journal]:
        name = f"{self._number + 1:08d}"
        journal = Journal(self.folder / f"journal-{name}.bin", self._channels, fsync=self._fsync)
        return self.folder / f"snapshot-{name}.npz", journal

    def _go_on(self, journal: Journal) -> None:
        self._number += 1
        if self._journal is not None:
            self._journal.close()
        self._journal = journal

    def append(self, entries: list[Entry]) -> None:
        """Write entries to the journal.

        Raises:
            StorageError: If the disk refuses. Then nothing more is written until the next snapshot: a journal with a
                hole in it could not be replayed.
        """
        if self._journal is None:
            return
        try:
            self._journal.append(entries)
        except StorageError:
            self._journal.close()
            self._journal = None
            raise

    def close(self) -> None:
        """Close the journal and let another server have the folder."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self._lock.release()
