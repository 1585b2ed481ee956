"""A long memory of fixed length, compressed by learned queries: what LSTR and CMeRT share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from coadtr.errors import ConfigError
from coadtr.layers import computes_like, require_frame, require_sequence, reset_rows
from coadtr.layers.ring import read_past, write_slots
from coadtr.models.base import LearningAnswers
from coadtr.models.memory import MemoryConfig, MemoryConstants, MemoryModel, frames_begun, windows_at_once

__all__ = ["WindowedMemory", "WindowedMemoryConfig", "WindowedMemoryState"]


@dataclass(frozen=True, kw_only=True)
class WindowedMemoryConfig(MemoryConfig):
    """Settings of models with a long memory of fixed length: ``window`` counts the frames N of both memories.

    The newest W of them are the work memory.
    """

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


class WindowedMemoryState(NamedTuple):
    """What one stream keeps.

    Attributes:
        products: ``(B, H, N, Q)`` of the last N frames with each query, in slot order.
        values: ``(B, H, N, E/H)`` of the last N frames, in slot order.
        work: ``(B, V, E)`` embeddings of the last V frames (`WindowedMemory.recent_frames`), the newest last.
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


class WindowedMemory(MemoryModel):
    """A long memory of the frames before the work memory, and how a step recalls it.

    A step embeds one frame. Its products with the learned queries, and its values, are kept as it ages; positions,
    which go by age, are added when the long memory is recalled. What is made of both memories is the model's own.

    While fewer than N frames were seen, the newest keeps its position and absent frames are masked; a long memory
    without any frame answers zero. With a stride s the frames s, 2s, ... before the work memory are looked at: other
    ones at each step, so all N frames are kept, and n = (N - W) / s of them recalled.

    Args:
        config: Settings.
    """

    config: WindowedMemoryConfig
    exactness: Literal["window", "sequence", "both"] = "window"

    @property
    def recent_frames(self) -> int:
        """Newest frames V whose embeddings are kept: those of the work memory."""
        return self.work_frames

    @abstractmethod
    def _long_positions(self) -> Tensor:
        """Positions of the samples of the long memory: ``(n, E)``, or what broadcasts to it."""

    @abstractmethod
    def _decode(self, work: Tensor, memory: Tensor, exists: Tensor, *, newest: bool) -> Tensor:
        """Answer the frames of work memories by the long memory.

        Args:
            work: ``(B, V, E)`` embeddings of the `recent_frames`.
            memory: ``(B, R, E)`` of `_remember` or `_both_memories`; more tokens may follow it.
            exists: ``(B, V) bool``.
            newest: Answer the newest frame alone.

        Returns:
            Logits ``(B, W, C)`` or ``(B, 1, C)``.
        """

    def _shares(self, constants: MemoryConstants) -> tuple[Tensor, Tensor]:
        return self.compression.shares(self.drop(self._long_positions().unsqueeze(0)), constants.queries)

    @torch.no_grad()
    def init_state(self, batch_size: int = 1) -> WindowedMemoryState:
        """Return the state of ``batch_size`` streams that have seen no frame, for the weights as they are now."""
        config, weight, constants = self.config, computes_like(self.inputs.embed), self.constants()

        def rows(part: Tensor) -> Tensor:
            return part.repeat(batch_size, *[1] * (part.dim() - 1))

        return WindowedMemoryState(
            weight.new_zeros(batch_size, config.num_heads, self.window, config.long_queries),
            weight.new_zeros(batch_size, config.num_heads, self.window, config.embed_dim // config.num_heads),
            weight.new_zeros(batch_size, self.recent_frames, config.embed_dim),
            torch.zeros(batch_size, dtype=torch.int64, device=weight.device),
            type(constants)(*map(rows, constants)),
            *map(rows, self._shares(constants)),
        )

    def reset_rows(self, state: WindowedMemoryState, rows: Tensor) -> WindowedMemoryState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def _answer(
        self, products: Tensor, values: Tensor, work: Tensor, exists: tuple[Tensor, Tensor], state: WindowedMemoryState
    ) -> Tensor:
        """Answer the last frame of c windows of each stream: ``(B, c, C)``.

        Args:
            products: ``(B, H, c, n, Q)``.
            values: ``(B, H, c, n, E/H)``.
            work: ``(B, c, V, E)``.
            exists: Which frames of the long and of the work memory do: ``(B, c, n)`` and ``(B, c, V) bool``.
            state: Of B streams, or of one for all; its constants and shares are read.
        """
        memory = self._remember(products, values, exists[0], state)
        decoded = self._decode(work.flatten(0, 1), memory.flatten(0, 1), exists[1].flatten(0, 1), newest=True)
        answers: Tensor = decoded.unflatten(0, work.shape[:2])
        return answers.squeeze(2)

    def _remember(self, products: Tensor, values: Tensor, exists: Tensor, state: WindowedMemoryState) -> Tensor:
        """Make the memory ``(B, c, R, E)`` of what the samples of c windows offered."""
        offered = products.transpose(1, 2), values.transpose(1, 2)
        shares = state.product_shares.unsqueeze(1), state.value_shares.unsqueeze(1)
        return self.remember(self.compression.recall(*offered, *shares, exists), state.constants)

    def _answer_all(
        self, products: Tensor, values: Tensor, work: Tensor, exists: Tensor, state: WindowedMemoryState
    ) -> Tensor:
        """Answer the last frame of every window of a sequence: ``(B, T, C)``.

        Args:
            products: ``(B, H, N - 1 + T, Q)``.
            values: ``(B, H, N - 1 + T, E/H)``.
            work: ``(B, V - 1 + T, E)``.
            exists: ``(B, N - 1 + T) bool``.
            state: Of B streams, or of one for all; its constants and shares are read.
        """
        length, at_once = exists.shape[1] - self.window + 1, windows_at_once(self.window, exists.shape[0])
        sampled = torch.arange(self.config.long_samples, device=work.device) * self.config.long_stride
        recent = torch.arange(self.recent_frames, device=work.device)
        answers = []
        for start in range(0, length, at_once):
            first = torch.arange(start, min(start + at_once, length), device=work.device).unsqueeze(1)
            long, near = first + sampled, first + recent
            there = exists[:, long], exists[:, near + self.window - self.recent_frames]
            answers.append(self._answer(products[:, :, long], values[:, :, long], work[:, near], there, state))
        return torch.cat(answers, 1)

    def _offer(self, frames: Tensor, constants: MemoryConstants) -> tuple[Tensor, Tensor, Tensor]:
        """Work out what frames ``(B, k, D)`` are in both memories: embeddings, products and values."""
        work, long = self.embed(frames)
        # Positions are dropped out on their own, in _shares: a frame has another one in each window.
        return work, *self.compression.offer(self.drop(long), constants.queries)

    def _write(self, state: WindowedMemoryState, work: Tensor, products: Tensor, values: Tensor) -> WindowedMemoryState:
        """Write the offers of k frames into the state, and give it ``work``, which goes on from its own."""
        for cache, new in ((state.products, products), (state.values, values)):
            write_slots(cache.transpose(1, 2), new.transpose(1, 2), state.frames)
        kept = work[:, -self.recent_frames :].to(state.work.dtype).clone()
        return state._replace(work=kept, frames=state.frames + products.shape[2])

    def step(self, frame: Tensor, state: WindowedMemoryState) -> tuple[Tensor, WindowedMemoryState]:
        """Answer one frame of each stream: ``(B, D)`` in, logits ``(B, C)`` out; the state's storage is reused.

        Raises:
            ShapeError: If ``frame`` is not ``(B, D)``.
        """
        require_frame(frame, self.input_dim, state.frames.shape[0], f"{type(self).__name__}.step")
        products, values, exists, state = self._take_in(frame, state)
        return self._answer(products, values, state.work.unsqueeze(1), exists, state).squeeze(1), state

    def _take_in(
        self, frame: Tensor, state: WindowedMemoryState
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], WindowedMemoryState]:
        """Write a frame into the state, and recall what the window that ends with it offers: the terms of `_answer`."""
        work, products, values = self._offer(frame.unsqueeze(1), state.constants)
        state = self._write(state, torch.cat([state.work, work], 1), products, values)
        begin = state.frames.unsqueeze(1) - self.window
        sampled = torch.arange(self.config.long_samples, device=frame.device) * self.config.long_stride
        recent = torch.arange(self.window - self.recent_frames, self.window, device=frame.device)
        slots = ((begin + sampled) % self.window)[:, None, :, None]
        products, values = (
            cache.gather(2, slots.expand(-1, cache.shape[1], -1, cache.shape[3])).unsqueeze(2)
            for cache in (state.products, state.values)
        )
        exists = (begin + sampled >= 0).unsqueeze(1), (begin + recent >= 0).unsqueeze(1)
        return products, values, exists, state

    def steps(self, frames: Tensor, state: WindowedMemoryState) -> tuple[Tensor, WindowedMemoryState]:
        """Answer k frames of each stream at once, ``(B, k, D)`` in, logits ``(B, k, C)`` out: equal to k single steps.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, D)``.
        """
        require_sequence(frames, self.input_dim, f"{type(self).__name__}.steps", streams=state.frames.shape[0])
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
        require_sequence(frames, self.input_dim, f"{type(self).__name__}.forward")
        constants, past = self.constants(), self.window - 1
        work, products, values = self._offer(frames, constants)
        begun = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        state = WindowedMemoryState(products, values, work, begun, constants, *self._shares(constants))
        products, values = F.pad(products, (0, 0, past, 0)), F.pad(values, (0, 0, past, 0))
        work = F.pad(work, (0, 0, self.recent_frames - 1, 0))
        return self._answer_all(products, values, work, F.pad(begun, (past, 0)), state)

    def run_clip(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the clip model, nothing kept: logits ``(B, w, C)`` for the last w = min(n, W) frames of a clip.

        Args:
            clip: ``(B, n, D)``, n at most N, the newest frame last.
            mask: ``(B, n) bool``, false where a frame does not exist; None if all do.

        Raises:
            ShapeError: If ``clip`` is not ``(B, n, D)``.
        """
        self._check_clip(clip)
        work, memory, exists = self._both_memories(clip, mask)
        return self._decode(work, memory, exists, newest=False)[:, -clip.shape[1] :]

    def _check_clip(self, clip: Tensor) -> None:
        require_sequence(clip, self.input_dim, f"{type(self).__name__}.run_clip", longest=self.window)

    def _both_memories(self, clip: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Make both memories of clips: ``(B, V, E)`` with which of its frames exist, last, and ``(B, R, E)``."""
        absent, recent = self.window - clip.shape[1], self.recent_frames
        exists = torch.ones(clip.shape[:2], dtype=torch.bool, device=clip.device) if mask is None else mask
        exists = F.pad(exists, (absent, 0))
        prepared = F.pad(self.inputs.prepare(clip), (0, 0, absent, 0))
        older = slice(0, self.window - self.work_frames, self.config.long_stride)
        long = self.drop(F.relu(self.long_embed(prepared[:, older])) + self._long_positions())
        found = self.compress(
            self.long_queries.expand(clip.shape[0], -1, -1), long, memory_mask=exists[:, None, None, older]
        )
        memory = self.refine(self.memory_queries.expand(clip.shape[0], -1, -1), found)
        return F.relu(self.inputs.embed(prepared[:, -recent:])), memory, exists[:, -recent:]

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
