"""Ring cache: the keys and values of the last N frames of each stream, one slot written per frame.

Frame p lies in slot p mod N. Which frame a slot holds follows from the number of frames written, so the positions are
derived and never stored, and each stream has its own: rows may start, run and be reset independently. Shapes are
static and nothing is read back to the host, so a step can be compiled, exported or captured in a CUDA graph.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "RingState",
    "init_ring",
    "read_past",
    "slot_positions",
    "slots_written",
    "write_ring",
    "write_slot",
    "write_slots",
]


class RingState(NamedTuple):
    """Keys and values of the last N frames, in slot order.

    Attributes:
        keys: ``(B, H, N, E/H)``.
        values: ``(B, H, N, E/H)``.
        frames: ``(B,) int64``, frames seen by each stream.
    """

    keys: Tensor
    values: Tensor
    frames: Tensor


def init_ring(
    batch_size: int,
    num_heads: int,
    window: int,
    head_dim: int,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> RingState:
    """Return an empty ring cache for ``batch_size`` streams.

    Example:
        >>> init_ring(2, 4, 8, 16).keys.shape
        torch.Size([2, 4, 8, 16])
    """
    shape = (batch_size, num_heads, window, head_dim)
    return RingState(
        torch.zeros(shape, dtype=dtype, device=device),
        torch.zeros(shape, dtype=dtype, device=device),
        torch.zeros(batch_size, dtype=torch.int64, device=device),
    )


def write_slot(cache: Tensor, entry: Tensor, slot: Tensor) -> None:
    """Write one entry per stream into its slot, in place, in the cache's dtype (autocast may bring another).

    Args:
        cache: ``(B, N, ...)``, a view whose second dimension is the slot.
        entry: ``(B, ...)``.
        slot: ``(B,) int64``.
    """
    rows = torch.arange(slot.shape[0], device=slot.device)
    cache.index_put_((rows, slot), entry.to(cache.dtype))


def write_ring(state: RingState, key: Tensor, value: Tensor) -> RingState:
    """Write the newest frame of each stream, over the oldest once the ring is full.

    Args:
        state: The cache; its storage is reused.
        key: ``(B, H, E/H)``.
        value: ``(B, H, E/H)``.

    Returns:
        The cache with one frame more.

    Example:
        >>> import torch
        >>> ring = write_ring(init_ring(1, 1, 2, 1), torch.ones(1, 1, 1), torch.ones(1, 1, 1))
        >>> ring.keys.flatten().tolist(), slot_positions(ring.frames, 2).tolist()
        ([1.0, 0.0], [[0, -1]])
    """
    slot = state.frames % state.keys.shape[2]
    write_slot(state.keys.transpose(1, 2), key, slot)
    write_slot(state.values.transpose(1, 2), value, slot)
    return RingState(state.keys, state.values, state.frames + 1)


def slot_positions(frames: Tensor, window: int) -> Tensor:
    """Tell which frame each slot holds.

    Args:
        frames: ``(B,) int64``, frames written so far.
        window: Slots N.

    Returns:
        ``(B, N) int64`` frame indices; -1 where a slot was never written.

    Example:
        >>> import torch
        >>> slot_positions(torch.tensor([0, 2, 5]), 3).tolist()
        [[-1, -1, -1], [0, 1, -1], [3, 4, 2]]
    """
    newest = frames.unsqueeze(1) - 1
    slots = torch.arange(window, device=frames.device)
    return (newest - (newest - slots) % window).clamp(min=-1)


def slots_written(frames: Tensor, window: int) -> Tensor:
    """Tell which slots hold a frame: they fill up in order, and stay full.

    Args:
        frames: ``(B,) int64``, frames written so far.
        window: Slots N.

    Returns:
        ``(B, N) bool``.

    Example:
        >>> import torch
        >>> slots_written(torch.tensor([0, 2, 5]), 3).tolist()
        [[False, False, False], [True, True, False], [True, True, True]]
    """
    return torch.arange(window, device=frames.device) < frames.unsqueeze(1)


def write_slots(cache: Tensor, entries: Tensor, frames: Tensor) -> None:
    """Write the entries of consecutive frames into their slots, in place; of more than N, the last N.

    Args:
        cache: ``(B, N, ...)``, a view whose second dimension is the slot.
        entries: ``(B, k, ...)``.
        frames: ``(B,) int64``, frames seen before these.
    """
    window, count = cache.shape[1], entries.shape[1]
    kept = min(count, window)
    first = frames + count - kept
    slots = (first.unsqueeze(1) + torch.arange(kept, device=frames.device)) % window
    rows = torch.arange(frames.shape[0], device=frames.device).unsqueeze(1)
    cache.index_put_((rows, slots), entries[:, -kept:].to(cache.dtype))


def read_past(cache: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Read the last N - 1 entries of each stream in time order.

    Args:
        cache: ``(B, H, N, d)``.
        frames: ``(B,) int64``, frames seen by each stream.

    Returns:
        ``(B, H, N - 1, d)``, and ``(B, N - 1) bool``, false where the stream had not begun.

    Example:
        >>> import torch
        >>> past, exists = read_past(torch.tensor([[[[3.0], [1.0], [2.0]]]]), torch.tensor([4]))
        >>> past.flatten().tolist(), exists.tolist()
        ([2.0, 3.0], [[True, True]])
    """
    batch, heads, window, dim = cache.shape
    position = frames.unsqueeze(1) - (window - 1) + torch.arange(window - 1, device=frames.device)
    index = (position % window).view(batch, 1, window - 1, 1).expand(batch, heads, window - 1, dim)
    return cache.gather(2, index), position >= 0
