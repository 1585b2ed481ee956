"""What the continual forms of ``keras.layers.MultiHeadAttention`` share: settings, projections, calls by frame."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from coadtr.errors import ConfigError, ShapeError
from coadtr.keras.checks import require_count, require_fit, require_frame
from coadtr.keras.ring import Tensor
from coadtr.keras.streaming import Streaming

__all__ = ["ContinualAttention", "attention_weights"]

PARTS = ("query", "value", "key")


# Less than any logit, as in Keras: where a mask leaves no key, all count alike.
FORBIDDEN = -1e9


def attention_weights(logits: Tensor, exists: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Softmax over the last dimension; half-precision logits are summed in float32.

    Args:
        logits: ``(..., keys)``.
        exists: Which keys there are; at least one for each query.
        allowed: Which of them a mask leaves; where it leaves none, all that there are count alike, as in Keras.
    """
    dtype = keras.backend.standardize_dtype(logits.dtype)
    if dtype in ("float16", "bfloat16"):
        logits = ops.cast(logits, "float32")
    if allowed is not None:
        logits = ops.where(allowed, logits, ops.cast(FORBIDDEN, logits.dtype))
    masked = ops.where(exists, logits, ops.cast(-math.inf, logits.dtype))
    return ops.cast(ops.softmax(masked, axis=-1), dtype)


class ContinualAttention(Streaming, keras.layers.MultiHeadAttention):  # type: ignore[misc]
    """What the continual forms of ``keras.layers.MultiHeadAttention`` share; see the two that derive from it."""

    def __init__(  # noqa: PLR0917 (the arguments of MultiHeadAttention)
        self,
        seq_len: int,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: Any = None,
        attention_axes: Any = None,
        *,
        call_mode: Any = "regular",
        warmup: Any = "mask",
        save_state: bool = False,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        require_count(name, "seq_len", seq_len, 1, " frame")
        axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes
        if axes is not None and tuple(axes) != (1,):
            raise ConfigError(f"{name} attends over time, axis 1 of (B, T, C); got attention_axes={attention_axes!r}")
        if kwargs.get("sliding_window") is not None:
            raise ConfigError(
                f"{name}: seq_len={seq_len} is the window; leave sliding_window={kwargs['sliding_window']!r} out"
            )
        if not 0 <= dropout < 1:
            raise ConfigError(f"{name}: dropout must be from 0 to below 1, got {dropout!r}")
        super().__init__(
            num_heads=num_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            dropout=dropout,
            use_bias=use_bias,
            output_shape=output_shape,
            attention_axes=axes,
            **kwargs,
        )
        self.seq_len = seq_len
        self._set_up_streaming(call_mode, warmup, save_state)

    @property
    def warmup_steps(self) -> int:
        """First steps of a stream that look back on fewer than N frames, N - 1."""
        return self.seq_len - 1

    def get_config(self) -> dict[str, Any]:
        """Return what makes a layer of the same settings."""
        return {**super().get_config(), "seq_len": self.seq_len, **self._streaming_config()}

    def build(self, query_shape: Any, value_shape: Any = None, key_shape: Any = None) -> None:
        """Make the weights for queries, values and keys of these shapes, ``(B, T, C)`` each.

        Raises:
            ShapeError: If one is not of rank 3.
        """
        value_shape = query_shape if value_shape is None else value_shape
        for part, shape in zip(PARTS, (query_shape, value_shape, key_shape), strict=True):
            if shape is not None and len(shape) != 3:
                raise ShapeError(
                    f"{type(self).__name__} takes clips (B, T, C), got {part} of shape {tuple(shape)}; "
                    "call_step takes single frames (B, C)"
                )
        super().build(query_shape, value_shape, key_shape)

    def _parts(self, inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Take apart a query, ``(query, value)`` or ``(query, value, key)``."""
        given = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
        if not 1 <= len(given) <= 3:
            raise ShapeError(f"inputs are a query, (query, value) or (query, value, key); got {len(given)} tensors")
        query, value, key = (*given, None, None)[:3]
        query = self._cast(query)
        value = query if value is None else self._cast(value)
        return query, value, value if key is None else self._cast(key)

    def _project(self, inputs: Any, streams: int | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Project one frame of each stream: the query, and scaled heads ``(B, H, dim)`` of query, key and value."""
        self._require_built()
        parts = self._parts(inputs)
        for part, x, width in zip(PARTS, parts, self._widths, strict=True):
            require_frame(x, f"{type(self).__name__}.stateless_step ({part})", streams=streams, channels=width)
        query, value, key = (x[:, None] for x in parts)
        q = self._query_dense(query)[:, 0] * self._inverse_sqrt_key_dim
        return query, q, self._key_dense(key)[:, 0], self._value_dense(value)[:, 0]

    @property
    def _widths(self) -> tuple[int, int, int]:
        """Channels of query, value and key."""
        query, value, key = (
            int(part.kernel.shape[0]) for part in (self._query_dense, self._value_dense, self._key_dense)
        )
        return query, value, key

    def _clips(self, inputs: Any, streams: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """Read what pure steps take: T frames of query, value and key."""
        self._require_built()
        parts = self._parts(inputs)
        self._require_as_many(parts)
        for part, x, width in zip(PARTS, parts, self._widths, strict=True):
            require_fit(x, f"{type(self).__name__}.stateless_steps ({part})", streams=streams, channels=width)
        return parts

    def _require_as_many(self, parts: tuple[Tensor, Tensor, Tensor]) -> int:
        """Return T of query, value and key, which is one."""
        counts = {self._count(x) for x in parts}
        if len(counts) != 1:
            found = ", ".join(f"{part} {tuple(x.shape)}" for part, x in zip(PARTS, parts, strict=True))
            raise ShapeError(f"{type(self).__name__}.call_steps takes as many queries as values and keys; got {found}")
        return counts.pop()

    def _mask(self, mask: Any, rows: int, streams: Any) -> Tensor:
        """Read a mask of the last N frames, ``(B or 1, rows or 1, N)``, oldest first, as ``(B, rows, N)``."""
        mask = ops.cast(ops.convert_to_tensor(mask), "bool")
        if len(mask.shape) != 3 or mask.shape[1] not in (1, rows) or mask.shape[2] != self.seq_len:
            wanted = f"1, {self.seq_len}" if rows == 1 else f"{rows} or 1, {self.seq_len}"
            raise ShapeError(
                f"{type(self).__name__}: attention_mask of a step must be (B or 1, {wanted}), over the last "
                f"{self.seq_len} frames, oldest first; got {tuple(mask.shape)}"
            )
        return ops.broadcast_to(mask, (streams, rows, self.seq_len))

    def _merge(self, heads: Tensor, query: Tensor) -> Tensor:
        """Project heads ``(B, T, H, value_dim)`` to outputs, through the gate if there is one."""
        if getattr(self, "_use_gate", False):
            heads = heads * self._gate_dense(query)
        return self._output_dense(heads)

    def _window(self, query: Any, value: Any, key: Any, masks: dict[str, Any]) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Keep the last N frames of a clip, and of its masks.

        Raises:
            ShapeError: If there is no frame, or a mask is not of frames.
        """
        if 0 in (query.shape[1], value.shape[1]):
            raise ShapeError(f"{type(self).__name__} takes clips of at least one frame, got {tuple(query.shape)}")
        for name, mask in masks.items():
            if mask is not None and len(mask.shape) != 2:
                raise ShapeError(
                    f"{type(self).__name__}: {name} must be (B, T), got {tuple(mask.shape)}; a mask of pairs of frames "
                    "is attention_mask=..."
                )
        last = slice(-self.seq_len, None)
        kept = {name: None if mask is None else mask[:, last] for name, mask in masks.items()}
        return query[:, last], value[:, last], None if key is None else key[:, last], kept

    def _attend_clip(self, *parts: Any, return_attention_scores: bool, **options: Any) -> Any:
        """Attend as ``MultiHeadAttention`` does."""
        # Its fused kernel takes values as wide as keys (Keras 3.15 on JAX); asking for scores goes around it.
        unequal = self.value_dim != self.key_dim
        outcome = super().call(*parts, return_attention_scores=return_attention_scores or unequal, **options)
        return outcome[0] if unequal and not return_attention_scores else outcome

    def call_step(  # noqa: PLR0917 (the arguments of MultiHeadAttention)
        self,
        query: Any,
        value: Any = None,
        key: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        """Take in the next frame of each stream and answer; arguments as :meth:`stateless_step` describes them.

        Returns:
            The outputs, and the scores if asked for; None in the first :attr:`warmup_steps` steps if :attr:`warmup` is
            ``"none"``.

        Raises:
            ShapeError: If a frame is not ``(B, C)``, or of another number of streams than the held state.
            ConfigError: If it is called inside a compiled function, which would not see the held state change.
        """
        parts = self._parts((query, value, key))
        for part, x in zip(PARTS, parts, strict=True):
            require_frame(x, f"{type(self).__name__}.call_step ({part})")
        self._build_for(tuple((x.shape[0], self.seq_len, x.shape[1]) for x in parts))
        options: dict[str, Any] = {"attention_mask": attention_mask, "return_attention_scores": return_attention_scores}
        return self._advance(lambda state: self.stateless_step(parts, state, training=training, **options), parts[0])

    def call_steps(  # noqa: PLR0917 (the arguments of the original)
        self,
        query: Any,
        value: Any = None,
        key: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
    ) -> Any:
        """Take in the next T frames of each stream, ``(B, T, C)`` each, and answer for each.

        Arguments are those of :meth:`stateless_steps`.

        Returns:
            ``(B, T, ...)`` outputs, and scores with the steps on axis 2 if asked for; with :attr:`warmup` ``"none"``
            less the steps without an answer, None if that leaves none.

        Raises:
            ShapeError: If the frames are not ``(B, T, C)`` with one T, or of another number of streams than the held
                state.
            ConfigError: If it is called inside a compiled function, which would not see the held state change.
        """
        parts = self._parts((query, value, key))
        count = self._require_as_many(parts)
        self._build_for(tuple(tuple(x.shape) for x in parts))
        options: dict[str, Any] = {"attention_mask": attention_mask, "return_attention_scores": return_attention_scores}
        return self._advance(
            lambda state: self.stateless_steps(parts, state, training=training, **options),
            parts[0],
            count,
            axes=(1, 2) if return_attention_scores else None,
        )

    def _build_for(self, shapes: tuple[Any, ...]) -> None:
        if not self.built:
            self.build(*shapes)
