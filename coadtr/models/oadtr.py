"""OadTR, with and without decoder: the clip models that run their whole window at every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.layers import (
    AttentionProjections,
    EncoderBlock,
    answer_windows,
    computes_like,
    require_frame,
    require_sequence,
    reset_rows,
)
from coadtr.models.base import LearningAnswers, OnlineModel
from coadtr.models.config import TransformerConfig, check_at_least
from coadtr.models.decoder import AnticipationDecoder

__all__ = ["ClipState", "OadTR", "OadTRAnswer", "OadTRConfig"]


@dataclass(frozen=True, kw_only=True)
class OadTRConfig(TransformerConfig):
    """Settings of OadTR, the clip model that runs its whole window at every frame: pre-norm blocks, learned positions.

    Attributes:
        decoder: Use the class token and the decoder of anticipated frames (OadTR); without them, OadTR-b1 and -b2.
        decoder_depth: Decoder layers.
        decoder_queries: Anticipated frames.
        decoder_heads: Attention heads of the decoder.

    Source: Wang et al., *OadTR: Online Action Detection with Transformers*, ICCV 2021, section 3.

    Example:
        >>> OadTRConfig(input_dim=3072, num_classes=22, depth=2).decoder
        False
    """

    kind: ClassVar[str] = "oadtr"

    decoder: bool = False
    decoder_depth: int = 5
    decoder_queries: int = 8
    decoder_heads: int = 4

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        check_at_least(self, 1, "decoder_depth", "decoder_queries", "decoder_heads")
        if self.decoder and self.embed_dim % self.decoder_heads:
            raise ConfigError(
                f"embed_dim must be a multiple of decoder_heads, got {self.embed_dim} and {self.decoder_heads}"
            )


class ClipState(NamedTuple):
    """The last N feature frames of each stream, for models that run their window anew at each step.

    Attributes:
        clip: ``(B, N, D)`` in time order, the newest last.
        frames: ``(B,) int64``, frames seen by each stream.
    """

    clip: Tensor
    frames: Tensor


class OadTRAnswer(NamedTuple):
    """Logits of OadTR for one clip.

    Attributes:
        now: ``(B, C)`` for the clip's last frame.
        ahead: ``(B, Q, C)`` for the Q frames after it; None without decoder.
    """

    now: Tensor
    ahead: Tensor | None


class OadTR(OnlineModel):
    """OadTR: linear embedding, learned positions, pre-norm encoder; with class token and decoder, or without (b1, b2).

    A step is window-exact by construction: it runs the clip model on the last N frames, which is what makes it the dear
    baseline. While fewer than N frames were seen, those seen take the last positions and the rest is masked.

    Args:
        config: Settings; ``preset("oadtr", ...)`` has the published ones.

    Source: Wang et al., *OadTR: Online Action Detection with Transformers*, ICCV 2021; OadTR-b1 and -b2: Hedegaard et
    al., ICLR 2023, section 4.2.

    Example:
        >>> import torch
        >>> from coadtr.models import build_model, preset
        >>> model = build_model(preset("oadtr_b1", input_dim=6, num_classes=3, embed_dim=8, num_heads=2, window=4))
        >>> model(torch.randn(2, 5, 6)).shape
        torch.Size([2, 5, 3])
    """

    config: OadTRConfig
    exactness: Literal["window", "sequence", "both"] = "window"

    def __init__(self, config: OadTRConfig) -> None:
        super().__init__(config)
        width = config.embed_dim
        # One position more than the window: the class token's. Published b1 and b2 have it too, unused.
        self.positions = nn.Parameter(torch.randn(config.window + 1, width))
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            EncoderBlock(
                AttentionProjections(
                    width, config.num_heads, config.window + 1, out_bias=True, dropout=config.attention_dropout
                ),
                ff_dim=config.ff_dim,
                norm_first=True,
                dropout=config.dropout,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(2 * width if config.decoder else width, config.num_classes)
        self.class_token: nn.Parameter | None = None
        self.decoder: AnticipationDecoder | None = None
        if config.decoder:
            self.class_token = nn.Parameter(torch.zeros(1, 1, width))
            self.decoder = AnticipationDecoder(
                width,
                config.decoder_heads,
                depth=config.decoder_depth,
                queries=config.decoder_queries,
                num_classes=config.num_classes,
                dropout=config.dropout,
            )

    def init_state(self, batch_size: int = 1) -> ClipState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        weight = computes_like(self.inputs.embed)
        return ClipState(
            weight.new_zeros(batch_size, self.window, self.input_dim),
            torch.zeros(batch_size, dtype=torch.int64, device=weight.device),
        )

    def reset_rows(self, state: ClipState, rows: Tensor) -> ClipState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def run_clip(self, clip: Tensor, mask: Tensor | None = None) -> OadTRAnswer:
        """Run clips of at most N frames.

        Args:
            clip: ``(B, n, D)``, the newest frame last.
            mask: ``(B, n) bool``, false where a frame does not exist; None if all do.

        Returns:
            Logits for the last frame, and for the frames ahead if there is a decoder.

        Raises:
            ShapeError: If ``clip`` is not ``(B, n, D)``.
        """
        require_sequence(clip, self.input_dim, "OadTR.run_clip", longest=self.window)
        tokens = self.inputs(clip)
        first = self.window - clip.shape[1]
        if self.class_token is not None:
            tokens = torch.cat([tokens, self.class_token.expand(clip.shape[0], -1, -1)], dim=1)
            mask = None if mask is None else F.pad(mask, (0, 1), value=True)
        tokens = self.drop(tokens + self.positions[first : first + tokens.shape[1]])
        for block in self.blocks:
            tokens = cast("EncoderBlock[AttentionProjections]", block).attend_clip(tokens, mask)
        encoded = self.norm(tokens)
        if self.decoder is None:
            return OadTRAnswer(self.head(encoded[:, -1]), None)
        decoded, ahead = self.decoder(encoded, mask)
        return OadTRAnswer(self.head(torch.cat([encoded[:, -1], decoded.mean(1)], dim=-1)), ahead)

    def step(self, frame: Tensor, state: ClipState) -> tuple[Tensor, ClipState]:
        """Answer one frame of each stream: ``(B, D)`` in, logits ``(B, C)`` out.

        Raises:
            ShapeError: If ``frame`` is not ``(B, D)``.
        """
        answer, state = self._step(frame, state)
        return answer.now, state

    def _step(self, frame: Tensor, state: ClipState) -> tuple[OadTRAnswer, ClipState]:
        require_frame(frame, self.input_dim, state.frames.shape[0], "OadTR.step")
        clip = torch.cat([state.clip[:, 1:], frame.unsqueeze(1)], dim=1)
        frames = state.frames + 1
        slot = torch.arange(self.window, device=frame.device)
        mask = slot >= (self.window - frames).unsqueeze(1)
        return self.run_clip(clip, mask), ClipState(clip, frames)

    @property
    def frames_ahead(self) -> int:
        """How many frames ahead K the decoder predicts; 0 without decoder."""
        return self.config.decoder_queries if self.config.decoder else 0

    def step_ahead(self, frame: Tensor, state: ClipState) -> tuple[Tensor, Tensor, ClipState]:
        """Answer one frame of each stream and the K after it: logits ``(B, C)`` and ``(B, K, C)``.

        Raises:
            ConfigError: If there is no decoder.
            ShapeError: If ``frame`` is not ``(B, D)``.
        """
        answer, state = self._step(frame, state)
        if answer.ahead is None:
            raise ConfigError("this OadTR has no decoder and predicts nothing ahead: build it with decoder=true")
        return answer.now, answer.ahead, state

    def steps(self, frames: Tensor, state: ClipState) -> tuple[Tensor, ClipState]:
        """Answer k frames of each stream at once, ``(B, k, D)`` in, logits ``(B, k, C)`` out: equal to k single steps.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, D)``.
        """
        require_sequence(frames, self.input_dim, "OadTR.steps", streams=state.frames.shape[0])
        slot = torch.arange(1, self.window, device=frames.device)
        past = state.clip[:, 1:], slot >= (self.window - state.frames).unsqueeze(1)
        answers = answer_windows(lambda clip, mask: self.run_clip(clip, mask).now, frames, self.window, past)
        clip = torch.cat([state.clip, frames], 1)[:, -self.window :]
        return answers, ClipState(clip, state.frames + frames.shape[1])

    def forward(self, frames: Tensor, first_frame: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Answer all frames of whole streams, ``(B, T, D)`` in, logits ``(B, T, C)`` out, equal to T steps.

        Args:
            frames: ``(B, T, D)``.
            first_frame: Has no effect: positions count inside the window.

        Raises:
            ShapeError: If ``frames`` is not ``(B, T, D)``.
        """
        require_sequence(frames, self.input_dim, "OadTR.forward")
        return answer_windows(lambda clip, mask: self.run_clip(clip, mask).now, frames, self.window)

    def answer_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Answer the last frame of each clip, ``(B, n, D)`` in, logits ``(B, C)`` out, n at most N."""
        return self.run_clip(clip).now

    def learn_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> LearningAnswers:  # noqa: ARG002
        """Answer the last frame of each clip and, where there is a decoder, the frames after it, for training."""
        return _learnt(self.run_clip(clip))

    def learn_start(self, clip: Tensor, first_frame: Tensor) -> LearningAnswers:
        """Answer the newest frame of clips that may begin before their recording does, all in one pass."""
        exists = torch.arange(clip.shape[1], device=clip.device) + first_frame.unsqueeze(1) >= 0
        return _learnt(self.run_clip(clip, exists))


def _learnt(answer: OadTRAnswer) -> LearningAnswers:
    return LearningAnswers(answer.now.unsqueeze(1), None if answer.ahead is None else answer.ahead.unsqueeze(1))
