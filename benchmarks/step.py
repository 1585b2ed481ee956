"""Time one step of CoOadTR at the published sizes beside its peers and beside the limit of the machine, in one run.

Contenders take turns, a few steps each, so that a drift of the machine's speed meets them all alike. What is compared:

floor       the bare matrix-vector products with the weights of b1, nothing else: what any step has to read
b1, b2      the step of this project's layers (embedding, positions, encoder, norm, classifier): eager, compiled ahead
            of time on a CPU, as one CUDA graph on a GPU; alone, and 16 and 64 streams in one batch (time per stream)
peer        the same model of continual-inference, float32, if it is installed (``pip install continual-inference``)
clip        re-running the window of N frames at every frame: with this project's layers, whose last block asks with one
            query and projects no keys and values, and with ``torch.nn.TransformerEncoder``, which runs all of it
sequence    one pass over 1,024 frames under the band mask, per frame
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from coadtr.layers import (
    Backend,
    ContinualEncoder,
    EncoderState,
    Precision,
    RecyclingPositionalEncoding,
    StepRunner,
    in_precision,
)

CHANNELS, WIDTH, HEADS, HIDDEN, WINDOW, CLASSES = 4096, 1024, 8, 1024, 64, 22
SEQUENCE, REPEATS = 1024, 8
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Contender(NamedTuple):
    """What runs, on what, and for how many frames it answers."""

    run: Callable[[Tensor], Tensor]
    inputs: Tensor
    frames: int = 1


class Detector(nn.Module):
    """CoOadTR out of the layers alone."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(CHANNELS, WIDTH)
        self.positions = RecyclingPositionalEncoding(2 * WINDOW - 1, WIDTH, kind="fixed")
        self.encoder = ContinualEncoder(depth, WIDTH, HEADS, WINDOW, ff_dim=HIDDEN)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def init_state(self, batch_size: int = 1) -> EncoderState:
        """Return the state of streams that have seen no frame."""
        return self.encoder.init_state(batch_size)

    def step(self, frame: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """Answer one frame of each stream."""
        token = self.positions(self.embed(frame), self.encoder.frames_seen(state))
        encoded, state = self.encoder.step(token, state)
        return self.head(self.norm(encoded)), state

    def forward(self, frames: Tensor) -> Tensor:
        """Answer all frames of a sequence in one pass (depth one)."""
        index = torch.arange(frames.shape[1], device=frames.device).unsqueeze(0)
        logits: Tensor = self.head(self.norm(self.encoder(self.positions(self.embed(frames), index))))
        return logits

    def clip(self, clip: Tensor) -> Tensor:
        """Re-run one window of N frames, every block in full but for the last query."""
        index = torch.arange(clip.shape[1], device=clip.device).unsqueeze(0)
        tokens = self.positions(self.embed(clip), index)
        logits: Tensor = self.head(self.norm(self.encoder.answer_clip(tokens)))
        return logits


def stepping(model: Detector, backend: Backend, batch: int = 1) -> Contender:
    """Return the step of a model, on a stream (or a batch of them) that goes on and on."""
    runner = StepRunner(model, backend=backend)
    state = runner.init_state(batch)

    def step(frame: Tensor) -> Tensor:
        nonlocal state
        logits, state = runner.step(frame, state)
        return logits

    return Contender(step, torch.randn(batch, CHANNELS, device=DEVICE).to(model.norm.weight.dtype), batch)


class Products(nn.Module):
    """The bare products with matrices of the sizes of b1's weights, as a step that remembers nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(CHANNELS, WIDTH, bias=False)
        rows = (3 * WIDTH, WIDTH, HIDDEN, WIDTH, CLASSES)
        self.others = nn.ModuleList(nn.Linear(WIDTH, count, bias=False) for count in rows)

    def init_state(self, batch_size: int = 1) -> tuple[Tensor]:
        """Return a state, as a runner wants one."""
        return (torch.zeros(batch_size),)

    def step(self, frame: Tensor, state: tuple[Tensor]) -> tuple[Tensor, tuple[Tensor]]:
        """Multiply."""
        vector = frame[:, :WIDTH]
        products = [self.embed(frame), *(product(vector) for product in self.others)]
        return torch.cat(products, -1), state


def floor(precision: Precision, fast: Backend | None) -> Contender:
    """Return the bare products; of 8-bit weights, compiled where the steps are, as only that has a tuned kernel."""
    products = in_precision(Products(), precision).to(DEVICE)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    frame = torch.randn(1, CHANNELS, device=DEVICE, dtype=dtype)
    runner = StepRunner(products, backend=fast if fast is not None and precision == "int8" else "eager")
    state = runner.init_state(1)
    return Contender(lambda given: runner.step(given, state)[0], frame)


def peer(depth: int) -> Contender | None:
    """Return the step of continual-inference's model of the same sizes, or None if it is not installed."""
    try:
        import continual as co  # noqa: PLC0415 - an optional peer
    except ImportError:
        return None
    layer = co.TransformerEncoderLayerFactory(
        d_model=WIDTH, nhead=HEADS, dim_feedforward=HIDDEN, dropout=0.0, sequence_len=WINDOW
    )
    model = co.Sequential(
        co.Linear(CHANNELS, WIDTH, channel_dim=1),
        co.RecyclingPositionalEncoding(WIDTH, 2 * WINDOW - 1),
        co.TransformerEncoder(layer, num_layers=depth),
        co.Lambda(nn.LayerNorm(WIDTH), takes_time=False),
        co.Linear(WIDTH, CLASSES, channel_dim=1),
    )
    return Contender(model.to(DEVICE).eval().forward_step, torch.randn(1, CHANNELS, device=DEVICE))


def torch_clip(depth: int, clip: Tensor) -> Contender:
    """Return torch's own encoder over a window, between the same ends."""
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, dropout=0.0, activation="gelu", batch_first=True)
    ends = nn.Linear(CHANNELS, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)
    encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
    return Contender(nn.Sequential(ends[0], encoder, ends[1], ends[2]).to(DEVICE, clip.dtype).eval(), clip)


def contenders(precisions: list[Precision], fast: Backend | None) -> dict[str, Contender]:
    """Return each contender by name."""
    found: dict[str, Contender] = {}
    for precision in precisions:
        found[f"floor {precision}"] = floor(precision, fast)
        for depth in (1, 2):
            name = f"b{depth} {precision}"
            model = in_precision(Detector(depth).to(DEVICE).eval(), precision)
            found[f"{name} step, eager"] = stepping(model, "eager")
            if fast is not None:
                found[f"{name} step, {fast}"] = stepping(model, fast)
            if precision == "int8":
                continue
            for batch in (16, 64):
                found[f"{name} step, {batch} streams"] = stepping(model, "eager", batch)
            if fast is not None and depth == 1:
                found[f"{name} step, 64 streams, {fast}"] = stepping(model, fast, 64)
            clip = torch.randn(1, WINDOW, CHANNELS, device=DEVICE).to(model.norm.weight.dtype)
            found[f"{name} clip"] = Contender(model.clip, clip)
            found[f"{name} torch clip"] = torch_clip(depth, clip)
            if depth == 1:
                sequence = torch.randn(1, SEQUENCE, CHANNELS, device=DEVICE).to(clip.dtype)
                found[f"{name} sequence"] = Contender(model, sequence, SEQUENCE)
    for depth in (1, 2):
        if (other := peer(depth)) is not None:
            found[f"b{depth} continual-inference"] = other
    return found


def measure(running: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Return milliseconds a frame of each contender, one value a round."""
    times: dict[str, list[float]] = {name: [] for name in running}
    with torch.inference_mode():
        for run, inputs, _ in running.values():
            for _ in range(2 * WINDOW + 2 if inputs.dim() == 2 else 3):  # windows full, caches warm
                run(inputs)
        for _ in range(rounds):
            for name, (run, inputs, frames) in running.items():
                repeats = REPEATS if inputs.dim() == 2 else 1
                wait()
                start = time.perf_counter()
                for _ in range(repeats):
                    run(inputs)
                wait()
                times[name].append((time.perf_counter() - start) * 1e3 / repeats / frames)
    return times


def wait() -> None:
    """Let a GPU finish."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def report(times: dict[str, list[float]]) -> None:
    """Print the table, and the ratios that the project states."""
    middle = {name: statistics.median(values) for name, values in times.items()}
    print(f"{'':<40}{'ms a frame':>12}{'10 % to 90 %':>20}{'x floor':>10}{'x faster than c.-i.':>22}")
    for name, values in times.items():
        low, *_, high = statistics.quantiles(values, n=10)
        words = name.split()
        own = next((middle[f"floor {word}"] for word in words if f"floor {word}" in middle), None)
        other = middle.get(f"{words[0]} continual-inference")
        beside = "" if own is None else f"{middle[name] / own:.2f}"
        faster = "" if other is None else f"{other / middle[name]:.2f}"
        print(f"{name:<40}{middle[name]:>12.3f}{f'{low:.3f} to {high:.3f}':>20}{beside:>10}{faster:>22}")
    for precision in ("float32", "bfloat16"):
        if (alone := middle.get(f"b1 {precision} step, eager")) is not None:
            streams, clip = middle[f"b1 {precision} step, 64 streams"], middle[f"b1 {precision} torch clip"]
            print(f"b1 {precision}: one of 64 streams takes 1/{alone / streams:.1f} of a stream alone (both eager)")
            ratio = clip / middle[f"b1 {precision} sequence"]
            print(f"b1 {precision}: torch's clip takes {ratio:.1f} x the sequence's frame")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything: list[Precision] = ["float32", "bfloat16", "int8"]
    parser.add_argument("--precisions", nargs="+", choices=everything, default=everything)
    parser.add_argument("--eager", action="store_true", help="compile and capture nothing")
    parser.add_argument("--rounds", type=int, help="turns of each contender", default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds must be at least 2, as a spread needs two values; got {options.rounds}")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    fast: Backend | None = None if options.eager else "cuda_graph" if DEVICE.type == "cuda" else "compiled"
    running = contenders(options.precisions, fast)
    machine = torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.processor() or platform.machine()
    print(f"{machine}, {options.threads} threads, torch {torch.__version__}, {options.rounds} rounds")
    print(f"D={CHANNELS} E={WIDTH} H={HEADS} F={HIDDEN} N={WINDOW} C={CLASSES}")
    report(measure(running, options.rounds))


if __name__ == "__main__":
    main()
