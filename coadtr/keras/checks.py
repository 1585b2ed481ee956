"""What the Keras layers check of settings and inputs."""

from __future__ import annotations

from typing import Any

import keras

from coadtr.errors import ConfigError, ShapeError
from coadtr.keras.ring import Tensor

__all__ = ["is_traced", "require_count", "require_fit", "require_frame"]


def require_count(owner: str, name: str, value: object, least: int, unit: str = "") -> None:
    """Check that a setting is a whole number of at least ``least``.

    Raises:
        ConfigError: If it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{owner}: {name} must be a whole number of at least {least}{unit}, got {value!r}")


def require_frame(x: Tensor, what: str, *, streams: int | None = None, channels: int | None = None) -> None:
    """Check that ``x`` is one frame for each stream of a state, ``(B, C)``.

    Raises:
        ShapeError: If it is not.
    """
    if len(x.shape) != 2:
        raise ShapeError(
            f"{what} takes one frame per stream, (B, C); got {tuple(x.shape)}: use call_steps for (B, T, C)"
        )
    require_fit(x, what, streams=streams, channels=channels)


def require_fit(x: Tensor, what: str, *, streams: int | None = None, channels: int | None = None) -> None:
    """Check the first and the last axis of ``(B, ..., C)``.

    Raises:
        ShapeError: If they are of another state or layer.
    """
    if channels is not None and x.shape[-1] != channels:
        raise ShapeError(f"{what} takes {channels} channels, got {tuple(x.shape)}; build another layer for others")
    if streams is not None and x.shape[0] is not None and x.shape[0] != streams:
        raise ShapeError(
            f"{what} got frames of {x.shape[0]} streams with a state of {streams}; "
            "call clean_state() before other streams, or give a state of as many"
        )


def is_traced(x: Any) -> bool:
    """Tell whether a value stands for others, in a graph that is being made."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415

        return not tf.executing_eagerly()
    if keras.config.backend() == "jax":
        import jax  # noqa: PLC0415

        return isinstance(x, jax.core.Tracer)
    return False
