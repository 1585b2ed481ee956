"""Time one step of CoOadTR at the published sizes beside its peers and beside the limit of the machine, in one run.

Contenders take turns, a few steps each, so that a drift of the machine's speed meets them all alike. What is compared:

floor       the bare matrix-vector products with the weights of b1, nothing else: what any step has to read
b1, b2      ``step`` of this project's layers (embedding, positions, encoder, norm, classifier)
peer        the same model of continual-inference, if it is installed (``pip install continual-inference``)
clip        re-running the window of N frames at every frame: with this project's layers, whose last block asks with one
            query and projects no keys and values, and with ``torch.nn.TransformerEncoder``, which runs all in full
sequence    one pass over 1,024 frames under the band mask, per frame

            query and projects no keys and values, and with ``torch.nn.TransformerEncoder``, which runs all of it
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from coadtr.layers import ContinualEncoder, RecyclingPositionalEncoding

CHANNELS, WIDTH, HEADS, HIDDEN, WINDOW, CLASSES = 4096, 1024, 8, 1024, 64, 22
SEQUENCE = 1024


class Detector(nn.Module):
    """CoOadTR out of the layers alone."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(CHANNELS, WIDTH)
        self.positions = RecyclingPositionalEncoding(2 * WINDOW - 1, WIDTH, kind="fixed")
        self.encoder = ContinualEncoder(depth, WIDTH, HEADS, WINDOW, ff_dim=HIDDEN)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def runner(self, batch: int) -> Callable[[Tensor], Tensor]:
        """Return a function that takes in one frame of each of ``batch`` streams."""
        state = self.encoder.init_state(batch)

        def step(frame: Tensor) -> Tensor:
            nonlocal state
            token = self.positions(self.embed(frame), self.encoder.frames_seen(state))
            encoded, state = self.encoder.step(token, state)
            logits: Tensor = self.head(self.norm(encoded))
            return logits

        return step

    def forward(self, frames: Tensor) -> Tensor:
        """Answer all frames of a sequence in one pass (depth one)."""
        index = torch.arange(frames.shape[1]).unsqueeze(0)
        logits: Tensor = self.head(self.norm(self.encoder(self.positions(self.embed(frames), index))))
        return logits

    def clip(self, clip: Tensor) -> Tensor:
        """Re-run one window of N frames, every block in full but for the last query."""
        index = torch.arange(clip.shape[1]).unsqueeze(0)
        tokens = self.positions(self.embed(clip), index)
        logits: Tensor = self.head(self.norm(self.encoder.answer_clip(tokens)))
        return logits


def floor(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return the bare products with matrices of the sizes of b1's weights."""
    sizes = [(WIDTH, CHANNELS), (3 * WIDTH, WIDTH), (WIDTH, WIDTH), (HIDDEN, WIDTH), (WIDTH, HIDDEN), (CLASSES, WIDTH)]
    weights = [torch.randn(size, dtype=dtype) / size[1] ** 0.5 for size in sizes]
    vector = torch.randn(1, WIDTH, dtype=dtype)

    def products(frame: Tensor) -> Tensor:
        out = nn.functional.linear(frame, weights[0])
        for weight in weights[1:]:
            out = nn.functional.linear(vector, weight)
        return out

    return products


def peer(depth: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor] | None:
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
    model = model.to(dtype).eval()

    def step(frame: Tensor) -> Tensor:
        out: Tensor = model.forward_step(frame)
        return out

    return step


def torch_clip(depth: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return torch's own encoder over a window, between the same ends."""
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, dropout=0.0, activation="gelu", batch_first=True)
    ends = nn.Linear(CHANNELS, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)
    encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
    model = nn.Sequential(ends[0], encoder, ends[1], ends[2])
    return model.to(dtype).eval()


def contenders(dtype: torch.dtype) -> dict[str, tuple[Callable[[Tensor], Tensor], Tensor, int]]:
    """Return each contender by name: what runs, on what, and for how many frames it answers."""
    frame = torch.randn(1, CHANNELS, dtype=dtype)
    clip, sequence = torch.randn(1, WINDOW, CHANNELS, dtype=dtype), torch.randn(1, SEQUENCE, CHANNELS, dtype=dtype)
    found: dict[str, tuple[Callable[[Tensor], Tensor], Tensor, int]] = {"floor": (floor(dtype), frame, 1)}
    for depth in (1, 2):
        model = Detector(depth).to(dtype).eval()
        found[f"b{depth} step"] = (model.runner(1), frame, 1)
        found[f"b{depth} clip"] = (model.clip, clip, 1)
        found[f"torch b{depth} clip"] = (torch_clip(depth, dtype), clip, 1)
        if depth == 1:
            found["b1 step, 64 streams"] = (model.runner(64), frame.expand(64, -1).contiguous(), 64)
            found["b1 sequence"] = (model, sequence, SEQUENCE)
        if dtype == torch.float32 and (step := peer(depth, dtype)) is not None:
            found[f"continual-inference b{depth} step"] = (step, frame, 1)
    return found


def measure(rounds: int, dtype: torch.dtype) -> dict[str, list[float]]:
    """Return milliseconds a frame of each contender, one value a round."""
    running = contenders(dtype)
    times: dict[str, list[float]] = {name: [] for name in running}
    with torch.inference_mode():
        for name, (run, inputs, frames) in running.items():
            for _ in range(2 * WINDOW + 2 if frames == 1 and "clip" not in name else 3):  # windows full, caches warm
                run(inputs)
        for _ in range(rounds):
            for name, (run, inputs, frames) in running.items():
                repeats = 8 if inputs.dim() == 2 else 1
                start = time.perf_counter()
                for _ in range(repeats):
                    run(inputs)
                times[name].append((time.perf_counter() - start) * 1e3 / repeats / frames)
    return times


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    times = measure(options.rounds, getattr(torch, options.dtype))
    base = statistics.median(times["floor"])
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    print(
        f"{options.dtype}, D={CHANNELS} E={WIDTH} H={HEADS} F={HIDDEN} N={WINDOW} C={CLASSES}, {options.rounds} rounds"
    )
    print(f"{'':<32}{'ms a frame':>12}{'10 % to 90 %':>20}{'x floor':>10}")
    for name, values in times.items():
        low, *_, high = statistics.quantiles(values, n=10)
        middle = statistics.median(values)
        print(f"{name:<32}{middle:>12.3f}{f'{low:.3f} to {high:.3f}':>20}{middle / base:>10.2f}")
    for depth in (1, 2):
        if (name := f"continual-inference b{depth} step") in times:
            ratio = statistics.median(times[name]) / statistics.median(times[f"b{depth} step"])
            print(f"b{depth} step: continual-inference takes {ratio:.2f} times as long")


if __name__ == "__main__":
    main()
