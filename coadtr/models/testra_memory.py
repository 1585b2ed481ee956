"""The long memory of TeSTra: which frames enter it, and what it holds at each frame of a stream or at a clip's end."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from coadtr.layers.smoothing import SmoothedMemory, init_smoothed, smooth

__all__ = ["fading", "read_whole", "take_in"]


def take_in(
    memory: SmoothedMemory,
    products: Tensor,
    values: Tensor,
    leaving: Tensor,
    first: Tensor,
    *,
    stride: int,
    decay: float,
) -> tuple[Tensor, SmoothedMemory]:
    """Take the frames that leave the work memory into the long one, and read it after each.

    Args:
        memory: Of B streams; it is not written to.
        products: ``(B, H, k, Q)``.
        values: ``(B, H, k, E/H)``.
        leaving: ``(B, k) int64``, index of each frame in its stream; those before ``first`` do not exist.
        first: ``(B, 1) int64``, index of the first frame that the stream has seen.
        stride: Frames enter whose index is a multiple of it.
        decay: By how much a sample counts less for each sample after it.

    Returns:
        Means ``(B, k, H, Q, E/H)``, and the memory after the frames.

    Example:
        >>> memory, ones = init_smoothed(1, 1, 1, 1, torch.zeros(1)), torch.ones(1, 1, 4, 1)
        >>> leaving, first = torch.tensor([[-1, 0, 1, 2]]), torch.tensor([[0]])
        >>> means, memory = take_in(memory, ones, ones, leaving, first, stride=2, decay=0.5)
        >>> means.flatten().tolist(), memory.total.item()
        ([0.0, 1.0, 1.0, 1.0], 1.5)
    """
    enters = (leaving >= first) & (leaving % stride == 0)
    begun = (first + stride - 1) // stride  # multiples of the stride before the first frame
    samples = ((leaving[:, :1] + stride - 1) // stride - begun).clamp(min=0).squeeze(1)
    return smooth(memory, products, values, enters, samples=samples, decay=decay)


def read_whole(
    products: Tensor, values: Tensor, first_frame: Tensor | None, *, work_frames: int, stride: int, decay: float
) -> Tensor:
    """Read the long memory at each frame of whole streams, as it is when that frame has entered the work memory.

    Args:
        products: ``(B, H, T, Q)``.
        values: ``(B, H, T, E/H)``.
        first_frame: ``(B,) int64`` index of each row's first frame in its stream; None for 0.
        work_frames: Frames W of the work memory, which a frame leaves for the long one.
        stride: As in `take_in`.
        decay: As in `take_in`.

    Returns:
        Means ``(B, T, H, Q, E/H)``.

    Example:
        >>> products, values = torch.zeros(1, 1, 4, 1), torch.tensor([4.0, 1.0, 9.0, 9.0]).view(1, 1, 4, 1)
        >>> read_whole(products, values, None, work_frames=2, stride=1, decay=0.5).flatten().tolist()
        [0.0, 0.0, 4.0, 2.0]
    """
    batch, heads, length, queries = products.shape
    begin = torch.zeros(batch, 1, dtype=torch.int64, device=products.device)
    begin = begin if first_frame is None else first_frame.unsqueeze(1)
    products, values = (F.pad(part, (0, 0, work_frames, 0))[:, :, :length] for part in (products, values))
    leaving = begin - work_frames + torch.arange(length, device=products.device)
    fresh = init_smoothed(batch, heads, queries, values.shape[3], values)
    return take_in(fresh, products, values, leaving, begin, stride=stride, decay=decay)[0]


def fading(enters: Tensor, decay: float, dtype: torch.dtype) -> Tensor:
    """Work out what age takes off the logits of a clip's frames at its end.

    Args:
        enters: ``(B, n) bool``, which frames enter the long memory.
        decay: As in `take_in`.
        dtype: Of the logits.

    Returns:
        ``(B, 1, n, 1)``: log(decay) for each frame that enters after it.

    Example:
        >>> fading(torch.tensor([[True, False, True, True]]), 0.5, torch.float32).exp().flatten().tolist()
        [0.25, 0.25, 0.5, 1.0]
    """
    age = enters.sum(1, keepdim=True) - enters.cumsum(1)
    return (age.double() * math.log(decay)).to(dtype)[:, None, :, None]
