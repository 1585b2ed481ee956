"""The Fletcher-32 checksum as HDF5 computes it, of many blocks at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MOST_WORDS", "fletcher32"]

_COLUMNS: Final = 256
MOST_WORDS: Final = _COLUMNS * 256


def fletcher32(words: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """Compute the checksum that HDF5 keeps with each block.

    The two sums of Fletcher's checksum, of all words and of all prefixes, follow from the sums of the rows and of the
    columns of the words laid out as a table. These are below 2**24, so that float32, which is added fastest, holds them
    exactly. HDF5 sums up big-endian words; swapping the bytes of a word multiplies it by 256 modulo 65535.

    Args:
        words: ``(blocks, n)`` little-endian words of 16 bits, at most `MOST_WORDS` in a block.

    Returns:
        ``(blocks,)`` checksums.

    Source: J. Fletcher, "An Arithmetic Checksum for Serial Transmissions", IEEE Trans. Communications 30 (1982);
    HDF5, ``H5_checksum_fletcher32``.

    Example:
        >>> hex(int(fletcher32(np.frombuffer(b"abcdef", np.uint16)[None])[0]))
        '0x50562a2d'
    """
    blocks, count = words.shape
    table = np.empty((blocks, -(-count // _COLUMNS), _COLUMNS), np.float32)
    flat = table.reshape(blocks, -1)
    flat[:, :count] = words
    # Words of zero at the end change neither sum, as places are counted from the first.
    flat[:, count:] = 0
    # Not by a product with ones: BLAS would start threads of its own in every worker process.
    rows, columns = np.einsum("brc->br", table).astype(np.int64), np.einsum("brc->bc", table).astype(np.int64)
    total = rows.sum(axis=1)
    places = rows @ np.arange(rows.shape[1]) * _COLUMNS + columns @ np.arange(_COLUMNS)
    sums: NDArray[np.uint32] = (_fold(256 * (count * total - places)) << 16 | _fold(256 * total)).astype(np.uint32)
    return sums


def _fold(sums: NDArray[np.int64]) -> NDArray[np.int64]:
    """Reduce modulo 65535 as adding the carries does: only zero itself becomes 0."""
    return np.where(sums == 0, 0, (sums - 1) % 65535 + 1)
