"""Optical flow between the frames of a chunk, by torchvision's RAFT, as a second feature stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from coadtr.errors import ConfigError, DataError
from coadtr.video.backbones import Backbone, check_sizes, fingerprint
from coadtr.video.torchvision_models import RANDOM, find_weights, load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coadtr.video.sampling import Sampling

__all__ = ["BOUND", "FLOWS", "FlowBackbone", "flow_picture", "flow_statistics", "load_flow"]

FLOWS: Final = ("raft_small", "raft_large")
BOUND: Final = 20.0
"""Pixels at which flow is cut, as the two-stream line does (denseflow -b=20)."""

_GRID: Final = 4
_SHORTER: Final = 224  # pixels of the shorter side on which flow is computed
_LEAST: Final = 128  # what RAFT's correlation pyramid needs
_LONGEST: Final = 8  # times the shorter side; the memory that RAFT needs grows with the square of the area


def flow_picture(flow: Tensor) -> Tensor:
    """Encode flow as a picture: horizontal and vertical part, and length, in 256 steps.

    Args:
        flow: ``(P, 2, H, W)`` in pixels.

    Returns:
        ``(P, 3, H, W)`` uint8: -20 to 20 pixels become 0 to 255 in the first two channels, 0 to 20 in the third.

    Example:
        >>> flow_picture(torch.tensor([-99.0, 20.0]).reshape(1, 2, 1, 1)).flatten().tolist()
        [0, 255, 255]
    """
    length = flow.norm(dim=1, keepdim=True).clamp(max=BOUND) / BOUND
    parts = (flow.clamp(-BOUND, BOUND) + BOUND) / (2 * BOUND)
    return (torch.cat([parts, length], dim=1) * 255).round().to(torch.uint8)


def flow_statistics(flow: Tensor) -> Tensor:
    """Pool flow: mean of both parts and of the length in each cell of a 4 by 4 grid.

    Args:
        flow: ``(P, 2, H, W)`` in pixels.

    Returns:
        ``(P, 48)`` in pixels, cut at 20.

    Example:
        >>> flow_statistics(torch.full((1, 2, 8, 8), 3.0)).shape
        torch.Size([1, 48])
    """
    cut = flow.clamp(-BOUND, BOUND)
    parts = torch.cat([cut, flow.norm(dim=1, keepdim=True).clamp(max=BOUND)], dim=1)
    return F.adaptive_avg_pool2d(parts, _GRID).flatten(1)


@dataclass(frozen=True, kw_only=True)
class FlowBackbone:
    """Features of the motion between the frames of a chunk.

    Flow is computed between each two consecutive frames of the chunk (of the last two frames if a chunk has one),
    on pictures of 224 pixels on the shorter side. Each flow is encoded as a picture for an image backbone, or
    pooled; the feature is the mean over the pairs.

    Attributes:
        name: ``'raft_small'`` or ``'raft_large'``.
        weights: Name of its weights.
        sha256: First 12 digits of the hash of its weights.
        module: The network.
        image: Backbone for pictures of flow; none to pool.
        device: Where to compute.

    Example:
        >>> load_flow("raft_small", "random", image=None).dim
        48
    """

    name: str
    weights: str
    sha256: str
    module: nn.Module
    image: Backbone | None
    device: str = "cpu"

    @property
    def dim(self) -> int:
        """Channels D of a feature."""
        return 3 * _GRID * _GRID if self.image is None else self.image.dim

    @property
    def context(self) -> int:
        """Frames that have to be at hand for one feature."""
        return 2

    def describe(self, sampling: Sampling) -> dict[str, str]:
        """Return what a store keeps of its extractor."""
        own = f"{self.weights} (sha256 {self.sha256})"
        if self.image is None:
            return {"backbone": self.name, "weights": own, "sampling": sampling.describe(), "encoding": "4x4 means"}
        inner = self.image.describe(sampling)
        return {
            "backbone": f"{self.name} + {inner['backbone']}",
            "weights": f"{own} + {inner['weights']}",
            "sampling": sampling.describe(),
            "encoding": f"flow picture, cut at {BOUND:g} pixels, mean over the pairs of a chunk",
        }

    def prepare(self, frames: Sequence[Tensor], sampling: Sampling) -> Tensor:
        """Return ``(P + 1, 3, h, w)`` uint8: the frames of the chunk, sized for RAFT.

        Args:
            frames: ``(3, H, W)`` uint8 each, the chunk at the end.
            sampling: Size of the chunk.

        Raises:
            DataError: If the frames differ in size, or are more than 8 times as long as wide.
        """
        chunk = frames[-max(2, sampling.size) :]
        check_sizes(chunk)
        height, width = _flow_size(*chunk[0].shape[1:])
        sized = [
            F.interpolate(frame[None].float(), size=(height, width), mode="bilinear", antialias=True) for frame in chunk
        ]
        return torch.cat(sized).round().clamp(0, 255).to(torch.uint8)

    def compute(self, inputs: Tensor) -> Tensor:
        """Return ``(B, D)`` float32 features of ``(B, P + 1, 3, h, w)`` chunks."""
        return torch.stack([self._one(chunk) for chunk in inputs])

    def _one(self, chunk: Tensor) -> Tensor:
        scaled = chunk.to(self.device).float() / 127.5 - 1
        with torch.inference_mode():
            flow: Tensor = self.module(scaled[:-1].contiguous(), scaled[1:].contiguous())[-1]
            if self.image is None:
                return flow_statistics(flow).mean(dim=0).cpu()
            pictures = flow_picture(flow).cpu()
        return self.image.compute(torch.stack([self.image.transform(picture) for picture in pictures])).mean(dim=0)


def _flow_size(height: int, width: int) -> tuple[int, int]:
    """Return the size on which flow is computed: multiples of 8, as RAFT needs, the shorter side about 224."""
    if max(height, width) > _LONGEST * min(height, width):
        raise DataError(
            f"a picture of {width}x{height} is too long for flow, which takes up to {_LONGEST} to 1: cut the picture"
        )
    scale = _SHORTER / min(height, width)
    return tuple(max(_LEAST, round(side * scale / 8) * 8) for side in (height, width))  # type: ignore[return-value]


def load_flow(
    name: str = "raft_small", weights: str | None = None, *, image: Backbone | None, device: str = "cpu"
) -> FlowBackbone:
    """Load a flow network of torchvision.

    Args:
        name: ``'raft_small'`` or ``'raft_large'``.
        weights: Name of torchvision's weights; none for its best, ``'random'`` for values from a fixed seed.
        image: Backbone for pictures of flow, one that takes one image; none to pool flow.
        device: Where to compute.

    Raises:
        ConfigError: If there is no such network or weights, or ``image`` takes clips.
        DataError: If the weights cannot be had.

    Example:
        >>> load_flow("raft_medium", image=None)
        Traceback (most recent call last):
        coadtr.errors.ConfigError: unknown flow 'raft_medium': use raft_small or raft_large
    """
    if name not in FLOWS:
        raise ConfigError(f"unknown flow {name!r}: use {' or '.join(FLOWS)}")
    if image is not None and image.clip is not None:
        raise ConfigError(f"flow.backbone={image.name}: pictures of flow need a backbone that takes one image")
    chosen = find_weights(name, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = cast("nn.Module", models.get_model(name, weights=None))
    if weights != RANDOM:
        load_weights(module, chosen, name)
    return FlowBackbone(
        name=name,
        weights=RANDOM if weights == RANDOM else str(chosen),
        sha256=fingerprint(module),
        module=module.to(device).eval(),
        image=image,
        device=device,
    )
