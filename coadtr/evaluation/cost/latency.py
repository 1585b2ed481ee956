"""How soon an answer comes: wall time of single steps at batch 1."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.evaluation.answering import answering
from coadtr.evaluation.cost.streams import RandomStreams, check_timing, computing_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coadtr.types import Detector

__all__ = ["Latency", "step_latency", "summarise_times"]


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

    Example:
        >>> from coadtr.models import build_model, preset
        >>> sizes = {"embed_dim": 8, "num_heads": 2, "ff_dim": 8, "window": 4}
        >>> model = build_model(preset("cooadtr_b1", input_dim=6, num_classes=3, **sizes))
        >>> step_latency(model, steps=10).steps
        10
    """
    check_timing(warmup=warmup, steps=steps, threads=threads)
    stream = RandomStreams(model)
    times = np.empty(steps)
    with computing_threads(threads):
        stream.warm(warmup)
        with answering(model):
            for index in range(steps):
                stream.wait()
                start = time.perf_counter_ns()
                stream.step()
                stream.wait()
                times[index] = (time.perf_counter_ns() - start) / 1e6
    return summarise_times(times)


def summarise_times(times: NDArray[np.float64]) -> Latency:
    """Summarise times of single runs, in milliseconds; percentiles between two of them are interpolated.

    Example:
        >>> summarise_times(np.arange(1.0, 102.0))
        Latency(p50=51.0, p95=96.0, p99=100.0, mean=51.0, steps=101)
    """
    p50, p95, p99 = (float(value) for value in np.percentile(times, [50, 95, 99]))
    return Latency(p50=p50, p95=p95, p99=p99, mean=float(times.mean()), steps=len(times))
