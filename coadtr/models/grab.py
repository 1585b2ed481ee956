"""GRAB, a detector of our own: a gated recurrence, then a bank of averages of the past."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.layers import AverageBank, GatedRecurrence, require_frame, require_sequence, reset_rows
from coadtr.models.base import OnlineModel
from coadtr.models.config import ModelConfig, check_at_least

__all__ = ["GRAB", "GRABConfig", "GRABState"]


@dataclass(frozen=True, kw_only=True)
class GRABConfig(ModelConfig):
    """Settings of GRAB. The default sizes cost less than CoOadTR-b1 at its published ones.

    Attributes:
        recurrence_dim: Channels R of the gated recurrence.
        bank_dim: Channels S of the bank of averages.
        horizons: Averages K of each of these.
        shortest_horizon: Frames of the shortest average, before training.
        longest_horizon: Frames of the longest.

    Example:
        >>> GRABConfig(input_dim=3072, num_classes=22).horizons
        4
    """

    kind: ClassVar[str] = "grab"

    dropout: float = 0.2
    recurrence_dim: int = 640
    bank_dim: int = 576
    horizons: int = 4
    shortest_horizon: float = 4.0
    longest_horizon: float = 256.0

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        check_at_least(self, 1, "recurrence_dim", "bank_dim", "horizons")
        if not 1 < self.shortest_horizon <= self.longest_horizon < math.inf:
            raise ConfigError(
                f"horizons must rise from above 1 frame, got shortest_horizon={self.shortest_horizon} and "
                f"longest_horizon={self.longest_horizon}"
            )


class GRABState(NamedTuple):
    """What GRAB remembers of each stream.

    Attributes:
        memory: ``(B, R)``, of the gated recurrence.
        averages: ``(B, K S)``, of the bank.
        frames: ``(B,) int64``, frames seen by each stream.
    """

    memory: Tensor
    averages: Tensor
    frames: Tensor


class GRAB(OnlineModel):
    """GRAB (gated recurrence and average bank): a memory of chosen frames, and what was average over several horizons.

    ::

        x = ReLU(LN(embed))
        x = x + recurrence(RMS(x))        what the gates keep
        x = x + bank(RMS(x))              averages over about 4, 16, 64 and 256 frames
        logits = head(RMS(x))

    No attention, and no window: an answer depends on the whole past through a state of R + K S numbers. A step is
    sequence-exact and costs D E + 4 E R + (K + 2) E S + E C multiply-accumulates. Whole sequences are scans, so it
    trains on spans in one pass; the window N is used only where it is trained on clips.

    Args:
        config: Settings; ``preset("grab", ...)`` has sizes that cost less than CoOadTR-b1.

    Source: this project. Its parts: `GatedRecurrence`, `AverageBank`; RMS norms of Zhang and Sennrich, NeurIPS 2019,
    before each part, as Xiong et al., ICML 2020, place them. docs/benchmark.md compares it.

    Example:
        >>> import torch
        >>> from coadtr.models import build_model, preset
        >>> sizes = {"embed_dim": 8, "recurrence_dim": 6, "bank_dim": 4}
        >>> model = build_model(preset("grab", input_dim=6, num_classes=3, **sizes))
        >>> logits, state = model.step(torch.randn(1, 6), model.init_state(1))
        >>> logits.shape, state.averages.shape
        (torch.Size([1, 3]), torch.Size([1, 16]))
    """

    config: GRABConfig
    exactness: Literal["window", "sequence", "both"] = "sequence"

    def __init__(self, config: GRABConfig) -> None:
        super().__init__(config)
        width = config.embed_dim
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(config.dropout)
        self.recurrence_norm = nn.RMSNorm(width, eps=1e-6)
        self.recurrence = GatedRecurrence(width, config.recurrence_dim, dropout=config.dropout)
        self.bank_norm = nn.RMSNorm(width, eps=1e-6)
        self.bank = AverageBank(
            width,
            config.bank_dim,
            horizons=config.horizons,
            shortest=config.shortest_horizon,
            longest=config.longest_horizon,
            dropout=config.dropout,
        )
        self.head_norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, config.num_classes)

    @property
    def reach(self) -> int | None:
        """None: an answer depends on the whole past."""
        return None

    def init_state(self, batch_size: int = 1) -> GRABState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        return GRABState(self.recurrence.init_state(batch_size), *self.bank.init_state(batch_size))

    def reset_rows(self, state: GRABState, rows: Tensor) -> GRABState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def embed(self, frames: Tensor) -> Tensor:
        """Embed frames: ``(..., D)`` to ``(..., E)``."""
        embedded: Tensor = self.drop(F.relu(self.norm(self.inputs(frames))))
        return embedded

    def classify(self, encoded: Tensor) -> Tensor:
        """Map encodings ``(..., E)`` to logits ``(..., C)``."""
        logits: Tensor = self.head(self.head_norm(encoded))
        return logits

    def step(self, frame: Tensor, state: GRABState) -> tuple[Tensor, GRABState]:
        """Answer one frame of each stream: ``(B, D)`` in, logits ``(B, C)`` out; the state is not written to.

        Raises:
            ShapeError: If ``frame`` is not ``(B, D)``.
        """
        require_frame(frame, self.input_dim, state.frames.shape[0], "GRAB.step")
        x = self.embed(frame)
        kept, memory = self.recurrence.step(self.recurrence_norm(x), state.memory)
        x = x + self.drop(kept)
        averaged, (averages, frames) = self.bank.step(self.bank_norm(x), (state.averages, state.frames))
        return self.classify(x + self.drop(averaged)), GRABState(memory, averages, frames)

    def steps(self, frames: Tensor, state: GRABState) -> tuple[Tensor, GRABState]:
        """Answer k frames of each stream at once, ``(B, k, D)`` in, logits ``(B, k, C)`` out: equal to k single steps.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, D)``.
        """
        require_sequence(frames, self.input_dim, "GRAB.steps", streams=state.frames.shape[0])
        x = self.embed(frames)
        kept, memory = self.recurrence.steps(self.recurrence_norm(x), state.memory)
        x = x + self.drop(kept)
        averaged, (averages, seen) = self.bank.steps(self.bank_norm(x), (state.averages, state.frames))
        return self.classify(x + self.drop(averaged)), GRABState(memory, averages, seen)

    def forward(self, frames: Tensor, first_frame: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Answer all frames of whole streams, ``(B, T, D)`` in, logits ``(B, T, C)`` out, equal to T steps.

        Args:
            frames: ``(B, T, D)``.
            first_frame: Has no effect: frames before the first given one count as not seen.

        Raises:
            ShapeError: If ``frames`` is not ``(B, T, D)``.
        """
        require_sequence(frames, self.input_dim, "GRAB.forward")
        return self.steps(frames, self.init_state(len(frames)))[0]

    def answer_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Answer the last frame of each clip, ``(B, n, D)`` in, logits ``(B, C)`` out, for any n."""
        return self.forward(clip, first_frame)[:, -1]
