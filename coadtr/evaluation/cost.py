"""Cost of one step, measured on the code path that makes the scores: arithmetic, memory and time."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from coadtr.errors import ConfigError
from coadtr.evaluation.replay import answering, placement
from coadtr.layers import state_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coadtr.types import Detector

__all__ = ["Cost", "Latency", "macs_per_step", "measure_cost", "parameters", "state_bytes", "step_latency"]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Wall time of one step at batch 1, in milliseconds.

    Attributes:
        p50: Median.
        p95: 95th percentile.
        p99: 99th percentile.
        mean: Mean.
        steps: Steps timed, after warm-up.
    """

    p50: float
    p95: float
    p99: float
    mean: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of a detector, per stream and frame.

    Attributes:
        parameters: Number of parameters.
        macs_per_frame: Multiply-accumulates of one step as executed, see `macs_per_step`.
        state_bytes_per_stream: Bytes that one stream keeps between frames.
        step_latency_ms: Wall time of one step at batch 1.
        threads: Threads that torch computed with.
        device: Device of the model.
        dtype: Dtype of the frames and parameters.
    """

    parameters: int
    macs_per_frame: int
    state_bytes_per_stream: int
    step_latency_ms: Latency
    threads: int
    device: str
    dtype: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def measure_cost(
    model: Detector[Any],
    *,
    counted: Detector[Any] | None = None,
    warmup: int = 20,
    steps: int = 200,
    threads: int | None = None,
) -> Cost:
    """Measure all that a report says of the cost of a model.

    Args:
        model: A detector.
        counted: The same detector as plain modules, where ``model`` is compiled or quantised and its products cannot be
            seen: the parameters and multiply-accumulates are counted on it.
        warmup: Steps run and not timed, on top of those that fill the window.
        steps: Steps timed, at least 1.
        threads: Threads for torch while timing; as set now if None.

    Returns:
        The cost.

    Raises:
        ConfigError: ``warmup`` is negative, or ``steps`` or ``threads`` is below 1.
    """
    device, dtype = placement(model)
    latency = step_latency(model, warmup=warmup, steps=steps, threads=threads)
    with answering(model):
        fresh = model.init_state(1)
    return Cost(
        parameters=parameters(counted or model),
        macs_per_frame=macs_per_step(counted or model),
        state_bytes_per_stream=state_bytes(fresh),
        step_latency_ms=latency,
        threads=torch.get_num_threads() if threads is None else threads,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
    )


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
    """
    stream = _Stream(model)
    stream.warm(0)
    with (
        answering(model),
        _detached(model),
        _unfused(),
        FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS) as counter,
    ):
        stream.step()
    return int(counter.get_total_flops()) // 2


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


def step_latency(model: Detector[Any], *, warmup: int = 20, steps: int = 200, threads: int | None = None) -> Latency:
    """Time single steps at batch 1, once the window is full.

    The clock runs from the frame on the model's device to its logits there; a GPU is waited for on both
    sides.

    Args:
        model: A detector.
        warmup: Steps run and not timed, on top of those that fill the window.
        steps: Steps timed, at least 1.
        threads: Threads for torch while timing; as set now if None. Put back afterwards.

    Returns:
        Percentiles and mean, in milliseconds.

    Raises:
        ConfigError: ``warmup`` is negative, or ``steps`` or ``threads`` is below 1.
    """
    if steps < 1 or warmup < 0 or (threads is not None and threads < 1):
        raise ConfigError(
            f"steps={steps}, warmup={warmup}, threads={threads}; "
            "time at least 1 step, with warmup >= 0 and threads >= 1 (or None)"
        )
    stream = _Stream(model)
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        stream.warm(warmup)
        times = np.empty(steps)
        with answering(model):
            for index in range(steps):
                stream.wait()
                start = time.perf_counter_ns()
                stream.step()
                stream.wait()
                times[index] = (time.perf_counter_ns() - start) / 1e6
    finally:
        torch.set_num_threads(before)
    p50, p95, p99 = (float(value) for value in np.percentile(times, [50, 95, 99]))
    return Latency(p50=p50, p95=p95, p99=p99, mean=float(times.mean()), steps=steps)


class _Stream:
    """One stream of random frames, on the model's device."""

    def __init__(self, model: Detector[Any]) -> None:
        self.model = model
        self.device, dtype = placement(model)
        dtype = getattr(model, "input_dtype", dtype)
        # A generator of its own: measuring must not move the global one.
        source = torch.Generator().manual_seed(0)
        self.frame = torch.randn(1, model.input_dim, generator=source).to(self.device, dtype)
        with answering(model):
            self.state = model.init_state(1)

    def step(self) -> None:
        _, self.state = self.model.step(self.frame, self.state)

    def warm(self, extra: int) -> None:
        with answering(self.model):
            for _ in range(self.model.window + extra):
                self.step()
            self.wait()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


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
