"""LSTR: a long memory of fixed length, compressed by learned queries, and a short work memory that asks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from coadtr.errors import ConfigError
from coadtr.layers import computes_like, require_frame, require_sequence, reset_rows
from coadtr.layers.memory import causal_mask, sinusoidal_table
from coadtr.layers.ring import read_past, write_slots
from coadtr.models.base import LearningAnswers
from coadtr.models.memory import MemoryConfig, MemoryConstants, MemoryModel, frames_begun, windows_at_once

__all__ = ["LSTR", "LSTRConfig", "LSTRState"]


@dataclass(frozen=True, kw_only=True)
class LSTRConfig(MemoryConfig):
    """Settings of LSTR: ``window`` counts the frames N of both memories, of which the newest W are the work memory.

    Source: Xu et al., *Long Short-Term Transformer for Online Action Detection*, NeurIPS 2021: its long and short-term
    memories.

    Example:
        >>> LSTRConfig(input_dim=3072, num_classes=22, window=224, work_frames=32).long_frames
        192
    """

    kind: ClassVar[str] = "lstr"

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        if self.long_frames % self.long_stride:
            raise ConfigError(
                f"the long memory, window - work_frames, must be a multiple of long_stride, "
                f"got {self.long_frames} frames and a stride of {self.long_stride}"
            )

    @property
    def long_frames(self) -> int:
        """Frames of the long memory."""
        return max(0, self.window - self.work_frames)

    @property
    def long_samples(self) -> int:
        """Frames n of the long memory that are looked at."""
        return self.long_frames // self.long_stride


class LSTRState(NamedTuple):
    """What one stream keeps.

    Attributes:
        products: ``(B, H, N, Q)`` of the last N frames with each query, in slot order.
        values: ``(B, H, N, E/H)`` of the last N frames, in slot order.
        work: ``(B, W, E)`` embeddings of the last W frames, the newest last.
        frames: ``(B,) int64``, frames seen by each stream.
        constants: What follows from the weights alone.
        product_shares: ``(B, H, n, Q)``, too: what positions and biases add to the products.
        value_shares: ``(B, H, n, E/H)``, and to the values.
    """

    products: Tensor
    values: Tensor
    work: Tensor
    frames: Tensor
    constants: MemoryConstants
    product_shares: Tensor
    value_shares: Tensor


class LSTR(MemoryModel):
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
    exactness: Literal["window", "sequence", "both"] = "window"
    positions: Tensor

    def __init__(self, config: LSTRConfig) -> None:
        super().__init__(config)
        positions = sinusoidal_table(config.long_samples + self.work_frames, config.embed_dim)
        self.register_buffer("positions", positions, persistent=False)

    def _shares(self, constants: MemoryConstants) -> tuple[Tensor, Tensor]:
        positions = self.drop(self.positions[: self.config.long_samples].unsqueeze(0))
        return self.compression.shares(positions, constants.queries)

    @torch.no_grad()
    def init_state(self, batch_size: int = 1) -> LSTRState:
        """Return the state of ``batch_size`` streams that have seen no frame, for the weights as they are now."""
        config, weight, constants = self.config, computes_like(self.inputs.embed), self.constants()

        def rows(part: Tensor) -> Tensor:
            return part.repeat(batch_size, *[1] * (part.dim() - 1))

        return LSTRState(
            weight.new_zeros(batch_size, config.num_heads, self.window, config.long_queries),
            weight.new_zeros(batch_size, config.num_heads, self.window, config.embed_dim // config.num_heads),
            weight.new_zeros(batch_size, self.work_frames, config.embed_dim),
            torch.zeros(batch_size, dtype=torch.int64, device=weight.device),
            MemoryConstants(*map(rows, constants)),
            *map(rows, self._shares(constants)),
        )

    def reset_rows(self, state: LSTRState, rows: Tensor) -> LSTRState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def _answer(
        self, products: Tensor, values: Tensor, work: Tensor, exists: tuple[Tensor, Tensor], state: LSTRState
    ) -> Tensor:
        """Answer the last frame of c windows of each stream: ``(B, c, C)``.

        Args:
            products: ``(B, H, c, n, Q)``.
            values: ``(B, H, c, n, E/H)``.
            work: ``(B, c, W, E)``.
            exists: Which frames of the long and of the work memory do: ``(B, c, n)`` and ``(B, c, W) bool``.
            state: Of B streams, or of one for all; its constants and shares are read.
        """
        offered = products.transpose(1, 2), values.transpose(1, 2)
        shares = state.product_shares.unsqueeze(1), state.value_shares.unsqueeze(1)
        attended = self.compression.recall(*offered, *shares, exists[0])
        memory = self.remember(attended, state.constants).flatten(0, 1)
        tokens = self.drop(work + self.positions[self.config.long_samples :]).flatten(0, 1)
        decoded = self.decoder(tokens, memory, causal_mask(exists[1].flatten(0, 1)), newest=True)
        answers: Tensor = self.head(decoded).unflatten(0, work.shape[:2]).squeeze(2)
        return answers

    def _answer_all(self, products: Tensor, values: Tensor, work: Tensor, exists: Tensor, state: LSTRState) -> Tensor:
        """Answer the last frame of every window of a sequence: ``(B, T, C)``.

        Args:
            products: ``(B, H, N - 1 + T, Q)``.
            values: ``(B, H, N - 1 + T, E/H)``.
            work: ``(B, W - 1 + T, E)``.
            exists: ``(B, N - 1 + T) bool``.
            state: Of B streams, or of one for all; its constants and shares are read.
        """
        length, at_once = exists.shape[1] - self.window + 1, windows_at_once(self.window, exists.shape[0])
        sampled = torch.arange(self.config.long_samples, device=work.device) * self.config.long_stride
        recent = torch.arange(self.work_frames, device=work.device)
        answers = []
        for start in range(0, length, at_once):
            first = torch.arange(start, min(start + at_once, length), device=work.device).unsqueeze(1)
            long, near = first + sampled, first + recent
            there = exists[:, long], exists[:, near + self.window - self.work_frames]
            answers.append(self._answer(products[:, :, long], values[:, :, long], work[:, near], there, state))
        return torch.cat(answers, 1)

    def _offer(self, frames: Tensor, constants: MemoryConstants) -> tuple[Tensor, Tensor, Tensor]:
        """Work out what frames ``(B, k, D)`` are in both memories: embeddings, products and values."""
        work, long = self.embed(frames)
        # Positions are dropped out on their own, in _shares: a frame has another one in each window.
        return work, *self.compression.offer(self.drop(long), constants.queries)

    def _write(self, state: LSTRState, work: Tensor, products: Tensor, values: Tensor) -> LSTRState:
        """Write the offers of k frames into the state, and give it ``work``, which goes on from its own."""
        for cache, new in ((state.products, products), (state.values, values)):
            write_slots(cache.transpose(1, 2), new.transpose(1, 2), state.frames)
        kept = work[:, -self.work_frames :].to(state.work.dtype).clone()
        return state._replace(work=kept, frames=state.frames + products.shape[2])

    def step(self, frame: Tensor, state: LSTRState) -> tuple[Tensor, LSTRState]:
        """Answer one frame of each stream: ``(B, D)`` in, logits ``(B, C)`` out; the state's storage is reused.

        Raises:
            ShapeError: If ``frame`` is not ``(B, D)``.
        """
        require_frame(frame, self.input_dim, state.frames.shape[0], "LSTR.step")
        work, products, values = self._offer(frame.unsqueeze(1), state.constants)
        state = self._write(state, torch.cat([state.work, work], 1), products, values)
        begin = state.frames.unsqueeze(1) - self.window
        sampled = torch.arange(self.config.long_samples, device=frame.device) * self.config.long_stride
        recent = torch.arange(self.window - self.work_frames, self.window, device=frame.device)
        slots = ((begin + sampled) % self.window)[:, None, :, None]
        products, values = (
            cache.gather(2, slots.expand(-1, cache.shape[1], -1, cache.shape[3])).unsqueeze(2)
            for cache in (state.products, state.values)
        )
        exists = (begin + sampled >= 0).unsqueeze(1), (begin + recent >= 0).unsqueeze(1)
        return self._answer(products, values, state.work.unsqueeze(1), exists, state).squeeze(1), state

    def steps(self, frames: Tensor, state: LSTRState) -> tuple[Tensor, LSTRState]:
        """Answer k frames of each stream at once, ``(B, k, D)`` in, logits ``(B, k, C)`` out: equal to k single steps.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, D)``.
        """
        require_sequence(frames, self.input_dim, "LSTR.steps", streams=state.frames.shape[0])
        past_products, exists = read_past(state.products, state.frames)
        past_values, _ = read_past(state.values, state.frames)
        work, products, values = self._offer(frames, state.constants)
        work = torch.cat([state.work, work], 1)
        state = self._write(state, work, products, values)
        offered = torch.cat([past_products, products], 2), torch.cat([past_values, values], 2)
        exists = F.pad(exists, (0, frames.shape[1]), value=True)
        return self._answer_all(*offered, work[:, 1:], exists, state), state

    def forward(self, frames: Tensor, first_frame: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Answer all frames of whole streams, ``(B, T, D)`` in, logits ``(B, T, C)`` out, equal to T steps.

        Args:
            frames: ``(B, T, D)``.
            first_frame: Has no effect: positions count inside the window.

        Raises:
            ShapeError: If ``frames`` is not ``(B, T, D)``.
        """
        require_sequence(frames, self.input_dim, "LSTR.forward")
        constants, past = self.constants(), self.window - 1
        work, products, values = self._offer(frames, constants)
        begun = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        state = LSTRState(products, values, work, begun, constants, *self._shares(constants))
        products, values = F.pad(products, (0, 0, past, 0)), F.pad(values, (0, 0, past, 0))
        work = F.pad(work, (0, 0, self.work_frames - 1, 0))
        return self._answer_all(products, values, work, F.pad(begun, (past, 0)), state)

    def run_clip(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the clip model, nothing kept: logits ``(B, w, C)`` for the last w = min(n, W) frames of a clip.

        Args:
            clip: ``(B, n, D)``, n at most N, the newest frame last.
            mask: ``(B, n) bool``, false where a frame does not exist; None if all do.

        Raises:
            ShapeError: If ``clip`` is not ``(B, n, D)``.
        """
        require_sequence(clip, self.input_dim, "LSTR.run_clip", longest=self.window)
        absent, samples = self.window - clip.shape[1], self.config.long_samples
        exists = torch.ones(clip.shape[:2], dtype=torch.bool, device=clip.device) if mask is None else mask
        exists = F.pad(exists, (absent, 0))
        prepared = F.pad(self.inputs.prepare(clip), (0, 0, absent, 0))
        older = slice(0, self.window - self.work_frames, self.config.long_stride)
        long = self.drop(F.relu(self.long_embed(prepared[:, older])) + self.positions[:samples])
        work = F.relu(self.inputs.embed(prepared[:, -self.work_frames :]))
        work = self.drop(work + self.positions[samples:])
        memory = self.compress(
            self.long_queries.expand(clip.shape[0], -1, -1), long, memory_mask=exists[:, None, None, older]
        )
        memory = self.refine(self.memory_queries.expand(clip.shape[0], -1, -1), memory)
        decoded = self.decoder(work, memory, causal_mask(exists[:, -self.work_frames :]))
        logits: Tensor = self.head(decoded[:, -clip.shape[1] :])
        return logits

    def answer_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Answer the last frame of each clip, ``(B, n, D)`` in, logits ``(B, C)`` out, n at most N.

        Args:
            clip: ``(B, n, D)``.
            first_frame: As in `learn_clip`.
        """
        return self.learn_clip(clip, first_frame).now[:, -1]

    def learn_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> LearningAnswers:
        """Answer the frames of each clip's work memory, each from those before it in there and the long memory.

        Args:
            clip: ``(B, n, D)``.
            first_frame: ``(B,) int64`` index in its stream of each clip's first frame; 0 if not given. Where it is
                negative, frames before frame 0 are masked; otherwise it has no effect.
        """
        return LearningAnswers(self.run_clip(clip, frames_begun(clip, first_frame)))
