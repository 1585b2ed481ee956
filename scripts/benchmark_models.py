"""Train, replay and compare all models on the small data sets: one table with accuracy, cost and training time.

command: python scripts/benchmark_models.py --data data/benchmark --out runs/benchmark --sources PATH
cost and result: docs/benchmark.md

For each data set and model: the same few learning rates are tried with seed 0, the best on the validation videos is
trained with all seeds, and every run is replayed on the test videos, which nothing else looks at. Work that is done is
kept: the same command goes on where it was interrupted. ``--help`` lists the settings.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

# Data set: its experiment files, the source of its features, and how that is imported.
DATA_SETS = {
    "exercises": ("exercises", None),
    "50salads_mid-1": ("50salads_mid", "50salads_mid/Split_1.npz"),
    "50salads_mid-2": ("50salads_mid", "50salads_mid/Split_2.npz"),
    "gtea": ("gtea", "gtea/Split_1.npz"),
}
MODELS = (
    "miniroad", "trn", "lstr", "testra", "cmert",
    "oadtr", "oadtr_b1", "oadtr_b2", "cooadtr_b1", "cooadtr_b2", "cooadtr_b3",
    "deepcot", "deepcot_soft", "nystroem", "grab",
)  # fmt: skip
WIDTHS = {"embed_dim": 64, "num_heads": 4, "ff_dim": 64, "hidden_dim": 64}
# One recipe for all models; what is tuned is the learning rate.
RATES = (1e-3, 3e-3)
RECIPE = ("optimizer=adamw", "weight_decay=0.05", "schedule=cosine", "warmup_epochs=2", "accelerator=cpu")
# Epochs, set so that each model takes some 500 steps, and their last one alone is validated: what validation chooses
# is the learning rate.
SPANS: dict[str, tuple[int, str, str]] = {
    "exercises": (40, "batch_size=2", "sequence_length=512"),
    "50salads_mid": (24, "batch_size=4", "sequence_length=768"),
    "gtea": (32, "batch_size=4", "sequence_length=512"),
}
CLIPS = {"exercises": 20, "50salads_mid": 8, "gtea": 14}
CLIP_BATCHES = {
    "oadtr": ("batch_size=32", "stride=16"),
    "memory": ("batch_size=16", "stride=32"),
    "trn": ("batch_size=32", "stride=32"),
}
# The features of the last two were trained on the training videos, and are cleaner there than on the test videos.
HARDER = ("noise=0.3", "channel_dropout=0.1", "interference=0.3")
CHANGES: dict[str, tuple[str, ...]] = {"exercises": ("splice=0.5",), "50salads_mid": HARDER, "gtea": HARDER}


@dataclass(frozen=True)
class Job:
    """One training and, unless it only tunes, its replay."""

    data_set: str
    model: str
    rate: float
    seed: int
    replay: bool
    data: Path
    out: Path

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return self.out / self.data_set / self.model / f"rate-{self.rate:g}-seed-{self.seed}"

    @property
    def store(self) -> Path:
        """Feature store of the data set."""
        return self.data / f"{self.data_set}.h5"


def compose(command: str, *overrides: str) -> Any:
    """Compose settings as the command does."""
    from hydra import compose as composed  # noqa: PLC0415 - each process imports what it needs
    from hydra import initialize_config_dir  # noqa: PLC0415
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415
    from omegaconf import open_dict  # noqa: PLC0415

    from coadtr.cli.main import config_folder  # noqa: PLC0415

    with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
        settings = composed(command, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(settings)
    with open_dict(settings):
        del settings["hydra"]
    return settings


def carry_out(job: Job) -> dict[str, Any]:
    """Train a job's run, and replay it; what is done already is read."""
    import torch  # noqa: PLC0415

    from coadtr.cli import replay, train  # noqa: PLC0415

    torch.set_num_threads(1)
    record = job.run / "benchmark.json"
    known: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
    with contextlib.redirect_stdout(io.StringIO()):
        if "validation_mAP" not in known:
            settings = train_settings(job)
            begun = (
                job.run / "lightning" / "last.ckpt"
            ).exists()  # of a run taken up again, the time is that of a part
            before = time.process_time()
            result, trained = train.run(settings, again=False)
            seconds = time.process_time() - before if trained and not begun else None
            known = {"validation_mAP": result.validation_map, "epoch": result.epoch, "cpu_seconds": seconds}
            write(record, known)
        if job.replay and not (job.run / "replay" / "report.json").exists():
            settings = [f"checkpoint={job.run / 'checkpoint'}", f"data={job.store}", "latency=null"]
            replay.main(compose("replay", *settings, "details.resamples=100"))
    return known


def train_settings(job: Job) -> Any:
    """Compose the settings of a run: the experiment's, with the benchmark's widths and recipe."""
    family = DATA_SETS[job.data_set][0]
    experiment = f"experiment={family}/{job.model}"
    plain = compose("train", experiment)
    widths = [f"model.{name}={width}" for name, width in WIDTHS.items() if name in plain.model]
    windows = plain.trainer.sampling == "windows"
    epochs, *batches = (CLIPS[family], *CLIP_BATCHES[kind_of(job.model)]) if windows else SPANS[family]
    recipe = [*RECIPE, *batches, f"learning_rate={job.rate}", *(f"augmentation.{change}" for change in CHANGES[family])]
    recipe += [f"max_epochs={epochs}", f"validate_every={epochs}"]
    settings = [*widths, *(f"trainer.{setting}" for setting in recipe)]
    settings += [f"dataset.path={job.store}", f"out={job.run}", f"seed={job.seed}", "progress=false"]
    return compose("train", experiment, *settings)


def kind_of(model: str) -> str:
    """Name the kind of a model that is trained on clips: an entry of ``CLIP_BATCHES``."""
    return "oadtr" if "oadtr" in model else "trn" if model == "trn" else "memory"


def write(path: Path, value: Any) -> None:
    """Write JSON under its final name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    partial.replace(path)


def prepare(data: Path, sources: Path | None, wanted: Sequence[str]) -> list[str]:
    """Import the data sets; return those that are there."""
    from coadtr.data import import_features  # noqa: PLC0415

    found = []
    for name in wanted:
        store, source = data / f"{name}.h5", DATA_SETS[name][1]
        if not store.exists():
            place = None if source is None or sources is None else sources / source
            if source is not None and (place is None or not place.exists()):
                Console(stderr=True).print(f"{name} is left out: {source} is not in --sources {sources}")
                continue
            data.mkdir(parents=True, exist_ok=True)
            import_features("exercises" if place is None else "sequence-npz", place, store)
        found.append(name)
    return found


def run_all(jobs: Sequence[Job], title: str, processes: int) -> dict[Job, dict[str, Any]]:
    """Carry out jobs side by side, one thread each; the first error ends them all."""
    found: dict[Job, dict[str, Any]] = {}
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes that are started now
    # Afresh, not forked: threads of torch do not survive a fork.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool, Progress() as progress:
        task = progress.add_task(title, total=len(jobs))
        waiting: dict[Future[dict[str, Any]], Job] = {pool.submit(carry_out, job): job for job in jobs}
        for done in as_completed(waiting):
            job = waiting[done]
            try:
                found[job] = done.result()
            except Exception as error:
                pool.shutdown(cancel_futures=True)
                raise SystemExit(f"{job.data_set}, {job.model}: {error}") from error
            progress.advance(task)
    return found


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train, replay and compare all models on the small data sets.")
    parser.add_argument("--data", type=Path, default=Path("data/benchmark"), help="folder of the feature stores")
    parser.add_argument("--sources", type=Path, help="folder with 50salads_mid/ and gtea/; without it, exercises alone")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="folder of runs and table")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, metavar="MODEL")
    parser.add_argument("--data-sets", nargs="+", default=list(DATA_SETS), choices=DATA_SETS, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each model (default: 5)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="runs side by side")
    return parser.parse_args()


def main() -> None:
    """Tune, train, replay, and write the table."""
    wanted = arguments()
    data_sets = prepare(wanted.data, wanted.sources, wanted.data_sets)
    common = {"data": wanted.data.resolve(), "out": wanted.out.resolve()}
    tuning = [
        Job(data_set, model, rate, seed=0, replay=False, **common)
        for data_set in data_sets
        for model in wanted.models
        for rate in RATES
    ]
    tuned = run_all(tuning, "tuning", wanted.processes)
    best: dict[tuple[str, str], Job] = {}
    for job in tuning:  # of equal scores the first
        place = (job.data_set, job.model)
        if place not in best or tuned[job]["validation_mAP"] > tuned[best[place]]["validation_mAP"]:
            best[place] = job
    final = [replace(job, seed=seed, replay=True) for job in best.values() for seed in range(wanted.seeds)]
    found = run_all(final, "training", wanted.processes)
    for (data_set, model), chosen in best.items():
        runs = {job.seed: str(job.run) for job in found if (job.data_set, job.model) == (data_set, model)}
        write(wanted.out / data_set / model / "chosen.json", {"rate": chosen.rate, "runs": runs})
    table = Path(__file__).with_name("benchmark_table.py")
    sys.exit(subprocess.call([sys.executable, str(table), str(wanted.out)]))  # noqa: S603


if __name__ == "__main__":
    main()
