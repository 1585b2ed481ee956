"""Continual cross-attention: the frames of one stream attend the last N frames of another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers.attention import band_attention
from coadtr.layers.precision import computes_like
from coadtr.layers.projection import MultiHead, attention_weights, require_frame, require_sequence
from coadtr.layers.ring import RingState, init_ring, read_past, slots_written, write_ring, write_slots
from coadtr.layers.state import reset_rows

__all__ = ["CrossAttention"]


class CrossAttention(MultiHead):
    """Multi-head attention from one stream to another of its own width; both bring one frame a step.

    ::

        step      x[t] -> q ;  z[t] -> k, v into the ring ;  softmax(q . keys) . values -> y[t]
        forward   all t at once under the band mask 0 <= t - s < N, t in the asking and s in the attended stream
        attend    x -> q ;  no frame comes in: the ring is asked again

    ``step`` is sequence-exact: T steps from a fresh state equal ``forward`` on T frames of both streams. While fewer
    than N frames were seen, those seen are attended. Values may be made from frames of their own, of a third width.
    Where keys and values are equally wide they share one projection, so that a frame that gives both is read once.
    Cost of a step: 2 E^2 + E (K + V) + 2 N E multiply-accumulates with key width K and value width V;
    of ``attend``: 2 E^2 + 2 N E.

    Args:
        embed_dim: Width E of the stream that asks, of the attention and of the answers.
        num_heads: Heads H; E is a multiple of H.
        window: Frames N of the attended stream that a query attends, the newest included.
        key_width: Width K of the attended stream; E by default.
        value_width: Width V of the frames that values are made from; K by default.
        in_bias: Give the query, key and value projections a bias.
        out_bias: Give the output projection a bias.
        dropout: Dropout of the attention weights, in training only.

    Raises:
        ConfigError: If the sizes do not fit each other.

    Source: Vaswani et al., *Attention Is All You Need*, 2017, section 3.2.3, under the window of Hedegaard et al.,
    ICLR 2023, eq. 7-8.

    Example:
        >>> import torch
        >>> layer = CrossAttention(8, 2, window=4, key_width=5)
        >>> queries, keys = torch.randn(1, 10, 8), torch.randn(1, 10, 5)
        >>> state = layer.init_state(1)
        >>> with torch.no_grad():
        ...     for t in range(10):
        ...         y, state = layer.step(queries[:, t], keys[:, t], state)
        ...     torch.allclose(y, layer(queries, keys)[:, -1], atol=1e-6)
        True
    """

    kv_proj: nn.Linear  # where keys and values are equally wide
    k_proj: nn.Linear  # where they are not
    v_proj: nn.Linear

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        window: int,
        *,
        key_width: int | None = None,
        value_width: int | None = None,
        in_bias: bool = False,
        out_bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(embed_dim, num_heads, window, in_bias=in_bias, out_bias=out_bias, dropout=dropout)
        self.key_width = embed_dim if key_width is None else key_width
        self.value_width = self.key_width if value_width is None else value_width
        if min(self.key_width, self.value_width) < 1:
            raise ConfigError(f"keys and values must be at least 1 wide, got {self.key_width} and {self.value_width}")
        self.q_proj = nn.Linear(embed_dim, embed_dim, bias=in_bias)
        if self.fused:
            self.kv_proj = nn.Linear(self.key_width, 2 * embed_dim, bias=in_bias)
        else:
            self.k_proj = nn.Linear(self.key_width, embed_dim, bias=in_bias)
            self.v_proj = nn.Linear(self.value_width, embed_dim, bias=in_bias)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=out_bias)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif not name.startswith("out_proj"):
                nn.init.xavier_uniform_(parameter)

    @property
    def fused(self) -> bool:
        """Whether keys and values share one projection, ``kv_proj``; ``k_proj`` and ``v_proj`` otherwise."""
        return self.key_width == self.value_width

    def init_state(self, batch_size: int = 1) -> RingState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        weight = computes_like(self.q_proj)
        return init_ring(
            batch_size, self.num_heads, self.window, self.head_dim, dtype=weight.dtype, device=weight.device
        )

    def reset_rows(self, state: RingState, rows: Tensor) -> RingState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def step(
        self, query: Tensor, key: Tensor, state: RingState, value: Tensor | None = None
    ) -> tuple[Tensor, RingState]:
        """Take in one frame of both streams and answer for the one that asks.

        Args:
            query: ``(B, E)``, the frame that asks.
            key: ``(B, K)``, the newest frame of the attended stream.
            state: State of B streams; its storage is reused.
            value: ``(B, V)``, what the value is made from; the key frame by default.

        Returns:
            ``(B, E)`` and the state after the frames.

        Raises:
            ShapeError: If a frame has another shape, or the value is left out where V is not K.
        """
        streams = state.frames.shape[0]
        require_frame(query, self.embed_dim, streams, "The query of CrossAttention.step")
        require_frame(key, self.key_width, streams, "The key of CrossAttention.step")
        if value is not None:
            require_frame(value, self.value_width, streams, "The value of CrossAttention.step")
        k, v = self._attended(key, value)
        state = write_ring(state, k, v)
        return self._ask(query, state, slots_written(state.frames, self.window)), state

    def attend(self, query: Tensor, state: RingState) -> Tensor:
        """Ask again without a new frame: the query attends the last N frames that the attended stream brought.

        Args:
            query: ``(B, E)``.
            state: State of B streams; it is read only.

        Returns:
            ``(B, E)``, zeros for streams that have seen no frame.

        Raises:
            ShapeError: If ``query`` is not ``(B, E)``.
        """
        require_frame(query, self.embed_dim, state.frames.shape[0], "CrossAttention.attend")
        empty = (state.frames == 0).unsqueeze(1)
        # An empty stream attends its empty slots, so that no row of the softmax is empty.
        answer = self._ask(query, state, slots_written(state.frames, self.window) | empty)
        return answer.masked_fill(empty, 0)

    def steps(
        self, queries: Tensor, keys: Tensor, state: RingState, values: Tensor | None = None
    ) -> tuple[Tensor, RingState]:
        """Take in k frames of both streams at once and answer for each: equal to k single steps.

        Args:
            queries: ``(B, k, E)`` for any k >= 1.
            keys: ``(B, k, K)``.
            state: State of B streams; its storage is reused.
            values: ``(B, k, V)``; the keys by default.

        Returns:
            ``(B, k, E)`` and the state after the frames.

        Raises:
            ShapeError: If a sequence has another shape, or the values are left out where V is not K.
        """
        self._require_sequences(queries, keys, values, "CrossAttention.steps", state.frames.shape[0])
        k, v = self._attended(keys, values)
        past_k, exists = read_past(state.keys, state.frames)
        past_v, _ = read_past(state.values, state.frames)
        exists = F.pad(exists, (0, keys.shape[1]), value=True)
        answers = self._ask_band(queries, torch.cat([past_k, k], 2), torch.cat([past_v, v], 2), exists)
        write_slots(state.keys.transpose(1, 2), k.transpose(1, 2), state.frames)
        write_slots(state.values.transpose(1, 2), v.transpose(1, 2), state.frames)
        return answers, state._replace(frames=state.frames + keys.shape[1])

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor | None = None) -> Tensor:
        """Answer for all frames of whole streams.

        Args:
            queries: ``(B, T, E)``.
            keys: ``(B, T, K)``.
            values: ``(B, T, V)``; the keys by default.

        Returns:
            ``(B, T, E)``, equal to T steps from a fresh state.

        Raises:
            ShapeError: If a sequence has another shape, or the values are left out where V is not K.
        """
        self._require_sequences(queries, keys, values, "CrossAttention.forward")
        past = self.window - 1
        exists = F.pad(torch.ones(1, keys.shape[1], dtype=torch.bool, device=keys.device), (past, 0))
        k, v = (F.pad(part, (0, 0, past, 0)) for part in self._attended(keys, values))
        return self._ask_band(queries, k, v, exists)

    def _require_sequences(
        self, queries: Tensor, keys: Tensor, values: Tensor | None, what: str, streams: int | None = None
    ) -> None:
        require_sequence(queries, self.embed_dim, f"The query of {what}", streams=streams)
        for name, part, width in (("key", keys, self.key_width), ("value", values, self.value_width)):
            if part is None:
                continue
            require_sequence(part, width, f"The {name} of {what}", streams=queries.shape[0])
            if part.shape[1] != queries.shape[1]:
                raise ShapeError(
                    f"{what}: each stream brings one frame a step; "
                    f"got {queries.shape[1]} queries and {part.shape[1]} {name}s, cut them to the same length"
                )

    def _heads(self, x: Tensor) -> Tensor:
        """Split ``(B, E)`` into ``(B, H, E/H)``, and ``(B, T, E)`` into ``(B, H, T, E/H)``."""
        heads: Tensor = x.unflatten(-1, (self.num_heads, self.head_dim))
        return heads.transpose(1, 2) if x.dim() == 3 else heads

    def _attended(self, key: Tensor, value: Tensor | None) -> tuple[Tensor, Tensor]:
        """Project frames of the attended stream to keys and values, split into heads."""
        if not self.fused:
            if value is None:
                raise ShapeError(
                    f"keys are {self.key_width} wide and values {self.value_width}: the key frame cannot stand in "
                    "for the value, pass both"
                )
            k, v = self.k_proj(key), self.v_proj(value)
        elif value is None:
            k, v = self.kv_proj(key).chunk(2, dim=-1)
        else:
            weights = self.kv_proj.weight.chunk(2)
            biases = self.kv_proj.bias.chunk(2) if self.in_bias else (None, None)
            k, v = F.linear(key, weights[0], biases[0]), F.linear(value, weights[1], biases[1])
        return self._heads(k), self._heads(v)

    def _query(self, query: Tensor) -> Tensor:
        """Project frames that ask to scaled queries, split into heads."""
        return self._heads(self.q_proj(query) * self.head_dim**-0.5)

    def _ask(self, query: Tensor, state: RingState, mask: Tensor) -> Tensor:
        """Let one frame of each stream attend the slots that ``mask`` ``(B, N)`` names."""
        logits = self._query(query).unsqueeze(2) @ state.keys.transpose(2, 3)
        answer: Tensor = self.out_proj((attention_weights(logits, mask[:, None, None]) @ state.values).flatten(1))
        return answer

    def _ask_band(self, queries: Tensor, k: Tensor, v: Tensor, exists: Tensor) -> Tensor:
        """Let each frame attend the N frames that end with it; ``k`` and ``v`` begin N - 1 frames earlier."""
        return self.merge(band_attention(self._query(queries), k, v, exists, self))

    def extra_repr(self) -> str:
        """Show the sizes in the module's printed form."""
        return f"window={self.window}, heads={self.num_heads}, keys={self.key_width}, values={self.value_width}"
