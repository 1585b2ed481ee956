"""``coadtr replay``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import torch
from omegaconf import DictConfig
from rich.console import Console

from coadtr.checkpoint import Checkpoint, load
from coadtr.cli.replaying import Mode, ReplayTask, Wanted
from coadtr.cli.settings import a_path, fill, group, of_kind, one_of, plain, require, text, whether, whole
from coadtr.data import FeatureStore, ScoreJournal, write_scores
from coadtr.errors import ConfigError
from coadtr.evaluation import (
    CausalSmoothing,
    DetailSettings,
    Ranks,
    find_protocol,
    render_report,
    write_report,
)
from coadtr.layers import Backend, Precision

__all__ = ["main", "read_wanted", "replay_checkpoint"]


def main(cfg: DictConfig) -> None:
    """Replay, write the report and the scores, print the table."""
    require(cfg, "checkpoint", "data")
    settings = plain(cfg)
    wanted = read_wanted(settings)
    device = text(settings, "device")
    if settings["threads"] is not None:
        torch.set_num_threads(whole(settings, "threads", least=1))
    source = a_path(settings, "checkpoint")
    with Ranks(gpu=device is not None and device.startswith("cuda")) as ranks:
        checkpoint = load(source, device if device != "cuda" or ranks.size == 1 else f"cuda:{ranks.local}")
        out = source.resolve().parent / "replay" if settings["out"] is None else a_path(settings, "out")
        if out.exists() and not out.is_dir():
            raise ConfigError(f"{out} is a file: name a folder for the report and the scores")
        with FeatureStore.open(a_path(settings, "data")) as store:
            report = replay_checkpoint(checkpoint, store, wanted, out, ranks)
    if report is not None:
        console = Console()
        console.print(render_report(report))
        console.print(f"written to {out / 'report.json'} and {out / 'scores.h5'}", soft_wrap=True, highlight=False)


def read_wanted(settings: dict[str, Any]) -> Wanted:
    """Read the settings of a replay.

    Raises:
        ConfigError: If one cannot be used.
    """
    timed = settings["latency"] is not None
    latency = group(settings, "latency") if timed else {"warmup": 0, "steps": 1, "streams": []}
    streams = latency["streams"]
    if not isinstance(streams, list) or not all(type(one) is int and one > 0 for one in streams):
        raise ConfigError(f"latency.streams must be a list of whole numbers such as [1,16,64], got {streams!r}")
    return Wanted(
        split=text(settings, "split"),
        protocol=find_protocol(of_kind(str, settings["protocol"], "protocol")).name,
        mode=one_of(get_args(Mode), settings["mode"], "mode"),
        batch_size=whole(settings, "batch_size", least=1),
        precision=one_of((None, *get_args(Precision)), settings["precision"], "precision"),
        backend=one_of(get_args(Backend), settings["backend"], "backend"),
        smoothing=CausalSmoothing.parse(group(settings, "smoothing")),
        anticipation=whether(settings, "anticipation"),
        audit=whether(settings, "audit"),
        details=fill(DetailSettings, settings, "details"),
        timed=timed,
        warmup=whole(latency, "warmup", least=0),
        steps=whole(latency, "steps", least=1),
        streams=tuple(streams),
    )


def replay_checkpoint(
    checkpoint: Checkpoint, store: FeatureStore, wanted: Wanted, out: Path, ranks: Ranks | None = None
) -> dict[str, Any] | None:
    """Replay a split of a store through a checkpoint; the lead process writes and returns the report.

    What is answered is kept video by video beside the score file until the report is written, so that a replay that
    was killed goes on where it was.
    """
    ranks = ranks or Ranks()
    task = ReplayTask(checkpoint, store, wanted)
    journal = ScoreJournal(out / "scores.h5", class_names=checkpoint.spec.class_names, identity=task.identity())
    made: dict[str, Any] = {}

    def prepare() -> None:
        if wanted.audit:
            made["audit"] = task.audit()
        journal.open()

    def report() -> None:
        videos = [task.finish(video) for video in journal.read_all([record.name for record in task.records])]
        made["report"] = task.report(videos, audit=made.get("audit"))
        _write_scores(out / "scores.h5", task, videos)
        write_report(made["report"], out / "report.json")
        journal.discard()

    try:
        ranks.together(prepare, lead_only=True)
        ranks.together(lambda: task.answer(journal, ranks))
        ranks.together(report, lead_only=True)
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
