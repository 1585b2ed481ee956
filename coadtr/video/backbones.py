"""Backbones: networks that turn the frames of a chunk into one feature vector, by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from coadtr.errors import ConfigError, DataError
from coadtr.video import efficientnet_lite
from coadtr.video.torchvision_models import Classifier, drop_classifier, load_classifier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coadtr.video.sampling import Sampling

__all__ = ["OFFLINE", "Backbone", "check_sizes", "fingerprint", "load_backbone"]

OFFLINE: Final = "efficientnet_lite0"
"""The backbone whose weights come with a package: it needs no download."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network that makes features of images or of clips.

    Attributes:
        name: Name of the network.
        weights: Name of its weights.
        sha256: First 12 digits of the hash of the weights as they were loaded.
        dim: Channels D of a feature.
        clip: Frames that it takes, the last ones up to the end of the chunk; none for one image.
        module: The network, without its classification layer: ``(B, 3, H, W)`` or ``(B, 3, T, H, W)`` in.
        transform: From uint8 ``(3, H, W)``, or ``(T, 3, H, W)`` for clips, to one input of the network.

    Example:
        >>> backbone = load_backbone("efficientnet_lite0")
        >>> backbone.name, backbone.dim, backbone.clip, backbone.sha256
        ('efficientnet_lite0', 1280, None, '7a6d9cb2a361')
    """

    name: str
    weights: str
    sha256: str
    dim: int
    clip: int | None
    module: nn.Module
    transform: Callable[[Tensor], Tensor]

    @property
    def context(self) -> int:
        """Frames that have to be at hand for one feature."""
        return self.clip or 1

    def describe(self, sampling: Sampling) -> dict[str, str]:
        """Return what a store keeps of its extractor, so that a checkpoint can refuse features of another."""
        frames = {} if self.clip is None else {"clip": f"{self.clip} frames, the last ones of each chunk"}
        weights = f"{self.weights} (sha256 {self.sha256})"
        return {"backbone": self.name, "weights": weights, "sampling": sampling.describe(), **frames}

    def prepare(self, frames: Sequence[Tensor], sampling: Sampling) -> Tensor:
        """Turn the frames of one chunk into one input.

        Args:
            frames: ``(3, H, W)`` uint8 each; the chunk at the end, and at least ``context`` of them.
            sampling: Where in the chunk the one image is.

        Raises:
            DataError: If frames of one clip differ in size.
        """
        if self.clip is None:
            return self.transform(frames[sampling.pick - sampling.size])
        clip = frames[-self.clip :]
        check_sizes(clip)
        return self.transform(torch.stack(list(clip)))

    def compute(self, inputs: Tensor) -> Tensor:
        """Return ``(B, D)`` float32 features of a batch of inputs, on the device of the network."""
        device = next(self.module.parameters()).device
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            features: Tensor = self.module(inputs.to(device))
            return features.flatten(1).float().cpu()


def check_sizes(frames: Sequence[Tensor]) -> None:
    """Refuse frames of more than one size.

    Args:
        frames: ``(3, H, W)`` each.

    Raises:
        DataError: If they differ in size.

    Example:
        >>> check_sizes([torch.zeros(3, 48, 64), torch.zeros(3, 90, 160)])
        Traceback (most recent call last):
        coadtr.errors.DataError: the picture changes its size (160x90, 64x48): cut the video there
    """
    sizes = sorted({f"{frame.shape[2]}x{frame.shape[1]}" for frame in frames})
    if len(sizes) > 1:
        raise DataError(f"the picture changes its size ({', '.join(sizes)}): cut the video there")


def load_backbone(
    name: str = OFFLINE, weights: str | None = None, *, clip: int | None = None, chunk: int = 6, device: str = "cpu"
) -> Backbone:
    """Load a backbone by name.

    Args:
        name: ``efficientnet_lite0``, or a torchvision classifier such as ``resnet50``, ``r2plus1d_18``, ``swin3d_t``.
        weights: Name of torchvision's weights, such as ``KINETICS400_V1``; none for its best, ``'random'`` for
            values from a fixed seed.
        clip: Frames that a video backbone takes; none for a chunk, or as many as it needs if that is more. It never
            looks past the end of the chunk.
        chunk: Frames in a chunk.
        device: Where to compute.

    Returns:
        The backbone, ready to run.

    Raises:
        ConfigError: If model, weights or clip length do not exist or do not fit.
        DataError: If the weights cannot be had.
        MissingExtraError: If the package with the weights is not installed.

    Example:
        >>> load_backbone("resnet_18")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: unknown backbone 'resnet_18'; did you mean resnet18 or ...
    """
    found = _load_offline(weights) if name == OFFLINE else load_classifier(name, weights)
    if not found.takes_clips:
        frames = None
    elif found.exact_frames:
        frames = found.least_frames
    else:
        frames = clip or max(chunk, found.least_frames)
    if clip is not None and frames is None:
        raise ConfigError(f"clip={clip}: backbone {name} takes one image, drop clip")
    if frames is not None and (frames < found.least_frames or (clip or frames) != frames):
        least = "" if found.exact_frames else "at least "
        raise ConfigError(f"clip={clip}: backbone {name} takes {least}{found.least_frames} frames")
    # Without its last layer the network still has all other weights, and those make the features.
    sha256 = fingerprint(found.module)
    module = found.module if frames is not None else found.module.to(memory_format=torch.channels_last)
    return Backbone(
        name=name,
        weights=found.weights,
        sha256=sha256,
        dim=found.dim,
        clip=frames,
        module=module.to(device).eval(),
        transform=found.transform,
    )


def _load_offline(weights: str | None) -> Classifier:
    if weights is not None:
        raise ConfigError(f"weights={weights!r}: backbone {OFFLINE} has one set of weights, drop weights")
    module = efficientnet_lite.load_efficientnet_lite0()
    dim = drop_classifier(module, efficientnet_lite.CLASSES, OFFLINE)
    return Classifier(
        module=module,
        dim=dim,
        weights="ImageNet, efficientnet-lite0-57934424",
        transform=efficientnet_lite.prepare_picture,
        takes_clips=False,
        least_frames=1,
        exact_frames=False,
    )


def fingerprint(module: nn.Module) -> str:
    """Return the first 12 digits of the SHA-256 of a module's parameters and buffers, by name.

    Example:
        >>> fingerprint(nn.Identity())
        'e3b0c44298fc'
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
