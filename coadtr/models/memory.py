"""What models with a long memory behind a work memory share: settings, parts, and how these are put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.layers.memory import MemoryAttention
from coadtr.layers.memory_stack import MemoryStack
from coadtr.models.base import OnlineModel
from coadtr.models.config import TransformerConfig, check_at_least

__all__ = ["MemoryConfig", "MemoryConstants", "MemoryModel", "frames_begun", "windows_at_once"]

# Windows answered at once, and frames in them: enough to fill the cores, few enough to bound the memory.
WINDOWS_AT_ONCE, FRAMES_AT_ONCE = 64, 1 << 14


def windows_at_once(window: int, streams: int) -> int:
    """Tell how many windows of each stream to answer at once.

    Example:
        >>> windows_at_once(224, 2), windows_at_once(2080, 1)
        (32, 7)
    """
    return max(1, min(WINDOWS_AT_ONCE, FRAMES_AT_ONCE // window) // streams)


def frames_begun(clip: Tensor, first_frame: Tensor | None) -> Tensor:
    """Tell which frames of clips ``(B, n, D)`` exist, ``(B, n) bool``: those from frame 0 of their streams on.

    Example:
        >>> frames_begun(torch.zeros(1, 4, 2), torch.tensor([-1])).tolist()
        [[False, True, True, True]]
    """
    index = torch.arange(clip.shape[1], device=clip.device).expand(clip.shape[:2])
    return (index if first_frame is None else index + first_frame.unsqueeze(1)) >= 0


@dataclass(frozen=True, kw_only=True)
class MemoryConfig(TransformerConfig):
    """Settings that the models with two memories share. ``depth`` counts the decoder layers of the work memory.

    Attributes:
        work_frames: Frames W of the work memory, the newest of the window (all of a window that is shorter).
        long_stride: The long memory takes every s-th frame.
        long_queries: Learned queries Q that attend the long memory.
        memory_queries: Learned queries R that attend what those have found, and stand for the memory.
        memory_depth: Layers of the second compression.
    """

    # 512 s and 8 s of memory at four frames a second.
    window: int = 2080
    dropout: float = 0.2
    num_heads: int = 16
    depth: int = 2
    attention_dropout: float = 0.2
    work_frames: int = 32
    long_stride: int = 4
    long_queries: int = 16
    memory_queries: int = 32
    memory_depth: int = 2

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        check_at_least(self, 1, "work_frames", "long_stride", "long_queries", "memory_queries", "memory_depth")


class MemoryConstants(NamedTuple):
    """What follows from the weights alone, kept with a stream so that no step works it out again.

    Every stream has a copy. One made before weights were loaded or trained is out of date: take a new state.

    Attributes:
        asked: ``(B, Q, E)`` first queries after their self-attention.
        queries: ``(B, H, Q, E/H)`` the same, projected.
        refined: ``(B, R, E)`` second queries after their self-attention; in CMeRT the G of the future behind them.
    """

    asked: Tensor
    queries: Tensor
    refined: Tensor


class MemoryModel(OnlineModel):
    """Two embeddings, two compressions of the long memory, a decoder of the work memory, and a classifier.

    ::

        long memory -> Q queries -> R queries -> memory        (one layer, and memory_depth layers)
        work memory, causal, attends it -> logits              (depth layers)

    Args:
        config: Settings.

    Source: Xu et al., NeurIPS 2021, section 3, Fig. 2.
    """

    config: MemoryConfig

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__(config)
        self.work_frames = min(config.work_frames, config.window)
        width = config.embed_dim
        self.long_embed = nn.Linear(config.input_dim, width)
        self.drop = nn.Dropout(config.dropout)
        self.long_queries = nn.Parameter(torch.randn(config.long_queries, width))
        self.memory_queries = nn.Parameter(torch.randn(config.memory_queries, width))
        self.compress = self._stack(1)
        self.refine = self._stack(config.memory_depth)
        self.decoder = self._stack(config.depth)
        self.head = nn.Linear(width, config.num_classes)

    def _stack(self, depth: int) -> MemoryStack:
        """Make decoder layers of the model's width."""
        config = self.config
        return MemoryStack(
            depth,
            config.embed_dim,
            config.num_heads,
            ff_dim=config.ff_dim,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
        )

    @property
    def frames_learnt(self) -> int:
        """How many frames at a clip's end are learnt from: the work memory's, as published."""
        return self.work_frames

    @property
    def shortest_clip(self) -> int:
        """As many frames as the work memory has: the starts of videos are learnt, too, with a shorter long memory."""
        return self.work_frames

    @property
    def learns_starts(self) -> bool:
        """No: the work memory is full in training."""
        return False

    @property
    def compression(self) -> MemoryAttention:
        """The attention of the first queries to the long memory."""
        return self.compress.layer(0).cross_attention

    def constants(self) -> MemoryConstants:
        """Work out, for one stream, what follows from the weights alone; in training all rows share its dropout."""
        asked = self.compress.layer(0).mix(self.long_queries.unsqueeze(0))
        refined = self.refine.layer(0).mix(self.memory_queries.unsqueeze(0))
        return MemoryConstants(asked, self.compression.ask(asked), refined)

    def embed(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Embed frames ``(B, T, D)`` for the work memory and for the long one, ``(B, T, E)`` each."""
        prepared = self.inputs.prepare(frames)
        return F.relu(self.inputs.embed(prepared)), F.relu(self.long_embed(prepared))

    def remember(self, attended: Tensor, constants: MemoryConstants) -> Tensor:
        """Make the memory ``(B, c, R, E)`` of what the first queries attended ``(B, c, Q, E)``."""
        found = self.compress.layer(0).finish(constants.asked.unsqueeze(1), attended)
        found = self.compress.norm(found).flatten(0, 1)
        refined = constants.refined.unsqueeze(1).expand(*attended.shape[:2], -1, -1).flatten(0, 1)
        memory: Tensor = self.refine.after_mixing(refined, found).unflatten(0, attended.shape[:2])
        return memory
