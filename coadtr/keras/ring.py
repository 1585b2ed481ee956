"""Ring cache by ``keras.ops``: what the last N frames of each stream left behind, one slot written per frame.

Frame p lies in slot p mod N, and each stream counts its own frames, so rows start and reset independently. Values are
never written in place: a write returns the next value, and a compiler that is told to may reuse the storage.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = [
    "Tensor",
    "init_ring",
    "read_past",
    "reset_state",
    "seen_in_order",
    "slots_written",
    "to_slots",
    "to_time_order",
    "write_ring",
]

Tensor = Any  # of the backend: a TensorFlow, JAX or PyTorch tensor


def init_ring(batch_size: int, window: int, shape: tuple[int, ...], dtype: str) -> Tensor:
    """Return an empty ring of entries of a shape: ``(B, N, *shape)``.

    Example:
        >>> tuple(init_ring(2, 8, (4,), "float32").shape)
        (2, 8, 4)
    """
    return ops.zeros((batch_size, window, *shape), dtype=dtype)


def write_ring(ring: Tensor, entry: Tensor, frames: Tensor) -> Tensor:
    """Write the newest entry of each stream into its slot, over the oldest once the ring is full.

    Args:
        ring: ``(B, N, ...)``.
        entry: ``(B, ...)``.
        frames: ``(B,) int32``, frames seen before this one.

    Returns:
        The next ring; the given one stays as it is.

    Example:
        >>> ring = write_ring(ops.zeros((1, 2, 1)), ops.ones((1, 1)), ops.array([3], dtype="int32"))
        >>> ops.convert_to_numpy(ring).ravel().tolist()
        [0.0, 1.0]
    """
    slot = frames % ring.shape[1]
    rows = ops.arange(ops.shape(frames)[0], dtype="int32")
    return ops.scatter_update(ring, ops.stack([rows, slot], axis=1), ops.cast(entry, ring.dtype))


def slots_written(frames: Tensor, window: int) -> Tensor:
    """Tell which slots hold a frame, ``(B, N) bool``: they fill up in order, and stay full."""
    return ops.arange(window, dtype="int32")[None] < frames[:, None]


def seen_in_order(frames: Tensor, window: int) -> Tensor:
    """Tell which of the last N frames exist, oldest first, ``(B, N) bool``.

    Example:
        >>> ops.convert_to_numpy(seen_in_order(ops.array([1, 5], dtype="int32"), 3)).tolist()
        [[False, False, True], [True, True, True]]
    """
    return ops.arange(window, dtype="int32")[None] >= window - frames[:, None]


def _gather(x: Tensor, index: Tensor, axis: int) -> Tensor:
    """Take entries along an axis by an index of each row, ``(B, n)``."""
    axis %= len(x.shape)
    shape = [1] * len(x.shape)
    shape[0], shape[axis] = -1, index.shape[1]
    return ops.take_along_axis(x, ops.reshape(index, shape), axis=axis)


def to_time_order(x: Tensor, frames: Tensor, axis: int = 1) -> Tensor:
    """Bring an axis of N slots into time order, the newest frame last.

    Args:
        x: ``(B, ..., N, ...)`` in slot order.
        frames: ``(B,) int32``, frames seen.
        axis: The axis of the slots.

    Example:
        >>> ring = ops.array([[[3.0], [1.0], [2.0]]])
        >>> ops.convert_to_numpy(to_time_order(ring, ops.array([4], dtype="int32"))).ravel().tolist()
        [1.0, 2.0, 3.0]
    """
    window = x.shape[axis]
    return _gather(x, (frames[:, None] + ops.arange(window, dtype="int32")[None]) % window, axis)


def to_slots(x: Tensor, frames: Tensor, axis: int = -1) -> Tensor:
    """Bring an axis of the last N frames, oldest first, into slot order: the inverse of :func:`to_time_order`."""
    window = x.shape[axis]
    return _gather(x, (ops.arange(window, dtype="int32")[None] - frames[:, None]) % window, axis)


def read_past(ring: Tensor, frames: Tensor) -> Tensor:
    """Read the last N - 1 entries of each stream in time order, ``(B, N - 1, ...)``; zeros where there were none.

    Args:
        ring: ``(B, N, ...)``.
        frames: ``(B,) int32``, frames seen.

    Example:
        >>> ring = ops.array([[[3.0], [1.0], [2.0]]])
        >>> ops.convert_to_numpy(read_past(ring, ops.array([4], dtype="int32"))).ravel().tolist()
        [2.0, 3.0]
    """
    return to_time_order(ring, frames)[:, 1:]


def reset_state(state: Any, fresh: Any, rows: Tensor) -> Any:
    """Make the streams where ``rows`` ``(B,) bool`` is true fresh again, and leave the others as they are.

    Args:
        state: State of B streams.
        fresh: State of one fresh stream, or of B.
        rows: ``(B,) bool``.

    Returns:
        The next state; the given one stays as it is.
    """
    rows = ops.cast(ops.convert_to_tensor(rows), "bool")

    def reset(leaf: Tensor, new: Tensor) -> Tensor:
        return ops.where(ops.reshape(rows, (-1, *[1] * (len(leaf.shape) - 1))), new, leaf)

    return keras.tree.map_structure(reset, state, fresh)
