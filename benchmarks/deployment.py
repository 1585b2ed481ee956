"""Run one checkpoint in the ways that docs/deployment.md shows, beside each other: disk, start, memory, step.

command: python benchmarks/deployment.py checkpoints/exercises-cooadtr-b1

It exports the checkpoint to ONNX, and starts the examples of examples/deployment in processes of their own: native
(eager, and compiled ahead of time), coadtr.runtime, onnxruntime alone, and `coadtr serve` with one client on loopback.
Others join by option:

    --program "C++=build/detect"                  any program that is called as PROGRAM MODEL --times, reads float32
    --program "Node=node .../detect.js"           frames from standard input, and answers each by a line: milliseconds
                                                  of the step, then the scores
    --page examples/deployment/javascript         that page in headless Chromium (needs playwright)
    --disk "C++=build/detect,lib/libonnxruntime.so"   what such a contender has to bring

All live at the same time and take turns of 20 frames, so that a drift of the machine's speed meets them alike; each
computes on one thread. `step` is timed inside the process from the frame to its scores, of the server from outside. The
start is from that of the process to its first answer, of the page from its opening; memory is what is resident at the
end, of the page what it says that it uses. `disk` is the packages with all that they need, without Python itself, a
compiler, Node, a browser and the model. The last column is the largest difference of a score from the first row's,
over all frames.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.server
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TURN, WARM = 20, 3  # frames of a turn; turns before any that count
ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples" / "deployment" / "python"
SERVER = ("fastapi", "uvicorn", "websockets", "prometheus-client", "onnxruntime", "hydra-core", "filelock", "numpy")
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
WORKER = """
import runpy, sys, time
import numpy as np
push, channels = runpy.run_path(sys.argv[1])["open_detector"](*sys.argv[2:])
while len(data := sys.stdin.buffer.read(4 * channels)) == 4 * channels:
    frame, start = np.frombuffer(data, "<f4"), time.perf_counter()
    scores = push(frame)
    print(1e3 * (time.perf_counter() - start), *scores, flush=True)
"""
ANSWER = """
async ([model, text]) => {
  const { open, answer } = await import("/page.js");
  window.held ??= await open(new Uint8Array(await (await fetch(model)).arrayBuffer()));
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const lines = [];
  for await (const { milliseconds, scores } of answer(window.held, new Float32Array(bytes.buffer)))
    lines.push([milliseconds, ...scores]);
  return lines;
}
"""
MEMORY = "async () => (await performance.measureUserAgentSpecificMemory()).bytes"

Frames = NDArray[np.float32]
Lines = NDArray[np.float64]  # a row of each frame: milliseconds, then scores


class Contender(NamedTuple):
    """What answers frames, one after the other, in a process of its own."""

    answer: Callable[[Frames], Lines]
    memory: Callable[[], float]  # megabytes that it holds
    close: Callable[[], object]


class Entry(NamedTuple):
    """How a contender is started, and the megabytes that it brings."""

    start: Callable[[], Contender]
    disk: float | None


def resident(process: int) -> float:
    """Return megabytes that a process holds in memory."""
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(process)], capture_output=True, check=True)  # noqa: S603, S607
    return int(told.stdout) / 1e3


def piped(command: Sequence[str]) -> Contender:
    """Start a program that reads frames from standard input."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=QUIET, cwd=ROOT)  # noqa: S603

    def answer(frames: Frames) -> Lines:
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(frames.astype("<f4").tobytes())
        process.stdin.flush()
        return np.array([process.stdout.readline().split() for _ in frames], np.float64)

    return Contender(answer, lambda: resident(process.pid), process.communicate)


def served(model: Path) -> Contender:
    """Start a server, and one client of it."""
    from coadtr.serving import StreamClient  # noqa: PLC0415 - an extra

    command = [sys.executable, "-m", "coadtr.cli.main", "serve", f"checkpoint={model}", "port=0"]
    command.append("limits.frames_per_second=1e6")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=QUIET)  # noqa: S603
    found = re.search(r"at (http://\S+) ", process.stdout.readline() if process.stdout else "")
    if found is None:
        raise SystemExit("the server did not start")
    client = StreamClient(found[1], "timed")

    def answer(frames: Frames) -> Lines:
        lines = []
        for frame in frames:
            start = time.perf_counter()
            scores = client.push(frame).scores
            lines.append([1e3 * (time.perf_counter() - start), *scores])
        return np.array(lines, np.float64)

    def close() -> None:
        client.end()
        process.terminate()
        process.communicate()

    return Contender(answer, lambda: resident(process.pid), close)


class Files(http.server.SimpleHTTPRequestHandler):
    """The files of a folder and the model, with the headers that give a page a clock of 5 microseconds."""

    model: Path

    def translate_path(self, path: str) -> str:
        """Find a file."""
        return str(self.model) if path == "/model.onnx" else super().translate_path(path)

    def end_headers(self) -> None:
        """Add the headers."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *told: object) -> None:
        """Say nothing."""


def opened(browser: Any, address: str) -> Contender:
    """Open a page in a browser that runs already."""
    page = browser.new_page()
    page.goto(f"{address}/index.html")

    def answer(frames: Frames) -> Lines:
        text = base64.b64encode(frames.astype("<f4").tobytes()).decode()
        return np.array(page.evaluate(ANSWER, ["/model.onnx", text]), np.float64)

    return Contender(answer, lambda: page.evaluate(MEMORY) / 1e6, page.close)


def pages(folder: Path, model: Path, stop: list[Callable[[], object]]) -> Callable[[], Contender]:
    """Open a browser, and return what opens the page in it."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - an optional peer

    Files.model = model
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    playwright = sync_playwright().start()
    arguments = ["--enable-blink-features=ForceEagerMeasureMemory"]  # no wait for a garbage collection to come about
    path = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(path).exists()), None)
    browser = playwright.chromium.launch(args=arguments, executable_path=path)
    stop += [browser.close, playwright.stop, server.shutdown]
    return lambda: opened(browser, f"http://127.0.0.1:{server.server_port}")


def installed(names: Iterable[str]) -> float:
    """Return megabytes of installed packages and all that they need, each counted once."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - comes with others

    wanted: list[tuple[str, frozenset[str]]] = [(name, frozenset()) for name in names]
    seen, counted, total = set[tuple[str, frozenset[str]]](), set[str](), 0
    while wanted:
        named, extras = wanted.pop()
        name = re.sub(r"[-_.]+", "-", named).lower()
        if (name, extras) in seen:
            continue
        package = metadata.distribution(name)
        if name not in counted:
            total += sum(size(Path(str(file.locate()))) for file in package.files or ())
        seen.add((name, extras))
        counted.add(name)
        for need in map(Requirement, package.requires or ()):
            asked = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))
            wanted += [(need.name, frozenset(need.extras))] if asked else []
    return total / 1e6


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file() and "__pycache__" not in file.parts)


def contenders(wanted: argparse.Namespace, model: Path, stop: list[Callable[[], object]]) -> dict[str, Entry]:
    """Return all that run."""

    def example(file: str, *words: str) -> Callable[[], Contender]:
        return lambda: piped([sys.executable, "-c", WORKER, str(EXAMPLES / file), *words])

    checkpoint, own = str(wanted.checkpoint.resolve()), size(ROOT / "coadtr") / 1e6
    bare = installed(["numpy", "onnxruntime"])
    given = {name: sum(map(size, map(Path, paths.split(",")))) / 1e6 for name, paths in wanted.disk}
    found = {
        "native, eager": Entry(example("native.py", checkpoint), installed(["coadtr"]) + own),
        "native, compiled": Entry(example("native.py", checkpoint, "compiled"), installed(["coadtr"]) + own),
        "coadtr.runtime": Entry(example("runtime.py", str(model)), bare + own),
        "onnxruntime, Python": Entry(example("bare.py", str(model)), bare),
    }
    for name, command in wanted.program:
        words = [*shlex.split(command), str(model), "--times"]
        found[name] = Entry(functools.partial(piped, words), given.get(name))
    if wanted.page is not None:
        found["page in Chromium"] = Entry(pages(wanted.page, model, stop), given.get("page in Chromium"))
    found["server, there and back"] = Entry(lambda: served(model), installed(SERVER) + own)
    return {name: entry for name, entry in found.items() if name not in wanted.without}


def started(entry: Entry, first: Frames, times: int) -> tuple[Contender, list[float], Lines]:
    """Start a contender so many times, and keep the last one: seconds to the first answer, and that answer."""
    seconds: list[float] = []
    while True:
        begin = time.perf_counter()
        contender = entry.start()
        answer = contender.answer(first)
        seconds.append(time.perf_counter() - begin)
        if len(seconds) == times:
            return contender, seconds, answer
        contender.close()


def spread(values: Sequence[float] | NDArray[Any], digits: int) -> str:
    """Write the median and the quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def race(found: dict[str, Entry], channels: int, rounds: int, starts: int) -> None:
    """Start all, let them take turns, and print the table."""
    count = TURN * (rounds + WARM)
    frames = np.random.default_rng(0).normal(size=(1 + count, channels)).astype(np.float32)
    live, begun, rows = {}, {}, {name: list[Lines]() for name in found}
    for name, entry in found.items():
        live[name], begun[name], first = started(entry, frames[:1], starts)
        rows[name].append(first)
    for at in range(1, len(frames), TURN):
        for name, contender in live.items():
            rows[name].append(contender.answer(frames[at : at + TURN]))
    print(f"{'':24}{'disk MB':>9}{'start s':>24}{'memory MB':>11}{'step ms':>24}  scores differ by")
    reference = np.concatenate(next(iter(rows.values())))[:, 1:]
    for name, contender in live.items():
        lines, disk = np.concatenate(rows[name]), found[name].disk
        worst = np.abs(lines[:, 1:] - reference).max()
        print(
            f"{name:24}{'' if disk is None else f'{disk:.1f}':>9}{spread(begun[name], 2):>24}"
            f"{contender.memory():11.0f}{spread(lines[1 + WARM * TURN :, 0], 3):>24}  {worst:.1g}"
        )
        contender.close()


def named(text: str) -> tuple[str, str]:
    """Split ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def main(arguments: Sequence[str] | None = None) -> None:
    """Export, race, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder of a checkpoint")
    parser.add_argument("--program", type=named, action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--disk", type=named, action="append", default=[], metavar="NAME=PATH,...")
    parser.add_argument("--page", type=Path, help="folder of a page, with its node_modules")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="rows to leave out")
    parser.add_argument("--rounds", type=int, default=30, help="turns of 20 frames that count")
    parser.add_argument("--starts", type=int, default=3)
    wanted = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        export = ["export", f"checkpoint={wanted.checkpoint}", "format=onnx", f"out={model}"]
        subprocess.run([sys.executable, "-m", "coadtr.cli.main", *export], check=True)  # noqa: S603
        from coadtr.runtime import OnnxStepper  # noqa: PLC0415 - after the export, which says what is missing

        stop: list[Callable[[], object]] = []
        try:
            channels = OnnxStepper(model).description.input_dim
            race(contenders(wanted, model, stop), channels, wanted.rounds, wanted.starts)
        finally:
            for end in stop:
                end()


if __name__ == "__main__":
    main()
