"""Which block of a model is at work, so that what it does is counted to its name."""

from __future__ import annotations

import functools
import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["OUTSIDE", "block_names", "marking_blocks"]

OUTSIDE: Final = "outside blocks"
"""Where work is counted that no part of the model does."""

_ATTENTION: Final = ("attention", "self_attention", "cross_attention")
_FEED_FORWARD: Final = "feed_forward"


def block_names(model: nn.Module) -> dict[nn.Module, str]:
    """Name the block that each module of a model belongs to.

    A module with an attention layer and a feed-forward network is an encoder block, one with cross-attention a decoder
    block. They are numbered from 1 in the order in which the model owns them, and split into their parts. Other parts
    are known by their own name, such as ``inputs`` and ``head``, or by their path where they own such blocks.

    Args:
        model: The model.

    Returns:
        A name for each module that belongs to one; the model itself has none.

    Example:
        >>> from coadtr.models import build_model, preset
        >>> sizes = {"embed_dim": 8, "num_heads": 2, "ff_dim": 8, "window": 4}
        >>> model = build_model(preset("cooadtr_b1", input_dim=6, num_classes=3, **sizes))
        >>> names = block_names(model)
        >>> names[model.inputs.embed], names[model.encoder.last.attention.in_proj], names[model.head]
        ('inputs', 'encoder 1 attention', 'head')
    """
    titles: dict[str, str] = {}
    counts = {"encoder": 0, "decoder": 0}
    for path, module in model.named_modules():
        if path and _is_block(module):
            kind = "decoder" if hasattr(module, "cross_attention") else "encoder"
            counts[kind] += 1
            titles[path] = f"{kind} {counts[kind]}"
    owners = {path[:dot] for path in titles for dot, letter in enumerate(path) if letter == "."}
    return {module: _name(path, titles, owners) for path, module in model.named_modules() if path}


def _is_block(module: nn.Module) -> bool:
    children = dict(module.named_children())
    return _FEED_FORWARD in children and any(name in children for name in _ATTENTION)


def _name(path: str, titles: dict[str, str], owners: set[str]) -> str:
    words = path.split(".")
    fronts = [".".join(words[:end]) for end in range(1, len(words) + 1)]
    front = next((front for front in fronts if front not in owners), path)
    if front not in titles:
        return front.replace(".", " ")
    part = path[len(front) + 1 :].partition(".")[0]
    if part in (*_ATTENTION, _FEED_FORWARD):
        return f"{titles[front]} {part.replace('_', '-')}"
    return f"{titles[front]} norms" if "norm" in part else titles[front]


@contextmanager
def marking_blocks(model: object, enter: Callable[[str], Callable[[], None]]) -> Iterator[None]:
    """Call ``enter`` with the name of a block whenever one of its methods begins, and what it returned at the end.

    torch's module tracker sees modules that are called; a step goes through other methods (``step``, ``attend_from``),
    so all public ones are watched.

    Args:
        model: The model; nothing is watched in a detector that is not a module.
        enter: Takes the name of a block, returns what to call when its method ends.
    """
    watched: list[tuple[nn.Module, str]] = []
    try:
        for module, name in block_names(model).items() if isinstance(model, nn.Module) else ():
            for method in _methods(module):
                setattr(module, method, _watched(getattr(module, method), name, enter))
                watched.append((module, method))
        yield
    finally:
        for module, method in watched:
            delattr(module, method)


def _methods(module: nn.Module) -> list[str]:
    """Names of the public methods that a module's own classes define."""
    own = type(module).__mro__[: type(module).__mro__.index(nn.Module)]
    found = {name: None for kind in own for name, value in vars(kind).items() if inspect.isfunction(value)}
    return [name for name in found if not name.startswith("_") and name not in vars(module)]


def _watched(method: Callable[..., Any], name: str, enter: Callable[[str], Callable[[], None]]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        leave = enter(name)
        try:
            return method(*args, **kwargs)
        finally:
            leave()

    return call
