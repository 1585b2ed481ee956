"""Where the frames of a dataset lie in its file, and how spans of them are read from there.

HDF5 copies chunk by chunk through its filters, which verify each checksum at every read: several times the work of
converting float16 features that lie in memory. `Blocks` verifies a block once, notes that in ``known``, and converts
features where the operating system has mapped the file.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import h5py
import numpy as np

from coadtr.data.storage.fletcher import MOST_WORDS, fletcher32

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from coadtr.data.storage.handle import MappedFile

__all__ = ["FINITE", "HELD", "UNKNOWN", "Blocks", "Run", "all_finite", "locate", "widen"]

UNKNOWN: Final = 0
HELD: Final = 1
FINITE: Final = 2

_CHECKSUM_BYTES: Final = 4
_VERIFY_BYTES: Final = 1024**2
# Data that lie in one piece are looked at in blocks of this size.
_BLOCK_BYTES: Final = 64 * 1024
_PROCESS: Final = os.getpid()


class Run(NamedTuple):
    """Blocks ``first`` to ``stop - 1``, which follow each other in the file from byte ``offset`` on."""

    first: int
    stop: int
    offset: int


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of one ``(T, D)`` dataset: chunks of whole frames, uncompressed.

    Attributes:
        rows: Frames of a block.
        dim: Channels D.
        dtype: Type stored.
        gap: Bytes between a block's values and the next block: its checksum.
        runs: Where the blocks are, in order.
        frames: Frames T.
        known: One byte a block, what is known of each block: `UNKNOWN`, `HELD` (its checksum held when it was
            read first) or `FINITE` (and all its values are finite). Worker processes may share it.

    Example:
        >>> file = h5py.File("blocks.h5", "w", driver="core", backing_store=False)
        >>> blocks = locate(file.create_dataset("rgb", data=np.ones((6, 2)), chunks=(4, 2), fletcher32=True))
        >>> blocks.rows, blocks.gap, blocks.known.tolist(), blocks.least_known(0, 3)
        (4, 4, [0, 0], 0)
    """

    rows: int
    dim: int
    dtype: np.dtype[Any]
    gap: int
    runs: tuple[Run, ...]
    frames: int
    known: memoryview

    def span(self, start: int, stop: int) -> slice:
        """Return the blocks that frames ``start`` to ``stop - 1`` lie in."""
        return slice(start // self.rows, -(-stop // self.rows))

    def least_known(self, start: int, stop: int) -> int:
        """Return the least that is known of a block of frames ``start`` to ``stop - 1``."""
        return min(self.known[self.span(start, stop)], default=FINITE)

    def learn(self, blocks: slice, known: int) -> None:
        """Note what is known of some blocks."""
        self.known[blocks] = bytes([known]) * (blocks.stop - blocks.start)

    def verify(self, file: MappedFile, start: int, stop: int) -> bool:
        """Hold blocks of frames ``start`` to ``stop - 1`` against their checksums, and look for NaN and infinity.

        Args:
            file: The whole file.
            start: First frame.
            stop: Frame after the last.

        Returns:
            Whether the checksums held; if not, or if blocks are too large for this, HDF5 has the last word.

        Raises:
            OSError: If the file cannot be read.
            EOFError: If it is too short.
        """
        wanted = self.span(start, stop)
        stride = self.rows * self.dim * self.dtype.itemsize + self.gap
        most = max(1, _VERIFY_BYTES // stride)
        for run in self.runs:
            first, last = max(run.first, wanted.start), min(run.stop, wanted.stop)
            for block in range(first, last, most):
                own = slice(block, min(block + most, last))
                if UNKNOWN not in self.known[own]:
                    continue
                finite = self._held(file, own, run.offset + (block - run.first) * stride, stride)
                if finite is None:
                    return False
                self.learn(own, FINITE if finite else HELD)
        return True

    def _held(self, file: MappedFile, own: slice, at: int, stride: int) -> bool | None:
        """Return whether the values of some blocks, which begin at byte ``at``, are finite; none if checksums fail."""
        count, words = own.stop - own.start, (stride - self.gap) // 2
        if not self.gap:
            frames = min(own.stop * self.rows, self.frames) - own.start * self.rows
            memory = file.fetch(at, frames * self.dim * self.dtype.itemsize)
            return all_finite(np.ndarray((frames * self.dim,), self.dtype, memory, at))
        memory = file.fetch(at, count * stride)
        stored: NDArray[np.uint32] = np.ndarray((count,), np.dtype("<u4"), memory, at + stride - self.gap, (stride,))
        table: NDArray[np.uint16] = np.ndarray((count, words), np.uint16, memory, at, (stride, 2))
        if words > MOST_WORDS or (fletcher32(table) != stored).any():
            return None
        shape, strides = (count, self.rows * self.dim), (stride, self.dtype.itemsize)
        return all_finite(np.ndarray(shape, self.dtype, memory, at, strides))

    def read(self, file: MappedFile, start: int, stop: int, target: NDArray[np.float32]) -> None:
        """Read frames ``start`` to ``stop - 1`` without looking at checksums.

        Args:
            file: The whole file.
            start: First frame.
            stop: Frame after the last.
            target: ``(T, D)`` float32 to fill.

        Raises:
            OSError: If the file cannot be read.
            EOFError: If it is too short.
        """
        row = self.dim * self.dtype.itemsize
        stride, wanted = self.rows * row + self.gap, self.span(start, stop)
        for run in self.runs:
            first = max(run.first, wanted.start)
            begin, end = max(start, first * self.rows), min(stop, min(run.stop, wanted.stop) * self.rows)
            if begin >= end:
                continue
            # Where frame 0 would begin if the run went back to it, and each block had its gap.
            base = run.offset - run.first * stride
            at = base + begin * row + begin // self.rows * self.gap
            memory = file.fetch(at, (end - begin) * row + ((end - 1) // self.rows - first) * self.gap)
            for frame, blocks, rows in self._parts(begin, end):
                at = base + frame * row + frame // self.rows * self.gap
                shape, strides = (blocks, rows, self.dim), (stride, row, self.dtype.itemsize)
                source: NDArray[Any] = np.ndarray(shape, self.dtype, memory, at, strides)
                widen(source, target[frame - start : frame - start + blocks * rows].reshape(shape))

    def _parts(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Cut frames into ``(first frame, blocks, frames of each)`` that can be copied at once."""
        if not self.gap:
            yield begin, 1, end - begin
            return
        head = min(end, -(-begin // self.rows) * self.rows)
        whole = (end - head) // self.rows
        tail = head + whole * self.rows
        if begin < head:
            yield begin, 1, head - begin
        if whole:
            yield head, whole, self.rows
        if tail < end:
            yield tail, 1, end - tail


def locate(data: h5py.Dataset) -> Blocks | None:
    """Find the blocks of a dataset.

    Args:
        data: ``(T, D)`` dataset of an open file.

    Returns:
        The blocks, or none where HDF5 itself has to read: compressed or otherwise filtered data, chunks that part
        the channels, data kept in the header, and systems other than Linux.
    """
    if sys.platform != "linux" or data.file.userblock_size or not data.size:
        return None
    if data.chunks is None:
        offset = data.id.get_offset()
        if offset is None:
            return None
        rows = max(1, _BLOCK_BYTES // (data.shape[1] * data.dtype.itemsize))
        count = -(-len(data) // rows)
        return Blocks(
            rows, data.shape[1], data.dtype, 0, (Run(0, count, offset),), len(data), memoryview(bytearray(count))
        )
    filters = data.id.get_create_plist()
    kinds = [filters.get_filter(index)[0] for index in range(filters.get_nfilters())]
    if kinds not in ([], [h5py.h5z.FILTER_FLETCHER32]) or data.chunks[1] != data.shape[1]:
        return None
    gap = _CHECKSUM_BYTES if kinds else 0
    rows, dim = data.chunks
    stride = rows * dim * data.dtype.itemsize + gap
    offsets = np.full(-(-len(data) // rows), -1, np.int64)
    plain = True

    def note(chunk: Any) -> None:
        nonlocal plain
        offsets[chunk.chunk_offset[0] // rows] = chunk.byte_offset
        # A filter may be left out for single chunks.
        plain &= chunk.size == stride and not chunk.filter_mask

    data.id.chunk_iter(note)
    if not plain or (offsets < 0).any():
        return None
    starts = [0, *(np.flatnonzero(np.diff(offsets) != stride) + 1).tolist()]
    runs = tuple(
        Run(first, stop, int(offsets[first])) for first, stop in zip(starts, [*starts[1:], len(offsets)], strict=True)
    )
    return Blocks(rows, dim, data.dtype, gap, runs, len(data), memoryview(bytearray(len(offsets))))


def widen(source: NDArray[Any], target: NDArray[np.float32]) -> None:
    """Copy float16 or float32 values into a float32 array of the same shape.

    PyTorch converts float16 several times as fast as NumPy, to the same values; it is used where it is loaded, as it
    is wherever a model runs.

    Args:
        source: Values of any shape.
        target: Where they go.

    Example:
        >>> target = np.empty(2, np.float32)
        >>> widen(np.array([0.5, 2], np.float16), target)
        >>> target.tolist()
        [0.5, 2.0]
    """
    torch: Any = sys.modules.get("torch")
    # The thread pool of torch does not survive a fork; DataLoader workers have one thread, and need no pool.
    if (
        source.dtype == np.float16
        and hasattr(torch, "from_numpy")
        and (os.getpid() == _PROCESS or torch.get_num_threads() == 1)
    ):
        torch.from_numpy(target).copy_(torch.from_numpy(source))
    else:
        target[...] = source


def all_finite(values: NDArray[Any]) -> bool:
    """Return whether no float16 or float32 value is NaN or infinite.

    Example:
        >>> all_finite(np.array([1, 2], "f2")), all_finite(np.array([1, np.inf], "f2"))
        (True, False)
    """
    if values.dtype == np.float16:  # NumPy would widen them first; without the sign, infinity is 0x7C00 and NaN above
        return bool((values.view(np.uint16) & 0x7FFF).max(initial=0) < 0x7C00)
    return bool(np.isfinite(values).all())
