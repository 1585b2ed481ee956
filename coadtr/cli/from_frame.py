"""The way from a raw video frame to an answer, timed: evaluation measures, video makes the features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from coadtr import video
from coadtr.cli.naming import named_in_full
from coadtr.cli.settings import group, of_kind, text, whole
from coadtr.errors import ConfigError
from coadtr.evaluation import Latency, end_to_end_latency

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coadtr.types import Detector
    from coadtr.video import Backbone, Sampling

__all__ = ["FromFrame"]


@dataclass(frozen=True, kw_only=True)
class FromFrame:
    """What makes features of raw frames, as `coadtr extract` has it.

    Attributes:
        backbone: Name of the network.
        weights: Name of its weights; None for its best.
        clip: Frames that a video backbone takes; None for a chunk, or what it needs at least.
        sampling: Preset, features a second and frames of a chunk; see `coadtr.video.Sampling`.
        height: Rows H of a frame.
        width: Columns W of a frame.
    """

    backbone: str
    weights: str | None
    clip: int | None
    sampling: tuple[str, float | None, int | None]
    height: int
    width: int

    @classmethod
    def read(cls, settings: dict[str, Any]) -> FromFrame | None:
        """Read the settings; None if no backbone is named.

        Raises:
            ConfigError: If one cannot be used.
        """
        backbone, weights, sampling = text(settings, "backbone"), text(settings, "weights"), group(settings, "sampling")
        clip = None if settings["clip"] is None else whole(settings, "clip", least=1)
        height, width = (whole(settings, name, least=1) for name in ("frame.height", "frame.width"))
        rate = None if sampling["rate_hz"] is None else of_kind(float, sampling["rate_hz"], "sampling.rate_hz")
        chunk = None if sampling["chunk"] is None else whole(settings, "sampling.chunk", least=1)
        preset = of_kind(str, sampling["preset"], "sampling.preset")
        if backbone is None:
            if weights is not None or clip is not None:
                name, value = ("weights", weights) if weights is not None else ("clip", clip)
                raise ConfigError(f"{name}={value} is for a backbone: give one, such as backbone=efficientnet_lite0")
            return None
        return cls(
            backbone=backbone,
            weights=weights,
            clip=clip,
            sampling=(preset, rate, chunk),
            height=height,
            width=width,
        )

    def load(self, device: str) -> tuple[Backbone, Sampling]:
        """Load the network.

        Raises:
            ConfigError: If it does not exist, or the sampling is not one.
            DataError: If its weights cannot be had.
        """
        preset, rate, chunk = self.sampling
        with named_in_full({"sampling": ("preset", "rate_hz", "chunk")}):
            sampling = video.Sampling(preset=preset, rate_hz=rate, chunk=chunk)
        network = video.load_backbone(self.backbone, self.weights, clip=self.clip, chunk=sampling.size, device=device)
        return network, sampling

    def time(
        self,
        model: Detector[Any],
        network: Backbone,
        sampling: Sampling,
        *,
        warmup: int,
        steps: int,
        threads: int | None = None,
    ) -> dict[str, Latency]:
        """Time the frames of one chunk in memory, uint8 (H, W, 3), to logits.

        The frames before the last one of the chunk have come before; the clock starts when it is there.

        Returns:
            Milliseconds of ``prepare`` (the sampling's frame, or the clip: resized, cropped, normalised), ``backbone``
            (input to feature), ``step`` (feature to logits) and ``total``.
        """
        source = torch.Generator().manual_seed(0)
        shape = (max(network.context, sampling.size), self.height, self.width, 3)
        pictures: NDArray[Any] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=source).numpy()

        def prepare(frames: Sequence[NDArray[Any]]) -> Tensor:
            return network.prepare([torch.from_numpy(frame).permute(2, 0, 1) for frame in frames], sampling).unsqueeze(
                0
            )

        stages: dict[str, Callable[[Any], Any]] = {"prepare": prepare, "backbone": network.compute}
        return end_to_end_latency(model, lambda: pictures, stages, warmup=warmup, steps=steps, threads=threads)
