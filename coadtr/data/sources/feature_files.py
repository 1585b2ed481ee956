"""Find and read the features of videos, as people keep them: a file for each video, or one HDF5 file.

======================================  ==========================================================================
source                                  what is read
======================================  ==========================================================================
folder                                  ``<video>.npy``, ``.npz`` (one array), ``.pt``, ``.pth`` or ``.csv``
folder of folders                       the same, one folder for each stream
HDF5 file                               one dataset for each video
HDF5 file with groups                   one group for each video, with one dataset for each stream
feature store of coadtr                 its videos and streams, as `coadtr extract` writes them
======================================  ==========================================================================

Frames are rows: an array is ``(T, D)``, or ``(1, T, D)`` as some extractors write it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from coadtr.data.sources.feature_arrays import ARRAY_READERS, ARRAY_SUFFIXES, check_expansion, check_numbers, csv_width
from coadtr.data.storage import schema
from coadtr.data.storage.store import FeatureStore
from coadtr.data.storage.stored import stored_dataset, stored_group
from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

    from numpy.typing import NDArray

__all__ = ["DEFAULT_STREAM", "FeatureFile", "find_feature_files", "find_feature_streams", "is_feature_store"]

DEFAULT_STREAM: Final = "features"
"""Name of the stream where the source gives none."""

_HDF5_SUFFIXES: Final = (".h5", ".hdf5", ".hdf")


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """Features of one video in one stream, not read yet.

    Attributes:
        path: The file that holds them.
        field: Names of groups and dataset on the way to them; empty if the file holds nothing else.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.npy"
        >>> np.save(path, np.ones((1, 7, 3), "f4"))
        >>> FeatureFile(path).shape, FeatureFile(path).read().dtype
        ((7, 3), dtype('float32'))
    """

    path: Path
    field: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Frames T and channels D; reads the header alone, but for ``.npz``, ``.csv`` and old ``.pt`` files.

        Raises:
            DataError: If the file is damaged or holds no features.
        """
        if self.field:
            with self._told(), self._dataset() as data:
                return _frames_first(data.shape)
        frames, width = self.read().shape
        return frames, width

    @property
    def width(self) -> int:
        """Channels D; less is read than for the whole shape.

        Raises:
            DataError: If the file is damaged or holds no features.
        """
        if self.path.suffix.lower() != ".csv":
            return self.shape[1]
        with self._told():
            return csv_width(self.path)

    def read(self) -> NDArray[Any]:
        """Read the features.

        Returns:
            ``(T, D)`` float16, float32 or float64; whole numbers become float32. Perhaps a read-only view of the file.

        Raises:
            DataError: If the file is damaged or holds no features; the message names it.
            UnsafeFileError: If it holds more than numbers, points elsewhere, or unpacks to absurd sizes.
        """
        with self._told():
            if self.field:
                with self._dataset() as data:
                    check_expansion(data.nbytes, data.id.get_storage_size())
                    array = np.asarray(data[()])
            else:
                array = ARRAY_READERS[self.path.suffix.lower()](self.path)
            array = array.reshape(_frames_first(array.shape))
            return array if array.dtype.kind == "f" else array.astype(np.float32)

    @contextmanager
    def _dataset(self) -> Iterator[Any]:
        with h5py.File(self.path, "r") as file:
            group: Any = file
            for name in self.field[:-1]:
                group = stored_group(group, name) if group is not None else None
            data = None if group is None else stored_dataset(group, self.field[-1])
            if data is None:
                raise DataError("is no longer there: leave the file alone while it is read")
            check_numbers(data.dtype)
            yield data

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Add file and field to an error."""
        where = f"{self.path.name}: field {'/'.join(self.field)!r}" if self.field else self.path.name
        try:
            yield
        except DataError as error:
            raise type(error)(f"{where}: {error}") from error
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeError, MemoryError) as error:
            cause = " ".join(str(error).split())[:200]
            raise DataError(f"{where}: is damaged and cannot be read ({cause}): copy or download it again") from error


def _frames_first(shape: Sequence[int]) -> tuple[int, int]:
    """Return (T, D) for the shape of an array that is that, or (1, T, D)."""
    plain = tuple(int(length) for length in shape)
    if len(plain) == 3 and plain[0] == 1:
        plain = plain[1:]
    if len(plain) != 2:
        raise DataError(f"has shape {tuple(shape)}: features are (T, D), one row for each frame")
    return plain[0], plain[1]


def find_feature_files(
    source: str | Path, *, stream: str | None = None, leave_out: Iterable[Path] = ()
) -> Mapping[str, FeatureFile]:
    """Find the features of every video in one stream; see the table at the top of this module.

    Args:
        source: Folder or HDF5 file.
        stream: Name of the stream, if the source holds several.
        leave_out: Files that are no features, such as a table beside them.

    Returns:
        The features by name of the video, sorted by name (in stored order for a feature store of coadtr).

    Raises:
        DataError: If there are none, two files for one video, or several streams and none is named.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "b.npy", np.ones((7, 3), "f4"))
        >>> np.save(folder / "a.npy", np.ones((5, 3), "f4"))
        >>> {name: file.shape for name, file in find_feature_files(folder).items()}
        {'a': (5, 3), 'b': (7, 3)}
    """
    streams = find_feature_streams(source, leave_out=leave_out)
    if stream is None and len(streams) == 1:
        return next(iter(streams.values()))
    if stream is None or stream not in streams:
        wrong = "holds several streams" if stream is None else f"has no stream {stream!r}"
        raise DataError(f"{source}: {wrong}: name one out of {schema.listing(streams)}")
    return streams[stream]


def find_feature_streams(source: str | Path, *, leave_out: Iterable[Path] = ()) -> dict[str, dict[str, FeatureFile]]:
    """Find the features of every video in every stream of a source.

    Args:
        source: Folder or HDF5 file.
        leave_out: Files that are no features, such as a table beside them.

    Returns:
        By name of the stream (`DEFAULT_STREAM` where the source gives none), and then by name of the video.

    Raises:
        DataError: If there are none, two files for one video, or files beside folders of files.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "all.h5"
        >>> with h5py.File(path, "w") as file:
        ...     file["walk/rgb"], file["walk/flow"] = np.ones((5, 3), "f4"), np.ones((5, 2), "f4")
        >>> {stream: list(videos) for stream, videos in find_feature_streams(path).items()}
        {'flow': ['walk'], 'rgb': ['walk']}
    """
    source = Path(source)
    if source.is_dir():
        found = _in_folder(source, {path.resolve() for path in leave_out})
    elif source.is_file() and h5py.is_hdf5(source):
        found = _in_store(source) if is_feature_store(source) else _in_hdf5(source)
    elif source.exists():
        raise DataError(f"{source}: is neither a folder nor an HDF5 file: give one of these with features")
    else:
        raise DataError(f"{source}: no such file or folder: give the one with the features")
    if not found:
        kinds = ", ".join(ARRAY_SUFFIXES) if source.is_dir() else "datasets (T, D)"
        raise DataError(f"{source}: holds no features ({kinds}): give the folder or HDF5 file with one entry a video")
    return found


def is_feature_store(path: str | Path) -> bool:
    """Return whether a file is a feature store of coadtr.

    Example:
        >>> is_feature_store("nowhere.h5")
        False
    """
    path = Path(path)
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("format") == schema.FORMAT)
    except (OSError, RuntimeError, ValueError, TypeError, UnicodeError):
        return False


def _in_folder(folder: Path, leave_out: Set[Path]) -> dict[str, dict[str, FeatureFile]]:
    found: dict[str, dict[str, FeatureFile]] = {}
    own = _array_files(folder, leave_out)
    for below in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = _array_files(below, leave_out)
        if files:
            found[below.name] = files
    if own and found:
        names = schema.listing(file.path.name for file in own.values())
        raise DataError(
            f"{folder}: holds feature files ({names}) and folders of them ({schema.listing(found)}): "
            "give the folder of one stream, one folder for each by its name, or move the files"
        )
    if own:
        return {DEFAULT_STREAM: own}
    if not found:
        books = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _HDF5_SUFFIXES)
        if books:
            raise DataError(f"{folder}: holds HDF5 files ({schema.listing(books)}): give one of them, not the folder")
    return found


def _array_files(folder: Path, leave_out: Set[Path]) -> dict[str, FeatureFile]:
    found: dict[str, FeatureFile] = {}
    for path in sorted(folder.iterdir()):
        # Names that begin with a dot are what systems and editors leave behind.
        if path.name.startswith(".") or path.suffix.lower() not in ARRAY_SUFFIXES or not path.is_file():
            continue
        if leave_out and path.resolve() in leave_out:
            continue
        if path.stem in found:
            raise DataError(f"{folder}: {found[path.stem].path.name} and {path.name} are of one video: drop one")
        found[path.stem] = FeatureFile(path)
    return found


def _in_store(path: Path) -> dict[str, dict[str, FeatureFile]]:
    with FeatureStore(path) as store:
        names = [video.name for video in store.videos()]
        return {
            stream: {name: FeatureFile(path, ("videos", name, stream)) for name in names} for stream in store.streams
        }


def _in_hdf5(path: Path) -> dict[str, dict[str, FeatureFile]]:
    found: dict[str, dict[str, FeatureFile]] = {}
    try:
        with h5py.File(path, "r") as file:
            for name in sorted(file):
                video = stored_group(file, name)
                if video is None:
                    _enter(found, file, (name,), DEFAULT_STREAM)
                    continue
                for stream in sorted(video):
                    _enter(found, video, (name, stream), stream)
    except DataError as error:
        raise type(error)(f"{path}: {error}") from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeError) as error:
        cause = " ".join(str(error).split())
        raise DataError(f"{path}: is damaged and cannot be read ({cause}): copy or download it again") from error
    return {stream: found[stream] for stream in sorted(found)}


def _enter(found: dict[str, dict[str, FeatureFile]], parent: Any, field: tuple[str, ...], stream: str) -> None:
    """Enter a dataset, if it is one; what has fewer than two dimensions is about the features, not of them."""
    data = stored_dataset(parent, field[-1])
    if data is not None and data.ndim >= 2:
        found.setdefault(stream, {})[field[0]] = FeatureFile(Path(parent.file.filename), field)
