"""DeepCoT: a deep stack of continual attention in which each frame's tokens are computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from coadtr.layers import StackAttention
from coadtr.models.config import check_one_of
from coadtr.models.stacked import StackConfig, StackedModel

__all__ = ["DeepCoT", "DeepCoTConfig"]


@dataclass(frozen=True, kw_only=True)
class DeepCoTConfig(StackConfig):
    """Settings of DeepCoT: as CoOadTR's, with single-output attention in every block.

    Attributes:
        depth: Blocks L, two by default.
        attention: ``"softmax"``, or ``"soft"`` for the softmax-free kind.

    Source: Carreto Picon et al., *DeepCoT*, arXiv 2511.17693.

    Example:
        >>> DeepCoTConfig(input_dim=3072, num_classes=22).attention
        'softmax'
    """

    kind: ClassVar[str] = "deepcot"

    depth: int = 2
    attention: Literal["softmax", "soft"] = "softmax"

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        check_one_of(self, "attention", ("softmax", "soft"))


class DeepCoT(StackedModel):
    """DeepCoT: CoOadTR's wiring around blocks that all answer for the newest frame only.

    ::

        x[t] -> embed + position[t mod P] -> block 1 -> ... -> block L -> LN -> logits[t]

    Each block attends the last N outputs of the one below, as they were given: nothing is brought up to date, so a
    step costs L times one block's, whatever the window has seen. It is sequence-exact (one pass over the whole
    sequence under the band mask in each block), and an answer looks back L(N - 1) + 1 frames.

    Attention is a softmax over the window, or (``attention="soft"``) a sum that nothing normalises,
    ``sum_s exp(-|q_t - k_s|^2 / 2 d) v_s`` with d = E/H.

    Args:
        config: Settings; ``preset("deepcot", ...)`` and ``preset("deepcot_soft", ...)`` have two blocks.

    Source: Carreto Picon et al., *DeepCoT: Deep Continual Transformers for Real-Time Inference on Data Streams*, arXiv
    2511.17693, and the authors' code (Atamarado/deepcot).

    Example:
        >>> import torch
        >>> from coadtr.models import build_model, preset
        >>> model = build_model(preset("deepcot", input_dim=6, num_classes=3, embed_dim=8, num_heads=2, window=4))
        >>> logits, state = model.step(torch.randn(1, 6), model.init_state(1))
        >>> logits.shape, model.reach
        (torch.Size([1, 3]), 7)
    """

    config: DeepCoTConfig

    @property
    def block_attention(self) -> tuple[StackAttention, int]:
        """Attention of the blocks, and landmarks of each head."""
        return self.config.attention, 0
