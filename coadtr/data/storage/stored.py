"""Groups and datasets that an HDF5 file holds itself, with their data.

HDF5 can point anywhere: a link may lead to another file, and the bytes of a dataset may be those of any file
that the reader may read. A store comes from somebody else, so none of that is followed.
"""

from __future__ import annotations

import math
from typing import Any, Final

import h5py

from coadtr.errors import DataError, UnsafeFileError

__all__ = ["stored_dataset", "stored_group"]

_LINKS: Final = {h5py.SoftLink: "a soft link", h5py.ExternalLink: "an external link"}
_MAX_FRAMES: Final = 2**31
_REMEDY: Final = "do not use this file, or copy what it points to into it"


def stored_group(parent: Any, name: str) -> h5py.Group | None:
    """Return the group ``name`` of ``parent``, or none if there is none.

    Args:
        parent: The open file or group.
        name: Name of the group, one level deep.

    Raises:
        UnsafeFileError: If it is a link that leads elsewhere; the caller adds file and video.

    Example:
        >>> file = h5py.File("stored.h5", "w", driver="core", backing_store=False)
        >>> file["b"] = h5py.SoftLink("/c")
        >>> stored_group(file, "b")
        Traceback (most recent call last):
        coadtr.errors.UnsafeFileError: is a soft link: do not use this file, or copy what it points to into it
    """
    found = _held(parent, name)
    return found if isinstance(found, h5py.Group) else None


def stored_dataset(parent: Any, name: str) -> h5py.Dataset | None:
    """Return the dataset ``name`` of ``parent``, or none if there is none.

    Args:
        parent: The open group.
        name: Name of the dataset, one level deep.

    Raises:
        UnsafeFileError: If its values are elsewhere: a link, another file, a virtual dataset.
        DataError: If it declares more than the file holds; the caller adds file and video.

    Example:
        >>> file = h5py.File("stored-dataset.h5", "w", driver="core", backing_store=False)
        >>> file["b"] = [1, 2]
        >>> stored_dataset(file, "b").shape
        (2,)
    """
    try:
        found = _held(parent, name)
    except UnsafeFileError as error:
        raise UnsafeFileError(f"field {name!r}: {error}") from error
    if not isinstance(found, h5py.Dataset):
        return None
    # Before the shape: that of a virtual dataset may be looked up in its sources.
    if found.is_virtual:
        raise UnsafeFileError(f"field {name!r}: is put together from other datasets: {_REMEDY}")
    if found.external:
        raise UnsafeFileError(f"field {name!r}: is stored in another file ({found.external[0][0]!r}): {_REMEDY}")
    if not _is_whole(found):
        raise DataError(f"field {name!r}: declares shape {found.shape} but holds less: import or copy it again")
    return found


def _held(parent: Any, name: str) -> Any:
    """Return the object ``name`` of ``parent``, none if there is none; never follow a link."""
    if name not in parent.keys():  # noqa: SIM118 (`in parent` would follow the link)
        return None
    link = parent.get(name, getlink=True)
    if type(link) is not h5py.HardLink:
        raise UnsafeFileError(f"is {_LINKS.get(type(link), 'a link of unknown kind')}: {_REMEDY}")
    return parent[name]


def _is_whole(data: h5py.Dataset) -> bool:
    """Return whether all values were written, so that memory is bounded by the size of the file."""
    if data.shape is None or (data.ndim and data.shape[0] > _MAX_FRAMES):
        return False
    if data.chunks is None:
        return bool(data.id.get_storage_size() >= data.size * data.dtype.itemsize)
    wanted = math.prod(-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True))
    return bool(data.id.get_num_chunks() >= wanted)
