"""Time what training reads out of a feature store beside raw ``numpy.memmap`` files of the same values, in one run.

Both go through the same data set and the same ``DataLoader``: the same spans in the same order, the same conversion to
float32 (PyTorch's, as NumPy's alone would slow the memmap down several times), the same batches. Contenders take turns.

spans       128 frames and the 63 before them (`SequenceDataset`), 16 a batch
clips       64 frames (`ClipDataset`), 32 a batch
first       blocks of the store are read for the first time: their checksums are verified
again       the store as it is read from then on
cold        the page cache has forgotten the files before each round; it is warm otherwise

The memory of each contender is measured in a process of its own: the resident set before, its peak, and the part of it
that no file stands behind, over a whole pass; the same of the largest worker.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from coadtr.data import ClipDataset, FeatureStore, SequenceDataset, StoreWriter
from coadtr.data.split_frames import SplitFrames
from coadtr.data.storage.blocks import widen

STREAMS = {"rgb": 2048, "flow": 2048}
LENGTH, CONTEXT, WINDOW = 128, 63, 64
BATCH = {"spans": 16, "clips": 32}

Samples = SequenceDataset | ClipDataset


class MemmapFrames(SplitFrames):
    """The frames of a split in one raw float16 file a video."""

    def __init__(self, store: FeatureStore, split: str, folder: Path) -> None:
        super().__init__(store, split, preload=False)
        self.paths = [folder / f"{record.name}.raw" for record in self.records]
        self.opened: dict[int, NDArray[Any]] = {}

    def read(self, video: int, start: int, stop: int, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return a copy of a span; `numpy.memmap` and a conversion, nothing else."""
        if video not in self.opened:
            # Mode 'c' maps the file as 'r' does, and lets PyTorch take the array without a warning.
            self.opened[video] = np.memmap(self.paths[video], np.float16, "c").reshape(-1, self.dim)
        target = np.empty((stop - start, self.dim), np.float32) if out is None else out
        widen(self.opened[video][start:stop], target)
        return target


class Contender(NamedTuple):
    """What is read: samples of a kind, out of a store or out of raw files."""

    kind: str
    raw: bool


def build(path: Path, *, videos: int, frames: int, compression: str | None) -> float:
    """Write a store of simulated features; return the seconds that the writing took."""
    rng, took = np.random.default_rng(0), 0.0
    base = rng.standard_normal((2 * frames, 2048)).astype(np.float16)
    with StoreWriter(path, class_names=["rest", "act"], streams=STREAMS, compression=compression) as writer:
        for index, length in enumerate(rng.integers(frames // 2, 3 * frames // 2, videos)):
            features = {name: np.roll(base[:length], index + shift) for shift, name in enumerate(STREAMS)}
            labels = rng.integers(0, 2, length)
            start = time.perf_counter()
            writer.add(f"v{index:04d}", split="train", rate_hz=5.0, features=features, labels=labels)
            took += time.perf_counter() - start
    return took


def copy_raw(store: FeatureStore, folder: Path) -> None:
    """Write the joined float16 features of every training video to a raw file."""
    folder.mkdir(exist_ok=True)
    for record in store.videos("train"):
        path = folder / f"{record.name}.raw"
        joined = np.concatenate([store.stored_features(record.name, name) for name in store.streams], axis=1)
        if not path.exists() or path.stat().st_size != joined.nbytes:
            joined.astype(np.float16).tofile(path)


def samples(contender: Contender, store: FeatureStore, folder: Path) -> Samples:
    """Make the data set that a contender reads."""
    made: Samples
    if contender.kind == "spans":
        made = SequenceDataset(store, "train", length=LENGTH, context=CONTEXT, preload=False)
    else:
        made = ClipDataset(store, "train", window=WINDOW, preload=False)
    if contender.raw:
        made = copy.copy(made)
        made.source = MemmapFrames(store, "train", folder)
    return made


def loader(data: Samples, kind: str, *, count: int, seed: int, workers: int) -> DataLoader[Any]:
    """Return a loader of ``count`` samples in a seeded order."""
    order = np.random.default_rng(seed).permutation(len(data))[:count].tolist()
    context = "fork" if workers else None
    return DataLoader(data, BATCH[kind], sampler=order, num_workers=workers, multiprocessing_context=context)


def forget(paths: list[Path]) -> None:
    """Write the files out, and ask the page cache to drop them."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def frames_a_second(batches: DataLoader[Any]) -> float:
    """Read all batches; return frames a second, without the time in which workers start."""
    size = batches.batch_size or 1
    running: Iterator[Any] = iter(batches)
    first = next(running)["frames"]
    start, total = time.perf_counter(), 0
    for batch in running:
        total += batch["frames"].shape[0] * first.shape[1]
    took = time.perf_counter() - start
    if not total:
        raise SystemExit(f"fewer than two batches of {size}: give more --samples")
    return total / took


def turns(name: str, rounds: int, run: Callable[..., float]) -> None:
    """Let memmap and store take turns; print medians, spread, and the ratio of each round's pair."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds):
        for raw in (True, False) if number % 2 else (False, True):
            found[raw].append(run(raw, number))
    ratios = sorted(mine / theirs for mine, theirs in zip(found[False], found[True], strict=True))
    ours, raws = statistics.median(found[False]), statistics.median(found[True])
    print(
        f"{name:<34}{ours:>12,.0f}{raws:>12,.0f}{100 * statistics.median(ratios):>9.0f} %"
        f"{100 * ratios[0]:>8.0f} % to {100 * ratios[-1]:.0f} %",
        flush=True,
    )


def throughput(path: Path, folder: Path, options: argparse.Namespace) -> None:
    """Print the table of frames a second."""
    print(f"{'frames a second (float32)':<34}{'store':>12}{'memmap':>12}{'ratio':>11}{'spread of ratios':>22}")
    for kind in BATCH:
        again(kind, path, folder, options)
        for workers in options.workers:
            first(kind, path, folder, options, workers)
        first(kind, path, folder, options, options.workers[0], cold=True)


def again(kind: str, path: Path, folder: Path, options: argparse.Namespace) -> None:
    """Compare reads of what has been read before."""
    with FeatureStore(path) as store:
        kept = {raw: samples(Contender(kind, raw), store, folder) for raw in (True, False)}
        for data in kept.values():  # every checksum has held, every page is in memory
            for video, record in enumerate(data.source.records):
                data.source.read(video, 0, record.frames)
        for workers in options.workers:
            turns(
                f"{kind}, again, {workers} workers",
                options.rounds,
                lambda raw, seed, workers=workers: frames_a_second(
                    loader(kept[raw], kind, count=options.samples, seed=seed, workers=workers)
                ),
            )


def first(
    kind: str, path: Path, folder: Path, options: argparse.Namespace, workers: int, *, cold: bool = False
) -> None:
    """Compare reads of what has not been read before; `cold`: not by any process of late."""
    files = [path, *folder.glob("*.raw")]

    def run(raw: bool, seed: int) -> float:
        if cold:
            forget(files)
        fresh = samples(Contender(kind, raw), FeatureStore(path), folder)
        return frames_a_second(loader(fresh, kind, count=options.samples, seed=seed, workers=workers))

    turns(f"{kind}, first, {workers} workers{', cold' if cold else ''}", options.rounds, run)


def memory(process: int | str = "self") -> tuple[float, float]:
    """Return the peak of the resident set and its part without a file behind it now, in MiB."""
    lines = (line.split() for line in Path(f"/proc/{process}/status").read_text().splitlines())
    kib = {words[0]: int(words[1]) for words in lines if words[0] in ("VmHWM:", "RssAnon:")}
    return kib["VmHWM:"] / 1024, kib["RssAnon:"] / 1024


def resident(path: Path, folder: Path, contender: Contender, workers: int, passes: int) -> tuple[float, ...]:
    """Read everything in this process; return its memory before and after, and that of the largest worker."""
    torch.set_num_threads(1)
    data = samples(contender, FeatureStore(path), folder)
    before = memory()
    largest = (0.0, 0.0)
    for seed in range(passes):
        batches = loader(data, contender.kind, count=len(data), seed=seed, workers=workers)
        running: Any = iter(batches)
        for number, _ in enumerate(running, start=1):
            if number == len(batches) - 1:  # the workers have read all, and go when the iterator ends
                for worker in getattr(running, "_workers", []):
                    peak, anonymous = memory(worker.pid)
                    largest = max(largest, (peak, anonymous))
    after = memory()
    return before[0], *after, *largest


def report_memory(path: Path, folder: Path, options: argparse.Namespace) -> None:
    """Print the table of resident memory over whole passes of spans."""
    heads = ("before", "peak", "anonymous", "worker peak", "anonymous")
    print(f"{'MiB resident, spans':<34}" + "".join(f"{head:>13}" for head in heads))
    for raw in (False, True):
        for workers in options.workers:
            arguments = (path, folder, Contender("spans", raw), workers, options.passes)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                # Workers of a loader cannot be started by a daemon, as the processes of a pool are.
                found = pool.apply(undaemonised, (resident, arguments))
            name = f"{'memmap' if raw else 'store'}, {workers} workers"
            print(f"{name:<34}" + "".join(f"{value:>13.0f}" for value in found), flush=True)


def undaemonised(run: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Run a function in a pool's process that may have children."""
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    return run(*arguments)


def main() -> None:
    """Build what is missing, measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, help="feature store with training videos; none: simulate one")
    parser.add_argument("--folder", type=Path, help="where raw files and a simulated store go; none: a temporary one")
    parser.add_argument("--videos", type=int, default=60, help="videos of a simulated store (THUMOS14 has 413)")
    parser.add_argument("--frames", type=int, default=1038, help="mean frames of its videos, as THUMOS14's")
    parser.add_argument("--compression", choices=["gzip", "lzf"], help="of a simulated store")
    parser.add_argument("--samples", type=int, default=256, help="samples a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--passes", type=int, default=2, help="whole passes for the memory; 0 leaves it out")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, ", end="")
    print(f"torch {torch.__version__}, numpy {np.__version__}, h5py {h5py.__version__}, {options.rounds} rounds")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        path = options.path or folder / "simulated.h5"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            took = build(path, videos=options.videos, frames=options.frames, compression=options.compression)
            size = path.stat().st_size / 1e9
            print(f"built {path.name}: {size:.2f} GB in {took:.1f} s ({1000 * size / took:.0f} MB/s)")
        with FeatureStore(path) as store:
            copy_raw(store, folder / "raw")
            frames = sum(record.frames for record in store.videos("train"))
        print(f"{frames:,} training frames, {path.stat().st_size / 1e9:.2f} GB in the file")
        throughput(path, folder / "raw", options)
        if options.passes:
            report_memory(path, folder / "raw", options)


if __name__ == "__main__":
    main()
