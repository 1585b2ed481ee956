"""Look-ahead: the frame that asks is the one k frames before the newest, and sees k frames of its future.

The answer comes k steps after its frame. At step t the frame t - k attends the frames t - N + 1 .. t: N - 1 - k before
it, itself, and k after it. In the first k steps of a stream no frame is due yet, and the answer is zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from coadtr.errors import ConfigError
from coadtr.layers.attention import band_attention
from coadtr.layers.encoder import EncoderBlock
from coadtr.layers.precision import computes_like
from coadtr.layers.projection import AttentionProjections, attention_weights, require_frame, require_sequence
from coadtr.layers.ring import RingState, init_ring, read_past, slots_written, write_ring, write_slot, write_slots
from coadtr.layers.state import reset_rows

__all__ = ["LookAheadAttention", "LookAheadBlock", "LookAheadBlockState", "LookAheadState", "require_lookahead"]


def require_lookahead(lookahead: int, window: int) -> None:
    """Check that the frame that asks lies in the window: 0 <= k < N.

    Raises:
        ConfigError: If it does not.
    """
    if lookahead < 0:
        raise ConfigError(f"lookahead counts frames after the one that asks, so it is at least 0; got {lookahead}")
    if lookahead >= max(1, window):
        raise ConfigError(
            f"lookahead={lookahead} needs a window of at least {lookahead + 1} frames, got {window}; "
            "look less far ahead or widen the window"
        )


def zero_until_due(answers: Tensor, asked: Tensor) -> Tensor:
    """Put zeros where no frame is due: ``(..., E)`` answers for the frames with index ``(...)``, negative if none."""
    return answers.masked_fill((asked < 0).unsqueeze(-1), 0)


def read_slot(cache: Tensor, slot: Tensor) -> Tensor:
    """Read one slot of each stream, ``(B, ...)``, from a cache ``(B, slots, ...)``."""
    return cache[torch.arange(slot.shape[0], device=slot.device), slot]


class LookAheadState(NamedTuple):
    """What look-ahead attention remembers, in slot order.

    Attributes:
        queries: ``(B, H, k + 1, E/H)``, scaled, of the frames not answered yet and of the one just answered.
        ring: Keys and values of the last N frames.
    """

    queries: Tensor
    ring: RingState


class LookAheadAttention(AttentionProjections):
    """Multi-head attention of the frame k before the newest over the last N frames.

    ::

        step      x[t] -> q, k, v into the rings ;  softmax(q[t - k] . keys) . values -> y[t - k], at step t
        forward   all t at once: the query of frame t - k under the band mask 0 <= t - s < N

    ``step`` is sequence-exact: T steps from a fresh state equal ``forward`` on the T frames, row by row. Row t is the
    answer for frame t - k (:attr:`delay` k); the first k rows are zeros. While fewer than N frames were seen, those
    seen are attended. With k = 0 it is single-output attention. Cost of a step: 4 E^2 + 2 N E multiply-accumulates,
    whatever k is.

    Args:
        embed_dim: Embedding width E.
        num_heads: Heads H; E is a multiple of H.
        window: Frames N attended, the k after the one that asks included.
        lookahead: Frames k, from 0 to N - 1.
        in_bias: Give the query, key and value projections a bias.
        out_bias: Give the output projection a bias.
        dropout: Dropout of the attention weights, in training only.

    Raises:
        ConfigError: If the sizes do not fit each other.

    Source: Hedegaard et al., ICLR 2023, eq. 7-8, with an older query than the newest.

    Example:
        >>> import torch
        >>> layer = LookAheadAttention(8, 2, window=4, lookahead=2)
        >>> frames = torch.randn(1, 4, 8)
        >>> state = layer.init_state(1)
        >>> with torch.no_grad():
        ...     for t in range(4):
        ...         y, state = layer.step(frames[:, t], state)
        ...     layer.delay, torch.allclose(y, layer.attend_clip(frames)[:, 1], atol=1e-6)
        (2, True)
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        window: int,
        *,
        lookahead: int,
        in_bias: bool = False,
        out_bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(embed_dim, num_heads, window, in_bias=in_bias, out_bias=out_bias, dropout=dropout)
        require_lookahead(lookahead, window)
        self.lookahead = lookahead

    @property
    def delay(self) -> int:
        """Steps k from a frame to its answer."""
        return self.lookahead

    def init_state(self, batch_size: int = 1) -> LookAheadState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        weight = computes_like(self.in_proj)
        ring = init_ring(
            batch_size, self.num_heads, self.window, self.head_dim, dtype=weight.dtype, device=weight.device
        )
        return LookAheadState(ring.keys.new_zeros(batch_size, self.num_heads, self.lookahead + 1, self.head_dim), ring)

    def reset_rows(self, state: LookAheadState, rows: Tensor) -> LookAheadState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def step(self, frame: Tensor, state: LookAheadState) -> tuple[Tensor, LookAheadState]:
        """Take in one frame of each stream and answer for the frame k before it.

        Args:
            frame: ``(B, E)``.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, E)``, zeros in the first k steps of a stream, and the state after the frame.

        Raises:
            ShapeError: If ``frame`` is not ``(B, E)``.
        """
        require_frame(frame, self.embed_dim, state.queries.shape[0], "LookAheadAttention.step")
        q, k, v = self.project(frame)
        queries, slots = state.queries.transpose(1, 2), self.lookahead + 1
        write_slot(queries, q, state.ring.frames % slots)
        ring = write_ring(state.ring, k, v)
        # The slot that the next frame will take holds the oldest query: the one that is due.
        due = read_slot(queries, ring.frames % slots)
        seen = slots_written(ring.frames, self.window)
        weights = attention_weights(due.unsqueeze(2) @ ring.keys.transpose(2, 3), seen[:, None, None])
        answer = self.merge(weights @ ring.values).squeeze(1)
        return zero_until_due(answer, ring.frames - slots), LookAheadState(state.queries, ring)

    def forward(self, frames: Tensor) -> Tensor:
        """Answer for all frames of whole streams but the last k, whose answers would come after the end.

        Args:
            frames: ``(B, T, E)``.

        Returns:
            ``(B, T, E)``, equal to T steps from a fresh state: row t answers for frame t - k, the first k are zeros.

        Raises:
            ShapeError: If ``frames`` is not ``(B, T, E)``.
        """
        require_sequence(frames, self.embed_dim, "LookAheadAttention.forward")
        q, k, v = self.project(frames)
        length, past = frames.shape[1], self.window - 1
        exists = F.pad(torch.ones(1, length, dtype=torch.bool, device=frames.device), (past, 0))
        due = F.pad(q, (0, 0, self.lookahead, 0))[:, :, :length]
        k, v = (F.pad(part, (0, 0, past, 0)) for part in (k, v))
        answers = self.merge(band_attention(due, k, v, exists, self))
        return zero_until_due(answers, torch.arange(length, device=frames.device) - self.lookahead)

    def steps(self, frames: Tensor, state: LookAheadState) -> tuple[Tensor, LookAheadState]:
        """Take in m frames of each stream at once and answer as m single steps do.

        Args:
            frames: ``(B, m, E)`` for any m >= 1.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, m, E)`` and the state after the frames.

        Raises:
            ShapeError: If ``frames`` is not ``(B, m, E)``.
        """
        require_sequence(frames, self.embed_dim, "LookAheadAttention.steps", streams=state.queries.shape[0])
        q, k, v = self.project(frames)
        seen, length = state.ring.frames, frames.shape[1]
        past_q, _ = read_past(state.queries, seen)
        past_k, exists = read_past(state.ring.keys, seen)
        past_v, _ = read_past(state.ring.values, seen)
        due = torch.cat([past_q, q], 2)[:, :, :length]
        exists = F.pad(exists, (0, length), value=True)
        heads = band_attention(due, torch.cat([past_k, k], 2), torch.cat([past_v, v], 2), exists, self)
        for cache, entries in ((state.queries, q), (state.ring.keys, k), (state.ring.values, v)):
            write_slots(cache.transpose(1, 2), entries.transpose(1, 2), seen)
        asked = seen.unsqueeze(1) + torch.arange(length, device=frames.device) - self.lookahead
        after = state._replace(ring=state.ring._replace(frames=seen + length))
        return zero_until_due(self.merge(heads), asked), after

    def extra_repr(self) -> str:
        """Show the sizes in the module's printed form."""
        return f"{super().extra_repr()}, lookahead={self.lookahead}"


class LookAheadBlockState(NamedTuple):
    """What a look-ahead block remembers, in slot order.

    Attributes:
        tokens: ``(B, k + 1, E)``, the block's last inputs, for the residual connection.
        attention: State of the attention layer.
    """

    tokens: Tensor
    attention: LookAheadState


class LookAheadBlock(EncoderBlock[LookAheadAttention]):
    """Encoder block that answers for the frame k before the newest, one frame in and one answer out.

    In the first k steps of a stream no frame is due, and the answer is zeros. Weights are named as in
    :class:`SingleOutputBlock`, so a block that was trained without look-ahead can be loaded.

    Example:
        >>> import torch
        >>> block = LookAheadBlock(LookAheadAttention(8, 2, window=4, lookahead=1), ff_dim=8)
        >>> frames, state, answers = torch.randn(1, 6, 8), block.init_state(1), []
        >>> with torch.no_grad():
        ...     for t in range(6):
        ...         y, state = block.step(frames[:, t], state)
        ...         answers.append(y)
        ...     torch.allclose(torch.stack(answers, 1), block(frames), atol=1e-5)
        True
        >>> answers[0].any().item()
        False
    """

    @property
    def delay(self) -> int:
        """Steps k from a frame to its answer."""
        return self.attention.lookahead

    def init_state(self, batch_size: int = 1) -> LookAheadBlockState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        attention = self.attention.init_state(batch_size)
        tokens = attention.queries.new_zeros(batch_size, self.delay + 1, self.attention.embed_dim)
        return LookAheadBlockState(tokens, attention)

    def reset_rows(self, state: LookAheadBlockState, rows: Tensor) -> LookAheadBlockState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def step(self, frame: Tensor, state: LookAheadBlockState) -> tuple[Tensor, LookAheadBlockState]:
        """Take in one frame of each stream and answer for the frame k before it.

        Args:
            frame: ``(B, E)``.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, E)``, zeros in the first k steps of a stream, and the state after the frame.

        Raises:
            ShapeError: If ``frame`` is not ``(B, E)``.
        """
        require_frame(frame, self.attention.embed_dim, state.tokens.shape[0], "LookAheadBlock.step")
        slots = self.delay + 1
        write_slot(state.tokens, frame, state.attention.ring.frames % slots)
        attended, attention = self.attention.step(self.enter(frame), state.attention)
        due = read_slot(state.tokens, attention.ring.frames % slots)
        answer = zero_until_due(self.leave(due, attended), attention.ring.frames - slots)
        return answer, LookAheadBlockState(state.tokens, attention)

    def steps(self, frames: Tensor, state: LookAheadBlockState) -> tuple[Tensor, LookAheadBlockState]:
        """Take in m frames of each stream at once, ``(B, m, E)``, and answer as m single steps do."""
        require_sequence(frames, self.attention.embed_dim, "LookAheadBlock.steps", streams=state.tokens.shape[0])
        seen, length = state.attention.ring.frames, frames.shape[1]
        past, _ = read_past(state.tokens.unsqueeze(1), seen)
        due = torch.cat([past.squeeze(1), frames], 1)[:, :length]
        write_slots(state.tokens, frames, seen)
        attended, attention = self.attention.steps(self.enter(frames), state.attention)
        asked = seen.unsqueeze(1) + torch.arange(length, device=frames.device) - self.delay
        return zero_until_due(self.leave(due, attended), asked), LookAheadBlockState(state.tokens, attention)

    def forward(self, frames: Tensor) -> Tensor:
        """Answer for whole streams, ``(B, T, E)``: row t for frame t - k, the first k rows are zeros."""
        require_sequence(frames, self.attention.embed_dim, "LookAheadBlock.forward")
        length = frames.shape[1]
        due = F.pad(frames, (0, 0, self.delay, 0))[:, :length]
        answers = self.leave(due, self.attention(self.enter(frames)))
        return zero_until_due(answers, torch.arange(length, device=frames.device) - self.delay)
