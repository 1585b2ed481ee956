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
from coadtr.cli.naming import named_in_full
from coadtr.cli.processes import leads, quoted, run_processes, started_outside, this_command
from coadtr.cli.settings import a_path, command_line, fill, group, names, plain, text, watched, whether
from coadtr.data import FeatureStore
from coadtr.errors import ConfigError
from coadtr.reporting.reading import read_curves
from coadtr.training import TrainingResult, TrainingSettings, train
from coadtr.training.record import completed, describe_run, read_run

__all__ = ["main", "run"]

# What a command says of Hydra that is not for the processes of one of its runs.
LAUNCHING = ("hydra.mode=", "hydra.sweep", "hydra/sweeper", "hydra.launcher", "hydra/launcher", "hydra.job.chdir=")


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
    dataset, streams, task = group(settings, "dataset"), _streams(settings), text(settings, "task")
    out = a_path(settings, "out")
    with FeatureStore.open(a_path(dataset, "path")) as store:
        wanted = fill(TrainingSettings, settings, "trainer")
        groups = {name: group(settings, name) for name in ("model", "trainer")}
        if not again and (done := _finished(store, settings, wanted, out)):
            print(f"finished       {done.checkpoint}", flush=True)
            return done, False
        count, progress = wanted.devices * wanted.nodes, watched(settings, "progress")
        if count > 1 and not started_outside(count):
            command = this_command("train", _words(out, progress=progress))
            run_processes(command, wanted.devices, nodes=wanted.nodes, progress=progress)
            return _trained(out), True
        with named_in_full(groups):
            result = train(
                store,
                groups["model"],
                wanted,
                out,
                streams=streams,
                task=task,
                resume=whether(settings, "resume"),
                command=command_line(),
                progress=progress,
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


def _streams(settings: dict[str, Any]) -> list[str] | None:
    """Read the names of the feature streams to use; none for all.

    Raises:
        ConfigError: If they are asked for where they were asked for once.
    """
    if group(settings, "dataset").get("streams") is not None:  # of a settings file of the user's own
        raise ConfigError("dataset.streams is now features.streams: name the feature streams there")
    return names(settings, "features.streams")


def _words(out: Path, *, progress: bool) -> list[str]:
    """Write what the user gave for this run, for a process that is one of several that train it."""
    hydra = HydraConfig.get()
    sources = (source.path for source in hydra.runtime.config_sources if source.provider == "command-line")
    given = (word for word in hydra.overrides.hydra if not word.lstrip("+~").startswith(LAUNCHING))
    # What a sweep has settled for its job is in no word of the user's.
    settled = (f"out={quoted(str(out))}", f"progress={str(progress).lower()}")
    return [*(word for path in sources for word in ("-cd", path)), *given, *hydra.overrides.task, *settled]


def _finished(
    store: FeatureStore, settings: dict[str, Any], wanted: TrainingSettings, out: Path
) -> TrainingResult | None:
    """Read what a finished run of the same settings and data gave, if the folder holds one."""
    if not (out / "run.json").exists() or not (before := read_run(out)).get("finished"):
        return None
    model = group(settings, "model")
    with named_in_full({"model": model}):
        run = describe_run(store, model, wanted, _streams(settings), text(settings, "task"))
    before = completed(before)
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
    curves = read_curves(out)
    measures = {"train_loss": "train loss", "val_loss": "validation loss", "val_mAP": "validation mAP"}
    if curves is not None and "val_clip_accuracy" in curves:
        measures["val_clip_accuracy"] = "right at the end"
    for column in ("epoch", *measures.values(), ""):
        table.add_column(column, justify="right" if column else "left", no_wrap=not column)
    if curves is None:
        return table
    curves = curves.set_index("epoch")[list(measures)]
    shown = {int(curves.index.min()): "first", int(curves.index.max()): "last"} | {result.epoch: "the checkpoint"}
    for epoch, what in sorted(shown.items()):
        values = curves.loc[[epoch]].to_numpy(float)[0].tolist()
        table.add_row(str(epoch), *("-" if math.isnan(value) else f"{value:.4f}" for value in values), what)
    return table
