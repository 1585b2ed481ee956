"""A batch played at another speed: frames between frames, and the labels that belong to them."""

from __future__ import annotations

import torch
from torch import Tensor

from coadtr.data import NO_LOSS

__all__ = ["change_speed"]


def change_speed(batch: dict[str, Tensor], factor: Tensor) -> dict[str, Tensor]:
    """Play each row of a batch at its own speed, T frames again.

    New frame t shows the old position ``t * factor`` where every frame has a label: what lies beyond the end is padded
    with zeros and carries no loss. In a clip, where the last k frames alone have labels, it shows
    ``T - 1 - (T - 1 - t) * factor``: the last frame stays, and the first is repeated where frames from before the clip
    would be needed. A clip that begins before its video (``first_frame`` below 0) is padded with zeros up to where the
    video begins at the new speed, and ``first_frame`` says where that is. Frames are interpolated linearly between
    their neighbours, and labels are those of the nearest old frame. Anticipated labels lie ahead in new frames; one
    beyond the old labels carries no loss.

    Args:
        batch: ``frames``, ``first_frame``, ``labels``, and maybe ``mask``, ``ahead_labels`` and ``ahead_mask``, as
            `Augmentation` takes them.
        factor: ``(B,)`` speeds, positive; 1 changes nothing.

    Returns:
        The batch with these replaced, and what else it holds.

    Source: Ko et al., "Audio Augmentation for Speech Recognition", Interspeech 2015, section 2.3.

    Example:
        >>> frames = torch.arange(1.0, 5.0).view(1, 4, 1)
        >>> batch = {"frames": frames, "labels": torch.tensor([[0, 1, 2, 3]]), "first_frame": torch.tensor([7])}
        >>> fast = change_speed(batch, torch.tensor([2.0]))
        >>> fast["frames"].flatten().tolist(), fast["labels"].tolist()
        ([1.0, 3.0, 0.0, 0.0], [[0, 2, -100, -100]])
    """
    frames, labels, first = batch["frames"], batch["labels"], batch["first_frame"].unsqueeze(-1)
    length, learnt = frames.shape[1], labels.shape[1]
    time = torch.arange(length, device=frames.device, dtype=torch.float64)
    speed = factor.to(frames.device, torch.float64).unsqueeze(-1)
    from_end = length - 1 - (length - 1 - time) * speed
    early = first < 0
    position = torch.where(early, from_end, time * speed) if learnt == length else from_end
    # New index of the video's first frame, which is old frame -first of the clip.
    begin = _round(length - 1 - (length - 1 + first) / speed)
    padding = early & (time < begin)
    changed = batch | {
        "frames": _between(frames, torch.maximum(position, (-first).clamp(min=0))).masked_fill(
            padding.unsqueeze(-1), 0
        ),
        "first_frame": torch.where(early, -begin, first).squeeze(-1),
    }
    # Index in the labels of the old frame nearest to each new one; those outside have none.
    position = position[:, length - learnt :] - (length - learnt)
    nearest = _round(position).masked_fill(padding[:, length - learnt :], -1)
    changed["labels"], mask = _pick(labels, nearest, batch.get("mask"), whole=3)
    if mask is not None:
        changed["mask"] = mask
    if "ahead_labels" in batch:
        changed["ahead_labels"], mask = _pick_ahead(batch, position, nearest, speed)
        if mask is not None:
            changed["ahead_mask"] = mask
    return changed


def _round(position: Tensor) -> Tensor:
    # Halves go up, not to the even neighbour: frames in between would be left out otherwise.
    return (position + 0.5).floor().long()


def _between(frames: Tensor, position: Tensor) -> Tensor:
    """Interpolate ``(B, T, D)`` at ``(B, T)`` positions: the first frame in front, zeros beyond the last."""
    last = frames.shape[1] - 1
    held = position.clamp(0, last)
    left = held.floor().long()
    right = (left + 1).clamp(max=last)
    row = torch.arange(len(frames), device=frames.device).unsqueeze(-1)
    real = frames.ne(0).any(-1)
    # Towards padding the last real frame holds.
    right = torch.where(real[row, right], right, left)
    part = (held - left).unsqueeze(-1).to(torch.float32)
    between = torch.lerp(frames[row, left].float(), frames[row, right].float(), part)
    inside = _round(position) <= last
    return between.masked_fill(~inside.unsqueeze(-1), 0).to(frames.dtype)


def _pick(labels: Tensor, index: Tensor, mask: Tensor | None, whole: int) -> tuple[Tensor, Tensor | None]:
    """Take the labels of frames ``(B, k)``; without loss outside of them. Labels of rank ``whole`` are multi-hot."""
    inside = (index >= 0) & (index < labels.shape[1])
    held = index.clamp(0, labels.shape[1] - 1)
    row = torch.arange(len(labels), device=labels.device).view(-1, *[1] * (index.ndim - 1))
    picked = labels[row, held]
    if labels.ndim < whole:
        return picked.masked_fill(~inside, NO_LOSS), None if mask is None else mask[row, held] & inside
    carries = inside if mask is None else mask[row, held] & inside
    return picked * carries.unsqueeze(-1), carries


def _pick_ahead(
    batch: dict[str, Tensor], position: Tensor, nearest: Tensor, speed: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Take the labels of the K new frames after each of ``(B, k)`` old positions: ``(B, k, K)`` or ``(B, k, K, C)``."""
    labels, ahead, mask, ahead_mask = batch["labels"], batch["ahead_labels"], batch.get("mask"), batch.get("ahead_mask")
    most = ahead.shape[2]
    # What an old frame knows: its own label, then those ahead of it.
    known = torch.cat([labels.unsqueeze(2), ahead], 2).flatten(0, 1)
    known_mask = None
    if labels.ndim == 3:
        own = torch.ones(labels.shape[:2], dtype=torch.bool, device=labels.device) if mask is None else mask
        after = (
            torch.ones(ahead.shape[:3], dtype=torch.bool, device=labels.device) if ahead_mask is None else ahead_mask
        )
        known_mask = torch.cat([own.unsqueeze(2), after], 2).flatten(0, 1)
    steps = torch.arange(1, most + 1, device=labels.device, dtype=torch.float64)
    wanted = _round(position.unsqueeze(-1) + steps * speed.unsqueeze(-1)) - nearest.unsqueeze(-1)
    inside = (nearest >= 0) & (nearest < labels.shape[1])
    row = torch.arange(len(labels), device=labels.device).unsqueeze(-1)
    flat = (row * labels.shape[1] + nearest.clamp(0, labels.shape[1] - 1)).flatten()
    wanted = torch.where(inside.unsqueeze(-1), wanted, most + 1).flatten(0, 1)
    picked, carries = _pick(known[flat], wanted, None if known_mask is None else known_mask[flat], whole=3)
    shape = nearest.shape
    return picked.unflatten(0, shape), None if carries is None else carries.unflatten(0, shape)
