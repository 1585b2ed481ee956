"""Measure low-rank (Nystroem) attention beside the exact layers whose weights it was made from, in one run.

Error: landmarks are the k-means centres of 4,096 frames of a stream; the answers for the 256 frames after a full window
of another are compared with the exact single-output layer's, ``|approximate - exact| / |exact|`` over all. Streams:

white       independent normal frames: nothing for landmarks to find
smooth      16 slow components (each an autoregression with coefficient 0.98), mixed into E channels, and a little noise

The column ``mean`` is the error of answering with the mean of the window's values: attention that does not look.
``logits`` is the standard deviation of the exact layer's logits, set by scaling its query weights.

Cost: multiply-accumulates of one step by the formula and as torch counts them, and the time of a step at batch 1.
Layers take turns, a few steps each, so that a drift of the machine's speed meets them all alike.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from coadtr.layers import (
    NystroemAttention,
    RetroactiveAttention,
    RetroactiveNystroemAttention,
    SingleOutputAttention,
    cluster_means,
)

WIDTH, HEADS, SAMPLE, SCORED, RETROACTIVE_UP_TO = 1024, 8, 4096, 256, 512


def white(frames: int) -> Tensor:
    """Return independent normal frames ``(frames, E)``."""
    return torch.randn(frames, WIDTH)


def smooth(mixing: Tensor) -> Callable[[int], Tensor]:
    """Return a source of slowly changing frames, whose components enter by ``mixing`` ``(16, E)``."""

    def stream(frames: int) -> Tensor:
        component, components = torch.randn(len(mixing)), []
        for _ in range(frames):
            component = 0.98 * component + (1 - 0.98**2) ** 0.5 * torch.randn(len(mixing))
            components.append(component)
        return torch.stack(components) @ mixing + 0.1 * torch.randn(frames, WIDTH)

    return stream


def exact_layer(window: int, sample: Tensor, spread: float) -> SingleOutputAttention:
    """Return a random layer whose logits over the sample have the given standard deviation."""
    layer = SingleOutputAttention(WIDTH, HEADS, window).eval()
    q, k, _ = layer.project(sample[:1024].unsqueeze(0))
    layer.in_proj.weight[:WIDTH] *= spread / (q @ k.transpose(2, 3)).std()
    return layer


def errors(stream: Callable[[int], Tensor], window: int, spread: float, landmarks: list[int]) -> list[float]:
    """Return the relative error of the mean of the values, then that for each number of landmarks."""
    sample, frames = stream(SAMPLE), stream(window + SCORED).unsqueeze(0)
    layer = exact_layer(window, sample, spread)
    expected = layer(frames)[:, window:]
    mean = NystroemAttention(WIDTH, HEADS, window, num_landmarks=1)  # with one landmark that asks for nothing
    mean.in_proj.weight[: 2 * HEADS] = 0
    mean.in_proj.weight[2 * HEADS :] = layer.in_proj.weight[2 * WIDTH :]
    mean.out_proj.load_state_dict(layer.out_proj.state_dict())
    made = [NystroemAttention.from_attention(layer, cluster_means(sample, count)) for count in landmarks]
    return [float((each(frames)[:, window:] - expected).norm() / expected.norm()) for each in (mean, *made)]


def formula(layer: Any) -> int:
    """Return the multiply-accumulates of a step, as the docstrings give them."""
    e, h, n = WIDTH, HEADS, int(layer.window)
    if isinstance(layer, SingleOutputAttention):
        return 4 * e * e + 2 * n * e
    if isinstance(layer, RetroactiveAttention):
        return 3 * e * e + 2 * n * e + (n * n * h * e + e * e if layer.folds else n * n * e + n * e * e)
    m = int(layer.num_landmarks)
    asked = e * e + 2 * m * h * e + m * m * h
    if isinstance(layer, NystroemAttention):
        return asked + n * (e + m * h) + e * e
    return asked + (2 * m * n * h * e + e * e if layer.folds else 2 * m * n * e + n * e * e)


def executed(layer: Any) -> int:
    """Return the multiply-accumulates of a step as torch counts them."""
    state = layer.init_state(1)
    with FlopCounterMode(display=False) as counter:
        layer.step(torch.randn(1, WIDTH), state)
    return int(counter.get_total_flops()) // 2


def layers(window: int, landmarks: list[int]) -> dict[str, Any]:
    """Return the layers to compare at one window, by name: the exact one before its approximations."""
    low_rank = {f"low rank, m={m}": NystroemAttention(WIDTH, HEADS, window, num_landmarks=m) for m in landmarks}
    found: dict[str, Any] = {"single output": SingleOutputAttention(WIDTH, HEADS, window), **low_rank}
    if window <= RETROACTIVE_UP_TO:
        found["retroactive"] = RetroactiveAttention(WIDTH, HEADS, window)
        for m in landmarks:
            found[f"retroactive low rank, m={m}"] = RetroactiveNystroemAttention(WIDTH, HEADS, window, num_landmarks=m)
    return {name: layer.eval() for name, layer in found.items()}


def measure(running: dict[str, Any], rounds: int, dtype: torch.dtype) -> dict[str, list[float]]:
    """Return milliseconds a step of each layer, one value a round, with windows full."""
    frame = torch.randn(1, WIDTH, dtype=dtype)
    times: dict[str, list[float]] = {name: [] for name in running}
    states: dict[str, Any] = {}
    for name, layer in running.items():
        layer.to(dtype)
        state = layer.init_state(1)
        states[name] = state._replace(frames=state.frames + 2 * layer.window)
    for turn in range(rounds + 2):  # the first two warm the caches
        for name, layer in running.items():
            repeats = 2 if name.startswith("retroactive") else 8
            start = time.perf_counter()
            for _ in range(repeats):
                _, states[name] = layer.step(frame, states[name])
            if turn > 1:
                times[name].append((time.perf_counter() - start) * 1e3 / repeats)
    return times


def print_errors(windows: list[int], landmarks: list[int]) -> None:
    """Print the table of approximation errors."""
    counts = "".join(f"{f'm={m}':>9}" for m in landmarks)
    print(f"relative error, E={WIDTH} H={HEADS}\n{'stream':<10}{'logits':>8}{'N':>7}{'mean':>9}{counts}")
    for name, stream in (("white", white), ("smooth", smooth(torch.randn(16, WIDTH) / 4))):
        for spread in (0.5, 2.0):
            for window in windows:
                row = "".join(f"{error:>9.3f}" for error in errors(stream, window, spread, landmarks))
                print(f"{name:<10}{spread:>8.1f}{window:>7}{row}")


def print_costs(windows: list[int], landmarks: list[int], rounds: int, dtype: torch.dtype) -> None:
    """Print the table of multiply-accumulates and times."""
    print(f"one step, batch 1, E={WIDTH} H={HEADS}, {rounds} rounds")
    print(f"{'':<34}{'M MACs':>9}{'executed':>10}{'ms':>9}{'10 % to 90 %':>18}{'x exact':>9}")
    for window in windows:
        running = layers(window, landmarks)
        counts = {name: (formula(layer), executed(layer)) for name, layer in running.items()}
        times = measure(running, rounds, dtype)
        for name, values in times.items():
            low, *_, high = statistics.quantiles(values, n=10)
            middle = statistics.median(values)
            base = statistics.median(times["retroactive" if name.startswith("retroactive") else "single output"])
            by_formula, seen = (f"{count / 1e6:.2f}" for count in counts[name])
            spread = f"{low:.3f} to {high:.3f}"
            print(f"N={window:<5}{name:<27}{by_formula:>9}{seen:>10}{middle:>9.3f}{spread:>18}{middle / base:>9.2f}")


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--landmarks", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the timed steps")
    parser.add_argument("--rounds", type=int, help="turns of each contender", default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds must be at least 2, as a spread needs two values; got {options.rounds}")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    with torch.inference_mode():
        print_errors(options.windows, options.landmarks)
        print(options.dtype, end=", ")
        print_costs(options.windows, options.landmarks, options.rounds, getattr(torch, options.dtype))


if __name__ == "__main__":
    main()
