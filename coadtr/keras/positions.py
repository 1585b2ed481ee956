"""Circular positional encoding for Keras: position p of a stream uses embedding p mod P."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from coadtr.cyclic import cyclic_sinusoidal_table
from coadtr.errors import ConfigError, ShapeError
from coadtr.keras.checks import require_fit
from coadtr.keras.ring import Tensor
from coadtr.keras.streaming import Streaming

__all__ = ["CircularPositionalEncoding", "PositionState", "clip_index"]


def clip_index(count: Any, first_frame: Any = None) -> Tensor:
    """Return the index of each frame of clips in their streams, ``(B or 1, T) int32``.

    Args:
        count: Frames T.
        first_frame: Index of the first frame, ``(B,)`` or one for all; 0 if not given.
    """
    index = ops.arange(count, dtype="int32")[None]
    if first_frame is None:
        return index
    return index + ops.reshape(ops.cast(ops.convert_to_tensor(first_frame), "int32"), (-1, 1))


class PositionState(NamedTuple):
    """What a positional encoding remembers.

    Attributes:
        frames: ``(B,) int32``, frames seen by each stream: the position of the next.
    """

    frames: Tensor


@keras.saving.register_keras_serializable(package="coadtr")
class CircularPositionalEncoding(Streaming, keras.layers.Layer):  # type: ignore[misc]
    """Add the embedding of position p mod P to the frame with index p.

    ::

        call(clip)        (B, T, E) -> (B, T, E)   positions 0 .. T-1, or from first_frame on; no memory is changed
        call_step(frame)  (B, E)    -> (B, E)      the position of this frame in its stream

    Args:
        max_len: Embeddings P of one cycle; 2 N - 1 makes all offsets inside a window of N frames distinct.
        embed_dim: Width E.
        kind: ``"learned"`` (a trained table) or ``"fixed"`` (:func:`cyclic_sinusoidal_table`).
        call_mode: What calling the layer does: ``"regular"`` (a clip), ``"steps"`` or ``"step"``.
        save_state: Save the held state with the weights.
        **kwargs: What Keras layers take (``name``, ``dtype``, ...).

    Raises:
        ConfigError: If ``kind`` is unknown or a size is out of range.

    Source: Hedegaard et al., ICLR 2023, section 3.5, eq. 12-13.

    Example:
        >>> import keras, numpy as np
        >>> encode = CircularPositionalEncoding(5, 4, kind="fixed")
        >>> codes = keras.ops.convert_to_numpy(encode(np.zeros((1, 8, 4), "float32")))
        >>> bool((codes[:, 2] == codes[:, 7]).all())
        True
    """

    def __init__(
        self,
        max_len: int,
        embed_dim: int,
        kind: str = "learned",
        *,
        call_mode: Any = "regular",
        save_state: bool = False,
        **kwargs: Any,
    ) -> None:
        if kind not in ("learned", "fixed"):
            raise ConfigError(f"kind must be 'learned' or 'fixed', got {kind!r}")
        if max_len < 1 or embed_dim < 1:
            raise ConfigError(
                f"a circular encoding needs at least one embedding and channel, got max_len={max_len}, "
                f"embed_dim={embed_dim}"
            )
        super().__init__(**kwargs)
        self.max_len, self.embed_dim, self.kind = max_len, embed_dim, kind
        self.supports_masking = True
        self._fixed = cyclic_sinusoidal_table(max_len, embed_dim) if kind == "fixed" else None
        self._set_up_streaming(call_mode, "mask", save_state)

    @property
    def warmup_steps(self) -> int:
        """None: every frame has a position."""
        return 0

    def get_config(self) -> dict[str, Any]:
        """Return what makes a layer of the same settings."""
        own = {"max_len": self.max_len, "embed_dim": self.embed_dim, "kind": self.kind}
        return {**super().get_config(), **own, "call_mode": self.call_mode, "save_state": self.save_state}

    def build(self, input_shape: Any) -> None:
        """Make the table.

        Raises:
            ShapeError: If the input's width is another than E.
        """
        if input_shape[-1] != self.embed_dim:
            raise ShapeError(
                f"CircularPositionalEncoding takes {self.embed_dim} channels, got shape {tuple(input_shape)}"
            )
        fixed = self._fixed

        def as_it_is(_shape: Any, dtype: Any = None) -> Tensor:
            return ops.convert_to_tensor(fixed, dtype)

        self.table = self.add_weight(
            name="table",
            shape=(self.max_len, self.embed_dim),
            initializer="random_normal" if fixed is None else as_it_is,
            trainable=fixed is None,
        )

    @property
    def _channels(self) -> int:
        return self.embed_dim

    def init_state(self, batch_size: int = 1) -> PositionState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        return PositionState(ops.zeros((batch_size,), dtype="int32"))

    def encode(self, x: Tensor, frame_index: Tensor) -> Tensor:
        """Add to ``(..., E)`` the embeddings of frames ``(...) int32``.

        Raises:
            ShapeError: If ``x`` is of another width.
        """
        require_fit(x, "CircularPositionalEncoding", channels=self.embed_dim)
        return x + ops.cast(ops.take(self.table, frame_index % self.max_len, axis=0), x.dtype)

    def call(self, inputs: Any, first_frame: Any = None) -> Tensor:
        """Encode clips ``(B, T, E)`` whose first frames have the index ``first_frame`` ``(B,)``, or 0."""
        return self.encode(inputs, clip_index(ops.shape(inputs)[1], first_frame))

    def stateless_step(
        self,
        inputs: Any,
        state: PositionState,
        *,
        training: bool | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, PositionState]:
        """Encode the next frame of each stream, ``(B, E)``, as a pure function.

        Raises:
            ShapeError: If the frame is not ``(B, E)``.
        """
        inputs = self._frame(inputs, state.frames.shape[0])
        return self.encode(inputs, state.frames), PositionState(state.frames + 1)

    def stateless_steps(
        self,
        inputs: Any,
        state: PositionState,
        *,
        training: bool | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, PositionState]:
        """Encode the next T frames of each stream, ``(B, T, E)``, as a pure function."""
        inputs = self._frames(inputs, state.frames.shape[0])
        count = int(inputs.shape[1])
        return self.encode(inputs, clip_index(count, state.frames)), PositionState(state.frames + count)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the input's shape."""
        return input_shape
