"""Show how a step's cost grows: with the window, with depth, with streams in a batch, and not with the frames seen.

    python benchmarks/growth.py                      # windows, depths, streams and silent streams, published width
    python benchmarks/growth.py --history            # the first 1,000 steps beside the last 1,000 of 100,000
    python benchmarks/growth.py --history --width 1024 --steps 20000

Each table comes from one run. Its rows take turns, a few steps each, so that a drift of the machine's speed meets them
all alike; ratios are against the first row. What is timed is the encoder's step alone, on full windows, without
embedding and classifier. State bytes are those of one stream. The table of silent streams is of ``StreamBatch``: some
of its streams, spread over the slots, bring a frame at each step; the time is for each of those.
"""

from __future__ import annotations

import argparse
import functools
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from coadtr.layers import (
    ContinualEncoder,
    RetroactiveAttention,
    SingleOutputAttention,
    SingleOutputStack,
    StreamBatch,
    state_bytes,
    state_tensors,
)

HEADS, WINDOW = 8, 64
WINDOWS, DEPTHS, STREAMS = (16, 64, 256, 1024, 4096), (1, 2, 3, 4), (1, 4, 16, 64, 256)
TABLES = ("window", "depth", "streams", "silent")
# Retroactive attention caches N x N logits and writes N outputs a step: longer windows take gigabytes and seconds.
LONGEST_RETROACTIVE = 1024


@dataclass
class Row:
    """One line of a table.

    Attributes:
        name: Shown at its left.
        step: Takes in one frame of each stream.
        streams: Streams in the batch.
        bytes: State of one stream.
        times: Milliseconds a stream and step, one value a round.
    """

    name: str
    step: Callable[[], object]
    streams: int
    bytes: int
    times: list[float]


def stepping(module: Any, state: Any, frames: Tensor) -> Callable[[], Tensor]:
    """Return a function that takes in the next of some frames ``(count, B, E)``, which come round."""
    now = 0

    def step() -> Tensor:
        nonlocal state, now
        answer: Tensor
        answer, state = module.step(frames[now % len(frames)], state)
        now += 1
        return answer

    return step


def with_full_window(module: Any, streams: int, window: int) -> Any:
    """Return a state as after two windows of frames: counters say so, and noise stands for what the caches hold."""
    state = module.init_state(streams)
    for leaf in state_tensors(state):
        if leaf.is_floating_point():
            leaf.normal_()
        else:
            leaf.fill_(2 * window)
    return state


def row(name: str, module: Any, width: int, dtype: torch.dtype, *, streams: int = 1, window: int = WINDOW) -> Row:
    module = module.to(dtype).eval().requires_grad_(False)
    frames = torch.randn(8, streams, width, dtype=dtype)
    step = stepping(module, with_full_window(module, streams, window), frames)
    return Row(name, step, streams, state_bytes(module.init_state(1)), [])


def by_window(width: int, dtype: torch.dtype) -> list[list[Row]]:
    attentions: list[list[Row]] = []
    for name, kind, longest in (
        ("single-output attention", SingleOutputAttention, WINDOWS[-1]),
        ("retroactive attention", RetroactiveAttention, LONGEST_RETROACTIVE),
    ):
        rows = [
            row(f"{name}, N={window}", kind(width, HEADS, window), width, dtype, window=window)
            for window in WINDOWS
            if window <= longest
        ]
        attentions.append(rows)
    return attentions


def by_depth(width: int, dtype: torch.dtype) -> list[list[Row]]:
    sizes = (width, HEADS, WINDOW)
    stacks = [
        row(f"single-output stack, {depth} blocks", SingleOutputStack(depth, *sizes, ff_dim=width), width, dtype)
        for depth in DEPTHS
    ]
    encoders = [
        row(f"window-exact, {depth} blocks", ContinualEncoder(depth, *sizes, ff_dim=width), width, dtype)
        for depth in DEPTHS
    ]
    return [stacks, encoders]


def by_streams(width: int, dtype: torch.dtype, most: int) -> list[list[Row]]:
    tables = []
    for depth in (1, 2):
        encoder = ContinualEncoder(depth, width, HEADS, WINDOW, ff_dim=width)
        counts = [streams for streams in STREAMS if streams <= most]
        tables.append([row(f"b{depth}, {count} streams", encoder, width, dtype, streams=count) for count in counts])
    return tables


def by_silence(width: int, dtype: torch.dtype, most: int) -> list[list[Row]]:
    tables = []
    slots = min(64, most)
    for depth in (1, 2):
        encoder = ContinualEncoder(depth, width, HEADS, WINDOW, ff_dim=width).to(dtype).eval().requires_grad_(False)
        size = state_bytes(encoder.init_state(1))
        rows = []
        for share in (1.0, 0.9, 0.75, 0.5, 0.1):
            batch = StreamBatch(encoder, slots)
            for key in range(slots):
                batch.join(key)
                batch.restore(key, with_full_window(encoder, 1, WINDOW))
            active = torch.tensor([int((slot + 1) * share) > int(slot * share) for slot in range(slots)])
            frames = torch.randn(slots, width, dtype=dtype)
            answering = int(active.sum())
            name = f"b{depth}, {answering} of {slots} streams"
            rows.append(Row(name, functools.partial(batch.step_rows, frames, active), answering, size, []))
        tables.append(rows)
    return tables


def measure(rows: list[Row], rounds: int) -> None:
    """Time the rows in turns: each warmed up, then some steps a round, as many as take about 50 ms."""
    repeats = []
    with torch.inference_mode():
        for line in rows:
            line.step()
            start = time.perf_counter()
            line.step()
            repeats.append(max(1, min(50, int(0.05 / (time.perf_counter() - start)))))
        for _ in range(rounds):
            for line, count in zip(rows, repeats, strict=True):
                start = time.perf_counter()
                for _ in range(count):
                    line.step()
                line.times.append((time.perf_counter() - start) * 1e3 / count / line.streams)


def print_rows(rows: list[Row]) -> None:
    base = statistics.median(rows[0].times)
    for line in rows:
        low, *_, high = statistics.quantiles(line.times, n=10)
        middle = statistics.median(line.times)
        spread = f"{low:.3f} to {high:.3f}"
        print(f"{line.name:<36}{middle:>10.3f}{spread:>20}{middle / base:>9.2f}{line.bytes / 1e6:>12.3f}")


def print_head(options: argparse.Namespace, title: str) -> None:
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    print(f"{options.dtype}, E=F={options.width} H={HEADS}, {title}")
    print(f"{'':<36}{'ms':>10}{'10 % to 90 %':>20}{'x first':>9}{'state, MB':>12}")


def show_growth(options: argparse.Namespace, dtype: torch.dtype) -> None:
    """Print the tables asked for: windows, depths, streams, silent streams."""
    makers: dict[str, tuple[str, Callable[[], list[list[Row]]]]] = {
        "window": ("a step of one stream", lambda: by_window(options.width, dtype)),
        "depth": (f"N={WINDOW}, a step of one stream", lambda: by_depth(options.width, dtype)),
        "streams": (f"N={WINDOW}, a step, per stream", lambda: by_streams(options.width, dtype, options.streams)),
        "silent": (f"N={WINDOW}, per stream with a frame", lambda: by_silence(options.width, dtype, options.streams)),
    }
    for name in options.tables:
        title, maker = makers[name]
        print_head(options, f"{title}, {options.rounds} rounds")
        for rows in maker():
            measure(rows, options.rounds)
            print_rows(rows)
        print()


def show_history(options: argparse.Namespace, dtype: torch.dtype) -> None:
    """Time the first steps of a stream beside the last steps of a long one, in turns of twenty."""
    width, part = options.width, min(1000, options.steps // 2)
    for depth in (1, 2):
        encoder = ContinualEncoder(depth, width, HEADS, WINDOW, ff_dim=width).to(dtype).eval().requires_grad_(False)
        frames, size = torch.randn(64, 1, width, dtype=dtype), state_bytes(encoder.init_state(1))
        young, old = (stepping(encoder, encoder.init_state(1), frames) for _ in range(2))
        rows = [
            Row(f"b{depth}, steps 0 to {part:,}", young, 1, size, []),
            Row(f"b{depth}, steps {options.steps - part:,} to {options.steps:,}", old, 1, size, []),
        ]
        with torch.inference_mode():
            for _ in range(options.steps - part):
                old()
            for _ in range(part // 20):
                for line in rows:
                    for _ in range(20):
                        start = time.perf_counter()
                        line.step()
                        line.times.append((time.perf_counter() - start) * 1e3)
        if depth == 1:
            print_head(options, f"N={WINDOW}, one stream of {options.steps:,} frames")
        print_rows(rows)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--width", type=int, help="E and F; 1024, or 256 with --history")
    parser.add_argument("--rounds", type=int, help="turns of each contender", default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--streams", type=int, default=STREAMS[-1], help="leave out larger batches")
    parser.add_argument("--history", action="store_true", help="one long stream, first steps against last steps")
    parser.add_argument("--steps", type=int, default=100_000, help="frames of that stream")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds must be at least 2, as a spread needs two values; got {options.rounds}")
    options.width = options.width or (256 if options.history else 1024)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    show = show_history if options.history else show_growth
    show(options, getattr(torch, options.dtype))


if __name__ == "__main__":
    main()
