"""How an array lies in the file: chunks, checksums, compression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COMPRESSIONS", "check_compression", "write_array"]

COMPRESSIONS: Final = ("gzip", "lzf")

# A span read decodes whole chunks: 64 KiB holds a window of a typical video and wastes little at its ends.
_CHUNK_BYTES = 64 * 1024


def check_compression(compression: str | None) -> str | None:
    """Return ``compression`` if it is one that every HDF5 reads, or none.

    Raises:
        ConfigError: If it is another.

    Example:
        >>> check_compression("zip")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: compression='zip': use one of gzip, lzf, or null for none
    """
    if compression is not None and compression not in COMPRESSIONS:
        raise ConfigError(f"compression={compression!r}: use one of {', '.join(COMPRESSIONS)}, or null for none")
    return compression


def write_array(group: Any, name: str, array: NDArray[Any], *, compression: str | None = None) -> None:
    """Write one array of a video, ``(T, ...)``.

    Args:
        group: The open group of the video.
        name: Name of the dataset.
        array: What to write.
        compression: ``'gzip'``, ``'lzf'``, or none; features hardly compress.

    Example:
        >>> import h5py, numpy as np
        >>> file = h5py.File("layout.h5", "w", driver="core", backing_store=False)
        >>> write_array(file, "rgb", np.zeros((3, 2), "f2"))
        >>> file["rgb"].chunks, file["rgb"].fletcher32
        ((3, 2), True)
    """
    rows = max(1, _CHUNK_BYTES // (array[0].size * array.itemsize))
    chunks = (min(len(array), rows), *array.shape[1:])
    # The checksum turns a damaged disk block into an error.
    group.create_dataset(name, data=array, chunks=chunks, fletcher32=True, compression=compression)
