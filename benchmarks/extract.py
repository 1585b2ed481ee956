"""Time the extraction of features from 720p video beside decoding it, in one run.

The ways take turns over the same video, so that a drift of the machine's speed meets them all alike:

decode      every frame decoded, none looked at: what any extraction has to wait for
rgb         decoded, and the frames that the sampling picks turned into RGB arrays
extract     the features of ``coadtr extract``: decoded, picked, cut to 224 by 224, through the backbone

The video is given, or written for the occasion: drifting texture and moving blocks under noise, seeded, H.264.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch

from coadtr.video import Extraction, Sampling, Source, VideoReader, chunks, extract_video, probe

HEIGHT, WIDTH, RATE, NOISE = 720, 1280, 30, 6


def write_video(path: Path, frames: int) -> Path:
    """Write a 720p video whose content moves and is not easy to compress."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (HEIGHT // 8, 2 * WIDTH // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "19"}
        for number in range(frames):
            image = texture[:, 3 * number % WIDTH :][:, :WIDTH].astype(np.int16) // 2 + 64
            left = 11 * number % (WIDTH - 200)
            image[200:500, left : left + 200] = (number * 5) % 256
            image += rng.integers(-NOISE, NOISE + 1, (HEIGHT, WIDTH, 1), dtype=np.int16)
            frame = av.VideoFrame.from_ndarray(image.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode(path: Path) -> int:
    """Decode every frame."""
    with VideoReader(path) as reader:
        return sum(1 for _ in reader)


def rgb(path: Path, sampling: Sampling) -> int:
    """Decode every frame and turn those that are picked into arrays."""
    with VideoReader(path) as reader:
        for chunk in chunks(reader, sampling):
            _ = chunk[sampling.pick].rgb
        return reader.frames


def measure(ways: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Return the video frames a second of each way, one value a round, after a round that does not count."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            begun = time.perf_counter()
            frames = run()
            if number:
                speeds[name].append(frames / (time.perf_counter() - begun))
    return speeds


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", type=Path, help="a video; none to write one")
    parser.add_argument("--frames", type=int, default=300, help="length of the video that is written")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sampling", choices=["lstr", "oadtr"], default="lstr")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds must be at least 2, as a spread needs two values; got {options.rounds}")
    with tempfile.TemporaryDirectory() as folder:
        path = options.video or write_video(Path(folder) / "moving.mp4", options.frames)
        info, sampling = probe(path), Sampling(preset=options.sampling)
        ways: dict[str, Callable[[], int]] = {"decode": lambda: decode(path), "rgb": lambda: rgb(path, sampling)}
        device = "cuda" if torch.cuda.is_available() else "cpu"
        for threads in dict.fromkeys(options.threads):
            extraction = Extraction(
                backbone=options.backbone,
                weights=options.weights,
                sampling=sampling,
                batch_size=options.batch_size,
                threads=threads,
                device=device,
            )
            networks = extraction.load()

            def run(extraction: Extraction = extraction, networks=networks) -> int:  # type: ignore[no-untyped-def]
                return extract_video(Source("video", str(path)), extraction, networks=networks).frames

            ways[f"extract, {threads} thread{'s'[: threads > 1]}"] = run
        speeds = measure(ways, options.rounds)
        megabits = path.stat().st_size * 8e-6 / (info.seconds or 1)
    machine = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    print(f"{machine}, torch {torch.__version__}, PyAV {av.__version__}, {options.rounds} rounds")
    print(f"{info.width}x{info.height} {info.codec}, {info.rate_hz:g} frames/s, {megabits:.1f} Mbit/s")
    print(f"{options.backbone}, {sampling.describe()}, batches of {options.batch_size}")
    print(f"{'way':<24}{'video frames/s':>16}{'lowest to highest':>24}{'x real time':>14}")
    for name, values in speeds.items():
        middle = statistics.median(values)
        spread = f"{min(values):.0f} to {max(values):.0f}"
        print(f"{name:<24}{middle:>16.0f}{spread:>24}{middle / (info.rate_hz or RATE):>14.1f}")


if __name__ == "__main__":
    main()
