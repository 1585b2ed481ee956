"""What is pushed, checked and joined: the same checks, in the same words, as the native detector's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from coadtr.errors import DataError, ShapeError
from coadtr.runtime.description import describe_streams

if TYPE_CHECKING:
    from coadtr.runtime.description import Description

__all__ = ["Frames", "FramesReader", "Values", "all_finite"]

Values: TypeAlias = "NDArray[Any] | Sequence[Any]"
Frames: TypeAlias = "Values | Mapping[str, Values]"

_SHAPES: Final = {1: "(D,)", 2: "(T, D)"}
_FLOAT: Final = np.dtype(np.float32)


def all_finite(values: NDArray[np.float32]) -> bool:
    """Whether all of some float32 values are finite.

    Example:
        >>> all_finite(np.float32([1, 3e38])), all_finite(np.float32([1, np.inf]))
        (True, False)
    """
    # The sum of squares, in one pass without an array of flags, is finite if they are, or too large to say.
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())


class FramesReader:
    """Turn frames of any kind into float32 ``(D,)`` or ``(T, D)`` in C order.

    Args:
        description: Its feature streams say what a frame is.

    Example:
        >>> from coadtr.runtime import Description
        >>> reader = FramesReader(Description(
        ...     class_names=("rest", "lift"), background=0, ignored=None, streams={"rgb": 2, "flow": 1}, rate_hz=5.0,
        ...     head="softmax", state=(), source={"weights_sha256": "ab12"},
        ... ))
        >>> reader.read({"flow": [3], "rgb": [1, 2]}, 1, "push")
        array([1., 2., 3.], dtype=float32)
    """

    def __init__(self, description: Description) -> None:
        self._streams = dict(description.streams)
        self._width = description.input_dim

    def read(self, frames: Frames, ndim: int, what: str) -> NDArray[np.float32]:
        """Check kind and shape; whether the values are finite is the caller's question.

        Args:
            frames: ``(D,)`` or ``(T, D)``, or a mapping from the name of each feature stream to its part.
            ndim: 1 for a frame, 2 for several.
            what: Name of the method, for the message.

        Returns:
            The frames; the very array that was given, where it needs no change.

        Raises:
            ShapeError: If they are not D channels wide.
            DataError: If they hold something that is not a real number, lack a feature stream or have an unknown one.
        """
        # Asked of the class first: whether an array is a mapping takes longer to find out than a small step.
        if not isinstance(frames, np.ndarray) and isinstance(frames, Mapping):
            return self._join(frames, ndim, what)
        values = _numbers(frames, "frame")
        if values.ndim != ndim or values.shape[-1] != self._width:
            raise ShapeError(
                f"{what} takes {_SHAPES[ndim]} with D = {self._width} ({describe_streams(self._streams)}), "
                f"got {values.shape}"
            )
        return values

    def _join(self, frames: Mapping[str, Values], ndim: int, what: str) -> NDArray[np.float32]:
        streams = self._streams
        if set(frames) != set(streams):
            raise DataError(f"{what} got the streams {', '.join(map(str, frames))}; give {describe_streams(streams)}")
        parts = [_numbers(frames[name], f"stream {name!r}") for name in streams]
        for part, (name, channels) in zip(parts, streams.items(), strict=True):
            if part.ndim != ndim or part.shape[-1] != channels:
                raise ShapeError(f"{what}: stream {name!r} is {part.shape}; give {_SHAPES[ndim]} with D = {channels}")
        if len({part.shape[:-1] for part in parts}) > 1:
            counts = ", ".join(f"{name} {len(part)}" for name, part in zip(streams, parts, strict=True))
            raise ShapeError(f"{what}: the streams have different numbers of frames ({counts}); give as many of each")
        return np.concatenate(parts, axis=-1)


def _numbers(values: Values, what: str) -> NDArray[np.float32]:
    try:
        given = np.asarray(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(f"{what} holds something that is not a number ({error}); give numbers") from error
    if given.dtype.kind == "c":
        raise DataError(f"{what} holds complex numbers; give real ones")
    if given.dtype.kind not in "fiub":
        raise DataError(f"{what} holds something that is not a number (of type {given.dtype}); give numbers")
    if given.dtype != _FLOAT:
        with np.errstate(over="ignore"):  # beyond float32 is not finite, which the caller finds
            given = given.astype(_FLOAT)
    # Not for a number alone, which this would make a vector of one.
    return given if given.flags.c_contiguous else np.ascontiguousarray(given)
