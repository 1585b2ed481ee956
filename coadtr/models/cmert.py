"""CMeRT: LSTR with frames of context, tokens of the near future out of the long memory, and a layer that refines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.layers import require_frame
from coadtr.layers.memory import causal_mask, sinusoidal_table
from coadtr.models.base import LearningAnswers
from coadtr.models.config import check_at_least
from coadtr.models.memory import MemoryConstants, frames_begun
from coadtr.models.windowed_memory import WindowedMemory, WindowedMemoryConfig, WindowedMemoryState

__all__ = ["CMeRT", "CMeRTConfig"]

Drafts = tuple[tuple[float, Tensor], ...]


@dataclass(frozen=True, kw_only=True)
class CMeRTConfig(WindowedMemoryConfig):
    """Settings of CMeRT: ``window`` counts the frames N of the long and the work memory, the newest W the latter's.

    Attributes:
        context_frames: Newest frames of the long memory that are decoded with the work memory, and not answered.
        anticipated_frames: Frames A ahead that are decoded and refined with the work memory.
        future_frames: Frames K ahead that are predicted: those after the first A by the generated tokens alone.
        future_queries: Learned queries G that generate tokens of work memory and future out of the long memory.
        future_depth: Layers that generate them.
        draft_weight: Weight of the loss of work frames before they are refined, in training.
        generated_weight: Weight of the loss of work frames as the generated tokens answer them, in training.

    Source: Pang et al., *Context-Enhanced Memory-Refined Transformer for Online Action Detection*, CVPR 2025;
    ``configs/THUMOS/cmert_long256_work4_kinetics_1x.yaml`` of pangzhan27/CMeRT.

    Example:
        >>> config = CMeRTConfig(input_dim=3072, num_classes=22)
        >>> config.long_frames, config.long_samples, config.work_frames
        (1024, 256, 16)
    """

    kind: ClassVar[str] = "cmert"

    # 256 s and 4 s of memory at four frames a second.
    window: int = 1040
    dropout: float = 0.0
    num_heads: int = 8
    attention_dropout: float = 0.0
    work_frames: int = 16
    context_frames: int = 2
    anticipated_frames: int = 8
    future_frames: int = 32
    future_queries: int = 32
    future_depth: int = 2
    draft_weight: float = 0.1
    generated_weight: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        check_at_least(
            self, 1, "context_frames", "anticipated_frames", "future_frames", "future_queries", "future_depth"
        )
        if self.future_frames < self.anticipated_frames:
            raise ConfigError(
                f"future_frames must be at least anticipated_frames={self.anticipated_frames}, got {self.future_frames}"
            )
        for name in ("draft_weight", "generated_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be finite and not negative, got {getattr(self, name)!r}")


class CMeRT(WindowedMemory):
    """CMeRT: the work memory, after some context, asks long memory and itself, and a generated future refines it.

    ::

        long memory -> Q queries -> R queries -> memory          (as LSTR, without positions)
        memory -> G queries -> tokens of work memory and future   (future_depth layers)
        context, work memory, A anticipated frames, causal, attend memory and themselves   (depth layers)
        work memory and anticipated frames attend memory, themselves and the tokens -> logits   (one layer)

    A step is window-exact: it equals the clip model on the last N frames. As in LSTR it keeps what each frame of the
    long memory offers the queries. The rest is run anew: what attention returns for a frame follows from the newest
    memory, and does not hold at the next step. (Projections of the work frames' embeddings would hold; keeping them
    would save some 7 % at the preset's sizes, and is not done.) Work frames do not attend anticipated ones, which
    `step` leaves out; `step_ahead` decodes them.

    Differences from the published code: one linear layer embeds the channels of all streams (there: one a stream, and
    one for both, with layer norms); absent frames are masked (there: frame 0 stands for those of the context, and once
    for those of the long memory); dropout acts on the long memory, too. In training each set of answers has a loss of
    its own, where the code joins them (docs/thumos14.md), and drafts of anticipated frames and the first A generated
    ones carry none. As published, positions of the anticipated frames go on from the work memory's W, though those of
    its tokens begin with the context.

    Cost of a step: that of LSTR's long memory, and terms that go with W, R, G and E^2 (docs/models.md).

    Args:
        config: Settings; ``preset("cmert", ...)`` has the published ones.

    Source: Pang et al., *Context-Enhanced Memory-Refined Transformer for Online Action Detection*, CVPR 2025;
    ``models/cmert.py`` of pangzhan27/CMeRT.

    Example:
        >>> from coadtr.models import build_model, preset
        >>> sizes = {"embed_dim": 8, "num_heads": 2, "ff_dim": 8, "window": 12, "work_frames": 4}
        >>> model = build_model(preset("cmert", input_dim=6, num_classes=3, **sizes)).eval()
        >>> frames, state = torch.randn(1, 20, 6), model.init_state(1)
        >>> with torch.no_grad():
        ...     answers, state = model.steps(frames, state)
        ...     torch.allclose(answers[:, -1], model.answer_clip(frames[:, 8:]), atol=1e-5)
        True
    """

    config: CMeRTConfig
    positions: Tensor

    def __init__(self, config: CMeRTConfig) -> None:
        super().__init__(config)
        self.future_queries = nn.Parameter(torch.randn(config.future_queries, config.embed_dim))
        self.anticipated = nn.Parameter(torch.randn(config.anticipated_frames, config.embed_dim))
        self.generate = self._stack(config.future_depth)
        self.revise = self._stack(1)
        length = max(self.recent_frames, self.work_frames + config.anticipated_frames)
        self.register_buffer("positions", sinusoidal_table(length, config.embed_dim), persistent=False)

    @property
    def recent_frames(self) -> int:
        """Newest frames V whose embeddings are kept: those of the work memory, and the context before it."""
        return min(self.window, self.work_frames + self.config.context_frames)

    @property
    def frames_ahead(self) -> int:
        """How many frames ahead K it predicts."""
        return self.config.future_frames

    def _long_positions(self) -> Tensor:
        return self.positions.new_zeros(1, self.config.embed_dim)

    def constants(self) -> MemoryConstants:
        """Work out, for one stream, what follows from the weights alone; the future queries come last."""
        found = super().constants()
        future = self.generate.layer(0).mix(self.future_queries.unsqueeze(0))
        return found._replace(refined=torch.cat([found.refined, future], 1))

    def remember(self, attended: Tensor, constants: MemoryConstants) -> Tensor:
        """Make the memory, and behind it the generated tokens, ``(B, c, R + G, E)``, of ``(B, c, Q, E)``."""
        sizes = [self.config.memory_queries, self.config.future_queries]
        refined, future = constants.refined.split(sizes, 1)
        memory = super().remember(attended, constants._replace(refined=refined))
        future = future.unsqueeze(1).expand(*memory.shape[:2], -1, -1).flatten(0, 1)
        generated = self.generate.after_mixing(future, memory.flatten(0, 1))
        return torch.cat([memory, generated.unflatten(0, memory.shape[:2])], 2)

    def _both_memories(self, clip: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        work, memory, exists = super()._both_memories(clip, mask)
        generated = self.generate(self.future_queries.expand(clip.shape[0], -1, -1), memory)
        return work, torch.cat([memory, generated], 1), exists

    def _draft(self, work: Tensor, memory: Tensor, exists: Tensor, *, ahead: bool) -> tuple[Tensor, Tensor]:
        """Decode the work memory and, with ``ahead``, the anticipated frames after it.

        Args:
            work: ``(B, V, E)`` embeddings.
            memory: ``(B, R + G, E)``.
            exists: ``(B, V) bool``.
            ahead: Whether to decode the anticipated frames.

        Returns:
            ``(B, W, E)`` or ``(B, W + A, E)``, and which of them attends which, ``(B, 1, n, n) bool``.
        """
        recalled, context = self.config.memory_queries, self.recent_frames - self.work_frames
        tokens = work + self.positions[: work.shape[1]]
        if ahead:
            count = self.config.anticipated_frames
            later = self.anticipated + self.positions[self.work_frames : self.work_frames + count]
            tokens = torch.cat([tokens, later.expand(tokens.shape[0], -1, -1)], 1)
            exists = F.pad(exists, (0, count), value=True)
        mask = causal_mask(exists)
        if ahead:  # anticipated frames attend each other
            place = torch.arange(exists.shape[1], device=exists.device) >= work.shape[1]
            mask = mask | (place.unsqueeze(1) & place)
        tokens = self.drop(tokens)
        around = torch.cat([memory[:, :recalled], tokens], 1)
        decoded = self.decoder(tokens, around, mask, F.pad(mask, (recalled, 0), value=True))
        return decoded[:, context:], mask[:, :, context:, context:]

    def _revise(self, drafts: Tensor, memory: Tensor, mask: Tensor, *, newest: bool) -> Tensor:
        """Refine drafts ``(B, n, E)`` by memory, themselves and the generated tokens; return their logits."""
        recalled = self.config.memory_queries
        around = torch.cat([memory[:, :recalled], drafts, memory[:, recalled:]], 1)
        seen = F.pad(mask, (recalled, self.config.future_queries), value=True)
        logits: Tensor = self.head(self.revise(drafts, around, mask, seen, newest=newest))
        return logits

    def _decode(self, work: Tensor, memory: Tensor, exists: Tensor, *, newest: bool) -> Tensor:
        drafts, mask = self._draft(work, memory, exists, ahead=False)
        return self._revise(drafts, memory, mask, newest=newest)

    def _generated(self, memory: Tensor) -> Tensor:
        """Answer work memory and K frames ahead by the generated tokens, spread over them: ``(B, W + K, C)``."""
        frames, tokens = self.work_frames + self.frames_ahead, self.config.future_queries
        logits: Tensor = self.head(memory[:, self.config.memory_queries :])
        return logits[:, torch.arange(frames, device=memory.device) * tokens // frames]

    def _answer_ahead(self, work: Tensor, memory: Tensor, exists: Tensor) -> tuple[Tensor, Tensor, Drafts]:
        """Answer the work memory, ``(B, W, C)``, and the K frames after it, ``(B, K, C)``, and keep the drafts."""
        size, near = self.work_frames, self.work_frames + self.config.anticipated_frames
        drafts, mask = self._draft(work, memory, exists, ahead=True)
        refined, generated = self._revise(drafts, memory, mask, newest=False), self._generated(memory)
        weighted = (
            (self.config.draft_weight, self.head(drafts[:, :size])),
            (self.config.generated_weight, generated[:, :size]),
        )
        return refined[:, :size], torch.cat([refined[:, size:], generated[:, near:]], 1), weighted

    def step_ahead(self, frame: Tensor, state: WindowedMemoryState) -> tuple[Tensor, Tensor, WindowedMemoryState]:
        """Answer one frame of each stream and the K after it: logits ``(B, C)`` and ``(B, K, C)``.

        Raises:
            ShapeError: If ``frame`` is not ``(B, D)``.
        """
        require_frame(frame, self.input_dim, state.frames.shape[0], "CMeRT.step_ahead")
        products, values, exists, state = self._take_in(frame, state)
        memory = self._remember(products, values, exists[0], state).squeeze(1)
        now, ahead, _ = self._answer_ahead(state.work, memory, exists[1].squeeze(1))
        return now[:, -1], ahead, state

    def learn_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> LearningAnswers:
        """Answer the frames of each clip's work memory, as drafts too, and the K frames after the newest.

        Args:
            clip: ``(B, n, D)``.
            first_frame: ``(B,) int64`` index in its stream of each clip's first frame; 0 if not given. Where it is
                negative, frames before frame 0 are masked; otherwise it has no effect.
        """
        self._check_clip(clip)
        now, ahead, drafts = self._answer_ahead(*self._both_memories(clip, frames_begun(clip, first_frame)))
        there = slice(-clip.shape[1], None)
        return LearningAnswers(
            now[:, there], ahead.unsqueeze(1), tuple((weight, logits[:, there]) for weight, logits in drafts)
        )
