"""Folders that are whole or absent: written beside the target, renamed when complete."""

from __future__ import annotations

import shutil
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from coadtr.data.atomic import put_folder, remove_empty
from coadtr.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["new_folder"]


@contextmanager
def new_folder(path: str | Path, *, overwrite: bool, own: Collection[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that takes its place when the block ends without an error.

    Folders that are missing are made. If the block fails, the temporary folder and the folders made for it go,
    and what was at ``path`` stays.

    Args:
        path: Where the folder belongs.
        overwrite: Take the place of a folder that is there.
        own: Names of the files that such a folder may hold: a folder with anything else in it is never removed.

    Yields:
        The folder to write to.

    Raises:
        CheckpointError: If ``path`` is taken, or cannot be written.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "runs" / "checkpoint"
        >>> with new_folder(target, overwrite=False, own=["note.txt"]) as part:
        ...     _ = (part / "note.txt").write_text("whole")
        >>> [file.name for file in target.iterdir()], len(list(target.parent.iterdir()))
        (['note.txt'], 1)
    """
    target = Path(path).resolve()
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    made: list[Path] = []
    complete = False
    try:
        _check_free(path, target, overwrite=overwrite, own=own)
        made = [folder for folder in target.parents if not folder.exists()]
        part.mkdir(parents=True)
        yield part
        put_folder(part, target)
        complete = True
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror or error}): choose a folder that you may write"
        ) from error
    finally:
        if not complete:
            shutil.rmtree(part, ignore_errors=True)
            remove_empty(made[::-1])


def _check_free(path: str | Path, target: Path, *, overwrite: bool, own: Collection[str]) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise CheckpointError(f"{path}: is a file; name a folder to write")
    if not overwrite:
        raise CheckpointError(f"{path}: is there already; name another folder, or say overwrite=true")
    foreign = sorted(entry.name for entry in target.iterdir() if entry.name not in own)
    if foreign:
        raise CheckpointError(f"{path}: holds {foreign[0]}, which is no part of a checkpoint; name another folder")
