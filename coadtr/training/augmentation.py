"""Changes of a training batch that keep its meaning: noise, masks, mixtures and other speeds, all seeded."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from coadtr.data import NO_LOSS
from coadtr.errors import ConfigError, ShapeError
from coadtr.models.config import check_at_least, check_fraction, check_types
from coadtr.training.runs import interfere, splice
from coadtr.training.speed import change_speed

__all__ = ["Augmentation", "AugmentationSettings"]

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """How training batches are changed. By default they are not.

    Attributes:
        noise: Deviation of the normal noise that is added, in units of each channel's deviation over the batch.
        frame_dropout: Probability that a frame is masked.
        time_mask: Longest run of masked frames; each clip or span has one run, of 0 to so many frames.
        channel_dropout: Probability that a channel is masked over a whole clip or span.
        mixup: Alpha of the Beta distribution that the shares of a mixture of two clips or spans are drawn from.
        speed: A clip or span is played at 1 - speed to 1 + speed times its speed.
        interference: Probability that a run of frames is mixed with those of another row; labels stay.
        interference_frames: Mean length of such a run.
        splice: Probability that a run of frames is replaced by that of another row, labels too.
        splice_frames: Mean length of such a run.

    Source: Park et al., Interspeech 2019 (masks of time and channels); Zhang et al., ICLR 2018 (mixup); Ko et al.,
    Interspeech 2015 (speed); Yun et al., ICCV 2019 (splice, which they do with patches of images). Interference is
    our own.

    Example:
        >>> AugmentationSettings(noise=0.1).enabled, AugmentationSettings().enabled
        (True, False)
    """

    noise: float = 0.0
    frame_dropout: float = 0.0
    time_mask: int = 0
    channel_dropout: float = 0.0
    mixup: float = 0.0
    speed: float = 0.0
    interference: float = 0.0
    interference_frames: float = 25.0
    splice: float = 0.0
    splice_frames: float = 100.0

    def __post_init__(self) -> None:
        """Refuse values that no batch can be changed by."""
        check_types(self)
        check_at_least(self, 0, "time_mask")
        check_fraction(self, "frame_dropout", "channel_dropout", "speed", "interference", "splice")
        for name in ("interference_frames", "splice_frames"):
            if not 1 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a number from 1, got {getattr(self, name)!r}")
        for name in ("noise", "mixup"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be finite and not negative, got {getattr(self, name)!r}")

    @property
    def enabled(self) -> bool:
        """Whether anything is changed."""
        return any(value for name, value in dataclasses.asdict(self).items() if not name.endswith("_frames"))


class Augmentation:
    """Change training batches, by numbers from one generator.

    A batch holds ``frames (B, T, D)`` and ``first_frame (B,)``; ``labels``, class indices ``(B, k)`` of the last k
    frames with ``NO_LOSS`` where there is no loss, or multi-hot ``(B, k, C)`` floats with a ``mask (B, k)``; and maybe
    ``ahead_labels`` of the K frames after each of these, ``(B, k, K)`` or ``(B, k, K, C)`` with ``ahead_mask
    (B, k, K)``. What else it holds is handed on.

    In this order: speed, splice, mixup, interference, noise, masks. Splice, mixup and interference take frames of other
    rows.

    - *Speed* resamples in time, frames linearly, labels by the nearest frame; T stays. Where every frame has a label, a
      row begins where it began: played faster, it ends early and is padded with zeros, without loss. A clip, with
      labels of its last frames alone, ends where it ended: played faster, it repeats its first frame in front. A clip
      that begins before its video (``first_frame`` below 0) begins where the video does at the new speed.
    - *Splice* replaces runs of frames by those at the same place of another row, labels too: for videos whose order of
      actions says nothing.
    - *Mixup* adds a share of another row of the batch, frames and labels alike, so labels become shares ``(B, k, C)``
      with a ``mask``. Frames carry loss where they do in both rows; those that the other row has not (padding) stay.
      ``first_frame`` stays that of the row itself.
    - *Interference* mixes runs of frames with as many of another row, in shares drawn evenly, and leaves the labels: a
      model learns to go by what came before where the features fail, as on videos that they never saw.
    - *Masked* frames and channels take each channel's mean over the batch, and nothing is scaled up for them. They keep
      their loss.

    Frames that are all zeros are padding: they take part in no mean and no deviation, and stay as they are.

    Args:
        settings: What is done.
        classes: Classes C; mixup needs them to make shares of class indices.

    Raises:
        ConfigError: If mixup is asked for without ``classes``.

    Source: Park et al., "SpecAugment", Interspeech 2019, section 2; Zhang et al., "mixup", ICLR 2018, equation 1.

    Example:
        >>> batch = {"frames": torch.randn(2, 8, 3), "labels": torch.zeros(2, 8, dtype=torch.int64)}
        >>> augment = Augmentation(AugmentationSettings(mixup=0.2, frame_dropout=0.1), classes=4)
        >>> changed = augment(batch, torch.Generator().manual_seed(0))
        >>> changed["frames"].shape, changed["labels"].shape, changed["mask"].shape
        (torch.Size([2, 8, 3]), torch.Size([2, 8, 4]), torch.Size([2, 8]))
    """

    def __init__(self, settings: AugmentationSettings, classes: int | None = None) -> None:
        if settings.mixup > 0 and classes is None:
            raise ConfigError(f"mixup={settings.mixup:g} needs the number of classes: give classes")
        self.settings, self.classes = settings, classes

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a changed batch; the one that is given stays as it is.

        Args:
            batch: As above, on any device.
            generator: Of the CPU, so that runs repeat on every device.

        Raises:
            ShapeError: If frames and labels do not fit each other.
        """
        frames, labels = batch["frames"], batch["labels"]
        if frames.ndim != 3 or labels.ndim not in (2, 3) or len(labels) != len(frames):
            raise ShapeError(
                f"frames (B, T, D) need labels of B rows, got {tuple(frames.shape)}, {tuple(labels.shape)}"
            )
        if not 1 <= labels.shape[1] <= frames.shape[1]:
            raise ShapeError(f"{frames.shape[1]} frames need labels of 1 to as many frames, got {labels.shape[1]}")
        batch = dict(batch)
        if self.settings.speed > 0:
            drawn = torch.rand(len(frames), generator=generator).to(frames.device)
            batch = change_speed(batch, 1 + self.settings.speed * (2 * drawn - 1))
        if self.settings.splice > 0:
            batch = splice(batch, self.settings.splice, self.settings.splice_frames, generator)
        if self.settings.mixup > 0:
            batch = self._mix(batch, generator)
        if self.settings.interference > 0:
            settings = self.settings
            batch["frames"] = interfere(batch["frames"], settings.interference, settings.interference_frames, generator)
        if (
            self.settings.noise
            or self.settings.frame_dropout
            or self.settings.time_mask
            or self.settings.channel_dropout
        ):
            batch["frames"] = self._disturb(batch["frames"], generator)
        return batch

    def _mix(self, batch: Batch, generator: torch.Generator) -> Batch:
        frames = batch["frames"]
        rows = len(frames)
        order = torch.randperm(rows, generator=generator).to(frames.device)
        # Torch draws from a Beta distribution by its global generator alone.
        seed = int(torch.randint(2**62, (), generator=generator))
        drawn = np.random.default_rng(seed).beta(self.settings.mixup, self.settings.mixup, rows)
        share = torch.from_numpy(drawn).to(frames.device, torch.float32)
        real = frames.ne(0).any(-1, keepdim=True)
        blended = _blend(frames, frames[order], share)
        mixed = batch | {"frames": torch.where(real & ~real[order], frames, blended)}
        for name, mask_name in (("labels", "mask"), ("ahead_labels", "ahead_mask")):
            if name in batch:
                shares, mask = self._shares(batch[name], batch.get(mask_name), whole=3 if name == "labels" else 4)
                mixed[name], mixed[mask_name] = _blend(shares, shares[order], share), mask & mask[order]
        return mixed

    def _shares(self, labels: Tensor, mask: Tensor | None, whole: int) -> tuple[Tensor, Tensor]:
        """Return labels as float shares of the classes, of rank ``whole``, and where they carry loss."""
        if labels.ndim == whole:
            carries = torch.ones(labels.shape[:-1], dtype=torch.bool, device=labels.device) if mask is None else mask
            return labels, carries
        carries = labels != NO_LOSS if mask is None else (labels != NO_LOSS) & mask
        hot = F.one_hot(labels.masked_fill(~carries, 0), self.classes or -1).to(torch.float32)
        return hot * carries.unsqueeze(-1), carries

    def _disturb(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        real = frames.ne(0).any(-1, keepdim=True)
        mean, deviation = _statistics(frames, real)
        disturbed = frames
        if self.settings.noise > 0:
            noise = torch.randn(frames.shape, generator=generator).to(frames.device)
            disturbed = (frames + self.settings.noise * deviation * noise).to(frames.dtype)
        masked = self._masked(frames, generator)
        if masked is not None:
            disturbed = torch.where(masked.to(frames.device), mean.to(frames.dtype), disturbed)
        return torch.where(real, disturbed, frames)

    def _masked(self, frames: Tensor, generator: torch.Generator) -> Tensor | None:
        """Draw what is masked, to be broadcast to ``(B, T, D)``; None if nothing can be."""
        rows, length, channels = frames.shape
        masks = []
        if self.settings.frame_dropout > 0:
            masks.append(torch.rand((rows, length, 1), generator=generator) < self.settings.frame_dropout)
        if self.settings.time_mask > 0:
            longest = min(self.settings.time_mask, length)
            run = torch.randint(longest + 1, (rows, 1, 1), generator=generator)
            start = (torch.rand((rows, 1, 1), generator=generator) * (length - run + 1)).long()
            time = torch.arange(length).view(1, -1, 1)
            masks.append((time >= start) & (time < start + run))
        if self.settings.channel_dropout > 0:
            masks.append(torch.rand((rows, 1, channels), generator=generator) < self.settings.channel_dropout)
        masked = None
        for mask in masks:
            masked = mask if masked is None else masked | mask
        return masked


def _statistics(frames: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel over the real frames, ``(D,)`` float32 each."""
    count = real.sum().clamp(min=1)
    mean = torch.where(real, frames, 0).float().sum((0, 1)) / count
    squares = torch.where(real, frames.float() - mean, 0).square().sum((0, 1))
    return mean, (squares / count).sqrt()


def _blend(own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    weight = share.view(-1, *[1] * (own.ndim - 1))
    return (weight * own + (1 - weight) * other).to(own.dtype)
