"""How many streams a machine carries: frames a second of B streams that step together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError
from coadtr.evaluation.answering import answering
from coadtr.evaluation.cost.streams import RandomStreams, check_timing, computing_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coadtr.types import Detector

__all__ = ["Spread", "Throughput", "check_streams", "throughput"]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A value that was measured in several rounds.

    Attributes:
        median: Median of the rounds.
        low: Lowest round.
        high: Highest round.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Frames a second of all streams together, one batched step after the other.

    Attributes:
        streams: Streams B that step together.
        frames_per_second: Frames of all B streams, a second.
    """

    streams: int
    frames_per_second: Spread


def throughput(
    model: Detector[Any],
    *,
    streams: Sequence[int] = (1, 8, 64),
    warmup: int = 20,
    steps: int = 50,
    rounds: int = 5,
    threads: int | None = None,
) -> tuple[Throughput, ...]:
    """Time batched steps of several streams at once, with full windows.

    ::

        frames a second = B steps / seconds of the round

    A round runs ``steps`` steps without waiting for a GPU between them, and waits at its end. The numbers of streams
    take turns, so that a machine that slows down meets all of them. This is not the inverse of the latency: frames of
    B streams share each pass over the weights, and none is answered before its step is done.

    Args:
        model: A detector.
        streams: Numbers of streams B, each at least 1.
        warmup: Steps run and not timed, on top of those that fill the window.
        steps: Steps in a round, at least 1.
        rounds: Rounds, at least 1.
        threads: Threads for torch while timing; as set now if None. Put back afterwards.

    Returns:
        One value for each number of streams, in the order given: median, lowest and highest round.

    Raises:
        ConfigError: ``warmup`` is negative, or another number is below 1.

    Example:
        >>> from coadtr.models import build_model, preset
        >>> sizes = {"embed_dim": 8, "num_heads": 2, "ff_dim": 8, "window": 4}
        >>> model = build_model(preset("cooadtr_b1", input_dim=6, num_classes=3, **sizes))
        >>> [found.streams for found in throughput(model, streams=(1, 4), steps=5, rounds=2)]
        [1, 4]
    """
    check_timing(warmup=warmup, steps=steps, threads=threads)
    check_streams(streams)
    if rounds < 1:
        raise ConfigError(f"rounds={rounds}; time at least 1 round")
    rates = np.empty((len(streams), rounds))
    with computing_threads(threads):
        running = [RandomStreams(model, count) for count in streams]
        for batch in running:
            batch.warm(warmup)
        for turn in range(rounds):
            for index, batch in enumerate(running):
                rates[index, turn] = streams[index] * steps / _seconds(model, batch, steps)
    return tuple(
        Throughput(
            streams=count,
            frames_per_second=Spread(median=float(np.median(rate)), low=float(rate.min()), high=float(rate.max())),
        )
        for count, rate in zip(streams, rates, strict=True)
    )


def check_streams(streams: Sequence[int]) -> None:
    """Refuse numbers of streams below 1.

    Raises:
        ConfigError: If there is one.

    Example:
        >>> check_streams([8, 0])
        Traceback (most recent call last):
        coadtr.errors.ConfigError: streams=[8, 0]; give numbers of streams of 1 and more
    """
    if any(count < 1 for count in streams):
        raise ConfigError(f"streams={list(streams)}; give numbers of streams of 1 and more")


def _seconds(model: Detector[Any], batch: RandomStreams, steps: int) -> float:
    with answering(model):
        batch.wait()
        start = time.perf_counter_ns()
        for _ in range(steps):
            batch.step()
        batch.wait()
        return (time.perf_counter_ns() - start) / 1e9
