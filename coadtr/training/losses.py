"""Losses over frames, leaving out those without loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coadtr.data import NO_LOSS

__all__ = ["frame_loss"]


def frame_loss(logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average the classification loss over the frames that carry one.

    Args:
        logits: ``(..., C)``.
        labels: ``(...) int64`` class indices, ``NO_LOSS`` where a frame carries none (softmax cross-entropy); or
            ``(..., C) float`` multi-hot (sigmoid cross-entropy, summed over classes).
        mask: ``(...) bool`` for multi-hot labels, true where a frame carries loss; None if all do.

    Returns:
        A scalar; zero if no frame carries loss.

    Example:
        >>> import torch
        >>> frame_loss(torch.zeros(2, 4), torch.tensor([1, -100])).item()
        1.3862943649291992
    """
    logits = logits.float()
    if labels.dtype == torch.int64:
        total = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=NO_LOSS, reduction="sum")
        return total / (labels != NO_LOSS).sum().clamp(min=1)
    each = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(-1)
    if mask is None:
        return each.mean()
    return (each * mask).sum() / mask.sum().clamp(min=1)
