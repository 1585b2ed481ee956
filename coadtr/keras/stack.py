"""Stacks of continual encoder blocks for Keras."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from coadtr.keras.attention import RingState
from coadtr.keras.checks import require_count
from coadtr.keras.encoder import CoReTransformerEncoder, CoSiTransformerEncoder, RetroactiveBlockState
from coadtr.keras.ring import Tensor, seen_in_order
from coadtr.keras.streaming import Streaming

__all__ = ["CoSiTransformerStack", "CoTransformerEncoder", "StackState"]

# Windows run at once by `call_sequence`: enough to fill the cores, few enough to bound the memory.
WINDOWS_AT_ONCE = 64


class BlockStack(Streaming, keras.layers.Layer):  # type: ignore[misc]
    """What stacks of blocks share; see the two that derive from it."""

    def __init__(
        self,
        depth: int,
        seq_len: int,
        embed_dim: int,
        num_heads: int,
        ff_dim: int,
        *,
        call_mode: Any = "regular",
        warmup: Any = "mask",
        save_state: bool = False,
        name: str | None = None,
        dtype: Any = None,
        trainable: bool = True,
        **block: Any,
    ) -> None:
        require_count(type(self).__name__, "depth", depth, 1)
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        self.depth, self.seq_len, self.embed_dim, self.num_heads, self.ff_dim = (
            depth,
            seq_len,
            embed_dim,
            num_heads,
            ff_dim,
        )
        self.supports_masking = True
        self._block = dict(block)
        sizes = (seq_len, embed_dim, num_heads, ff_dim)
        self.blocks = [
            kind(*sizes, name=f"block_{index}", dtype=self.dtype_policy, **block)
            for index, kind in enumerate(self._kinds())
        ]
        self._set_up_streaming(call_mode, warmup, save_state)

    def _kinds(self) -> list[Any]:
        """Return the class of each block."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return what makes a layer of the same settings."""
        names = ("depth", "seq_len", "embed_dim", "num_heads", "ff_dim")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own, **dict(self._block), **self._streaming_config()}

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs ``(B, T, E)``."""
        for block in self.blocks:
            block.build(input_shape)

    @property
    def _channels(self) -> int:
        return self.embed_dim

    def compute_mask(self, _inputs: Any, previous_mask: Any = None) -> None:  # noqa: ARG002
        """Return None: the one answer is never masked."""
        return

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """Return ``(B, 1, E)``."""
        return (input_shape[0], 1, self.embed_dim)


@keras.saving.register_keras_serializable(package="coadtr")
class CoTransformerEncoder(BlockStack):
    """Window-exact encoder of any depth that answers for the newest frame.

    ::

        depth 1     single-output
        depth 2     retroactive, single-output
        depth L     retroactive, L - 2 blocks of full attention over the updated window, single-output

        call(clip)        (B, T, E) -> (B, 1, E)   for the last frame, from the last N
        call_step(frame)  (B, E)    -> (B, E)      the same for the N frames that end with this one

    Args:
        depth: Blocks L.
        seq_len: Frames N that an answer depends on.
        embed_dim: Width E.
        num_heads: Heads H.
        ff_dim: Hidden width of the feed-forward networks.
        call_mode: What calling the layer does: ``"regular"`` (a clip), ``"steps"`` or ``"step"``.
        warmup: ``"mask"`` or ``"none"``.
        save_state: Save the held state with the weights.
        name: Of the layer.
        dtype: Dtype or policy.
        trainable: Whether the weights are trained.
        **block: Other settings of :class:`CoSiTransformerEncoder`.

    Raises:
        ConfigError: If a size is out of range.

    Source: Hedegaard et al., ICLR 2023, section 3.6. Depths above two continue the published scheme.

    Example:
        >>> import keras, numpy as np
        >>> encoder = CoTransformerEncoder(3, seq_len=4, embed_dim=6, num_heads=2, ff_dim=8)
        >>> frames = np.random.default_rng(0).normal(size=(1, 9, 6)).astype("float32")
        >>> answers = encoder.call_steps(frames)
        >>> bool(keras.ops.max(keras.ops.abs(answers[:, -1:] - encoder(frames))) < 1e-5)
        True
    """

    def _kinds(self) -> list[Any]:
        return [CoReTransformerEncoder] * (self.depth - 1) + [CoSiTransformerEncoder]

    @property
    def warmup_steps(self) -> int:
        """First steps of a stream that look back on fewer than N frames, N - 1."""
        return self.seq_len - 1

    def init_state(self, batch_size: int = 1) -> RingState | RetroactiveBlockState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        state: RingState | RetroactiveBlockState = self.blocks[0].init_state(batch_size)
        return state

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Tensor:
        """Answer for the last frame of each clip, ``(B, T, E)`` to ``(B, 1, E)``.

        Args:
            inputs: ``(B, T, E)``.
            mask: ``(B, T) bool``, false where a frame does not exist (the last one does); None if all do.
            training: Whether dropout is on.
        """
        inputs = inputs[:, -self.seq_len :]
        return self._refine(inputs, None if mask is None else mask[:, -self.seq_len :], self.blocks, training)

    def _refine(self, window: Tensor, mask: Any, blocks: Any, training: bool | None) -> Tensor:
        for block in blocks:
            window = block(window, mask=mask, training=training)
        return window

    def stateless_step(self, inputs: Any, state: Any, *, training: bool | None = None) -> tuple[Tensor, Any]:
        """Take in one frame of each stream, ``(B, E)``, and answer for it ``(B, E)``, as a pure function."""
        first, *later = self.blocks
        answer, state = first.stateless_step(inputs, state, training=training)
        if not later:
            return answer, state
        seen = seen_in_order(state.frames, self.seq_len)
        return self._refine(answer, seen, later, training)[:, 0], state

    def stateless_steps(self, inputs: Any, state: Any, *, training: bool | None = None) -> tuple[Tensor, Any]:
        """Take in T frames of each stream, ``(B, T, E)``, and answer for each, as a pure function: equal to T steps."""
        if self.depth == 1:
            answered: tuple[Tensor, Any] = self.blocks[0].stateless_steps(inputs, state, training=training)
            return answered
        return super().stateless_steps(inputs, state, training=training)

    def call_sequence(self, inputs: Any, mask: Any = None, *, training: bool | None = None) -> Tensor:
        """Answer all frames of whole streams, ``(B, T, E)``: what T steps from a fresh state answer.

        At depth one this is one pass under the band mask; deeper stacks run the clip that ends at each frame.

        Args:
            inputs: ``(B, T, E)``.
            mask: ``(B, T) bool``, false where a frame does not exist; None if all do.
            training: Whether dropout is on.
        """
        if self.depth == 1:
            return self.blocks[0].call_sequence(inputs, mask, training=training)
        inputs = self._frames(inputs, None)
        count, past = int(inputs.shape[1]), self.seq_len - 1
        padded = ops.pad(inputs, ((0, 0), (past, 0), (0, 0)))
        there = ops.ones_like(inputs[..., 0], dtype="int32") if mask is None else ops.cast(mask, "int32")
        there = ops.pad(there, ((0, 0), (past, 0)))
        answers = []
        for first in range(0, count, WINDOWS_AT_ONCE):
            frame = ops.arange(first, min(first + WINDOWS_AT_ONCE, count), dtype="int32")[:, None]
            index = frame + ops.arange(self.seq_len, dtype="int32")[None]
            windows = ops.take(padded, index, axis=1)
            clips = ops.reshape(windows, (-1, self.seq_len, self.embed_dim))
            exist = ops.reshape(ops.cast(ops.take(there, index, axis=1), "bool"), (-1, self.seq_len))
            answered = self._refine(clips, exist, self.blocks, training)
            answers.append(ops.reshape(answered, (-1, index.shape[0], self.embed_dim)))
        return ops.concatenate(answers, axis=1)


class StackState(NamedTuple):
    """What a stack of single-output blocks remembers.

    Attributes:
        blocks: State of each block, the first block first.
    """

    blocks: tuple[RingState, ...]

    @property
    def frames(self) -> Tensor:
        """Frames seen by each stream, ``(B,) int32``."""
        return self.blocks[0].frames


@keras.saving.register_keras_serializable(package="coadtr")
class CoSiTransformerStack(BlockStack):
    """Sequence-exact encoder of any depth: each block's newest output enters the next block's ring.

    ::

        call(sequence)    (B, T, E) -> (B, 1, E)   for the last frame, every block under the band mask 0 <= t - s < N
        call_step(frame)  (B, E)    -> (B, E)      the same as one pass over all frames of the stream

    An output is never brought up to date, so an answer looks back L (N - 1) + 1 frames. Arguments are those of
    :class:`CoTransformerEncoder`.

    Example:
        >>> import keras, numpy as np
        >>> stack = CoSiTransformerStack(2, seq_len=4, embed_dim=6, num_heads=2, ff_dim=8)
        >>> frames = np.random.default_rng(0).normal(size=(1, 9, 6)).astype("float32")
        >>> answers = stack.call_steps(frames)
        >>> bool(keras.ops.max(keras.ops.abs(answers[:, -1:] - stack(frames))) < 1e-5)
        True
    """

    def _kinds(self) -> list[Any]:
        return [CoSiTransformerEncoder] * self.depth

    @property
    def warmup_steps(self) -> int:
        """First steps of a stream that look back on fewer frames than the stack can, L (N - 1)."""
        return self.depth * (self.seq_len - 1)

    def init_state(self, batch_size: int = 1) -> StackState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        return StackState(tuple(block.init_state(batch_size) for block in self.blocks))

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Tensor:
        """Answer for the last frame of sequences ``(B, T, E)``, T known: ``(B, 1, E)``.

        Args:
            inputs: ``(B, T, E)``.
            mask: ``(B, T) bool``, false where a frame does not exist (the last one does); None if all do.
            training: Whether dropout is on.
        """
        for block in self.blocks[:-1]:
            inputs = block.call_sequence(inputs, mask, training=training)
        return self.blocks[-1](inputs, mask=mask, training=training)

    def call_sequence(self, inputs: Any, mask: Any = None, *, training: bool | None = None) -> Tensor:
        """Answer all frames of whole streams, ``(B, T, E)``: what T steps from a fresh state answer.

        Args:
            inputs: ``(B, T, E)``.
            mask: ``(B, T) bool``, false where a frame does not exist; None if all do.
            training: Whether dropout is on.
        """
        for block in self.blocks:
            inputs = block.call_sequence(inputs, mask, training=training)
        return inputs

    def stateless_step(self, inputs: Any, state: StackState, *, training: bool | None = None) -> tuple[Tensor, Any]:
        """Take in one frame of each stream, ``(B, E)``, and answer for it ``(B, E)``, as a pure function."""
        after = []
        for block, memory in zip(self.blocks, state.blocks, strict=True):
            inputs, memory = block.stateless_step(inputs, memory, training=training)  # noqa: PLW2901
            after.append(memory)
        return inputs, StackState(tuple(after))

    def stateless_steps(self, inputs: Any, state: StackState, *, training: bool | None = None) -> tuple[Tensor, Any]:
        """Take in T frames of each stream, ``(B, T, E)``, and answer for each, as a pure function: equal to T steps."""
        after = []
        for block, memory in zip(self.blocks, state.blocks, strict=True):
            inputs, memory = block.stateless_steps(inputs, memory, training=training)  # noqa: PLW2901
            after.append(memory)
        return inputs, StackState(tuple(after))
