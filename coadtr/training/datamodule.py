"""Batches for training and validation out of a feature store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from coadtr.data import ClipDataset, FeatureStore, SequenceDataset
from coadtr.errors import ConfigError
from coadtr.models import OnlineModel
from coadtr.training.batches import OrNothing, RankBatches, trimmed
from coadtr.training.settings import TrainingSettings
from coadtr.types import Task

__all__ = ["FeatureDataModule"]

Batch = dict[str, Tensor]

# Frames of one validation span: long enough to be fast, short enough for a small machine.
VALIDATION_LENGTH = 1024


class FeatureDataModule(LightningDataModule):
    """Training clips or spans, and the validation videos in spans that follow each other.

    The order of an epoch, and where its spans are cut, follow from seed and epoch alone, so a resumed run sees what an
    uninterrupted one sees. A span comes with the frames before it that its answers depend on; for a model that
    depends on the whole past, with the N - 1 frames before it.

    Several processes share each training batch; each of them answers whole validation videos.

    Args:
        store: The feature store.
        model: The model: its window, its reach and what it learns from a clip.
        sequences: Train on spans with a loss on every frame, not on clips with a loss on the last frames.
        settings: Batch size, span length, seed and workers.
        streams: Streams to join, in this order; None for all.
        task: ``"audio"`` learns whole recordings, shorter ones than the window too, from ``shortest_clip`` frames on.

    Raises:
        ConfigError: If ``shortest_clip`` is above the window of a model that is trained on clips.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        model: OnlineModel,
        sequences: bool,
        settings: TrainingSettings,
        streams: Sequence[str] | None = None,
        task: Task = "oad",
    ) -> None:
        super().__init__()
        self.settings = settings
        self.recordings = task == "audio"
        heard = settings.shortest_clip if self.recordings else 1
        preload = settings.preload_mib * 2**20
        self.training: ClipDataset | SequenceDataset
        if sequences:
            self.training = SequenceDataset(
                store,
                "train",
                length=settings.sequence_length,
                context=(model.reach or model.window) - 1,
                ahead=model.frames_ahead,
                streams=streams,
                seed=settings.seed,
                heard=heard,
                max_preload_bytes=preload,
            )
        else:
            self.training = ClipDataset(
                store,
                "train",
                window=model.window,
                learnt=model.frames_learnt,
                ahead=model.frames_ahead,
                shortest=self._shortest(model),
                heard=heard,
                stride=settings.stride,
                streams=streams,
                max_preload_bytes=preload,
            )
        self.validation = SequenceDataset(
            store,
            "validation",
            length=VALIDATION_LENGTH,
            context=0,
            every=True,
            streams=streams,
            max_preload_bytes=preload,
        )

    def _shortest(self, model: OnlineModel) -> int:
        """Return how many frames of its video the shortest clip holds."""
        if not self.recordings or not model.learns_starts:
            return model.shortest_clip
        wanted = self.settings.shortest_clip
        if wanted > model.window:
            raise ConfigError(f"shortest_clip={wanted} is above the window of {model.window} frames: use fewer")
        return wanted

    @property
    def _ranks(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Make the loader of the current epoch; the trainer asks for a new one each epoch."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        self.training.set_epoch(epoch)
        rank, ranks = self._ranks
        lengths = [grouped.frames_of(span) for span in range(len(grouped))] if (grouped := self.grouped) else None
        batches = RankBatches(
            len(self.training),
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
            epoch=epoch,
            rank=rank,
            ranks=ranks,
            lengths=lengths,
        )
        workers = self.settings.workers
        collate = trimmed if self.recordings or lengths is not None else None
        return DataLoader(OrNothing(self.training), batch_sampler=batches, num_workers=workers, collate_fn=collate)

    @property
    def grouped(self) -> SequenceDataset | None:
        """The training spans, if those of like length make a batch."""
        wanted = self.settings.group_by_length and isinstance(self.training, SequenceDataset)
        return cast("SequenceDataset", self.training) if wanted else None

    def batch_weight(self, loss_frames: float, batches: int) -> float:
        """Weigh a batch by its frames with loss, beside the mean of the epoch, where batches are of like lengths.

        Each batch's loss is a mean over its frames. Where batches are of any lengths, they hold about as many; where
        short spans make batches of their own, their frames would count many times as much as others.

        Args:
            loss_frames: Frames with loss in the batch of all processes.
            batches: Batches of the epoch.

        Returns:
            1 for batches of any lengths.
        """
        if self.grouped is None:
            return 1.0
        return loss_frames * batches / self.grouped.loss_frames

    def val_dataloader(self) -> DataLoader[Batch]:
        """Make the loader of this process's validation spans, one at a time: memory is bounded for clip models too."""
        rank, ranks = self._ranks
        mine = [span for span in range(len(self.validation)) if self.validation.video_of(span) % ranks == rank]
        # With fewer videos than processes, some answer the first span again: the trainer wants something of each.
        return DataLoader(Subset(self.validation, mine or [0]), 1, num_workers=self.settings.workers)
