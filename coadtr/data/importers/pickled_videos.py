"""Pickles of many videos, as OadTR and CoOadTR publish features and annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.data.importers.problems import raise_problems
from coadtr.data.sources.safe_pickle import check_pickle, load_pickle
from coadtr.errors import DataError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["PickledFeatures", "annotation_fault", "check_files", "find_files", "load_videos", "width_warnings"]


def load_videos(path: Path) -> dict[str, Any]:
    """Read a pickle ``{video: anything}``.

    Args:
        path: The pickle.

    Raises:
        UnsafeFileError: If it asks for anything but data.
        DataError: If it is missing, damaged, or no dict by name.

    Example:
        >>> import pickle, tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "anno.pickle"
        >>> _ = path.write_bytes(pickle.dumps({"a": 1}))
        >>> load_videos(path)
        {'a': 1}
    """
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, not a dict of videos: give the published pickle")
    wrong = [name for name in content if not isinstance(name, str)]
    if wrong:
        raise DataError(f"{path}: has a key {wrong[0]!r}: its keys must be names of videos, give the published pickle")
    return content


def check_files(source: Path, paths: Iterable[Path], problems: Iterable[str]) -> None:
    """Refuse pickles that are damaged or ask for more than data, before any is read.

    Args:
        source: Folder of the source.
        paths: The pickles.
        problems: What is known to be wrong with the source; told with the rest.

    Raises:
        UnsafeFileError: If a pickle asks for anything but data.
        DataError: If one is damaged.

    Example:
        >>> import pickle, tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "anno.pickle"
        >>> _ = path.write_bytes(pickle.dumps({"a": 1}))
        >>> check_files(path.parent, [path], [])
    """
    damaged = []
    for path in paths:
        try:
            check_pickle(path)
        except UnsafeFileError:
            raise
        except DataError as error:
            damaged.append(str(error).removeprefix(f"{path.parent}/"))
    if damaged:
        raise_problems(source, [*problems, *damaged])


def find_files(
    folder: Path, candidates: Mapping[str, Sequence[str]], given: Mapping[str, str | None]
) -> tuple[dict[str, Path], list[str]]:
    """Find the files of a source, each by the first of its usual names or by the name that a user gives.

    Args:
        folder: Folder of the source.
        candidates: Usual names by option.
        given: What the user gives for each option, or none.

    Returns:
        The files that are there by option, and one problem for each that is not.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> find_files(Path(tempfile.mkdtemp()), {"anno": ["a.pickle", "b.pickle"]}, {"anno": None})
        ({}, ['no file a.pickle or b.pickle: add it, or name it with anno='])
    """
    found, problems = {}, []
    for option, usual in candidates.items():
        named = given[option]
        names = usual if named is None else (named,)
        # A name that a user gives may be a path from anywhere; names out of files never come here.
        paths = [folder / name for name in names if (folder / name).is_file()]
        if paths:
            found[option] = paths[0]
        else:
            problems.append(f"no file {' or '.join(names)}: add it, or name it with {option}=")
    return found, problems


class PickledFeatures:
    """Features out of pickles ``{video: {stream: (T, D)}}``, one pickle in memory at a time.

    A pickle is read when its first video is asked for. Its videos are let go one by one as they are taken, and
    what is left of it when another pickle is asked for.

    Args:
        subsets: The videos that are wanted out of each file.

    Example:
        >>> import pickle, tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "features.pickle"
        >>> _ = path.write_bytes(pickle.dumps({"a": {"rgb": np.ones((3, 2))}, "b": {}}))
        >>> features = PickledFeatures({path: ["a"]})
        >>> features.widths(path), features.take(path, "a")["rgb"].shape
        ({'rgb': 2}, (3, 2))
    """

    def __init__(self, subsets: Mapping[Path, Sequence[str]]) -> None:
        self._subsets = subsets
        self._path: Path | None = None
        self._videos: dict[str, Any] = {}
        self._failed: dict[Path, DataError] = {}

    def widths(self, path: Path) -> dict[str, int]:
        """Return the channels D of each stream, by the first video of a file that has them; empty if none has.

        Args:
            path: One of the files.

        Raises:
            DataError: If the file cannot be read.
        """
        self._open(path)
        for name in self._subsets[path]:
            entry = self._videos.get(name)
            if isinstance(entry, dict) and entry and all(np.ndim(array) == 2 for array in entry.values()):
                return {str(stream): int(array.shape[1]) for stream, array in entry.items()}
        return {}

    def take(self, path: Path, name: str) -> dict[str, NDArray[Any]]:
        """Return the features of one video and let them go.

        Args:
            path: One of the files.
            name: A video that it should hold.

        Raises:
            DataError: If the file cannot be read, or the video is not in it or not as it should be.
        """
        self._open(path)
        entry = self._videos.pop(name, None)
        if not isinstance(entry, dict) or not entry:
            raise DataError(f"{path.name}: has no features of it: add them, or take it off the list")
        for stream, array in entry.items():
            if not isinstance(array, np.ndarray):
                raise DataError(f"{path.name}: field {stream!r} is a {type(array).__name__}: give an array (T, D)")
            if array.ndim != 2:
                raise DataError(f"{path.name}: field {stream!r} has shape {array.shape}: give (T, D)")
        return {str(stream): np.asarray(array) for stream, array in entry.items()}

    def _open(self, path: Path) -> None:
        if path in self._failed:
            raise self._failed[path]
        if path == self._path:
            return
        self._path, self._videos = None, {}
        try:
            content = load_videos(path)
        except DataError as error:
            self._failed[path] = error
            raise
        self._path = path
        self._videos = {name: content[name] for name in self._subsets[path] if name in content}


def annotation_fault(anno: object, classes: int, *, told: str = "annotation") -> str | None:
    """Return what is wrong with the annotation of a video, or none.

    Args:
        anno: What the pickle has for it; ``(T, C)`` zeros and ones are wanted, with a class in each frame.
        classes: Number of classes C.
        told: What messages call it.

    Example:
        >>> annotation_fault(np.array([[1, 0], [0, 0]]), 2)
        'annotation has no class at frame 1: label it as background'
    """
    if not isinstance(anno, np.ndarray):
        return "has no annotation: add it, or take the video off the list"
    if anno.ndim != 2 or anno.shape[1] != classes or anno.dtype.kind not in "iubf":
        return f"{told} is {anno.dtype} of shape {anno.shape}: give (T, {classes}) zeros and ones"
    if not np.isin(anno, (0, 1)).all():
        return f"{told} has values other than 0 and 1: give (T, C) zeros and ones"
    unlabelled = np.flatnonzero(anno.sum(axis=1) == 0)
    return f"{told} has no class at frame {unlabelled[0]}: label it as background" if unlabelled.size else None


def width_warnings(streams: Mapping[str, int], published: Mapping[str, int], features: str) -> tuple[str, ...]:
    """Return one warning for each stream whose width is not the published one.

    Args:
        streams: Channels D by stream, as found.
        published: The same, as published.
        features: What the features are called.

    Example:
        >>> width_warnings({"rgb": 2048, "flow": 2048}, {"rgb": 2048, "flow": 1024}, "anet")
        ("stream 'flow' has 2048 channels where the published anet features have 1024: check that these are the ones",)
    """
    return tuple(
        f"stream {stream!r} has {width} channels where the published {features} features have {published[stream]}: "
        "check that these are the ones"
        for stream, width in streams.items()
        if width != published.get(stream, width)
    )
