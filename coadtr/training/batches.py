"""Which samples make up each batch of each process: by seed and epoch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from coadtr.data import NO_LOSS
from coadtr.training.settings import mix_seed

__all__ = ["OrNothing", "RankBatches", "carries_loss", "trimmed"]

Sample = dict[str, Tensor]

# Asks `OrNothing` for a sample without loss.
NOTHING = -1

# Batches that are made together out of samples of like length.
GROUPED = 16


class RankBatches(Sampler[list[int]]):
    """Shuffle an epoch, cut it into batches of all processes, and give each process its part of every batch.

    With ``lengths``, the shuffled samples are sorted by length before they are cut, apart in every run of them that
    makes `GROUPED` batches, and the batches are shuffled: trimmed ones then hold little padding.

    The parts of one batch are, together, the batch that one process alone with ``batch_size`` times ``ranks`` would
    see. Every process gets the same number of batches: where nothing of the last one is left for it, it gets a sample
    without loss.

    Args:
        size: Samples to order.
        batch_size: Samples in the batch of one process.
        seed: Seed of the run.
        epoch: Number of the epoch.
        rank: Number of this process.
        ranks: Number of processes.
        lengths: Length of each sample, to make batches of like ones; None for any.

    Raises:
        ValueError: If there is not a length for every sample.

    Example:
        >>> parts = [list(RankBatches(5, batch_size=2, seed=0, epoch=3, rank=rank, ranks=2)) for rank in (0, 1)]
        >>> [len(part) for part in parts], sorted(sample for part in parts for batch in part for sample in batch)
        ([2, 2], [-1, 0, 1, 2, 3, 4])
    """

    def __init__(
        self,
        size: int,
        *,
        batch_size: int,
        seed: int,
        epoch: int,
        rank: int = 0,
        ranks: int = 1,
        lengths: Sequence[int] | None = None,
    ) -> None:
        if lengths is not None and len(lengths) != size:
            raise ValueError(f"{len(lengths)} lengths for {size} samples")
        self.size, self.batch_size, self.lengths = size, batch_size, lengths
        self.seed = mix_seed(seed, epoch)
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        return math.ceil(self.size / (self.batch_size * self.ranks))

    def __iter__(self) -> Iterator[list[int]]:
        # A generator of its own: the trainer may start an epoch's loader more than once when it goes on with a run.
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(self.size, generator=generator).tolist()
        together = self.batch_size * self.ranks
        if self.lengths is not None:
            order = self._alike(order, GROUPED * together, self.lengths)
        batches = [order[start : start + together] for start in range(0, self.size, together)]
        if self.lengths is not None:
            batches = [batches[at] for at in torch.randperm(len(batches), generator=generator).tolist()]
        for batch in batches:
            yield batch[self.rank * self.batch_size : (self.rank + 1) * self.batch_size] or [NOTHING]

    @staticmethod
    def _alike(order: list[int], run: int, lengths: Sequence[int]) -> list[int]:
        """Sort every run of a shuffled epoch by length, longest first."""
        runs = [order[start : start + run] for start in range(0, len(order), run)]
        return [sample for part in runs for sample in sorted(part, key=lambda sample: -lengths[sample])]


class OrNothing(Dataset[Sample]):
    """Samples of a data set, and for the index -1 one without loss.

    Args:
        samples: A data set with a length.
    """

    def __init__(self, samples: Dataset[Sample]) -> None:
        self.samples = samples

    def __getitem__(self, index: int) -> Sample:
        if index != NOTHING:
            return self.samples[index]
        empty = dict(self.samples[0])
        for name, value in empty.items():
            if name.endswith("labels"):
                empty[name] = torch.full_like(value, NO_LOSS) if value.dtype == torch.int64 else torch.zeros_like(value)
            elif name.endswith("mask"):
                empty[name] = torch.zeros_like(value)
        return empty


def carries_loss(batch: Sample) -> Tensor:
    """Return which answers ``(B, n)`` of a batch carry loss.

    Example:
        >>> carries_loss({"labels": torch.tensor([[1, NO_LOSS]])}).tolist()
        [[True, False]]
        >>> carries_loss({"labels": torch.zeros(1, 2, 3), "mask": torch.tensor([[False, True]])}).tolist()
        [[False, True]]
    """
    return batch["mask"] if "mask" in batch else batch["labels"] != NO_LOSS


def trimmed(samples: Sequence[Sample]) -> Sample:
    """Make a batch of samples, without the frames at either end that no sample of it has.

    Most of a batch would be padding where recordings are short beside the window and the span, or where the spans of a
    batch are all short. The answers that are learnt do not change: no frame looks ahead, and frames before a
    recording's first are not attended.

    Args:
        samples: Clips that begin before their recording does, or spans that end after it.

    Returns:
        The batch: frames ``(B, n, D)``, labels as before or ``(B, n)`` of spans.

    Example:
        >>> frames, first = torch.ones(4, 1), torch.tensor(0)
        >>> span = {"frames": frames, "first_frame": first, "labels": torch.tensor([2, 2, NO_LOSS, NO_LOSS])}
        >>> batch = trimmed([span, span])
        >>> batch["frames"].shape, batch["labels"].tolist()
        (torch.Size([2, 2, 1]), [[2, 2], [2, 2]])
        >>> clip = {"frames": frames, "first_frame": first - 3, "labels": torch.tensor([2])}
        >>> batch = trimmed([clip, clip])
        >>> batch["frames"].shape, batch["first_frame"].tolist()
        (torch.Size([2, 1, 1]), [0, 0])
    """
    batch: Sample = default_collate(list(samples))
    length, first = batch["frames"].shape[1], batch["first_frame"]
    start = int((-first).clamp(min=0).min())
    stop = length
    if batch["labels"].shape[1] == length:
        places = carries_loss(batch).any(0).nonzero()
        stop = int(places.max()) + 1 if len(places) else 1
        start = min(start, stop - 1)
    for name, value in batch.items():
        if name not in ("first_frame", "video") and value.shape[1] == length:
            batch[name] = value[:, start:stop]
    return batch | {"first_frame": first + start}
