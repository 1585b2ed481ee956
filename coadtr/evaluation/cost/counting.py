"""Multiply-accumulates as executed: what torch's dispatcher sees in one step, in all and by block."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from coadtr.evaluation.answering import answering
from coadtr.evaluation.cost.blocks import OUTSIDE, marking_blocks
from coadtr.evaluation.cost.streams import RandomStreams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coadtr.types import Detector

__all__ = ["macs_by_block", "macs_per_step", "parameters"]


def parameters(model: object) -> int:
    """Count the parameters of a model, shared ones once; 0 for a detector that is not a module.

    Example:
        >>> parameters(nn.Linear(3, 2))
        8
    """
    return sum(parameter.numel() for parameter in model.parameters()) if isinstance(model, nn.Module) else 0


def macs_per_step(model: Detector[Any]) -> int:
    """Count the multiply-accumulates that one step executes, at batch 1 with a full window.

    Half the FLOPs that torch's dispatcher sees: matrix and vector products of every kind (linear, einsum,
    matmul, attention, recurrent layers) and convolutions. Elementwise work (activations, norms, softmax,
    positions, and sums of elementwise products) is not counted, as usual in the field. Attention and encoder
    layers run unfused while counting: their fused kernels hide the products.

    Args:
        model: A detector.

    Returns:
        Multiply-accumulates of one step.

    Example:
        >>> from coadtr.models import build_model, preset
        >>> sizes = {"embed_dim": 8, "num_heads": 2, "ff_dim": 8, "window": 4}
        >>> macs_per_step(build_model(preset("cooadtr_b1", input_dim=6, num_classes=3, **sizes)))
        520
    """
    return sum(macs_by_block(model).values())


def macs_by_block(model: Detector[Any]) -> dict[str, int]:
    """Count the multiply-accumulates that one step executes, by block; together they are `macs_per_step`.

    A product is counted to the innermost part of the model whose method runs. Encoder and decoder blocks are split into
    attention and feed-forward network; other parts go by their own name.

    Args:
        model: A detector.

    Returns:
        Multiply-accumulates of one step by name of the block, in the order in which the blocks first compute; those
        that compute no products are left out. ``outside blocks`` holds what the step does by itself, if anything.

    Example:
        >>> from coadtr.models import build_model, preset
        >>> sizes = {"embed_dim": 8, "num_heads": 2, "ff_dim": 8, "window": 4}
        >>> macs_by_block(build_model(preset("cooadtr_b1", input_dim=6, num_classes=3, **sizes)))
        {'inputs': 48, 'encoder 1 attention': 320, 'encoder 1 feed-forward': 128, 'head': 24}
    """
    stream = RandomStreams(model)
    stream.warm(0)
    counter = FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS)
    marks = _Marks(counter)
    with answering(model), _detached(model), _unfused(), marking_blocks(model, marks.enter), counter:
        marks.begin()
        stream.step()
    return marks.macs()


class _Marks:
    """The block at work, as one more name among the modules that the counter counts to."""

    def __init__(self, counter: FlopCounterMode) -> None:
        self._counter = counter
        self._now = _mark(OUTSIDE)

    def begin(self) -> None:
        self._counter.mod_tracker.parents.add(self._now)

    def enter(self, name: str) -> Callable[[], None]:
        """Count to a block, and to no other, until what is returned is called: no product counts twice."""
        outer = self._now
        self._go(_mark(name))
        return lambda: self._go(outer)

    def _go(self, mark: str) -> None:
        parents = self._counter.mod_tracker.parents
        parents.discard(self._now)
        parents.add(mark)
        self._now = mark

    def macs(self) -> dict[str, int]:
        counts = {name: sum(flops.values()) // 2 for name, flops in self._counter.get_flop_counts().items()}
        return {name.removeprefix(_MARK): macs for name, macs in counts.items() if macs and name.startswith(_MARK)}


_MARK = "block: "  # no name of a module holds a space


def _mark(name: str) -> str:
    return f"{_MARK}{name}"


@contextmanager
def _detached(model: Detector[Any]) -> Iterator[None]:
    """Let no parameter ask for gradients: the counter hooks on to those that do, and fails on views of them."""
    asking = [part for part in model.parameters() if part.requires_grad] if isinstance(model, nn.Module) else []
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def _vector_flops(matrix: int) -> Callable[..., int]:
    def flops(*shapes: Any, **_: Any) -> int:
        # Matrix-vector and vector-vector products: one multiply-accumulate per entry of the first factor.
        return 2 * int(np.prod(shapes[matrix]))

    return flops


def _recurrent_flops(frames: Any, *weights: Any, **_: Any) -> int:
    # oneDNN takes the two weight matrices of a layer one by one, cuDNN those of all layers as a list.
    shapes = weights[0] if isinstance(weights[0], list) else weights[:2]
    return 2 * int(np.prod(frames[:-1])) * sum(int(np.prod(shape)) for shape in shapes if len(shape) == 2)


# Products that torch's counter does not know: it has matrix-matrix ones only, and no fused recurrent layers.
_MORE_FLOPS: dict[Any, Any] = {
    torch.ops.aten.mv: _vector_flops(0),
    torch.ops.aten.addmv: _vector_flops(1),
    torch.ops.aten.dot: _vector_flops(0),
    torch.ops.aten.mkldnn_rnn_layer: _recurrent_flops,
    torch.ops.aten._cudnn_rnn: _recurrent_flops,
}


@contextmanager
def _unfused() -> Iterator[None]:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
