"""Load a server from a second process: N streams at R frames a second for S seconds, on loopback.

command: python benchmarks/serving.py --checkpoint runs/demo/checkpoint.onnx --streams 200 --rate 5 --seconds 600

The server is `coadtr serve` in a process of its own, with snapshots, on one thread of computation; this process is all
its clients, on one event loop. Each stream sends its frames at fixed times, whether or not its answers have come; the
streams begin spread over one period. Latency is from just before a frame is sent to when its answer has been read, so
it holds the clients' own share of the work. At the end the scores of some streams are compared with those of each
stream on its own. ``--url`` takes a server that runs already; then ``--checkpoint`` is what it serves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import connect

from coadtr.runtime import OnlineDetector, OnnxStepper
from coadtr.serving import NativeStepper
from coadtr.serving.protocol import write_message

DISTINCT = 997  # frames that a stream sends before it begins again, a prime: streams do not fall into step


@contextmanager
def server(checkpoint: Path, *words: str) -> Iterator[str]:
    """Run the command, and yield its address."""
    with tempfile.TemporaryDirectory() as folder:
        given = [f"checkpoint={checkpoint.resolve()}", "port=0", f"snapshots={folder}/kept", *words]
        command = [sys.executable, "-m", "coadtr.cli.main", "serve", *given]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:  # noqa: S603
            try:
                line = process.stdout.readline() if process.stdout else ""
                found = re.search(r"at http://(\S+) ", line)
                if found is None:
                    raise SystemExit("the server did not start")
                print(line.strip())
                yield f"ws://{found[1]}"
            finally:
                process.terminate()
                process.wait()


def frames_of(stream: int, channels: int) -> NDArray[np.float32]:
    """Make the frames of a stream, which it sends over and over."""
    return np.random.default_rng(stream).normal(size=(DISTINCT, channels)).astype(np.float32)


async def stream(url: str, number: int, wanted: argparse.Namespace, begin: float) -> dict[str, Any]:
    """Send the frames of one stream in time; return latencies and, of the sampled streams, scores."""
    count, period = int(wanted.seconds * wanted.rate), 1 / wanted.rate
    sent: list[float] = []
    latencies: list[float] = []
    scores: list[list[float]] = []
    async with connect(f"{url}/v1/streams/load-{number}", compression=None, max_size=None) as connection:
        hello = json.loads(await connection.recv())
        messages = [write_message(frame[None]) for frame in frames_of(number, hello["channels"])]
        start = begin + period * number / wanted.streams

        async def receive() -> None:
            for index in range(count):
                told = json.loads(await connection.recv())
                latencies.append(time.perf_counter() - sent[index])
                assert told["frame"] == index, told  # noqa: S101
                if number < wanted.sampled:
                    scores.append(told["scores"])

        receiver = asyncio.create_task(receive())
        for index in range(count):
            await asyncio.sleep(max(0.0, start + index * period - time.perf_counter()))
            sent.append(time.perf_counter())
            await connection.send(messages[index % DISTINCT])
        await receiver
    return {"number": number, "latencies": latencies, "scores": scores, "begun": sent[0], "ended": time.perf_counter()}


async def load(url: str, wanted: argparse.Namespace) -> list[dict[str, Any]]:
    """Run all streams."""
    begin = time.perf_counter() + 1 + wanted.streams / 200  # when all are connected
    return await asyncio.gather(*(stream(url, number, wanted, begin) for number in range(wanted.streams)))


def differences(checkpoint: Path, found: list[dict[str, Any]]) -> list[float]:
    """Compare the sampled streams with each of them on its own."""
    stepper = OnnxStepper(checkpoint) if checkpoint.suffix == ".onnx" else NativeStepper(checkpoint)
    most = []
    for one in found:
        if one["scores"]:
            detector = OnlineDetector(stepper)
            frames = frames_of(one["number"], detector.input_dim)
            solo = [detector.push(frames[index % DISTINCT]) for index in range(len(one["scores"]))]
            most.append(float(np.abs(np.array(solo) - np.array(one["scores"], np.float32)).max()))
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--url", help="a server that runs already, such as ws://127.0.0.1:8000")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rate", type=float, default=5.0, help="frames a second of each stream")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--sampled", type=int, default=8, help="streams whose scores are compared with their solo run")
    parser.add_argument("--setting", action="append", default=[], help="of the server, such as snapshot_seconds=10")
    wanted = parser.parse_args()
    if wanted.url:
        found = asyncio.run(load(wanted.url, wanted))
    else:
        with server(wanted.checkpoint, f"limits.streams={wanted.streams + 1}", *wanted.setting) as url:
            found = asyncio.run(load(url, wanted))
    milliseconds = 1000 * np.concatenate([one["latencies"] for one in found])
    # Minute by minute: a server that slows down as it goes would show.
    chunks = np.array_split(np.array([one["latencies"] for one in found]), max(1, int(wanted.seconds // 60)), axis=1)
    elapsed = max(one["ended"] for one in found) - min(one["begun"] for one in found)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{len(found)} streams, {len(milliseconds)} answers in {elapsed:.1f} s, {len(milliseconds) / elapsed:.0f}/s")
    print("latency ms: " + ", ".join(f"p{q:g} {np.percentile(milliseconds, q):.1f}" for q in (50, 90, 99, 99.9, 100)))
    print("p99 ms by minute: " + " ".join(f"{1000 * np.percentile(chunk, 99):.1f}" for chunk in chunks))
    most = differences(wanted.checkpoint, found)
    print(f"largest difference of a score from the solo run, {len(most)} streams: {max(most, default=0.0):.2g}")


if __name__ == "__main__":
    main()
