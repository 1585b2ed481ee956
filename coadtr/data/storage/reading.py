"""Read spans of one stream, out of mapped memory where that can be."""

from __future__ import annotations

import dataclasses
import mmap
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from coadtr.data.storage.blocks import FINITE, HELD, UNKNOWN, Blocks, all_finite, locate, widen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from coadtr.data.storage.handle import FileHandle

__all__ = ["SpanReader"]

Key = tuple[str, str]


class SpanReader:
    """Read spans of the datasets of an open store, each known by video and field.

    The checksum of a block is verified when the block is read first. That it held is remembered as long as the file
    stays what it was. Compressed data always go through HDF5, which decompresses whole chunks and keeps none.

    Args:
        handle: The file.

    Example:
        >>> import tempfile
        >>> import h5py
        >>> from pathlib import Path
        >>> from coadtr.data.storage.handle import FileHandle
        >>> path = Path(tempfile.mkdtemp()) / "a.h5"
        >>> with h5py.File(path, "w") as file:
        ...     file["videos/v/rgb"] = np.arange(6, dtype="f4").reshape(3, 2)
        >>> reader, target = SpanReader(FileHandle(path)), np.empty((2, 2), np.float32)
        >>> reader.read_into(("v", "rgb"), 1, 3, target)
        >>> target.tolist(), reader.known_finite([("v", "rgb")], 1, 3)
        ([[2.0, 3.0], [4.0, 5.0]], True)
    """

    def __init__(self, handle: FileHandle) -> None:
        self._handle = handle
        self._located: dict[Key, Blocks | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_located": {}}

    def read(self, key: Key, start: int, stop: int, width: int) -> NDArray[Any]:
        """Read entries ``start`` to ``stop - 1`` as they are stored, through HDF5; ``width`` is for the message."""
        with self._handle.reading(*key, (stop - start, width)):
            return cast("NDArray[Any]", self._dataset(key)[start:stop])

    def read_into(self, key: Key, start: int, stop: int, target: NDArray[np.float32]) -> None:
        """Read frames ``start`` to ``stop - 1`` into ``(T, D)`` float32.

        Raises:
            DataError: If the file is damaged, or has changed since it was opened.
        """
        blocks, width = self._blocks(key), target.shape[1]
        if blocks is None:
            widen(self.read(key, start, stop, width), target)
            return
        with self._handle.reading(*key):
            file = self._handle.mapped()
            if blocks.least_known(start, stop) > UNKNOWN or blocks.verify(file, start, stop):
                blocks.read(file, start, stop, target)
                return
        own = blocks.span(start, stop)
        first = own.start * blocks.rows
        # HDF5 says what is wrong; if it finds nothing wrong, neither do we. It stops at the end of the dataset.
        whole = self.read(key, first, own.stop * blocks.rows, width)
        blocks.learn(own, FINITE if all_finite(whole) else HELD)
        widen(whole[start - first : stop - first], target)

    def known_finite(self, keys: Iterable[Key], start: int, stop: int) -> bool:
        """Return whether a span that was read lies in blocks without NaN and infinity; false if that is not known."""
        located = [self._blocks(key) for key in keys]
        return all(blocks is not None and blocks.least_known(start, stop) == FINITE for blocks in located)

    def share(self, keys: Iterable[Key]) -> None:
        """Find where the data lie, and put what is known of their blocks into memory that forked processes share."""
        found = {key: blocks for key in keys if (blocks := self._blocks(key)) is not None}
        shared = memoryview(mmap.mmap(-1, max(1, sum(len(blocks.known) for blocks in found.values()))))
        first = 0
        for key, blocks in found.items():
            known = shared[first : first + len(blocks.known)]
            known[:] = blocks.known
            self._located[key] = dataclasses.replace(blocks, known=known)
            first += len(known)

    def _blocks(self, key: Key) -> Blocks | None:
        """Return where the features of a video lie, or none if they have to be read through HDF5."""
        if key not in self._located:
            with self._handle.reading(*key):
                self._located[key] = locate(self._dataset(key))
        return self._located[key]

    def _dataset(self, key: Key) -> Any:
        video, field = key
        return self._handle.file["videos"][video][field]
