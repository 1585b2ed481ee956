"""Find files by the names that lists and tables give them, without joining such a name into a path."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from coadtr.data.storage.schema import listing
from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["NamedFiles", "recording_names"]


class NamedFiles:
    """Files of a folder, known by their names, with or without folders before and a suffix behind.

    ``blues/blues.00029.wav``, ``blues.00029.wav``, ``blues.00029`` and ``GTZAN/blues/blues.00029.au`` all stand for
    the file ``blues/blues.00029.wav``: one path has to be the end of the other, and suffixes do not count.

    Args:
        folder: The folder.
        files: The files in it.
        suffixes: Suffixes that a name may have, in lower case.

    Example:
        >>> files = NamedFiles(Path("gtzan"), [Path("gtzan/blues/blues.00029.wav")], (".wav", ".au"))
        >>> files.find("blues.00029.au").as_posix()
        'gtzan/blues/blues.00029.wav'
    """

    def __init__(self, folder: Path, files: Iterable[Path], suffixes: Sequence[str]) -> None:
        self._folder, self._suffixes = folder, suffixes
        self._by_stem: dict[str, list[tuple[tuple[str, ...], Path]]] = {}
        for path in files:
            parts = self._parts(path.relative_to(folder).as_posix())
            self._by_stem.setdefault(parts[-1], []).append((parts, path))

    def known(self, name: str) -> bool:
        """Return whether any file has that name."""
        return bool(self._found(self._parts(name.replace("\\", "/"))))

    def find(self, name: str) -> Path:
        """Return the file of a name.

        Raises:
            DataError: If there is none, or more than one; the caller says where the name stands.
        """
        found = self._found(self._parts(name.replace("\\", "/")))
        if not found:
            raise DataError(f"there is no file {name!r} in {self._folder.name}: add it, or drop the entry")
        if len(found) > 1:
            places = listing(path.relative_to(self._folder).as_posix() for path in found)
            raise DataError(f"{name!r} may be any of {places}: name it with its folder, one file of a name in each")
        return found[0]

    def _found(self, wanted: tuple[str, ...]) -> list[Path]:
        """Return the files whose path is the end of the one that is wanted, or the other way round."""
        return [
            path
            for parts, path in (self._by_stem.get(wanted[-1], []) if wanted else [])
            if all(own == other for own, other in zip(reversed(parts), reversed(wanted), strict=False))
        ]

    def _parts(self, name: str) -> tuple[str, ...]:
        path = PurePosixPath(name)
        parts = tuple(part for part in path.parts if part not in (".", "/"))
        if parts and path.suffix.lower() in self._suffixes:
            return (*parts[:-1], path.stem)
        return parts


def recording_names(files: Sequence[Path], folder: Path) -> dict[Path, str]:
    """Give every file a name of its own: its stem, or where two files share that, its whole path with ``_`` for ``/``.

    Args:
        files: The files.
        folder: The folder that they are in.

    Example:
        >>> folder = Path("sounds")
        >>> files = [folder / "dog/1.wav", folder / "cat/1.wav", folder / "cat/meow.wav"]
        >>> list(recording_names(files, folder).values())
        ['dog_1.wav', 'cat_1.wav', 'meow']
    """
    times = Counter(path.stem for path in files)
    return {path: path.stem if times[path.stem] == 1 else "_".join(path.relative_to(folder).parts) for path in files}
