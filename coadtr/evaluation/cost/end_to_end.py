"""Time from raw input to logits, where features are made on the way."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.errors import ConfigError, ShapeError
from coadtr.evaluation.answering import answering
from coadtr.evaluation.cost.latency import Latency, summarise_times
from coadtr.evaluation.cost.streams import RandomStreams, check_timing, computing_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coadtr.types import Detector

__all__ = ["end_to_end_latency"]

_OWN: Final = ("step", "total")


def end_to_end_latency(
    model: Detector[Any],
    raw: Callable[[], Any],
    stages: Mapping[str, Callable[[Any], Any]],
    *,
    warmup: int = 20,
    steps: int = 200,
    threads: int | None = None,
) -> dict[str, Latency]:
    """Time the way from raw input to logits at batch 1, whole and by its parts, on the same runs.

    ::

        raw() -> | first stage -> ... -> last stage -> step | -> logits
                 ^ the clock starts                         ^ and stops

    The clock is read between the parts as well, once the model's device is done. In each run the parts add up to the
    total; their percentiles need not. The window is full when the first run starts.

    Args:
        model: A detector.
        raw: Makes the raw input of one run, outside the time that is taken.
        stages: What makes features of it, by name and in order. Each takes what the one before it returned, the last
            returns features ``(1, D)``.
        warmup: Runs that are not timed.
        steps: Runs that are timed, at least 1.
        threads: Threads for torch while timing; as set now if None. Put back afterwards.

    Returns:
        For each stage by name, for ``step`` (features to the model's device and dtype, and the step) and for ``total``:
        percentiles and mean, in milliseconds.

    Raises:
        ConfigError: ``warmup`` is negative, ``steps`` or ``threads`` is below 1, or a stage is named step or total.
        ShapeError: The features are not ``(1, D)`` with the model's D.

    Example:
        >>> from coadtr.models import build_model, preset
        >>> sizes = {"embed_dim": 8, "num_heads": 2, "ff_dim": 8, "window": 4}
        >>> model = build_model(preset("cooadtr_b1", input_dim=6, num_classes=3, **sizes))
        >>> import torch
        >>> picture = torch.zeros(3, 2, dtype=torch.uint8)
        >>> list(end_to_end_latency(model, lambda: picture, {"scale": lambda x: x.float().view(1, 6)}, steps=5))
        ['scale', 'step', 'total']
    """
    check_timing(warmup=warmup, steps=steps, threads=threads)
    if taken := [name for name in stages if name in _OWN]:
        raise ConfigError(f"a stage is named {taken[0]!r}, which is the name of a part already; name it otherwise")
    stream = RandomStreams(model)
    times = np.empty((warmup + steps, len(stages) + 2))
    with computing_threads(threads):
        stream.warm(0)
        with answering(model):
            for run in range(warmup + steps):
                times[run] = _one_run(stream, raw(), stages)
    return {name: summarise_times(column) for name, column in zip((*stages, *_OWN), times[warmup:].T, strict=True)}


def _one_run(stream: RandomStreams, value: Any, stages: Mapping[str, Callable[[Any], Any]]) -> list[float]:
    """Return milliseconds of each stage, of the step, and of all together."""
    stream.wait()
    read = [time.perf_counter_ns()]
    for stage in stages.values():
        value = stage(value)
        stream.wait()
        read.append(time.perf_counter_ns())
    if value.shape != stream.frame.shape:
        raise ShapeError(
            f"the stages make features {tuple(value.shape)}, the model takes {tuple(stream.frame.shape)}; "
            "give a model of the features' width"
        )
    stream.step(value.to(stream.frame))
    stream.wait()
    read.append(time.perf_counter_ns())
    parts = [(after - before) / 1e6 for before, after in pairwise(read)]
    return [*parts, (read[-1] - read[0]) / 1e6]
