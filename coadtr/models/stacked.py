"""What the models built from a stack of single-output blocks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from coadtr.layers import SingleOutputStack, StackAttention, require_sequence
from coadtr.models.continual import ContinualConfig, ContinualModel

__all__ = ["StackConfig", "StackedModel"]


@dataclass(frozen=True, kw_only=True)
class StackConfig(ContinualConfig):
    """Settings that the models of stacked single-output blocks share."""


class StackedModel(ContinualModel):
    """Linear embedding, recycling positions, a stack of single-output blocks, layer norm, linear classifier.

    ::

        x[t] -> embed + position[t mod P] -> block 1 -> ... -> block L -> LN -> logits[t]

    A step is sequence-exact: it equals one pass over the whole sequence under the band mask in each block. An answer
    looks back L(N - 1) + 1 frames; with one block these are the window's, and the step is window-exact as well.

    Args:
        config: Settings.
    """

    config: StackConfig
    encoder: SingleOutputStack

    def __init__(self, config: StackConfig) -> None:
        super().__init__(config)
        self.exactness: Literal["window", "sequence", "both"] = "both" if config.depth == 1 else "sequence"

    @property
    def block_attention(self) -> tuple[StackAttention, int]:
        """Attention of the blocks, and landmarks m of each head (0: none)."""
        return "softmax", 0

    def make_encoder(self) -> SingleOutputStack:
        """Make the stack."""
        config, (attention, landmarks) = self.config, self.block_attention
        return SingleOutputStack(
            config.depth,
            config.embed_dim,
            config.num_heads,
            config.window,
            attention=attention,
            num_landmarks=landmarks,
            **self.wiring,
        )

    @property
    def reach(self) -> int:
        """Frames that an answer depends on, its own included: L(N - 1) + 1."""
        return self.encoder.receptive_field

    def answer_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Answer the last frame of each clip, ``(B, n, D)`` in, logits ``(B, C)`` out, n at most `reach`.

        A clip of `reach` frames gives the answer of the step; a shorter one counts the frames before it as not seen.

        Raises:
            ShapeError: If ``clip`` is not ``(B, n, D)``.
        """
        require_sequence(clip, self.input_dim, f"{type(self).__name__}.answer_clip", longest=self.reach)
        return self.classify(self.encoder(self.embed(clip, first_frame))[:, -1])
