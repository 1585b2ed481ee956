"""Runs of frames mixed with those of other videos, or replaced by them."""

from __future__ import annotations

import torch
from torch import Tensor

from coadtr.data import NO_LOSS

__all__ = ["interfere", "splice"]


def interfere(frames: Tensor, share: float, mean_frames: float, generator: torch.Generator) -> Tensor:
    """Mix runs of frames with frames of another row.

    Each row is cut into runs of ``mean_frames`` frames on average (a run ends after each frame with the same
    probability). A run is mixed with probability ``share``: x becomes a x + (1 - a) x', where x' are as many frames
    that follow one another in another row (its end goes on at its start), and a is drawn evenly from 0 to 1. Frames
    that are all zeros are padding: they stay, and nothing is mixed with them. A single row is mixed with its own frames
    of another time.

    Args:
        frames: ``(B, T, D)``, on any device.
        share: Probability that a run is mixed.
        mean_frames: Mean length of a run.
        generator: Of the CPU.

    Returns:
        Frames ``(B, T, D)`` of the same type.
    """
    rows, length, _ = frames.shape
    begin, mixed = _draw_runs(rows, length, share, mean_frames, generator)
    own = torch.rand((rows, length), generator=generator).gather(1, begin)
    offset = torch.randint(1, max(2, length), (rows, length), generator=generator).gather(1, begin)
    source_row = _other_row(begin, generator).to(frames.device)
    source_time = ((torch.arange(length) + offset) % length).to(frames.device)
    source = frames[source_row, source_time]
    mixed = mixed.to(frames.device) & frames.ne(0).any(-1) & source.ne(0).any(-1)
    weight = torch.where(mixed, own.to(frames.device), 1.0).unsqueeze(-1)
    return (weight * frames + (1 - weight) * source).to(frames.dtype)


def splice(batch: dict[str, Tensor], share: float, mean_frames: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Replace runs of frames by those of another row, labels with them.

    Rows are cut as by `interfere`; the frames that take a run's place are those at the same place of another row. The
    frames ahead of one, beyond its run, are no longer those that its labels tell of: they lose their loss. Where the
    other row has padding alone (frames that are all zeros), a frame stays. A single row stays as it is.

    Args:
        batch: As `Augmentation` takes it; what it holds beside frames and labels stays.
        share: Probability that a run is replaced.
        mean_frames: Mean length of a run.
        generator: Of the CPU.
    """
    frames = batch["frames"]
    rows, length, _ = frames.shape
    begin, replaced = _draw_runs(rows, length, share, mean_frames, generator)
    own = torch.arange(rows, device=frames.device).unsqueeze(1)
    source = torch.where(replaced.to(frames.device), _other_row(begin, generator).to(frames.device), own)
    time = torch.arange(length, device=frames.device)
    real = frames.ne(0).any(-1)
    source = torch.where(real & ~real[source, time], own, source)
    learnt = batch["labels"].shape[1]
    at = time[length - learnt :]
    spliced = batch | {"frames": frames[source, time]}
    for name in ("labels", "mask", "ahead_labels", "ahead_mask"):
        if name in batch:
            spliced[name] = batch[name][source[:, length - learnt :], at - (length - learnt)]
    if "ahead_labels" in batch:
        _forget_beyond_runs(spliced, source, at)
    return spliced


def _draw_runs(
    rows: int, length: int, share: float, mean_frames: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the first frame of each frame's run, and whether the run is drawn, ``(B, T)`` each."""
    time = torch.arange(length)
    begins = (torch.rand((rows, length), generator=generator) < 1 / mean_frames) | (time == 0)
    begin = torch.where(begins, time, 0).cummax(1).values
    return begin, torch.rand((rows, length), generator=generator).gather(1, begin) < share


def _other_row(begin: Tensor, generator: torch.Generator) -> Tensor:
    """Draw another row for each run, the same for all of its frames; of a single row, that row."""
    rows = len(begin)
    further = torch.randint(1, max(2, rows), begin.shape, generator=generator).gather(1, begin)
    return (torch.arange(rows).unsqueeze(1) + further) % rows


def _forget_beyond_runs(batch: dict[str, Tensor], source: Tensor, at: Tensor) -> None:
    """Take the loss from frames ahead that another row's now follow in place of."""
    length, ahead = source.shape[1], batch["ahead_labels"].shape[2]
    changes = torch.zeros_like(source)
    changes[:, 1:] = (source[:, 1:] != source[:, :-1]).to(source.dtype)
    changes = changes.cumsum(1)
    later = (at.unsqueeze(1) + torch.arange(1, ahead + 1, device=at.device)).clamp(max=length - 1)
    kept = changes[:, later] == changes[:, at].unsqueeze(2)
    labels = batch["ahead_labels"]
    if labels.ndim == 3:
        batch["ahead_labels"] = labels.masked_fill(~kept, NO_LOSS)
    if "ahead_mask" in batch:
        batch["ahead_mask"] = batch["ahead_mask"] & kept
