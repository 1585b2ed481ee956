"""The stateful face of a streaming layer: it holds the state of one batch of streams, between calls.

Each layer defines ``init_state`` and ``stateless_step``, which hold nothing; what is here is built on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import ops

from coadtr.errors import ConfigError, ShapeError
from coadtr.keras.checks import is_traced, require_fit, require_frame
from coadtr.keras.ring import Tensor, reset_state

__all__ = ["CallMode", "Streaming", "Warmup"]

CallMode = Literal["regular", "steps", "step"]
Warmup = Literal["mask", "none"]

STATE_KEY = "state_"  # of a held state's arrays among a layer's saved variables


class Held:
    """What a layer holds between calls. A plain object: Keras would track, and save, what lies on the layer itself.

    Attributes:
        state: State of the streams; None before the first frame.
        steps: Steps of the warm-up that are behind them.
    """

    def __init__(self) -> None:
        self.state: Any = None
        self.steps = 0


class Streaming:
    """What all streaming layers share: three ways to be called, and the state of one batch of streams.

    ::

        layer(clip)                     call_mode "regular": a clip, no memory is read or changed
        layer.call_steps(frames)        (B, T, C): the next T frames, from the held state
        layer.call_step(frame)          (B, C): the next frame, from the held state
        layer.stateless_step(frame, state) -> (answer, state)     the same step as a pure function

    The held state is made at the first step and belongs to that number of streams. Gradients flow within a call, not
    from one call to the next. In a symbolic model a layer is its clip form, whatever its call mode.
    """

    _held: Held
    _call_mode: CallMode
    _warmup: Warmup
    _save_state: bool

    def _set_up_streaming(self, call_mode: Any, warmup: Any, save_state: bool) -> None:
        if warmup not in get_args(Warmup):
            raise ConfigError(f"warmup must be one of {', '.join(get_args(Warmup))}, got {warmup!r}")
        self._held = Held()
        self._warmup = warmup
        self._save_state = bool(save_state)
        self.call_mode = call_mode

    @property
    def call_mode(self) -> CallMode:
        """What calling the layer does: ``"regular"`` (a clip), ``"steps"`` or ``"step"``."""
        return self._call_mode

    @call_mode.setter
    def call_mode(self, value: Any) -> None:
        mode = getattr(value, "value", value)  # continual-transformers-tf has an enumeration
        if mode not in get_args(CallMode):
            raise ConfigError(f"call_mode must be one of {', '.join(get_args(CallMode))}, got {value!r}")
        self._call_mode = mode

    @property
    def warmup(self) -> Warmup:
        """``"mask"``: answered from the first frame on; ``"none"``: None until the window is full."""
        return self._warmup

    @property
    def save_state(self) -> bool:
        """Whether the held state is saved with the weights."""
        return self._save_state

    @property
    def warmup_steps(self) -> int:
        """First steps of a stream that look back on less than the layer can."""
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Answer a clip, the next frames or the next frame, as :attr:`call_mode` says."""
        if self._call_mode == "regular" or any(map(keras.utils.is_keras_tensor, (*args, *kwargs.values()))):
            return super().__call__(*args, **kwargs)  # type: ignore[misc]  # of the Keras layer that this is mixed into
        return (self.call_step if self._call_mode == "step" else self.call_steps)(*args, **kwargs)

    def init_state(self, batch_size: int = 1) -> Any:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        raise NotImplementedError

    def frames_seen(self, state: Any) -> Tensor:
        """Tell how many frames each stream has seen, ``(B,) int32``."""
        return state.frames

    def stateless_step(self, inputs: Any, state: Any, *, training: bool | None = None) -> tuple[Any, Any]:
        """Take in one frame of each stream and answer for it, as a pure function."""
        raise NotImplementedError

    def stateless_steps(self, inputs: Any, state: Any, *, training: bool | None = None) -> tuple[Any, Any]:
        """Take in T frames of each stream, ``(B, T, C)``, and answer for each: equal to T steps."""
        answers = []
        for t in range(self._count(inputs)):
            answer, state = self.stateless_step(inputs[:, t], state, training=training)
            answers.append(answer)
        return ops.stack(answers, axis=1), state

    @property
    def _channels(self) -> int | None:
        """C of the frames; None if it is not for this layer to say."""
        return None

    def _require_built(self) -> None:
        if not self.built:  # type: ignore[attr-defined]
            raise ConfigError(f"{type(self).__name__} has no weights yet: call it, or build((None, None, C)), first")

    def _frame(self, inputs: Any, streams: int | None) -> Tensor:
        """Read what a pure step takes: one frame of each stream, ``(B, C)``."""
        self._require_built()
        inputs = self._cast(inputs)
        what = f"{type(self).__name__}.stateless_step"
        require_frame(inputs, what, streams=streams, channels=self._channels)
        return inputs

    def _frames(self, inputs: Any, streams: int | None) -> Tensor:
        """Read what pure steps take: T frames of each stream, ``(B, T, C)``."""
        self._require_built()
        inputs = self._cast(inputs)
        self._count(inputs)
        require_fit(inputs, f"{type(self).__name__}.stateless_steps", streams=streams, channels=self._channels)
        return inputs

    def _count(self, inputs: Tensor) -> int:
        """Return T of ``(B, T, C)``."""
        if len(inputs.shape) < 3 or not inputs.shape[1]:
            raise ShapeError(
                f"{type(self).__name__}.call_steps takes frames of each stream, (B, T >= 1, C) with T known; "
                f"got {tuple(inputs.shape)}"
            )
        return int(inputs.shape[1])

    def _cast(self, x: Any) -> Tensor:
        """Make a tensor in the layer's compute dtype."""
        return ops.cast(ops.convert_to_tensor(x), self.compute_dtype)  # type: ignore[attr-defined]

    def call_step(self, inputs: Any, *, training: bool | None = None) -> Any:
        """Take in the next frame of each stream and answer for it.

        Args:
            inputs: ``(B, C)``.
            training: Whether dropout is on.

        Returns:
            The answer; None in the first :attr:`warmup_steps` steps if :attr:`warmup` is ``"none"``.

        Raises:
            ShapeError: If the frame is not ``(B, C)``, or of another number of streams than the held state.
            ConfigError: If it is called inside a compiled function, which would not see the held state change.
        """
        inputs = self._cast(inputs)
        require_frame(inputs, f"{type(self).__name__}.call_step")
        self._build_once((inputs.shape[0], self._build_length, *inputs.shape[1:]))
        return self._advance(lambda state: self.stateless_step(inputs, state, training=training), inputs)

    def call_steps(self, inputs: Any, *, training: bool | None = None) -> Any:
        """Take in the next T frames of each stream, ``(B, T, C)``, and answer for each.

        Returns:
            ``(B, T, ...)``; with :attr:`warmup` ``"none"`` less the steps without an answer, None if that leaves none.

        Raises:
            ShapeError: If the frames are not ``(B, T, C)``, or of another number of streams than the held state.
            ConfigError: If it is called inside a compiled function, which would not see the held state change.
        """
        inputs = self._cast(inputs)
        count = self._count(inputs)
        self._build_once(tuple(inputs.shape))
        return self._advance(lambda state: self.stateless_steps(inputs, state, training=training), inputs, count)

    @property
    def _build_length(self) -> int | None:
        return None

    def _build_once(self, shape: tuple[Any, ...]) -> None:
        """Make the weights if a step comes before the first clip."""
        if not self.built:  # type: ignore[attr-defined]
            self.build(shape)  # type: ignore[attr-defined]

    def _advance(
        self, step: Callable[[Any], tuple[Any, Any]], inputs: Tensor, count: int | None = None, *, axes: Any = None
    ) -> Any:
        """Run a step, or steps, from the held state, keep the state after it, and leave out what has no answer yet.

        Args:
            step: From a state to answers and the state after them.
            inputs: ``(B, ...)``, to know the number of streams.
            count: Steps T of answers that have an axis of steps; None of one answer.
            axes: That axis of each answer; 1 if not given.
        """
        self._require_eager([inputs])
        streams = int(inputs.shape[0])
        before = self.init_state(streams) if self._held.state is None else self._held.state
        held = int(self.frames_seen(before).shape[0])
        if held != streams:
            raise ShapeError(
                f"{type(self).__name__} holds the state of {held} streams and got frames of {streams}; "
                "call clean_state() before other streams"
            )
        answers, after = step(before)
        self._require_eager(keras.tree.flatten(after))
        self._held.state = keras.tree.map_structure(ops.stop_gradient, after)
        silent = max(self.warmup_steps - self._held.steps, 0)
        self._held.steps += count or 1
        return answers if self._warmup == "mask" else self._due(answers, silent, count, axes)

    def _require_eager(self, values: list[Any]) -> None:
        if any(is_traced(value) for value in values):
            raise ConfigError(
                f"{type(self).__name__} keeps its state outside of compiled functions; "
                "use stateless_step(inputs, state) there"
            )

    def _due(self, answers: Any, silent: int, count: int | None, axes: Any) -> Any:
        """Leave out the answers of the warm-up; None if that leaves none."""
        several = isinstance(answers, tuple)
        if silent >= (count or 1):
            return (None,) * len(answers) if several else None
        if not silent:
            return answers
        parts = answers if several else (answers,)
        kept = tuple(
            part[(slice(None),) * axis + (slice(silent, None),)]
            for part, axis in zip(parts, axes or (1,) * len(parts), strict=True)
        )
        return kept if several else kept[0]

    def clean_state(self) -> None:
        """Forget the held streams; the next frame is the first of each, and sets their number."""
        self._held.state, self._held.steps = None, 0

    def get_state(self) -> Any:
        """Return the held state, which later steps leave as it is; None before the first frame."""
        return self._held.state

    def set_state(self, state: Any) -> None:
        """Go on from a state that :meth:`get_state`, :meth:`init_state` or :meth:`stateless_step` returned.

        Its arrays may be NumPy's, as a file gives them, in the same order.

        Raises:
            ShapeError: If it is the state of another layer.
        """
        if state is None:
            self.clean_state()
            return
        like = self.init_state(1)
        fresh = keras.tree.flatten(like)
        leaves = [ops.convert_to_tensor(leaf) for leaf in keras.tree.flatten(state)]
        wanted, found = [_of_a_stream(leaf) for leaf in fresh], [_of_a_stream(leaf) for leaf in leaves]
        if found != wanted or len({int(leaf.shape[0]) for leaf in leaves}) != 1:
            raise ShapeError(
                f"{type(self).__name__} takes a state of arrays {', '.join(wanted)} for each stream, got "
                f"{', '.join(found)}; give one of a layer with the same settings"
            )
        cast = [ops.cast(leaf, new.dtype) for leaf, new in zip(leaves, fresh, strict=True)]
        self._held.state = keras.tree.pack_sequence_as(like, cast)
        self._held.steps = int(ops.max(self.frames_seen(self._held.state)))

    def reset_rows(self, rows: Any) -> None:
        """Begin the held streams where ``rows`` ``(B,) bool`` is true anew; the others go on.

        Raises:
            ShapeError: If there is not one entry for each held stream.
        """
        if self._held.state is not None:
            self._held.state = self.reset_state_rows(self._held.state, rows)

    def reset_state_rows(self, state: Any, rows: Any) -> Any:
        """Return a state in which the streams where ``rows`` ``(B,) bool`` is true are fresh, as a pure function.

        Raises:
            ShapeError: If there is not one entry for each stream.
        """
        rows = ops.convert_to_tensor(rows)
        streams = self.frames_seen(state).shape[0]
        if (
            keras.backend.standardize_dtype(rows.dtype) != "bool"
            or len(rows.shape) != 1
            or (None not in (streams, rows.shape[0]) and rows.shape[0] != streams)
        ):
            raise ShapeError(
                f"rows must be one bool for each of the {streams} streams, got "
                f"{keras.backend.standardize_dtype(rows.dtype)} of shape {tuple(rows.shape)}"
            )
        return reset_state(state, self.init_state(1), rows)

    def _streaming_config(self) -> dict[str, Any]:
        return {"call_mode": self._call_mode, "warmup": self._warmup, "save_state": self._save_state}

    def save_own_variables(self, store: Any) -> None:
        """Write the layer's weights, and the held state if :attr:`save_state` asks for it."""
        super().save_own_variables(store)  # type: ignore[misc]
        if self._save_state and self._held.state is not None:
            for index, leaf in enumerate(keras.tree.flatten(self._held.state)):
                plain = leaf if keras.backend.is_int_dtype(leaf.dtype) else ops.cast(leaf, "float32")
                store[f"{STATE_KEY}{index}"] = ops.convert_to_numpy(plain)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Read what :meth:`save_own_variables` wrote."""
        saved = {key: store[key] for key in store.keys()}  # noqa: SIM118 (an HDF5 group is no mapping)
        leaves = [saved.pop(key) for key in sorted(saved, key=_state_index) if key.startswith(STATE_KEY)]
        super().load_own_variables(saved)  # type: ignore[misc]
        if leaves:
            self.set_state([np.asarray(leaf[...]) for leaf in leaves])


def _of_a_stream(leaf: Tensor) -> str:
    """Describe what an array holds of one stream."""
    kind = "whole numbers" if keras.backend.is_int_dtype(leaf.dtype) else "numbers"
    return f"{tuple(leaf.shape[1:])} of {kind}" if len(leaf.shape) else "a number"


def _state_index(key: str) -> int:
    return int(key.removeprefix(STATE_KEY)) if key.startswith(STATE_KEY) else -1
