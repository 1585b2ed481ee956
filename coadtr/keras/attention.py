"""Single-output attention for Keras: the newest frame attends the last N, at the cost of one new frame a step."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from coadtr.errors import ShapeError
from coadtr.keras.multi_head import ContinualAttention, attention_weights
from coadtr.keras.ring import (
    Tensor,
    init_ring,
    read_past,
    seen_in_order,
    slots_written,
    to_slots,
    to_time_order,
    write_ring,
)

__all__ = ["CoSiMultiHeadAttention", "RingState"]


class RingState(NamedTuple):
    """What single-output attention remembers of the last N frames, in slot order.

    Attributes:
        keys: ``(B, N, H, key_dim)``.
        values: ``(B, N, H, value_dim)``.
        frames: ``(B,) int32``, frames seen by each stream.
    """

    keys: Tensor
    values: Tensor
    frames: Tensor


@keras.saving.register_keras_serializable(package="coadtr")
class CoSiMultiHeadAttention(ContinualAttention):
    """Multi-head attention of the newest frame over the last N frames, in place of ``keras.layers.MultiHeadAttention``.

    ::

        call(clip)        (B, T, C) -> (B, 1, E)    the last output of MultiHeadAttention on the last N frames
        call_step(frame)  (B, C)    -> (B, E)       the same for the N frames that end with this one
        call_steps        (B, T, C) -> (B, T, E)

    Weights are those of ``MultiHeadAttention``, in its order: ``set_weights(mha.get_weights())`` works. Until a stream
    has N frames, those that it has are attended (``warmup="mask"``), or it is not answered (``"none"``).

    Args:
        seq_len: Frames N that a query attends, the newest included.
        num_heads: Heads H.
        key_dim: Width of a head's queries and keys.
        value_dim: Width of a head's values; ``key_dim`` if not given.
        dropout: Dropout of the attention weights, in training only.
        use_bias: Whether the projections have biases.
        output_shape: Output width E; the query's if not given.
        attention_axes: None or 1; time is the axis that is attended.
        call_mode: What calling the layer does: ``"regular"`` (a clip), ``"steps"`` or ``"step"``.
        warmup: ``"mask"`` or ``"none"``.
        save_state: Save the held state with the weights.
        **kwargs: What ``MultiHeadAttention`` takes besides (initializers, regularizers, ``use_gate``, ``name``, ...).

    Raises:
        ConfigError: If ``seq_len`` is below one, another axis is asked for, or ``sliding_window`` is given.

    Source: Hedegaard et al., ICLR 2023, eq. 7-8 and Fig. 2.

    Example:
        >>> import keras, numpy as np
        >>> layer = CoSiMultiHeadAttention(seq_len=4, num_heads=2, key_dim=3)
        >>> frames = np.random.default_rng(0).normal(size=(1, 9, 5)).astype("float32")
        >>> steps = layer.call_steps(frames, frames)
        >>> clip = layer(frames[:, 5:], frames[:, 5:])
        >>> bool(keras.ops.max(keras.ops.abs(steps[:, -1:] - clip)) < 1e-5)
        True
    """

    def init_state(self, batch_size: int = 1) -> RingState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        return RingState(
            init_ring(batch_size, self.seq_len, (self.num_heads, self.key_dim), self.compute_dtype),
            init_ring(batch_size, self.seq_len, (self.num_heads, self.value_dim), self.compute_dtype),
            ops.zeros((batch_size,), dtype="int32"),
        )

    def call(  # noqa: PLR0917 (the arguments of MultiHeadAttention)
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """Answer for the last frame of a clip, which attends the clip's last N frames.

        Args:
            query: ``(B, T, C)``.
            value: ``(B, T, C)``.
            key: ``(B, T, C)``; ``value`` if not given.
            query_mask: Has no effect: the newest frame is always answered.
            value_mask: ``(B, T) bool``, false where a frame does not exist.
            key_mask: The same, of keys.
            attention_mask: ``(B, T, T) bool`` or ``(B, H, T, T)``; its last row counts.
            return_attention_scores: Return ``(B, H, 1, min(T, N))`` scores as well.
            training: Whether dropout is on.
            use_causal_mask: Has no effect: nothing lies after the newest frame.

        Returns:
            ``(B, 1, E)``.

        Raises:
            ShapeError: If there is no frame, a mask is not of frames, or causality is asked for among as many queries
                as values are not.
        """
        if use_causal_mask and query.shape[1] != value.shape[1]:
            raise ShapeError(
                f"{type(self).__name__}: use_causal_mask needs as many queries as values, got {query.shape[1]} and "
                f"{value.shape[1]}"
            )
        query, value, key, masks = self._window(
            query, value, key, {"query_mask": query_mask, "value_mask": value_mask, "key_mask": key_mask}
        )
        del masks["query_mask"]  # the newest frame is always answered
        if attention_mask is not None:
            attention_mask = attention_mask[..., -1:, -self.seq_len :]
        return self._attend_clip(
            query[:, -1:],
            value,
            key,
            attention_mask=attention_mask,
            return_attention_scores=return_attention_scores,
            training=training,
            **masks,
        )

    def stateless_step(
        self,
        inputs: Any,
        state: RingState,
        *,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> tuple[Any, RingState]:
        """Take in one frame of each stream and answer for it, as a pure function.

        Args:
            inputs: A frame ``(B, C)``, or a tuple of query, value and, if it differs, key.
            state: State of B streams.
            attention_mask: ``(B or 1, 1, N) bool`` over the last N frames, oldest first. Where it leaves none of those
                that there are, they count alike, as in Keras.
            return_attention_scores: Return ``(B, H, N)`` scores as well, oldest first, zero where there is no frame.
            training: Whether dropout is on.

        Returns:
            ``(B, E)``, or that and the scores, and the state after the frame.

        Raises:
            ShapeError: If a frame is not ``(B, C)``.
        """
        query, q, k, v = self._project(inputs, state.frames.shape[0])
        keys, values = write_ring(state.keys, k, state.frames), write_ring(state.values, v, state.frames)
        frames = state.frames + 1
        seen = slots_written(frames, self.seq_len)[:, None]
        allowed = (
            None if attention_mask is None else to_slots(self._mask(attention_mask, 1, ops.shape(frames)[0]), frames)
        )
        scores = attention_weights(ops.einsum("bhd,bnhd->bhn", q, keys), seen, allowed)
        kept = self._dropout_layer(scores, training=training) if self._dropout else scores
        answer = self._merge(ops.einsum("bhn,bnhd->bhd", kept, values)[:, None], query)[:, 0]
        after = RingState(keys, values, frames)
        return ((answer, to_time_order(scores, frames, axis=2)) if return_attention_scores else answer), after

    def stateless_steps(
        self,
        inputs: Any,
        state: RingState,
        *,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> tuple[Any, RingState]:
        """Take in T frames of each stream and answer for each: equal to T steps, in matrix products of N frames.

        Args:
            inputs: Frames ``(B, T, C)``, or a tuple of query, value and, if it differs, key.
            state: State of B streams.
            attention_mask: ``(B or 1, T or 1, N) bool``, for each step as :meth:`stateless_step` takes it.
            return_attention_scores: Return ``(B, H, T, N)`` scores as well, oldest first.
            training: Whether dropout is on.

        Returns:
            ``(B, T, E)``, or that and the scores, and the state after the frames.

        Raises:
            ShapeError: If the frames are not ``(B, T, C)`` with one T.
        """
        query, value, key = self._clips(inputs, state.frames.shape[0])
        count, past = int(query.shape[1]), self.seq_len - 1
        if attention_mask is not None:
            attention_mask = self._mask(attention_mask, count, ops.shape(state.frames)[0])
        q = self._query_dense(query) * self._inverse_sqrt_key_dim
        k = ops.concatenate([read_past(state.keys, state.frames), self._key_dense(key)], axis=1)
        v = ops.concatenate([read_past(state.values, state.frames), self._value_dense(value)], axis=1)
        begun = ops.ones((1, count), dtype="bool") & (state.frames[:, None] >= 0)
        exists = ops.concatenate([seen_in_order(state.frames, self.seq_len)[:, 1:], begun], axis=1)
        blocks = [
            self._attend_block(
                *(q[:, first:end], k[:, first : end + past], v[:, first : end + past]),
                exists=exists[:, first : end + past],
                allowed=None if attention_mask is None else attention_mask[:, first:end],
                training=training,
            )
            for first, end in _spans(count, self.seq_len)
        ]
        answers = self._merge(ops.concatenate([heads for heads, _ in blocks], axis=1), query)
        frames = state.frames + count
        # The last N entries in time order, put where their frames belong.
        keys, values = (to_slots(part[:, -self.seq_len :], frames, axis=1) for part in (k, v))
        after = RingState(keys, values, frames)
        if return_attention_scores:
            return (answers, ops.concatenate([scores for _, scores in blocks], axis=2)), after
        return answers, after

    def _attend_block(
        self, q: Tensor, k: Tensor, v: Tensor, *, exists: Tensor, allowed: Tensor | None, training: bool | None
    ) -> tuple[Tensor, Tensor]:
        """Attend under the band mask 0 <= t - s < N: heads ``(B, n, H, dim)`` and scores ``(B, H, n, N)``."""
        count, window = q.shape[1], self.seq_len
        # Where each key lies in the window of each query, 0 the oldest.
        place = ops.arange(count + window - 1)[None] - ops.arange(count)[:, None]
        band = ops.logical_and(place >= 0, place < window)
        mask = ops.logical_and(band[None, None], exists[:, None, None])
        if allowed is not None:
            allowed = ops.take_along_axis(allowed, ops.clip(place, 0, window - 1)[None], axis=2)[:, None]
        scores = attention_weights(ops.einsum("bthd,bshd->bhts", q, k), mask, allowed)
        kept = self._dropout_layer(scores, training=training) if self._dropout else scores
        heads = ops.einsum("bhts,bshd->bthd", kept, v)
        index = ops.arange(count)[:, None] + ops.arange(window)[None]
        return heads, ops.take_along_axis(scores, index[None, None], axis=3)

    def call_sequence(self, inputs: Any, mask: Any = None, *, training: bool | None = None) -> Tensor:
        """Answer all frames of whole streams, ``(B, T, C)``: what T steps from a fresh state answer.

        Args:
            inputs: Frames ``(B, T, C)``, or a tuple of query, value and, if it differs, key.
            mask: ``(B, T) bool``, false where a frame does not exist; None if all do.
            training: Whether dropout is on.
        """
        query = self._parts(inputs)[0]
        if mask is not None:
            there = ops.pad(ops.cast(mask, "int32"), ((0, 0), (self.seq_len - 1, 0)))
            index = ops.arange(self._count(query))[:, None] + ops.arange(self.seq_len)[None]
            mask = ops.cast(ops.take(there, index, axis=1), "bool")
        fresh = self.init_state(ops.shape(query)[0])
        answers, _ = self.stateless_steps(inputs, fresh, attention_mask=mask, training=training)
        return answers

    def compute_mask(self, _inputs: Any, previous_mask: Any = None) -> None:  # noqa: ARG002
        """Return None: the one answer is never masked."""
        return

    def compute_output_shape(self, query_shape: Any, value_shape: Any = None, key_shape: Any = None) -> tuple[Any, ...]:
        """Return ``(B, 1, E)``."""
        value_shape = query_shape if value_shape is None else value_shape
        batch, _, *width = super().compute_output_shape(query_shape, value_shape, key_shape)
        return (batch, 1, *width)

    def compute_output_spec(self, query: Any, value: Any, key: Any = None, **options: Any) -> Any:
        """Return the outputs as symbolic tensors."""
        shape = self.compute_output_shape(query.shape, value.shape, None if key is None else key.shape)
        output = keras.KerasTensor(shape, dtype=self.compute_dtype)
        if not options.get("return_attention_scores"):
            return output
        keys = None if value.shape[1] is None else min(value.shape[1], self.seq_len)
        return output, keras.KerasTensor((shape[0], self.num_heads, 1, keys), dtype=self.compute_dtype)


def _spans(count: int, length: int) -> list[tuple[int, int]]:
    return [(first, min(first + length, count)) for first in range(0, count, length)]
