"""A streaming step compiled by what each backend has for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from coadtr.errors import ConfigError

__all__ = ["compile_step"]


def compile_step(layer: Any, **options: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Compile a layer's or model's ``stateless_step`` with what the backend has for it.

    That is ``tf.function``, ``jax.jit`` or ``torch.compile``. Weights that change later are seen by the compiled step.
    With JAX the state's storage is reused: keep no state that was given to it, nor one that a layer holds.

    Args:
        layer: A built layer or model of `coadtr.keras`.
        options: For the backend's compiler, as ``jit_compile=True`` for ``tf.function``.

    Returns:
        ``step(inputs, state) -> (answer, state)``, in inference mode.

    Raises:
        ConfigError: If the layer has no weights yet.

    Example:
        >>> import numpy as np
        >>> from coadtr.keras import CoDelay
        >>> layer = CoDelay(2)
        >>> layer.build((1, None, 3))
        >>> step, state = compile_step(layer), layer.init_state(1)
        >>> for t in range(4):
        ...     answer, state = step(np.full((1, 3), t, "float32"), state)
        >>> ops.convert_to_numpy(answer).tolist()
        [[1.0, 1.0, 1.0]]
    """
    if not layer.built:
        raise ConfigError(f"{type(layer).__name__} has no weights yet: call it, or build((None, None, C)), first")
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415

        compiled: Callable[[Any, Any], tuple[Any, Any]] = tf.function(
            lambda inputs, state: layer.stateless_step(inputs, state, training=False), **options
        )
        return lambda inputs, state: compiled(_tensors(inputs), state)
    if backend == "jax":
        return _compile_jax(layer, options)
    import torch  # noqa: PLC0415

    @torch.no_grad()
    def step(inputs: Any, state: Any) -> tuple[Any, Any]:
        answered: tuple[Any, Any] = layer.stateless_step(inputs, state, training=False)
        return answered

    program = torch.compile(step, **options)
    return lambda inputs, state: program(_tensors(inputs), state)


def _tensors(inputs: Any) -> Any:
    return keras.tree.map_structure(ops.convert_to_tensor, inputs)


def _compile_jax(layer: Any, options: dict[str, Any]) -> Callable[[Any, Any], tuple[Any, Any]]:
    import jax  # noqa: PLC0415

    variables = layer.variables

    def step(values: list[Any], inputs: Any, state: Any) -> tuple[Any, Any]:
        # The weights come in as arguments: as constants they would be compiled in, and stay as they were.
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            answered: tuple[Any, Any] = layer.stateless_step(inputs, state, training=False)
        return answered

    program = jax.jit(step, donate_argnums=(2,), **options)
    return lambda inputs, state: program([variable.value for variable in variables], _tensors(inputs), state)
