"""``coadtr replay``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console

from coadtr.checkpoint import Checkpoint, load
from coadtr.checkpoint.loading import ORIGIN_FILE
from coadtr.cli.replay_settings import ReplaySettings
from coadtr.cli.replaying import ReplayTask
from coadtr.cli.settings import a_path, plain, require, text, whole
from coadtr.data import FeatureStore, ScoreJournal, write_scores
from coadtr.data.exercises import STREAMS
from coadtr.errors import ConfigError
from coadtr.evaluation import (
    Ranks,
    render_report,
    write_report,
)

__all__ = ["main", "replay_task", "results_beside", "store_of_training"]


def main(cfg: DictConfig) -> None:
    """Replay, write the report and the scores, print the table."""
    require(cfg, "checkpoint")
    settings = plain(cfg)
    wanted = ReplaySettings.read(settings)
    device = text(settings, "device")
    if settings["threads"] is not None:
        torch.set_num_threads(whole(settings, "threads", least=1))
    source = a_path(settings, "checkpoint")
    out = results_beside(source.resolve()) if settings["out"] is None else a_path(settings, "out")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: name a folder for the report and the scores")
    if out.resolve() == source.resolve():
        raise ConfigError(f"{out} is the checkpoint: name another folder for the report and the scores")
    report = None
    with Ranks(gpu=device is not None and device.startswith("cuda")) as ranks, ExitStack() as stack:
        opened: list[ReplayTask] = []

        def begin() -> None:
            checkpoint = load(source, device if device != "cuda" or ranks.size == 1 else f"cuda:{ranks.local}")
            data = store_of_training(checkpoint) if settings["data"] is None else a_path(settings, "data")
            store = stack.enter_context(FeatureStore.open(data))
            opened.append(ReplayTask(checkpoint, store, wanted))

        ranks.together(begin)
        report = replay_task(opened[0], out, ranks)
    if report is not None:
        console = Console()
        console.print(render_report(report))
        console.print(f"written to {out / 'report.json'} and {out / 'scores.h5'}", soft_wrap=True, highlight=False)


def results_beside(checkpoint: Path) -> Path:
    """Name the folder of the results: in its run, or beside a checkpoint that may have others for neighbours."""
    name = "replay" if (checkpoint.parent / "run.json").exists() else f"{checkpoint.name}-replay"
    return checkpoint.parent / name


def store_of_training(checkpoint: Checkpoint) -> Path:
    """Find the store that a checkpoint was trained on: the path in its record, relative to the working folder.

    Raises:
        ConfigError: If the record names none, or it is not there.
    """
    data = checkpoint.origin.get("data")
    recorded = data.get("path") if isinstance(data, dict) else None
    if not isinstance(recorded, str) or not recorded:
        raise ConfigError(
            f"data=... must be given: {checkpoint.path / ORIGIN_FILE} does not name the store of the training"
        )
    path = Path(recorded)
    if not path.exists():
        # The name alone could be that of another store.
        embedded = path.name == "exercises.h5" and dict(checkpoint.spec.streams) == dict(STREAMS)
        import_it = f"make it with `coadtr data import format=exercises out={path}`, or " if embedded else ""
        raise ConfigError(
            f"there is no {path} here, on which {checkpoint.path} was trained: {import_it}name its store as data=..."
        )
    return path


def replay_task(task: ReplayTask, out: Path, ranks: Ranks | None = None) -> dict[str, Any] | None:
    """Answer, score and write; the lead process returns the report.

    What is answered is kept beside the score file until the report is written, so that a replay that was killed goes
    on where it was.
    """
    ranks = ranks or Ranks()
    journal = ScoreJournal(out / "scores.h5", class_names=task.checkpoint.spec.class_names, identity=task.identity())
    made: dict[str, Any] = {}

    def prepare() -> None:
        if not ranks.lead:
            return
        if not task.wanted.overwrite:
            task.check_report(out / "report.json")
        task.check_protocol()
        dropped = journal.open()
        if dropped:
            print(f"{dropped} videos that were answered with other settings or data are dropped", file=sys.stderr)
        if task.wanted.audit:
            made["audit"] = task.audit()

    def answer() -> None:
        try:
            task.answer(journal, ranks)
        except BaseException:
            journal.give_up()
            raise

    def report() -> None:
        if not ranks.lead:
            return
        videos = [task.finish(video) for video in journal.read_all([record.name for record in task.records])]
        made["report"] = task.report(videos, audit=made.get("audit"))
        # Never new scores beside an old report.
        (out / "report.json").unlink(missing_ok=True)
        _write_scores(out / "scores.h5", task, videos)
        write_report(made["report"], out / "report.json")
        journal.discard()

    try:
        for work in (prepare, answer, report):
            ranks.together(work)
    finally:
        if ranks.lead:
            journal.close()
    return made.get("report")


def _write_scores(path: Path, task: ReplayTask, videos: list[Any]) -> None:
    wanted = task.wanted
    write_scores(
        path,
        class_names=task.checkpoint.spec.class_names,
        attributes={
            "checkpoint": str(task.checkpoint.path),
            "data": task.store.fingerprint(),
            "split": wanted.split,
            "protocol": wanted.protocol,
            "smoothing": None if wanted.smoothing is None else wanted.smoothing.to_dict(),
        },
        videos=videos,
    )
