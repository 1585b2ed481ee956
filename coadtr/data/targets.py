"""Labels of chosen frames of a video as tensors, and which of them carry loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from coadtr.data.split_frames import SplitFrames

__all__ = ["NO_LOSS", "ahead_targets", "frame_targets"]

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


def ahead_targets(
    source: SplitFrames, video: int, frames: NDArray[np.int64], counted: NDArray[np.bool_], *, ahead: int
) -> dict[str, Tensor]:
    """Gather the labels of the frames after each of some frames of a video.

    After a frame without loss of its own, none of them carries any.

    Args:
        source: The videos of a split.
        video: Number of the video.
        frames: Frame indices ``(k,)``; those outside the video carry no loss.
        counted: ``(T,)``, which frames of the video may carry loss.
        ahead: Frames K after each.

    Returns:
        ``ahead_labels`` ``(k, K)``, or ``(k, K, C)`` with ``ahead_mask`` ``(k, K)``, as `frame_targets` gives them.
    """
    inside = (frames >= 0) & (frames < len(counted))
    learnt = inside & counted[np.where(inside, frames, 0)]
    after = np.where(learnt[:, None], frames[:, None] + np.arange(1, ahead + 1), -1)
    return frame_targets(source, video, after, counted, prefix="ahead_")
