"""Continual attention: attention over the last N frames of a stream, at the cost of one new frame a step.

Both layers keep, per stream, what the last N frames left behind, and take in one frame a step. Single-output attention
answers for the newest frame only; retroactive attention brings the outputs of the whole window up to date.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from coadtr.layers.precision import computes_like
from coadtr.layers.projection import (
    AttentionProjections,
    MultiHead,
    attention_weights,
    require_frame,
    require_sequence,
)
from coadtr.layers.ring import (
    RingState,
    init_ring,
    read_past,
    slot_positions,
    slots_written,
    write_ring,
    write_slot,
    write_slots,
)
from coadtr.layers.state import reset_rows

__all__ = ["RetroactiveAttention", "RetroactiveState", "SingleOutputAttention"]


def band_attention(q: Tensor, k: Tensor, v: Tensor, exists: Tensor, attention: MultiHead) -> Tensor:
    """Attend under the band mask 0 <= t - s < N, in blocks: cost and memory grow with T N, not with T^2.

    Args:
        q: ``(B, H, T, E/H)``, scaled.
        k: ``(B, H, N - 1 + T, E/H)``: keys of the N - 1 frames before the first query, then of the queries' frames.
        v: ``(B, H, N - 1 + T, E/H)``.
        exists: ``(B or 1, N - 1 + T) bool``, false where a stream had not begun.
        attention: The layer, for its window and its dropout.

    Returns:
        ``(B, H, T, E/H)``.
    """
    past, length = attention.window - 1, q.shape[2]
    block = min(attention.window, length)
    blocks = -(-length // block)
    surplus = blocks * block - length
    q = F.pad(q, (0, 0, 0, surplus)).unflatten(2, (blocks, block))
    k, v = (_overlapping_blocks(part, past, block, surplus) for part in (k, v))
    query = torch.arange(block, device=q.device).unsqueeze(1)
    key = torch.arange(past + block, device=q.device).unsqueeze(0)
    band = (key >= query) & (key <= query + past)
    # Padded queries attend what is there, so that no row of the softmax is empty.
    begun = F.pad(exists, (0, surplus), value=True).unfold(1, past + block, block)
    mask = band & begun.unsqueeze(1).unsqueeze(3)
    weights = attention.drop(attention.weigh(q, k, mask))
    return (weights @ v).flatten(2, 3)[:, :, :length]


def _overlapping_blocks(part: Tensor, past: int, block: int, surplus: int) -> Tensor:
    """Return, for each block of frames, its frames after the ``past`` frames before them: ``(B, H, blocks, ...)``.

    Joined from blocks that do not overlap: the gradient of ``unfold`` takes several times as long.
    """
    if part.shape[2] == past + block:
        return part.unsqueeze(2)
    blocks = F.pad(part, (0, 0, block - past, surplus)).unflatten(2, (-1, block))
    return torch.cat((blocks[:, :, :-1, block - past :], blocks[:, :, 1:]), dim=3)


class SingleOutputAttention(AttentionProjections):
    """Multi-head attention of the newest frame over the last N frames.

    ::

        step      x[t] -> q, k, v ;  k, v into the ring ;  softmax(q . keys) . values -> y[t]
        forward   all t at once under the band mask 0 <= t - s < N

    ``step`` is sequence-exact: T steps from a fresh state equal ``forward`` on the T (finite) frames. While fewer than
    N frames were seen, those seen are attended. Cost of a step: 4 E^2 + 2 N E multiply-accumulates.

    Source: Hedegaard et al., ICLR 2023, eq. 7-8 and Fig. 2.

    Example:
        >>> import torch
        >>> layer = SingleOutputAttention(8, 2, window=4)
        >>> frames = torch.randn(1, 10, 8)
        >>> state = layer.init_state(1)
        >>> answers = []
        >>> with torch.no_grad():
        ...     for t in range(10):
        ...         y, state = layer.step(frames[:, t], state)
        ...         answers.append(y)
        ...     torch.allclose(torch.stack(answers, 1), layer(frames), atol=1e-6)
        True
    """

    def init_state(self, batch_size: int = 1) -> RingState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        weight = computes_like(self.in_proj)
        return init_ring(
            batch_size, self.num_heads, self.window, self.head_dim, dtype=weight.dtype, device=weight.device
        )

    def reset_rows(self, state: RingState, rows: Tensor) -> RingState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def step(self, frame: Tensor, state: RingState) -> tuple[Tensor, RingState]:
        """Take in one frame of each stream and answer for it.

        Args:
            frame: ``(B, E)``.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, E)`` and the state after the frame.

        Raises:
            ShapeError: If ``frame`` is not ``(B, E)``.
        """
        require_frame(frame, self.embed_dim, state.frames.shape[0], "SingleOutputAttention.step")
        q, k, v = self.project(frame)
        state = write_ring(state, k, v)
        seen = slots_written(state.frames, self.window)
        weights = self.weigh(q.unsqueeze(2), state.keys, seen[:, None, None])
        return self.merge(weights @ state.values).squeeze(1), state

    def forward(self, frames: Tensor) -> Tensor:
        """Answer for all frames of whole streams.

        Args:
            frames: ``(B, T, E)``.

        Returns:
            ``(B, T, E)``, equal to T steps from a fresh state.

        Raises:
            ShapeError: If ``frames`` is not ``(B, T, E)``.
        """
        require_sequence(frames, self.embed_dim, "SingleOutputAttention.forward")
        q, k, v = self.project(frames)
        past = self.window - 1
        exists = F.pad(torch.ones(1, frames.shape[1], dtype=torch.bool, device=frames.device), (past, 0))
        k, v = (F.pad(part, (0, 0, past, 0)) for part in (k, v))
        return self.merge(band_attention(q, k, v, exists, self))

    def steps(self, frames: Tensor, state: RingState) -> tuple[Tensor, RingState]:
        """Take in k frames of each stream at once and answer for each: equal to k single steps.

        Args:
            frames: ``(B, k, E)`` for any k >= 1.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, k, E)`` and the state after the frames.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, E)``.
        """
        require_sequence(frames, self.embed_dim, "SingleOutputAttention.steps", streams=state.frames.shape[0])
        q, k, v = self.project(frames)
        past_k, exists = read_past(state.keys, state.frames)
        past_v, _ = read_past(state.values, state.frames)
        exists = F.pad(exists, (0, frames.shape[1]), value=True)
        heads = band_attention(q, torch.cat([past_k, k], 2), torch.cat([past_v, v], 2), exists, self)
        write_slots(state.keys.transpose(1, 2), k.transpose(1, 2), state.frames)
        write_slots(state.values.transpose(1, 2), v.transpose(1, 2), state.frames)
        return self.merge(heads), state._replace(frames=state.frames + frames.shape[1])


class RetroactiveState(NamedTuple):
    """What retroactive attention remembers of the last N frames, in slot order.

    Attributes:
        queries: ``(B, H, N, E/H)``, scaled.
        keys: ``(B, H, N, E/H)``.
        values: ``(B, H, N, E/H)``; ``(B, H, N, E)`` where the output projection is folded into them.
        logits: ``(B, N, H, N)``, query slot by head by key slot.
        frames: ``(B,) int64``, frames seen by each stream.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    logits: Tensor
    frames: Tensor


class RetroactiveAttention(AttentionProjections):
    """Multi-head attention that brings the outputs of all N frames of the window up to date at each step.

    ::

        step      x[t] -> q, k, v into the rings ;  one new row and one new column of the N x N logits ;
                  softmax(logits) . values -> y[t-N+1 .. t]
        forward   full attention over a clip of at most N frames

    ``step`` is window-exact: its outputs equal ``forward`` on the last N frames (on those seen, while they are fewer).
    The published algorithm keeps running sums of exponentials and takes old terms off; a large logit then leaves an
    error behind when its frame leaves the window. Here the logits themselves are cached, which costs N^2 E
    multiply-accumulates for the weighted sums but is exact: each softmax is taken afresh, with its own maximum.
    Where it is cheaper, the output projection is applied to each head's value once, as it comes in, and not to N
    outputs at every step.

    Source: Hedegaard et al., ICLR 2023, section 3.2 and Fig. 1.

    Example:
        >>> import torch
        >>> layer = RetroactiveAttention(8, 2, window=4)
        >>> frames = torch.randn(1, 6, 8)
        >>> state = layer.init_state(1)
        >>> with torch.no_grad():
        ...     for t in range(6):
        ...         window, state = layer.step(frames[:, t], state)
        ...     order = layer.positions(state).argsort(1)[0]
        ...     torch.allclose(window[:, order], layer(frames[:, 2:]), atol=1e-6)
        True
    """

    def init_state(self, batch_size: int = 1) -> RetroactiveState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        weight = computes_like(self.in_proj)
        ring = init_ring(
            batch_size, self.num_heads, self.window, self.head_dim, dtype=weight.dtype, device=weight.device
        )
        logits = ring.keys.new_zeros(batch_size, self.window, self.num_heads, self.window)
        folded = (batch_size, self.num_heads, self.window, self.embed_dim)
        values = ring.keys.new_zeros(folded) if self.folds else ring.values
        return RetroactiveState(torch.zeros_like(ring.keys), ring.keys, values, logits, ring.frames)

    @property
    def folds(self) -> bool:
        """Whether the output projection is folded into the cached values.

        That makes the N outputs cost ``N^2 H E`` multiply-accumulates, not ``N^2 E + N E^2``.
        """
        return self.window * (self.num_heads - 1) < self.embed_dim

    def reset_rows(self, state: RetroactiveState, rows: Tensor) -> RetroactiveState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def positions(self, state: RetroactiveState) -> Tensor:
        """Tell which frame each row of the last outputs belongs to: ``(B, N) int64``, -1 where there is none yet."""
        return slot_positions(state.frames, self.window)

    def step(self, frame: Tensor, state: RetroactiveState) -> tuple[Tensor, RetroactiveState]:
        """Take in one frame of each stream and bring the outputs of the window up to date.

        Args:
            frame: ``(B, E)``.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, N, E)`` outputs in slot order, and the state after the frame. :meth:`positions` tells which frame each
            row belongs to; rows of slots that were never written have no meaning.

        Raises:
            ShapeError: If ``frame`` is not ``(B, E)``.
        """
        require_frame(frame, self.embed_dim, state.frames.shape[0], "RetroactiveAttention.step")
        q, k, v = self.project(frame)
        slot = state.frames % self.window
        write_slot(state.queries.transpose(1, 2), q, slot)
        write_slot(state.keys.transpose(1, 2), k, slot)
        write_slot(state.values.transpose(1, 2), self.fold(v) if self.folds else v, slot)
        state = state._replace(frames=state.frames + 1)
        row = (q.unsqueeze(2) @ state.keys.transpose(2, 3)).squeeze(2)
        column = (state.queries @ k.unsqueeze(3)).squeeze(3)
        # The crossing of row and column is the same number in both; in the other order, torch 2.15 cannot compile them.
        write_slot(state.logits.permute(0, 3, 2, 1), column, slot)
        write_slot(state.logits, row, slot)
        seen = slots_written(state.frames, self.window)
        weights = attention_weights(state.logits, seen[:, None, None])
        if not self.folds:
            return self.merge(weights.transpose(1, 2) @ state.values), state
        outputs = weights.flatten(2) @ state.values.flatten(1, 2)
        return (outputs + self.out_proj.bias if self.out_bias else outputs), state

    def advance(self, frames: Tensor, state: RetroactiveState) -> RetroactiveState:
        """Take in k frames of each stream without bringing outputs up to date: the state after k steps.

        Args:
            frames: ``(B, k, E)`` for any k >= 1.
            state: State of B streams; its storage is reused.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, E)``.
        """
        require_sequence(frames, self.embed_dim, "RetroactiveAttention.advance", streams=state.frames.shape[0])
        q, k, v = self.project(frames)
        entries = (state.queries, q), (state.keys, k), (state.values, self.fold(v) if self.folds else v)
        for cache, entry in entries:
            write_slots(cache.transpose(1, 2), entry.transpose(1, 2), state.frames)
        state.logits.copy_((state.queries @ state.keys.transpose(2, 3)).transpose(1, 2))
        return state._replace(frames=state.frames + frames.shape[1])

    def forward(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend over clips: every frame to every frame.

        Args:
            clip: ``(B, n, E)`` with n at most N.
            mask: ``(B, n) bool``, false where a frame does not exist; None if all do.

        Returns:
            ``(B, n, E)``.

        Raises:
            ShapeError: If ``clip`` is not ``(B, n <= N, E)``.
        """
        require_sequence(clip, self.embed_dim, "RetroactiveAttention.forward", longest=self.window)
        return self.attend_clip(clip, mask)
