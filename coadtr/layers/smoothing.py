"""Attention of learned queries to all the past under the exponential smoothing kernel, taken in frame by frame."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SmoothedMemory", "init_smoothed", "smooth"]

# Frames taken in at once: the weights of a block of C frames are a C x C matrix for each query and head.
BLOCK = 32


class SmoothedMemory(NamedTuple):
    """Numerator and denominator of a decaying softmax, relative to its largest term.

    The largest term is kept as its logit and its age, not as a number that shrinks: in low precision a logit of ten
    would not change by the logarithm of a decay. All is kept in float32 at least: in bfloat16 a sum of 256 does not
    grow by one.

    Attributes:
        peak: ``(B, H, Q)`` logit of the sample whose decayed term is the largest; -inf without any.
        place: ``(B, H, Q) int64`` which sample that was, counted from one.
        total: ``(B, H, Q)`` sum of all terms, as multiples of the largest: at least one, or zero without any.
        sums: ``(B, H, Q, E/H)`` sum of values by these terms.
    """

    peak: Tensor
    place: Tensor
    total: Tensor
    sums: Tensor


def init_smoothed(batch_size: int, num_heads: int, queries: int, head_dim: int, like: Tensor) -> SmoothedMemory:
    """Return the memory of ``batch_size`` streams that nothing has entered, on the device of ``like``.

    Its dtype is that of ``like``, or float32 where this is a half-precision one.

    Example:
        >>> import torch
        >>> init_smoothed(2, 4, 16, 8, torch.zeros(1)).sums.shape
        torch.Size([2, 4, 16, 8])
    """
    shape, wide = (batch_size, num_heads, queries), torch.promote_types(like.dtype, torch.float32)
    return SmoothedMemory(
        like.new_full(shape, -math.inf, dtype=wide),
        torch.zeros(shape, dtype=torch.int64, device=like.device),
        like.new_zeros(shape, dtype=wide),
        like.new_zeros(*shape, head_dim, dtype=wide),
    )


def smooth(
    memory: SmoothedMemory, products: Tensor, values: Tensor, enters: Tensor, *, samples: Tensor, decay: float
) -> tuple[Tensor, SmoothedMemory]:
    """Take k frames into the memory, and read it after each: the mean of values under exp(logit) decay^age.

    The age of a frame counts the samples that entered after it. Cost of a frame: no product of matrices in a single
    step; in blocks of C frames, C Q E multiply-accumulates.

    Args:
        memory: Of B streams; it is not written to.
        products: ``(B, H, k, Q)`` logits.
        values: ``(B, H, k, E/H)``.
        enters: ``(B, k) bool``, false where a frame is passed over: it has no effect, even if it is not finite. One
            that enters and is not finite also spoils the means of up to 31 frames before it, where k is above one.
        samples: ``(B,) int64``, samples that entered before.
        decay: In (0, 1], by sample.

    Returns:
        Means ``(B, k, H, Q, E/H)``, zeros before the first sample, and the memory after the frames.

    Source: Zhao and Kraehenbuehl, *Real-time Online Video Detection with Temporal Smoothing Transformers*, ECCV 2022,
    section 4.2; the maximum as in Milakov and Gimelshein, *Online normalizer calculation for softmax*, 2018.

    Example:
        >>> import torch
        >>> fresh = init_smoothed(1, 1, 1, 1, torch.zeros(1))
        >>> values, yes = torch.tensor([[[[4.0], [1.0]]]]), torch.ones(1, 2, dtype=torch.bool)
        >>> means, _ = smooth(fresh, torch.zeros(1, 1, 2, 1), values, yes, samples=torch.tensor([0]), decay=0.5)
        >>> means.flatten().tolist()
        [4.0, 2.0]
    """
    means = []
    for start in range(0, products.shape[2], BLOCK):
        span = slice(start, start + BLOCK)
        block = products[:, :, span], values[:, :, span], enters[:, span]
        mean, memory = _smooth_block(memory, *block, samples=samples, log_decay=math.log(decay))
        samples = samples + block[2].sum(1)
        means.append(mean)
    return torch.cat(means, 1), memory


def _running_maximum(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest so far along dimension 2, and where it is: the last of equal ones."""
    if logits.shape[2] != 2:
        return logits.cummax(2)
    # What a step asks for, in operations that exported graphs have.
    first, second = logits.unbind(2)
    later = second >= first
    places = torch.stack([torch.zeros_like(later), later], 2).long()
    return torch.stack([first, torch.where(later, second, first)], 2), places


def _smooth_block(
    memory: SmoothedMemory, products: Tensor, values: Tensor, enters: Tensor, *, samples: Tensor, log_decay: float
) -> tuple[Tensor, SmoothedMemory]:
    given, wide = products.dtype, memory.sums.dtype
    peak, total, sums = memory.peak, memory.total, memory.sums
    entered, passed = enters.cumsum(1), ~enters[:, None, :, None]
    logits, values = products.to(wide).masked_fill(passed, -math.inf), values.to(wide).masked_fill(passed, 0)
    # Logits as of the samples before the block: what decays all terms alike leaves the mean as it is.
    raised = logits - log_decay * entered[:, None, :, None].to(logits.dtype)
    carried = peak + log_decay * (samples[:, None, None] - memory.place).to(logits.dtype)
    largest, which = _running_maximum(torch.cat([carried.unsqueeze(2), raised], 2).detach())
    anchor = largest[:, :, 1:].masked_fill(largest[:, :, 1:] == -math.inf, 0).transpose(2, 3)  # (B, H, Q, C)
    length = products.shape[2]
    later = torch.ones(length, length, dtype=torch.bool, device=products.device).triu(1)
    terms = raised.transpose(2, 3).unsqueeze(3) - anchor.unsqueeze(4)  # (B, H, Q, C, C): time, then frame
    terms = terms.masked_fill(later, -math.inf).exp()
    kept = (carried.unsqueeze(3) - anchor).exp()
    totals = total.unsqueeze(3) * kept + terms.sum(4)
    # (B, H, Q, C, E/H); a single frame takes no sum.
    added = terms * values.unsqueeze(2) if length == 1 else terms @ values.unsqueeze(2)
    all_sums = sums.unsqueeze(3) * kept.unsqueeze(4) + added
    # Not clamped: at a total of one, which the first sample of a stream has, a clamp would cut the gradient.
    means = all_sums / totals.masked_fill(totals == 0, 1).unsqueeze(4)
    newest = which[:, :, -1:]
    number = (samples.unsqueeze(1) + entered)[:, None, :, None].expand_as(logits)
    # Detached, as the anchor is: both only set the scale that sums and totals are kept in.
    peaks = torch.cat([peak.unsqueeze(2), logits], 2).detach().gather(2, newest).squeeze(2)
    places = torch.cat([memory.place.unsqueeze(2), number], 2).gather(2, newest).squeeze(2)
    after = SmoothedMemory(peaks, places, totals[..., -1], all_sums[..., -1, :])
    return means.permute(0, 3, 1, 2, 4).to(given), after
