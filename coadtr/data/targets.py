"""Labels of chosen frames of a video as tensors, and which of them carry loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from coadtr.data.split_frames import SplitFrames

__all__ = ["NO_LOSS", "frame_targets"]

NO_LOSS: Final = -100
"""Label of frames without loss: what ``torch.nn.functional.cross_entropy`` leaves out by default."""


def frame_targets(
    source: SplitFrames, video: int, frames: NDArray[np.int64], counted: NDArray[np.bool_], *, prefix: str = ""
) -> dict[str, Tensor]:
    """Gather the labels of some frames of a video.

    Args:
        source: The videos of a split.
        video: Number of the video.
        frames: Frame indices of any shape; those before the video's first or after its last frame carry no loss.
        counted: ``(T,)``, which frames of the video may carry loss.
        prefix: Put before the names of the entries.

    Returns:
        ``labels`` int64 of the shape of ``frames``, with -100 where there is no loss. If labels are multi-hot,
        ``labels`` ``(..., C)`` float32, zero where there is no loss, and ``mask`` bool, true where there is.
    """
    inside = (frames >= 0) & (frames < len(counted))
    at = np.where(inside, frames, 0)
    mask = inside & counted[at]
    found = source.labels[video][at]
    if source.multi_hot:
        hot = np.where(mask[..., None], found, 0).astype(np.float32)
        return {f"{prefix}labels": torch.from_numpy(hot), f"{prefix}mask": torch.from_numpy(mask)}
    return {f"{prefix}labels": torch.from_numpy(np.where(mask, found, NO_LOSS).astype(np.int64))}
