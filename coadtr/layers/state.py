"""What every streaming state can do: be copied, be reset row by row, be weighed.

A state is a (nested) NamedTuple of tensors whose first dimension is the stream. Modules never keep it:
it goes into ``step`` and comes out again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from coadtr.errors import ConfigError, ShapeError

__all__ = ["clone_state", "reset_rows", "state_bytes", "state_from_tensors", "state_names", "state_tensors"]

S = TypeVar("S")


def _map(function: Callable[..., Tensor], *states: Any) -> Any:
    first = states[0]
    if isinstance(first, Tensor):
        return function(*states)
    if isinstance(first, tuple):
        fields = [_map(function, *parts) for parts in zip(*states, strict=True)]
        return type(first)(*fields) if hasattr(first, "_fields") else tuple(fields)
    raise TypeError(f"a state holds tensors and tuples of them, not {type(first).__name__}")


def state_tensors(state: Any) -> Iterator[Tensor]:
    """Yield the tensors of a state, depth first.

    Args:
        state: A (nested) NamedTuple of tensors.

    Example:
        >>> import torch
        >>> [t.shape[0] for t in state_tensors((torch.zeros(2), (torch.zeros(3),)))]
        [2, 3]
    """
    if isinstance(state, Tensor):
        yield state
    else:
        for part in state:
            yield from state_tensors(part)


def state_names(state: Any) -> tuple[str, ...]:
    """Name the tensors of a state by their way through it, in the order of :func:`state_tensors`.

    Args:
        state: A (nested) NamedTuple of tensors.

    Example:
        >>> from coadtr.layers import SingleOutputAttention
        >>> state_names((SingleOutputAttention(4, 1, window=2).init_state(1),))
        ('0.keys', '0.values', '0.frames')
    """

    def walk(part: Any, way: tuple[str, ...]) -> list[str]:
        if isinstance(part, Tensor):
            return [".".join(way)]
        fields = getattr(part, "_fields", range(len(part)))
        return [name for field, inner in zip(fields, part, strict=True) for name in walk(inner, (*way, str(field)))]

    return tuple(walk(state, ()))


def state_from_tensors(tensors: Iterable[Tensor], like: S) -> S:
    """Put tensors in the order of :func:`state_tensors` back into the structure of a state.

    Args:
        tensors: As many tensors as ``like`` holds.
        like: A state with the structure wanted; its tensors are not read.

    Example:
        >>> import torch
        >>> state = (torch.zeros(1), (torch.ones(1),))
        >>> state_from_tensors(state_tensors(state), state) == state
        True
    """
    left = iter(tensors)
    built: S = _map(lambda _: next(left), like)
    return built


def clone_state(state: S) -> S:
    """Copy a state, so that a later ``step`` cannot write into it.

    Args:
        state: A (nested) NamedTuple of tensors.

    Returns:
        The same structure with storage of its own.

    Example:
        >>> import torch
        >>> a = (torch.zeros(2),)
        >>> b = clone_state(a)
        >>> _ = a[0].add_(1)
        >>> b[0].tolist()
        [0.0, 0.0]
    """
    copied: S = _map(torch.clone, state)
    return copied


def reset_rows(state: S, rows: Tensor, fresh: S) -> S:
    """Make some streams of a state fresh again and leave the others as they are.

    Args:
        state: State of B streams.
        rows: ``(B,) bool``, true where the stream starts anew.
        fresh: State of B streams, or of one, that have seen no frame.

    Returns:
        A state with storage of its own.

    Raises:
        ShapeError: If ``rows`` is not ``(B,) bool``.

    Example:
        >>> import torch
        >>> reset_rows((torch.ones(2, 3),), torch.tensor([True, False]), (torch.zeros(1, 3),))[0][:, 0].tolist()
        [0.0, 1.0]
    """
    streams = next(state_tensors(state)).shape[0]
    if rows.dtype != torch.bool or rows.shape != (streams,):
        raise ShapeError(
            f"rows must be a bool tensor of shape ({streams},), one entry per stream of the state; "
            f"got {rows.dtype} of shape {tuple(rows.shape)}"
        )

    def choose(old: Tensor, new: Tensor) -> Tensor:
        return torch.where(rows.view(-1, *[1] * (old.dim() - 1)), new, old)

    chosen: S = _map(choose, state, fresh)
    return chosen


def state_bytes(state: object) -> int:
    """Return the bytes of all tensors in a state, nested in tuples, lists and mappings as it may be.

    The state of one stream is that of ``model.init_state(1)``.

    Raises:
        ConfigError: The state holds something that is neither a tensor nor a number.

    Example:
        >>> import torch
        >>> state_bytes((torch.zeros(1, 4), [torch.zeros(1, dtype=torch.int64)], None))
        24
    """
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(state_bytes(part) for part in state.values())
    if isinstance(state, Sequence) and not isinstance(state, str | bytes):
        return sum(state_bytes(part) for part in state)
    if state is None or isinstance(state, int | float):
        return 0
    raise ConfigError(
        f"a state holds a {type(state).__name__}, whose bytes are unknown; "
        "keep state in tensors, nested in tuples, lists or mappings"
    )
