"""Batches for training and validation out of a feature store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from coadtr.data import ClipDataset, FeatureStore, SequenceDataset
from coadtr.training.settings import TrainingSettings, mix_seed

__all__ = ["FeatureDataModule"]

Batch = dict[str, Tensor]

# Frames of one validation span: long enough to amortise its context, short enough for a small machine.
VALIDATION_LENGTH = 1024


class EpochOrder(Sampler[int]):
    """Shuffle by seed and epoch alone: however often it is asked, an epoch has one order.

    Args:
        size: Samples to order.
        seed: Seed of the run.
        epoch: Number of the epoch.

    Example:
        >>> order = EpochOrder(5, seed=0, epoch=3)
        >>> list(order) == list(order), sorted(order)
        (True, [0, 1, 2, 3, 4])
    """

    def __init__(self, size: int, *, seed: int, epoch: int) -> None:
        self.size = size
        self.seed = mix_seed(seed, epoch)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        # A generator of its own: the trainer may start an epoch's loader more than once when it goes on with a run.
        yield from torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed)).tolist()


class FeatureDataModule(LightningDataModule):
    """Training clips or spans, and validation spans that answer each frame once.

    The order of an epoch, and where its spans are cut, follow from seed and epoch alone, so a resumed run sees what an
    uninterrupted one sees.

    Args:
        store: The feature store.
        window: Frames N that an answer depends on.
        sequences: Train on spans with a loss on every frame, not on clips with a loss on the last.
        settings: Batch size, span length, seed and workers.
        streams: Streams to join, in this order; None for all.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        window: int,
        sequences: bool,
        settings: TrainingSettings,
        streams: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        preload = settings.preload_mib * 2**20
        self.training: ClipDataset | SequenceDataset
        if sequences:
            self.training = SequenceDataset(
                store,
                "train",
                length=settings.sequence_length,
                context=window - 1,
                streams=streams,
                seed=settings.seed,
                max_preload_bytes=preload,
            )
        else:
            self.training = ClipDataset(store, "train", window=window, streams=streams, max_preload_bytes=preload)
        self.validation = SequenceDataset(
            store,
            "validation",
            length=VALIDATION_LENGTH,
            context=window - 1,
            streams=streams,
            max_preload_bytes=preload,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Make the loader of the current epoch; the trainer asks for a new one each epoch."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        if isinstance(self.training, SequenceDataset):
            self.training.set_epoch(epoch)
        order = EpochOrder(len(self.training), seed=self.settings.seed, epoch=epoch)
        return DataLoader(self.training, self.settings.batch_size, sampler=order, num_workers=self.settings.workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Make the loader of the validation spans, one at a time: memory is bounded for clip models too."""
        return DataLoader(self.validation, 1, num_workers=self.settings.workers)
