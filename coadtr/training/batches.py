"""Which samples make up each batch of each process: by seed and epoch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from coadtr.data import NO_LOSS
from coadtr.training.settings import mix_seed

__all__ = ["OrNothing", "RankBatches"]

Sample = dict[str, Tensor]

# Asks `OrNothing` for a sample without loss.
NOTHING = -1


class RankBatches(Sampler[list[int]]):
    """Shuffle an epoch, cut it into batches of all processes, and give each process its part of every batch.

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

    Example:
        >>> parts = [list(RankBatches(5, batch_size=2, seed=0, epoch=3, rank=rank, ranks=2)) for rank in (0, 1)]
        >>> [len(part) for part in parts], sorted(sample for part in parts for batch in part for sample in batch)
        ([2, 2], [-1, 0, 1, 2, 3, 4])
    """

    def __init__(self, size: int, *, batch_size: int, seed: int, epoch: int, rank: int = 0, ranks: int = 1) -> None:
        self.size, self.batch_size = size, batch_size
        self.seed = mix_seed(seed, epoch)
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        return math.ceil(self.size / (self.batch_size * self.ranks))

    def __iter__(self) -> Iterator[list[int]]:
        # A generator of its own: the trainer may start an epoch's loader more than once when it goes on with a run.
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed)).tolist()
        together = self.batch_size * self.ranks
        for start in range(0, self.size, together):
            part = order[start : start + together][self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
            yield part or [NOTHING]


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
