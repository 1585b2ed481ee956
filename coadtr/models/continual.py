"""What the models around an encoder of continual attention share: positions, wiring, and the way of a frame."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.layers import (
    ContinualEncoder,
    RecyclingPositionalEncoding,
    SingleOutputStack,
    require_frame,
    require_sequence,
)
from coadtr.models.base import OnlineModel
from coadtr.models.config import TransformerConfig, check_at_least, check_one_of

__all__ = ["ContinualConfig", "ContinualModel"]


@dataclass(frozen=True, kw_only=True)
class ContinualConfig(TransformerConfig):
    """Settings that the models around an encoder of continual attention share.

    Attributes:
        positions: Recycling encodings that are ``"learned"`` or ``"fixed"``.
        num_positions: Embeddings P in one cycle; 0 means 2 N - 1.
        norm_first: Pre-norm instead of post-norm.
        activation: ``"gelu"`` or ``"relu"``.
        in_bias: Bias of the projections of tokens in attention.
    """

    positions: Literal["learned", "fixed"] = "fixed"
    num_positions: int = 0
    norm_first: bool = False
    activation: Literal["gelu", "relu"] = "gelu"
    in_bias: bool = False

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        check_one_of(self, "positions", ("learned", "fixed"))
        check_one_of(self, "activation", ("gelu", "relu"))
        check_at_least(self, 0, "num_positions")
        if self.num_positions and self.num_positions < self.window:
            raise ConfigError(
                f"num_positions must be 0 (for 2 N - 1) or at least the window of {self.window} frames, "
                f"got {self.num_positions}"
            )
        if self.positions == "fixed" and (self.embed_dim % 2 or self.cycle < 2):
            raise ConfigError(
                f"fixed positions need an even embed_dim and at least 2 positions, got embed_dim={self.embed_dim} and "
                f"{self.cycle} positions: use positions=learned"
            )

    @property
    def cycle(self) -> int:
        """Embeddings P of one cycle."""
        return self.num_positions or 2 * self.window - 1


class ContinualModel(OnlineModel):
    """Linear embedding, recycling positions, an encoder of continual attention, layer norm, linear classifier.

    ::

        x[t] -> embed + position[t mod P] -> encoder -> LN -> logits[t]

    Args:
        config: Settings.
    """

    config: ContinualConfig

    def __init__(self, config: ContinualConfig) -> None:
        super().__init__(config)
        self.positions = RecyclingPositionalEncoding(config.cycle, config.embed_dim, kind=config.positions)
        self.drop = nn.Dropout(config.dropout)
        self.encoder = self.make_encoder()
        self.norm = nn.LayerNorm(config.embed_dim)
        self.head = nn.Linear(config.embed_dim, config.num_classes)

    @abstractmethod
    def make_encoder(self) -> ContinualEncoder | SingleOutputStack:
        """Make the encoder that the settings ask for."""

    @property
    def wiring(self) -> dict[str, Any]:
        """What the settings say of the blocks, whatever their attention."""
        config = self.config
        return {
            "ff_dim": config.ff_dim,
            "activation": config.activation,
            "norm_first": config.norm_first,
            "in_bias": config.in_bias,
            "dropout": config.dropout,
            "attention_dropout": config.attention_dropout,
        }

    def init_state(self, batch_size: int = 1) -> Any:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        return self.encoder.init_state(batch_size)

    def reset_rows(self, state: Any, rows: Tensor) -> Any:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return self.encoder.reset_rows(state, rows)

    def classify(self, encoded: Tensor) -> Tensor:
        """Map encodings ``(..., E)`` to logits ``(..., C)``."""
        logits: Tensor = self.head(self.norm(encoded))
        return logits

    def embed(self, frames: Tensor, first_frame: Tensor | None) -> Tensor:
        """Embed a sequence ``(B, T, D)`` and add positions that count from ``first_frame``."""
        index = torch.arange(frames.shape[1], device=frames.device).unsqueeze(0)
        if first_frame is not None:
            index = index + first_frame.unsqueeze(1)
        embedded: Tensor = self.drop(self.positions(self.inputs(frames), index))
        return embedded

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Answer one frame of each stream: ``(B, D)`` in, logits ``(B, C)`` out; the state's storage is reused.

        Raises:
            ShapeError: If ``frame`` is not ``(B, D)``.
        """
        seen = self.encoder.frames_seen(state)
        require_frame(frame, self.input_dim, seen.shape[0], f"{type(self).__name__}.step")
        encoded, state = self.encoder.step(self.drop(self.positions(self.inputs(frame), seen)), state)
        return self.classify(encoded), state

    def steps(self, frames: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Answer k frames of each stream at once, ``(B, k, D)`` in, logits ``(B, k, C)`` out: equal to k single steps.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, D)``.
        """
        seen = self.encoder.frames_seen(state)
        require_sequence(frames, self.input_dim, f"{type(self).__name__}.steps", streams=seen.shape[0])
        encoded, state = self.encoder.steps(self.embed(frames, seen), state)
        return self.classify(encoded), state

    def forward(self, frames: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Answer all frames of whole streams, ``(B, T, D)`` in, logits ``(B, T, C)`` out, equal to T steps.

        Args:
            frames: ``(B, T, D)``.
            first_frame: ``(B,) int64`` index of each row's first frame in its stream; 0 if not given.

        Raises:
            ShapeError: If ``frames`` is not ``(B, T, D)``.
        """
        require_sequence(frames, self.input_dim, f"{type(self).__name__}.forward")
        return self.classify(self.encoder(self.embed(frames, first_frame)))
