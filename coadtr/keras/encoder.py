"""Transformer encoder blocks for Keras, single-output and retroactive."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from coadtr.errors import ShapeError
from coadtr.keras.attention import CoSiMultiHeadAttention, RingState
from coadtr.keras.checks import require_count
from coadtr.keras.multi_head import ContinualAttention
from coadtr.keras.retroactive import CoReMultiHeadAttention, RetroactiveState
from coadtr.keras.ring import Tensor, init_ring, seen_in_order, to_time_order, write_ring
from coadtr.keras.streaming import Streaming

__all__ = ["CoReTransformerEncoder", "CoSiTransformerEncoder", "ContinualBlock", "RetroactiveBlockState"]


class ContinualBlock(Streaming, keras.layers.Layer):  # type: ignore[misc]
    """Residual wiring around one attention layer and one feed-forward network; see the two that derive from it."""

    attention: type[ContinualAttention]

    def __init__(  # noqa: PLR0917 (the arguments of the original)
        self,
        seq_len: int,
        embed_dim: int,
        num_heads: int,
        ff_dim: int,
        dropout_rate: float = 0.1,
        call_mode: Any = "regular",
        *,
        key_dim: int | None = None,
        activation: str = "gelu",
        norm_first: bool = False,
        use_bias: bool = True,
        attention_dropout: float = 0.0,
        epsilon: float = 1e-6,
        warmup: Any = "mask",
        save_state: bool = False,
        **kwargs: Any,
    ) -> None:
        for name, value in (("embed_dim", embed_dim), ("ff_dim", ff_dim)):
            require_count(type(self).__name__, name, value, 1)
        super().__init__(**kwargs)
        self.seq_len, self.embed_dim, self.num_heads, self.ff_dim = seq_len, embed_dim, num_heads, ff_dim
        self.key_dim = embed_dim if key_dim is None else key_dim
        self.dropout_rate, self.attention_dropout = dropout_rate, attention_dropout
        self.activation, self.norm_first, self.use_bias, self.epsilon = activation, norm_first, use_bias, epsilon
        self.supports_masking = True
        policy = {"dtype": self.dtype_policy}
        # In the order of the original's weights.
        self.att = self.attention(
            seq_len, num_heads, self.key_dim, dropout=attention_dropout, use_bias=use_bias, name="att", **policy
        )
        self.ffn_in = keras.layers.Dense(ff_dim, activation=activation, name="ffn_in", **policy)
        self.ffn_out = keras.layers.Dense(embed_dim, name="ffn_out", **policy)
        self.ln1 = keras.layers.LayerNormalization(epsilon=epsilon, name="ln1", **policy)
        self.ln2 = keras.layers.LayerNormalization(epsilon=epsilon, name="ln2", **policy)
        self.dropout1 = keras.layers.Dropout(dropout_rate, name="dropout1", **policy)
        self.dropout2 = keras.layers.Dropout(dropout_rate, name="dropout2", **policy)
        self._set_up_streaming(call_mode, warmup, save_state)

    @property
    def warmup_steps(self) -> int:
        """First steps of a stream that look back on fewer than N frames, N - 1."""
        return self.seq_len - 1

    def get_config(self) -> dict[str, Any]:
        """Return what makes a layer of the same settings."""
        names = ("seq_len", "embed_dim", "num_heads", "ff_dim", "dropout_rate", "key_dim", "activation", "norm_first")
        own = {name: getattr(self, name) for name in (*names, "use_bias", "attention_dropout", "epsilon")}
        return {**super().get_config(), **own, **self._streaming_config()}

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs ``(B, T, E)``.

        Raises:
            ShapeError: If they are of another width.
        """
        if input_shape[-1] != self.embed_dim:
            raise ShapeError(
                f"{type(self).__name__} takes embed_dim={self.embed_dim} channels, got shape {tuple(input_shape)}"
            )
        clip = (*tuple(input_shape)[:-1], self.embed_dim)
        self.att.build(clip, clip)
        self.ffn_in.build(clip)
        self.ffn_out.build((*clip[:-1], self.ff_dim))
        self.ln1.build(clip)
        self.ln2.build(clip)

    @property
    def _channels(self) -> int:
        return self.embed_dim

    def enter(self, x: Tensor) -> Tensor:
        """Make the attention's input from the block's."""
        return self.ln1(x) if self.norm_first else x

    def leave(self, x: Tensor, attended: Tensor, training: bool | None) -> Tensor:
        """Make the block's output from its input and the attention's output."""
        y = x + self.dropout1(attended, training=training)
        y = y if self.norm_first else self.ln1(y)
        branch = self.ffn_out(self.ffn_in(self.ln2(y) if self.norm_first else y))
        z = y + self.dropout2(branch, training=training)
        return z if self.norm_first else self.ln2(z)


@keras.saving.register_keras_serializable(package="coadtr")
class CoSiTransformerEncoder(ContinualBlock):
    """Encoder block that answers for the newest frame, one frame in and one answer out.

    ::

        call(clip)        (B, T, E) -> (B, 1, E)   for the last frame, from the last N
        call_step(frame)  (B, E)    -> (B, E)
        call_steps        (B, T, E) -> (B, T, E)

        post-norm   y = LN(x + A(x))    z = LN(y + F(y))
        pre-norm    y = x + A(LN(x))    z = y + F(LN(y))

    Args:
        seq_len: Frames N that a frame attends, itself included.
        embed_dim: Width E.
        num_heads: Heads H.
        ff_dim: Hidden width of the feed-forward network F.
        dropout_rate: Dropout of the branches, in training only.
        call_mode: What calling the layer does: ``"regular"`` (a clip), ``"steps"`` or ``"step"``.
        key_dim: Width of one head; ``embed_dim`` if not given, as in continual-transformers-tf (most others: E / H).
        activation: Of the feed-forward network, by its name in Keras.
        norm_first: Pre-norm instead of post-norm.
        use_bias: Whether the attention's projections have biases.
        attention_dropout: Dropout of the attention weights, in training only.
        epsilon: Of the layer norms.
        warmup: ``"mask"`` or ``"none"``.
        save_state: Save the held state with the weights.
        **kwargs: What Keras layers take (``name``, ``dtype``, ...).

    Raises:
        ConfigError: If a size is out of range.

    Source: Hedegaard et al., ICLR 2023, section 3.6.

    Example:
        >>> import keras, numpy as np
        >>> block = CoSiTransformerEncoder(seq_len=4, embed_dim=6, num_heads=2, ff_dim=8)
        >>> frames = np.random.default_rng(0).normal(size=(1, 9, 6)).astype("float32")
        >>> answers = block.call_steps(frames)
        >>> bool(keras.ops.max(keras.ops.abs(answers[:, -1:] - block(frames))) < 1e-5)
        True
    """

    attention = CoSiMultiHeadAttention

    def init_state(self, batch_size: int = 1) -> RingState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        state: RingState = self.att.init_state(batch_size)
        return state

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Tensor:
        """Answer for the last frame of each clip, ``(B, T, E)`` to ``(B, 1, E)``.

        Args:
            inputs: ``(B, T, E)``.
            mask: ``(B, T) bool``, false where a frame does not exist (the last one does); None if all do.
            training: Whether dropout is on.
        """
        entered = self.enter(inputs)
        attended = self.att(entered, entered, attention_mask=None if mask is None else mask[:, None], training=training)
        return self.leave(inputs[:, -1:], attended, training)

    def stateless_step(
        self, inputs: Any, state: RingState, *, training: bool | None = None
    ) -> tuple[Tensor, RingState]:
        """Take in one frame of each stream, ``(B, E)``, and answer for it ``(B, E)``, as a pure function."""
        inputs = self._frame(inputs, state.frames.shape[0])
        attended, state = self.att.stateless_step(self.enter(inputs), state, training=training)
        return self.leave(inputs, attended, training), state

    def stateless_steps(
        self, inputs: Any, state: RingState, *, training: bool | None = None
    ) -> tuple[Tensor, RingState]:
        """Take in T frames of each stream, ``(B, T, E)``, and answer for each, as a pure function: equal to T steps."""
        inputs = self._frames(inputs, state.frames.shape[0])
        attended, state = self.att.stateless_steps(self.enter(inputs), state, training=training)
        return self.leave(inputs, attended, training), state

    def call_sequence(self, inputs: Any, mask: Any = None, *, training: bool | None = None) -> Tensor:
        """Answer all frames of whole streams, ``(B, T, E)``: what T steps from a fresh state answer.

        Args:
            inputs: ``(B, T, E)``.
            mask: ``(B, T) bool``, false where a frame does not exist; None if all do.
            training: Whether dropout is on.
        """
        inputs = self._frames(inputs, None)
        return self.leave(inputs, self.att.call_sequence(self.enter(inputs), mask, training=training), training)

    def compute_mask(self, _inputs: Any, previous_mask: Any = None) -> None:  # noqa: ARG002
        """Return None: the one answer is never masked."""
        return

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """Return ``(B, 1, E)``."""
        return (input_shape[0], 1, self.embed_dim)


class RetroactiveBlockState(NamedTuple):
    """What a retroactive block remembers, in slot order.

    Attributes:
        tokens: ``(B, N, E)``, the block's last N inputs, for the residual connection.
        attention: State of the attention layer.
    """

    tokens: Tensor
    attention: RetroactiveState

    @property
    def frames(self) -> Tensor:
        """Frames seen by each stream, ``(B,) int32``."""
        return self.attention.frames


@keras.saving.register_keras_serializable(package="coadtr")
class CoReTransformerEncoder(ContinualBlock):
    """Encoder block that brings the outputs of the whole window up to date at each step.

    ::

        call(clip)        (B, T, E) -> (B, min(T, N), E)
        call_step(frame)  (B, E)    -> (B, N, E)      oldest frame first; zeros where there is none yet
        call_steps        (B, T, E) -> (B, T, N, E)

    Arguments are those of :class:`CoSiTransformerEncoder`.

    Source: Hedegaard et al., ICLR 2023, section 3.6.

    Example:
        >>> import keras, numpy as np
        >>> block = CoReTransformerEncoder(seq_len=4, embed_dim=6, num_heads=2, ff_dim=8)
        >>> frames = np.random.default_rng(0).normal(size=(1, 9, 6)).astype("float32")
        >>> windows = block.call_steps(frames)
        >>> bool(keras.ops.max(keras.ops.abs(windows[:, -1] - block(frames))) < 1e-5)
        True
    """

    attention = CoReMultiHeadAttention

    def init_state(self, batch_size: int = 1) -> RetroactiveBlockState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        tokens = init_ring(batch_size, self.seq_len, (self.embed_dim,), self.compute_dtype)
        return RetroactiveBlockState(tokens, self.att.init_state(batch_size))

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Tensor:
        """Run the last N frames of clips ``(B, T, E)``, every frame attending every frame.

        Args:
            inputs: ``(B, T, E)``.
            mask: ``(B, T) bool``, false where a frame does not exist; None if all do.
            training: Whether dropout is on.
        """
        inputs = inputs[:, -self.seq_len :]
        entered = self.enter(inputs)
        mask = None if mask is None else mask[:, None, -self.seq_len :]
        return self.leave(inputs, self.att(entered, entered, attention_mask=mask, training=training), training)

    def stateless_step(
        self, inputs: Any, state: RetroactiveBlockState, *, training: bool | None = None
    ) -> tuple[Tensor, RetroactiveBlockState]:
        """Take in one frame of each stream, ``(B, E)``, and bring the window up to date, as a pure function.

        Returns:
            ``(B, N, E)``, oldest frame first and zeros where there is none, and the state after the frame.
        """
        inputs = self._frame(inputs, state.tokens.shape[0])
        tokens = write_ring(state.tokens, inputs, state.attention.frames)
        attended, attention = self.att.stateless_step(self.enter(inputs), state.attention, training=training)
        window = self.leave(to_time_order(tokens, attention.frames), attended, training)
        seen = seen_in_order(attention.frames, self.seq_len)[..., None]
        return ops.where(seen, window, ops.zeros_like(window)), RetroactiveBlockState(tokens, attention)

    def compute_mask(self, _inputs: Any, previous_mask: Any = None) -> Any:
        """Return the mask of the last N frames."""
        return None if previous_mask is None else previous_mask[:, -self.seq_len :]

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """Return ``(B, min(T, N), E)``."""
        length = input_shape[1]
        return (input_shape[0], None if length is None else min(length, self.seq_len), self.embed_dim)
