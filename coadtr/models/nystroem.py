"""CoOadTR with continual low-rank attention: the window is seen through landmarks that are learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from coadtr.errors import ConfigError
from coadtr.layers import StackAttention
from coadtr.models.config import check_at_least
from coadtr.models.stacked import StackConfig, StackedModel

__all__ = ["Nystroem", "NystroemConfig"]


@dataclass(frozen=True, kw_only=True)
class NystroemConfig(StackConfig):
    """Settings of CoOadTR with low-rank attention.

    Attributes:
        num_landmarks: Landmarks m of each head.

    Source: Carreto Picon et al., *Continual Low-Rank Scaled Dot-product Attention*, arXiv 2412.03214; 16 landmarks are
    what the authors' code runs on THUMOS14 (Atamarado/deepcot, ``main_CoOad.py``).

    Example:
        >>> NystroemConfig(input_dim=3072, num_classes=22).num_landmarks
        16
    """

    kind: ClassVar[str] = "nystroem"

    num_landmarks: int = 16

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        check_at_least(self, 1, "num_landmarks")
        if self.attention_dropout:
            raise ConfigError(
                f"low-rank attention drops no weights, got attention_dropout={self.attention_dropout}: set it to 0"
            )


class Nystroem(StackedModel):
    """CoOadTR with low-rank attention: each block sees its window through m landmarks per head.

    ::

        x[t] -> embed + position[t mod P] -> block 1 -> ... -> block L -> LN -> logits[t]

    The landmarks are parameters, learnt with all others from random ones: what they ask of a token, and what asks
    them, are rows of the input projection, and the inverse of their kernel is the matrix ``mixing``, which begins as
    the identity (:class:`coadtr.layers.LandmarkProjections`). So a training run needs no sample and no second stage.
    (The authors train with landmarks of each clip, then fix them by k-means and train on.)

    One block is the published one-layer model, window-exact and sequence-exact. More blocks are stacked as DeepCoT's
    are: sequence-exact, at a reach of L(N - 1) + 1 frames. (The published two-layer model brings the window up to date
    between its blocks, as CoOadTR-b2 does; that is not built.) The step is exact: it is the model that approximates
    CoOadTR's attention, not the step the model.

    Args:
        config: Settings; ``preset("nystroem", ...)`` has one block.

    Source: Carreto Picon et al., *Continual Low-Rank Scaled Dot-product Attention*, arXiv 2412.03214. Learning the
    landmarks and the inverse is ours.

    Example:
        >>> import torch
        >>> from coadtr.models import build_model, preset
        >>> model = build_model(preset("nystroem", input_dim=6, num_classes=3, embed_dim=8, num_heads=2, window=4))
        >>> model(torch.randn(2, 5, 6)).shape
        torch.Size([2, 5, 3])
    """

    config: NystroemConfig

    @property
    def block_attention(self) -> tuple[StackAttention, int]:
        """Attention of the blocks, and landmarks of each head."""
        return "nystroem", self.config.num_landmarks
