"""A delay of some frames for Keras."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from coadtr.errors import ConfigError, ShapeError
from coadtr.keras.checks import require_count, require_fit
from coadtr.keras.ring import Tensor, init_ring, write_ring
from coadtr.keras.streaming import Streaming

__all__ = ["CoDelay", "DelayState"]


class DelayState(NamedTuple):
    """What a delay of k frames remembers.

    Attributes:
        buffer: ``(B, k, ...)``, the last k frames in slot order.
        frames: ``(B,) int32``, frames seen by each stream.
    """

    buffer: Tensor
    frames: Tensor


@keras.saving.register_keras_serializable(package="coadtr")
class CoDelay(Streaming, keras.layers.Layer):  # type: ignore[misc]
    """Answer with the frame k steps before.

    ::

        call(clip)        (B, T, ...) unchanged: a clip has no past
        call_step(frame)  (B, ...): the frame k steps before; in the first k steps zeros ("mask") or None ("none")

    Args:
        delay: Steps k.
        call_mode: What calling the layer does: ``"regular"`` (a clip), ``"steps"`` or ``"step"``.
        warmup: ``"mask"`` or ``"none"``.
        save_state: Save the held state with the weights.
        **kwargs: What Keras layers take (``name``, ``dtype``, ...).

    Raises:
        ConfigError: If the delay is negative.

    Example:
        >>> import keras, numpy as np
        >>> delay = CoDelay(2)
        >>> steps = delay.call_steps(np.arange(4, dtype="float32").reshape(1, 4, 1))
        >>> keras.ops.convert_to_numpy(steps).ravel().tolist()
        [0.0, 0.0, 0.0, 1.0]
    """

    def __init__(
        self,
        delay: int,
        *,
        call_mode: Any = "regular",
        warmup: Any = "mask",
        save_state: bool = False,
        **kwargs: Any,
    ) -> None:
        require_count("CoDelay", "delay", delay, 0, " frames")
        super().__init__(**kwargs)
        self.delay = delay
        self.supports_masking = True
        self._frame_shape: tuple[int, ...] = ()
        self._set_up_streaming(call_mode, warmup, save_state)

    @property
    def warmup_steps(self) -> int:
        """First steps of a stream in which no frame is due, k."""
        return self.delay

    def get_config(self) -> dict[str, Any]:
        """Return what makes a layer of the same settings."""
        return {**super().get_config(), "delay": self.delay, **self._streaming_config()}

    def build(self, input_shape: Any) -> None:
        """Note the shape of a frame, of ``(B, T, ...)``."""
        self._frame_shape = tuple(input_shape[2:])

    def init_state(self, batch_size: int = 1) -> DelayState:
        """Return the state of ``batch_size`` streams that have seen no frame.

        Raises:
            ConfigError: If the shape of a frame is not known yet.
        """
        if not self.built:
            raise ConfigError("CoDelay does not know the shape of a frame yet; call build((None, None, ...)) first")
        frames = ops.zeros((batch_size,), dtype="int32")
        return DelayState(init_ring(batch_size, max(1, self.delay), self._frame_shape, self.compute_dtype), frames)

    def call(self, inputs: Any) -> Any:
        """Return clips ``(B, T, ...)`` as they are."""
        return inputs

    def call_step(self, inputs: Any, *, training: bool | None = None) -> Any:
        """Take in the next frame of each stream, ``(B, ...)``, and answer with the one k steps before.

        Raises:
            ShapeError: If the frames are of another number of streams than the held state.
            ConfigError: If it is called inside a compiled function, which would not see the held state change.
        """
        inputs = self._cast(inputs)
        self._build_once((inputs.shape[0], None, *inputs.shape[1:]))
        return self._advance(lambda state: self.stateless_step(inputs, state, training=training), inputs)

    def stateless_step(
        self,
        inputs: Any,
        state: DelayState,
        *,
        training: bool | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, DelayState]:
        """Take in a frame of each stream, ``(B, ...)``, and answer with the one k steps before, as a pure function.

        Raises:
            ShapeError: If the frame has another shape than those before.
        """
        inputs = self._cast(inputs)
        require_fit(inputs, "CoDelay.stateless_step", streams=state.frames.shape[0])
        if tuple(inputs.shape[1:]) != tuple(state.buffer.shape[2:]):
            raise ShapeError(f"CoDelay takes frames (B, *{tuple(state.buffer.shape[2:])}), got {tuple(inputs.shape)}")
        if not self.delay:
            return inputs, DelayState(state.buffer, state.frames + 1)
        slot = ops.reshape(state.frames % self.delay, (-1, *[1] * (len(state.buffer.shape) - 1)))
        due = ops.squeeze(ops.take_along_axis(state.buffer, slot, axis=1), axis=1)
        return due, DelayState(write_ring(state.buffer, inputs, state.frames), state.frames + 1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the input's shape."""
        return input_shape
