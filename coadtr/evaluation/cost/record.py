"""All that a report says of the cost of a model, measured at one go."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from coadtr.evaluation.answering import answering, placement
from coadtr.evaluation.cost.batched import Throughput, check_streams, throughput
from coadtr.evaluation.cost.counting import macs_by_block, parameters
from coadtr.evaluation.cost.latency import Latency, step_latency
from coadtr.evaluation.cost.memory import peak_memory_bytes, weights_bytes
from coadtr.layers import state_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coadtr.types import Detector

__all__ = ["Cost", "measure_cost"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of a detector, per stream and frame.

    Attributes:
        parameters: Number of parameters.
        macs_per_frame: Multiply-accumulates of one step as executed, see `macs_per_step`.
        macs_by_block: The same by block, see `macs_by_block`.
        weights_bytes: Bytes of the weights as they run, see `weights_bytes`.
        state_bytes_per_stream: Bytes that one stream keeps between frames.
        peak_memory_bytes: Most memory that the process held at one time, see `peak_memory_bytes`; None if unknown.
        step_latency_ms: Wall time of one step at batch 1; None if not timed.
        throughput: Frames a second of several streams that step together, see `throughput`; empty if not measured.
        threads: Threads that torch computed with.
        device: Device of the model.
        dtype: Dtype of the frames and parameters.
    """

    parameters: int
    macs_per_frame: int
    macs_by_block: dict[str, int]
    weights_bytes: int
    state_bytes_per_stream: int
    peak_memory_bytes: int | None
    step_latency_ms: Latency | None
    throughput: tuple[Throughput, ...]
    threads: int
    device: str
    dtype: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {**asdict(self), "throughput": [asdict(found) for found in self.throughput]}


def measure_cost(
    model: Detector[Any],
    *,
    counted: Detector[Any] | None = None,
    warmup: int = 20,
    steps: int = 200,
    threads: int | None = None,
    streams: Sequence[int] = (),
) -> Cost:
    """Measure all that a report says of the cost of a model.

    Args:
        model: A detector.
        counted: The same detector as plain modules, where ``model`` is compiled or quantised and its products cannot be
            seen: the parameters and multiply-accumulates are counted on it.
        warmup: Steps run and not timed, on top of those that fill the window.
        steps: Steps timed; 0 measures neither latency nor peak memory, which differ from run to run.
        threads: Threads for torch while timing; as set now if None.
        streams: Numbers of streams whose throughput is measured; none by default.

    Returns:
        The cost.

    Raises:
        ConfigError: ``warmup`` is negative, ``steps`` below 0, or ``threads`` or one of ``streams`` below 1.

    Example:
        >>> from coadtr.models import build_model, preset
        >>> sizes = {"embed_dim": 8, "num_heads": 2, "ff_dim": 8, "window": 4}
        >>> model = build_model(preset("cooadtr_b1", input_dim=6, num_classes=3, **sizes))
        >>> cost = measure_cost(model, warmup=0, steps=5)
        >>> cost.macs_per_frame, cost.state_bytes_per_stream
        (520, 264)
    """
    check_streams(streams)
    device, dtype = placement(model)
    latency = step_latency(model, warmup=warmup, steps=steps, threads=threads) if steps else None
    together = throughput(model, streams=streams, warmup=warmup, threads=threads) if streams else ()
    with answering(model):
        fresh = model.init_state(1)
    by_block = macs_by_block(counted or model)
    return Cost(
        parameters=parameters(counted or model),
        macs_per_frame=sum(by_block.values()),
        macs_by_block=by_block,
        weights_bytes=weights_bytes(model),
        state_bytes_per_stream=state_bytes(fresh),
        peak_memory_bytes=peak_memory_bytes(device) if steps else None,
        step_latency_ms=latency,
        throughput=together,
        threads=torch.get_num_threads() if threads is None else threads,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
    )
