"""CoOadTR: OadTR's encoder built from continual attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from coadtr.layers import ContinualEncoder, require_sequence
from coadtr.models.base import LearningAnswers
from coadtr.models.continual import ContinualConfig, ContinualModel

__all__ = ["CoOadTR", "CoOadTRConfig"]


@dataclass(frozen=True, kw_only=True)
class CoOadTRConfig(ContinualConfig):
    """Settings of CoOadTR, the continual OadTR: post-norm blocks, no attention biases, recycling positions.

    Source: Hedegaard et al., ICLR 2023, section 4.2.

    Example:
        >>> CoOadTRConfig(input_dim=3072, num_classes=22).cycle
        127
    """

    kind: ClassVar[str] = "cooadtr"


class CoOadTR(ContinualModel):
    """Continual OadTR: linear embedding, recycling positions, continual encoder, layer norm, linear classifier.

    ::

        x[t] -> embed + position[t mod P] -> encoder -> LN -> logits[t]

    A step is window-exact: it equals the clip model on the last N frames. At depth one (CoOadTR-b1) that is also one
    pass over the whole sequence under the band mask, which ``forward`` then uses.

    Args:
        config: Settings; ``preset("cooadtr_b1", ...)`` has the published ones.

    Source: Hedegaard et al., ICLR 2023, section 4.2.

    Example:
        >>> import torch
        >>> from coadtr.models import build_model, preset
        >>> model = build_model(preset("cooadtr_b1", input_dim=6, num_classes=3, embed_dim=8, num_heads=2, window=4))
        >>> logits, state = model.step(torch.randn(1, 6), model.init_state(1))
        >>> logits.shape
        torch.Size([1, 3])
    """

    config: CoOadTRConfig
    encoder: ContinualEncoder

    def __init__(self, config: CoOadTRConfig) -> None:
        super().__init__(config)
        self.exactness: Literal["window", "sequence", "both"] = "both" if config.depth == 1 else "window"

    def make_encoder(self) -> ContinualEncoder:
        """Make the encoder: retroactive, full and single-output blocks, as many as the depth says."""
        config = self.config
        return ContinualEncoder(config.depth, config.embed_dim, config.num_heads, config.window, **self.wiring)

    def answer_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Answer the last frame of each clip, ``(B, n, D)`` in, logits ``(B, C)`` out, n at most N.

        Raises:
            ShapeError: If ``clip`` is not ``(B, n, D)``.
        """
        require_sequence(clip, self.input_dim, "CoOadTR.answer_clip", longest=self.window)
        return self.classify(self.encoder.answer_clip(self.embed(clip, first_frame)))

    def learn_start(self, clip: Tensor, first_frame: Tensor) -> LearningAnswers:
        """Answer the newest frame of clips that may begin before their recording does, all in one pass.

        Raises:
            ShapeError: If ``clip`` is not ``(B, n, D)``.
        """
        require_sequence(clip, self.input_dim, "CoOadTR.learn_start", longest=self.window)
        exists = torch.arange(clip.shape[1], device=clip.device) + first_frame.unsqueeze(1) >= 0
        answered = self.classify(self.encoder.answer_clip(self.embed(clip, first_frame), exists))
        return LearningAnswers(answered.unsqueeze(1))
