"""Outputs that are whole or absent: written beside the target, renamed when complete."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from coadtr.errors import DataError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["make_folders", "put_folder", "remove_empty", "replacing"]


@contextmanager
def replacing(path: str | Path, *, settle: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without an error.

    Folders that are missing are made. If the block fails, the temporary file and the folders made for it go,
    and what was at ``path`` before stays.

    Args:
        path: Where the output belongs.
        settle: Whether to wait until the disk has the contents; without, a machine that goes down may leave the name
            with other contents.

    Yields:
        The path to write to, in the same folder.

    Raises:
        DataError: If ``path`` is a folder or its folder cannot be written.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "runs" / "note.txt"
        >>> with replacing(target) as part:
        ...     _ = part.write_text("whole")
        >>> target.read_text(), len(list(target.parent.iterdir()))
        ('whole', 1)
    """
    target = Path(path).absolute()
    if target.is_dir():
        raise DataError(f"{path}: is a folder: name a file to write")
    made = make_folders(target.parent)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    complete = False
    try:
        _claim(part, target)
        yield part
        if settle:
            _settle(part)
        part.replace(target)
        complete = True
    finally:
        if not complete:
            part.unlink(missing_ok=True)
            remove_empty(made)


def _claim(part: Path, target: Path) -> None:
    """Create ``part``, so that a folder that cannot be written is reported before any work is done."""
    try:
        part.touch()
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error.strerror}): choose a folder that you may write"
        ) from error


def _settle(part: Path) -> None:
    """Wait until the disk has the contents: else a machine that goes down could leave the name without them."""
    try:
        with part.open("rb+") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"{part}: cannot be completed ({error.strerror}): free some space and try again") from error


def put_folder(part: Path, target: Path) -> None:
    """Rename ``part`` to ``target``; a folder that is there is moved aside first, so neither is ever half there."""
    if not target.exists():
        part.rename(target)
        return
    old = part.with_suffix(".old")
    target.rename(old)
    try:
        part.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def remove_empty(folders: list[Path]) -> None:
    """Remove those of ``folders``, innermost first, that hold nothing: another process may have put a file there."""
    for folder in reversed(folders):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def make_folders(folder: Path) -> list[Path]:
    """Make ``folder`` and its missing parents; return those that were made, outermost first."""
    missing = []
    for candidate in (folder, *folder.parents):
        if candidate.exists():
            break
        missing.append(candidate)
    missing.reverse()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error.strerror}): choose a folder that you may write") from error
    return missing
