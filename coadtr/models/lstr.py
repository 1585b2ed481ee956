"""LSTR: a long memory of fixed length, compressed by learned queries, and a short work memory that asks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from coadtr.layers.memory import causal_mask, sinusoidal_table
from coadtr.models.windowed_memory import WindowedMemory, WindowedMemoryConfig

__all__ = ["LSTR", "LSTRConfig"]


@dataclass(frozen=True, kw_only=True)
class LSTRConfig(WindowedMemoryConfig):
    """Settings of LSTR: ``window`` counts the frames N of both memories, of which the newest W are the work memory.

    Source: Xu et al., *Long Short-Term Transformer for Online Action Detection*, NeurIPS 2021: its long and short-term
    memories.

    Example:
        >>> LSTRConfig(input_dim=3072, num_classes=22, window=224, work_frames=32).long_frames
        192
    """

    kind: ClassVar[str] = "lstr"


class LSTR(WindowedMemory):
    """LSTR: Q queries attend the long memory, R queries attend them, and the causal work memory attends those.

    A step is window-exact: it equals the clip model on the last N frames. It embeds one frame. Products with the
    learned queries, and values, are kept as a frame ages; positions, which go by age, are added when the long memory is
    recalled. The work memory is run anew, in the last layer for the newest frame alone.

    While fewer than N frames were seen, the newest keeps its position and absent frames are masked; a long memory
    without any frame answers zero. (The published loader puts frame 0 there, and in training stretches a short history
    over the whole memory.) With a stride s the frames s, 2s, ... before the work memory are looked at, as in the
    published evaluation: other ones at each step, so all N frames are kept, and n = (N - W) / s of them recalled. (The
    published stream inference moves the long memory at every s-th step only, and so differs from its evaluation.)

    Cost of a step: 2 D E + E C, 2 E^2 + Q E + Q n E for the long memory, and terms without n (docs/models.md).

    Args:
        config: Settings; ``preset("lstr", ...)`` has the published ones.

    Source: Xu et al., *Long Short-Term Transformer for Online Action Detection*, NeurIPS 2021: its encoder
    and decoder; weights of amazon-science/long-short-term-transformer.

    Example:
        >>> import torch
        >>> from coadtr.models import build_model, preset
        >>> sizes = {"embed_dim": 8, "num_heads": 2, "ff_dim": 8, "window": 12, "work_frames": 4}
        >>> model = build_model(preset("lstr", input_dim=6, num_classes=3, **sizes)).eval()
        >>> frames, state = torch.randn(1, 20, 6), model.init_state(1)
        >>> with torch.no_grad():
        ...     answers, state = model.steps(frames, state)
        ...     torch.allclose(answers[:, -1], model.answer_clip(frames[:, 8:]), atol=1e-5)
        True
    """

    config: LSTRConfig
    positions: Tensor

    def __init__(self, config: LSTRConfig) -> None:
        super().__init__(config)
        positions = sinusoidal_table(config.long_samples + self.work_frames, config.embed_dim)
        self.register_buffer("positions", positions, persistent=False)

    def _long_positions(self) -> Tensor:
        return self.positions[: self.config.long_samples]

    def _decode(self, work: Tensor, memory: Tensor, exists: Tensor, *, newest: bool) -> Tensor:
        tokens = self.drop(work + self.positions[self.config.long_samples :])
        answers: Tensor = self.head(self.decoder(tokens, memory, causal_mask(exists), newest=newest))
        return answers
