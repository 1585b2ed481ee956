"""``coadtr train``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from coadtr.cli.settings import a_path, command_line, fill, group, names, plain, watched, whether
from coadtr.data import FeatureStore
from coadtr.reporting.reading import read_curves
from coadtr.training import TrainingResult, TrainingSettings, train

__all__ = ["main"]


def main(cfg: DictConfig) -> float:
    """Train as the settings say; return the validation score, for sweeps."""
    settings = plain(cfg)
    dataset = group(settings, "dataset")
    out = a_path(settings, "out")
    with FeatureStore.open(a_path(dataset, "path")) as store:
        result = train(
            store,
            group(settings, "model"),
            fill(TrainingSettings, settings, "trainer"),
            out,
            streams=names(dataset, "streams"),
            resume=whether(settings, "resume"),
            command=command_line(),
            progress=watched(settings, "progress"),
            say=partial(print, flush=True),
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(_epochs(out, result))
    console.print(f"validation mAP {result.validation_map:.4f} in epoch {result.epoch}")
    console.print(f"checkpoint     {result.checkpoint}")
    console.print(f"replay it with coadtr replay checkpoint={result.checkpoint} data={dataset['path']}")
    return result.validation_map


def _epochs(out: Path, result: TrainingResult) -> Table:
    """Show the epoch that became the checkpoint beside the first and the last."""
    table = Table(title="Training", title_justify="left")
    for column in ("epoch", "train loss", "validation loss", "validation mAP", ""):
        table.add_column(column, justify="right" if column else "left")
    curves = read_curves(out)
    if curves is None:
        return table
    curves = curves.set_index("epoch")
    shown = {int(curves.index.min()): "first", int(curves.index.max()): "last"} | {result.epoch: "the checkpoint"}
    for epoch, what in sorted(shown.items()):
        row = curves.loc[epoch]
        table.add_row(
            str(epoch), *(f"{row[name]:.4f}" for name in ("train_loss", "val_loss")), f"{row['val_mAP']:.4f}", what
        )
    return table
