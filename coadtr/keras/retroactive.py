"""Retroactive attention for Keras: each step brings the outputs of the whole window up to date."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from coadtr.errors import ConfigError
from coadtr.keras.multi_head import ContinualAttention, attention_weights
from coadtr.keras.ring import Tensor, init_ring, slots_written, to_slots, to_time_order, write_ring

__all__ = ["CoReMultiHeadAttention", "RetroactiveState"]


class RetroactiveState(NamedTuple):
    """What retroactive attention remembers of the last N frames, in slot order.

    Attributes:
        queries: ``(B, N, H, key_dim)``, scaled.
        keys: ``(B, N, H, key_dim)``.
        values: ``(B, N, H, value_dim)``.
        logits: ``(B, H, N, N)``, query slot by key slot.
        frames: ``(B,) int32``, frames seen by each stream.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    logits: Tensor
    frames: Tensor


@keras.saving.register_keras_serializable(package="coadtr")
class CoReMultiHeadAttention(ContinualAttention):
    """Multi-head attention that brings the outputs of all N frames of the window up to date at each step.

    ::

        call(clip)        (B, T, C) -> (B, min(T, N), E)   MultiHeadAttention on the last N frames
        call_step(frame)  (B, C)    -> (B, N, E)           the same for the last N frames, oldest first
        call_steps        (B, T, C) -> (B, T, N, E)

    A step makes one new row and one new column of the N x N logits, which are cached, and takes each softmax afresh, so
    that it stays exact for large logits. Until a stream has N frames, the outputs of those that it lacks are zeros
    (``warmup="mask"``), or it is not answered (``"none"``). Weights are those of ``MultiHeadAttention``, in its order.

    Arguments are those of :class:`CoSiMultiHeadAttention`. (`continual-transformers-tf` has no such layer.)

    Source: Hedegaard et al., ICLR 2023, section 3.2 and Fig. 1.

    Example:
        >>> import keras, numpy as np
        >>> layer = CoReMultiHeadAttention(seq_len=4, num_heads=2, key_dim=3)
        >>> frames = np.random.default_rng(0).normal(size=(1, 9, 5)).astype("float32")
        >>> for t in range(9):
        ...     window = layer.call_step(frames[:, t])
        >>> clip = layer(frames[:, 5:], frames[:, 5:])
        >>> bool(keras.ops.max(keras.ops.abs(window - clip)) < 1e-5)
        True
    """

    def __init__(self, seq_len: int, num_heads: int, key_dim: int, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("use_gate"):
            raise ConfigError("CoReMultiHeadAttention keeps no gates of past frames; leave use_gate=True out")
        super().__init__(seq_len, num_heads, key_dim, *args, **kwargs)

    def init_state(self, batch_size: int = 1) -> RetroactiveState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        window, heads, dtype = self.seq_len, self.num_heads, self.compute_dtype
        return RetroactiveState(
            init_ring(batch_size, window, (heads, self.key_dim), dtype),
            init_ring(batch_size, window, (heads, self.key_dim), dtype),
            init_ring(batch_size, window, (heads, self.value_dim), dtype),
            ops.zeros((batch_size, heads, window, window), dtype=dtype),
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
        """Attend over the last N frames of a clip, every frame to every frame; as ``MultiHeadAttention`` is called."""
        query, value, key, masks = self._window(
            query, value, key, {"query_mask": query_mask, "value_mask": value_mask, "key_mask": key_mask}
        )
        if attention_mask is not None:
            attention_mask = attention_mask[..., -self.seq_len :, -self.seq_len :]
        return self._attend_clip(
            query,
            value,
            key,
            attention_mask=attention_mask,
            return_attention_scores=return_attention_scores,
            training=training,
            use_causal_mask=use_causal_mask,
            **masks,
        )

    def stateless_step(
        self,
        inputs: Any,
        state: RetroactiveState,
        *,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> tuple[Any, RetroactiveState]:
        """Take in one frame of each stream and bring the outputs of the window up to date, as a pure function.

        Args:
            inputs: A frame ``(B, C)``, or a tuple of query, value and, if it differs, key.
            state: State of B streams.
            attention_mask: ``(B or 1, N or 1, N) bool`` over the last N frames, oldest first. Where it leaves a query
                none of the frames that there are, they count alike, as in Keras.
            return_attention_scores: Return ``(B, H, N, N)`` scores as well, oldest first.
            training: Whether dropout is on.

        Returns:
            ``(B, N, E)``, oldest frame first and zeros where there is none, or that and the scores, and the state after
            the frame.

        Raises:
            ShapeError: If a frame is not ``(B, C)``.
        """
        _, q, k, v = self._project(inputs, state.frames.shape[0])
        before, frames = state.frames, state.frames + 1
        queries, keys, values = (
            write_ring(ring, entry, before) for ring, entry in ((state.queries, q), (state.keys, k), (state.values, v))
        )
        row = ops.einsum("bhd,bnhd->bhn", q, keys)[:, :, None]
        column = ops.einsum("bnhd,bhd->bhn", queries, k)[..., None]
        newest = ops.arange(self.seq_len, dtype="int32")[None] == (before % self.seq_len)[:, None]
        logits = ops.where(newest[:, None, None], column, state.logits)
        logits = ops.where(newest[:, None, :, None], row, logits)
        seen, allowed = slots_written(frames, self.seq_len), None
        if attention_mask is not None:
            given = self._mask(attention_mask, self.seq_len, ops.shape(frames)[0])
            allowed = to_slots(to_slots(given, frames), frames, axis=1)[:, None]
        scores = attention_weights(logits, seen[:, None, None], allowed)
        kept = self._dropout_layer(scores, training=training) if self._dropout else scores
        outputs = self._output_dense(ops.einsum("bhnm,bmhd->bnhd", kept, values))
        outputs = ops.where(seen[..., None], outputs, ops.zeros_like(outputs))
        after = RetroactiveState(queries, keys, values, logits, frames)
        answer = to_time_order(outputs, frames)
        if not return_attention_scores:
            return answer, after
        scores = ops.where(seen[:, None, :, None], scores, ops.zeros_like(scores))
        return (answer, to_time_order(to_time_order(scores, frames, axis=2), frames, axis=3)), after

    def stateless_steps(
        self,
        inputs: Any,
        state: RetroactiveState,
        *,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> tuple[Any, RetroactiveState]:
        """Take in T frames of each stream and bring the window up to date at each: ``(B, T, N, E)``.

        Arguments are those of :meth:`stateless_step`; the mask holds for each step.
        """
        parts = self._clips(inputs, state.frames.shape[0])
        answers = []
        for t in range(int(parts[0].shape[1])):
            answer, state = self.stateless_step(
                tuple(x[:, t] for x in parts),
                state,
                attention_mask=attention_mask,
                training=training,
                return_attention_scores=return_attention_scores,
            )
            answers.append(answer)
        if return_attention_scores:
            outputs, scores = zip(*answers, strict=True)
            return (ops.stack(outputs, axis=1), ops.stack(scores, axis=2)), state
        return ops.stack(answers, axis=1), state

    def compute_mask(self, _inputs: Any, previous_mask: Any = None) -> Any:
        """Return the mask of the last N frames."""
        return None if previous_mask is None else previous_mask[:, -self.seq_len :]

    def compute_output_shape(self, query_shape: Any, value_shape: Any = None, key_shape: Any = None) -> tuple[Any, ...]:
        """Return ``(B, min(T, N), E)``."""
        value_shape = query_shape if value_shape is None else value_shape
        batch, length, *width = super().compute_output_shape(query_shape, value_shape, key_shape)
        return (batch, None if length is None else min(length, self.seq_len), *width)

    def compute_output_spec(self, query: Any, value: Any, key: Any = None, **options: Any) -> Any:
        """Return the outputs as symbolic tensors."""
        shape = self.compute_output_shape(query.shape, value.shape, None if key is None else key.shape)
        output = keras.KerasTensor(shape, dtype=self.compute_dtype)
        if not options.get("return_attention_scores"):
            return output
        keys = None if value.shape[1] is None else min(value.shape[1], self.seq_len)
        return output, keras.KerasTensor((shape[0], self.num_heads, shape[1], keys), dtype=self.compute_dtype)
