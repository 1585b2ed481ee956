"""``coadtr train``."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from coadtr.checkpoint import load
from coadtr.cli.processes import leads, run_processes, started_outside, this_command
from coadtr.cli.settings import a_path, command_line, fill, group, names, plain, watched, whether
from coadtr.data import FeatureStore
from coadtr.reporting.reading import read_curves
from coadtr.training import TrainingResult, TrainingSettings, train
from coadtr.training.record import describe_run, read_run

__all__ = ["main", "run"]


def main(cfg: DictConfig) -> float:
    """Train as the settings say; return the validation score."""
    return run(cfg)[0].validation_map


def run(cfg: DictConfig, *, again: bool = True) -> tuple[TrainingResult, bool]:
    """Train as the settings say.

    Args:
        cfg: The composed settings.
        again: Refuse the folder of a finished run; if false, and its settings are these, take what it gave.

    Returns:
        What the run gave, and whether it was trained now.
    """
    settings = plain(cfg)
    dataset = group(settings, "dataset")
    out = a_path(settings, "out")
    with FeatureStore.open(a_path(dataset, "path")) as store:
        wanted = fill(TrainingSettings, settings, "trainer")
        if not again and (done := _finished(store, settings, wanted, out)):
            print(f"finished       {done.checkpoint}", flush=True)
            return done, False
        if wanted.devices * wanted.nodes > 1 and not started_outside():
            overrides = [*HydraConfig.get().overrides.task, f"out={out}"]
            run_processes(this_command("train", overrides), wanted.devices, nodes=wanted.nodes)
            return _trained(out), True
        result = train(
            store,
            group(settings, "model"),
            wanted,
            out,
            streams=names(dataset, "streams"),
            resume=whether(settings, "resume"),
            command=command_line(),
            progress=watched(settings, "progress"),
            say=partial(print, flush=True),
        )
    if not leads():
        return result, True
    console = Console(soft_wrap=True, highlight=False)
    console.print(_epochs(out, result))
    console.print(f"validation mAP {result.validation_map:.4f} in epoch {result.epoch}")
    console.print(f"checkpoint     {result.checkpoint}")
    console.print(f"replay it with coadtr replay checkpoint={result.checkpoint} data={dataset['path']}")
    return result, True


def _finished(
    store: FeatureStore, settings: dict[str, Any], wanted: TrainingSettings, out: Path
) -> TrainingResult | None:
    """Read what a finished run of the same settings and data gave, if the folder holds one."""
    if not (out / "run.json").exists() or not (before := read_run(out)).get("finished"):
        return None
    streams = names(group(settings, "dataset"), "streams")
    run = describe_run(store, group(settings, "model"), wanted, streams)
    for part in ("model", "training", "data"):
        if {**before[part], "path": None} != {**run[part], "path": None}:
            return None
    return _trained(out)


def _trained(out: Path) -> TrainingResult:
    """Read what a finished run gave."""
    metric = load(out / "checkpoint").origin["metric"]
    return TrainingResult(out / "checkpoint", metric["value"], metric["epoch"])


def _epochs(out: Path, result: TrainingResult) -> Table:
    """Show the epoch that became the checkpoint beside the first and the last."""
    table = Table(title="Training", title_justify="left")
    for column in ("epoch", "train loss", "validation loss", "validation mAP", ""):
        table.add_column(column, justify="right" if column else "left")
    curves = read_curves(out)
    if curves is None:
        return table
    curves = curves.set_index("epoch")[["train_loss", "val_loss", "val_mAP"]]
    shown = {int(curves.index.min()): "first", int(curves.index.max()): "last"} | {result.epoch: "the checkpoint"}
    for epoch, what in sorted(shown.items()):
        values = curves.loc[[epoch]].to_numpy(float)[0].tolist()
        table.add_row(str(epoch), *("-" if math.isnan(value) else f"{value:.4f}" for value in values), what)
    return table
