"""MiniROAD: one recurrent layer over embedded frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.layers import computes_like, require_frame, require_sequence, reset_rows
from coadtr.models.base import OnlineModel
from coadtr.models.config import ModelConfig, check_at_least
from coadtr.models.recurrent import GRULayer, frames_missing, roll_rows

__all__ = ["MiniROAD", "MiniROADConfig", "MiniROADState"]


@dataclass(frozen=True, kw_only=True)
class MiniROADConfig(ModelConfig):
    """Settings of MiniROAD, a recurrent network that is trained on the last frame of its clips.

    Attributes:
        hidden_dim: Width G of the recurrent layers.
        depth: Recurrent layers L.

    Source: An et al., *MiniROAD: Minimal RNN Framework for Online Action Detection*, ICCV 2023; sizes from
    jbistanbul/MiniROAD ``configs/miniroad_thumos_kinetics.yaml``.

    Example:
        >>> MiniROADConfig(input_dim=3072, num_classes=22).window
        128
    """

    kind: ClassVar[str] = "miniroad"

    window: int = 128
    embed_dim: int = 2048
    dropout: float = 0.2
    hidden_dim: int = 1024
    depth: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        check_at_least(self, 1, "hidden_dim", "depth")


class MiniROADState(NamedTuple):
    """What the recurrent layers hold of each stream.

    Attributes:
        hidden: ``(B, L, G)``, one row per layer.
    """

    hidden: Tensor


class MiniROAD(OnlineModel):
    """MiniROAD: linear embedding, layer norm, ReLU, gated recurrent units, ReLU, linear classifier.

    ::

        x[t] -> embed -> LN -> ReLU -> GRU (h[t-1] -> h[t]) -> ReLU -> logits[t]

    An answer depends on the whole past, through the state alone: a step is sequence-exact. The window N is the length
    of a training clip; only its last frame carries loss, so that the network learns states as old as those it will
    meet. Clips at the start of a video are shorter: their stream begins with the video, from the zero state. (The
    published code puts frames of zeros before the video, and runs them.)

    Args:
        config: Settings; ``preset("miniroad", ...)`` has the published ones.

    Source: the recurrent network of An et al., ICCV 2023; jbistanbul/MiniROAD ``model/rnn/rnn.py``.

    Example:
        >>> import torch
        >>> from coadtr.models import build_model, preset
        >>> model = build_model(preset("miniroad", input_dim=6, num_classes=3, embed_dim=8, hidden_dim=4))
        >>> logits, state = model.step(torch.randn(1, 6), model.init_state(1))
        >>> logits.shape, state.hidden.shape
        (torch.Size([1, 3]), torch.Size([1, 1, 4]))
    """

    config: MiniROADConfig
    exactness: Literal["window", "sequence", "both"] = "sequence"

    def __init__(self, config: MiniROADConfig) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(config.embed_dim)
        self.drop = nn.Dropout(config.dropout)
        widths = [config.embed_dim] + [config.hidden_dim] * (config.depth - 1)
        self.gru = nn.ModuleList(GRULayer(width, config.hidden_dim) for width in widths)
        self.head = nn.Linear(config.hidden_dim, config.num_classes)

    @property
    def reach(self) -> int | None:
        """None: an answer depends on the whole past."""
        return None

    @property
    def shortest_clip(self) -> int:
        """One frame: the starts of videos are learnt, too."""
        return 1

    def init_state(self, batch_size: int = 1) -> MiniROADState:
        """Return the state of ``batch_size`` streams that have seen no frame: zeros."""
        like = computes_like(self.inputs.embed)
        return MiniROADState(like.new_zeros(batch_size, self.config.depth, self.config.hidden_dim))

    def reset_rows(self, state: MiniROADState, rows: Tensor) -> MiniROADState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def embed(self, frames: Tensor) -> Tensor:
        """Embed frames: ``(..., D)`` to ``(..., E)``."""
        embedded: Tensor = self.drop(F.relu(self.norm(self.inputs(frames))))
        return embedded

    def classify(self, hidden: Tensor) -> Tensor:
        """Map hidden states ``(..., G)`` to logits ``(..., C)``."""
        logits: Tensor = self.head(F.relu(hidden))
        return logits

    def step(self, frame: Tensor, state: MiniROADState) -> tuple[Tensor, MiniROADState]:
        """Answer one frame of each stream: ``(B, D)`` in, logits ``(B, C)`` out.

        Raises:
            ShapeError: If ``frame`` is not ``(B, D)``.
        """
        require_frame(frame, self.input_dim, state.hidden.shape[0], "MiniROAD.step")
        x, updated = self.embed(frame), []
        for layer, hidden in zip(self.gru, state.hidden.unbind(1), strict=True):
            x = cast("GRULayer", layer).step(x, hidden)
            updated.append(x)
        return self.classify(x), MiniROADState(torch.stack(updated, 1))

    def steps(self, frames: Tensor, state: MiniROADState) -> tuple[Tensor, MiniROADState]:
        """Answer k frames of each stream at once, ``(B, k, D)`` in, logits ``(B, k, C)`` out: equal to k single steps.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, D)``.
        """
        require_sequence(frames, self.input_dim, "MiniROAD.steps", streams=state.hidden.shape[0])
        hidden, state = self._run(frames, state)
        return self.classify(hidden), state

    def _run(self, frames: Tensor, state: MiniROADState) -> tuple[Tensor, MiniROADState]:
        x, updated = self.embed(frames), []
        for layer, hidden in zip(self.gru, state.hidden.unbind(1), strict=True):
            x, last = layer(x, hidden)
            updated.append(last)
        return x, MiniROADState(torch.stack(updated, 1))

    def forward(self, frames: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Answer all frames of whole streams, ``(B, T, D)`` in, logits ``(B, T, C)`` out, equal to T steps.

        Args:
            frames: ``(B, T, D)``.
            first_frame: ``(B,) int64`` index of each row's first frame in its stream; 0 if not given. Where it is
                negative, the stream begins with frame 0: answers before it mean nothing.

        Raises:
            ShapeError: If ``frames`` is not ``(B, T, D)``.
        """
        require_sequence(frames, self.input_dim, "MiniROAD.forward")
        if first_frame is None:
            return self.classify(self._run(frames, self.init_state(len(frames)))[0])
        missing = frames_missing(first_frame, frames.shape[1])
        hidden, _ = self._run(roll_rows(frames, -missing), self.init_state(len(frames)))
        return self.classify(roll_rows(hidden, missing))

    def answer_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Answer the last frame of each clip from the zero state, ``(B, n, D)`` in, logits ``(B, C)`` out.

        Args:
            clip: ``(B, n, D)``, n at most N.
            first_frame: ``(B,) int64`` index in its stream of each clip's first frame; 0 if not given. Where it is
                negative, the stream begins with frame 0.

        Raises:
            ShapeError: If ``clip`` is not ``(B, n, D)``.
        """
        require_sequence(clip, self.input_dim, "MiniROAD.answer_clip", longest=self.window)
        answers: Tensor = self(clip, first_frame)
        return answers[:, -1]
