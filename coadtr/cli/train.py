"""``coadtr train``."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import command_line, plain
from coadtr.data import FeatureStore
from coadtr.training import TrainingSettings, train

__all__ = ["main"]


def main(cfg: DictConfig) -> float:
    """Train as the settings say; return the validation score, for sweeps."""
    settings = plain(cfg)
    with FeatureStore.open(settings["dataset"]["path"]) as store:
        result = train(
            store,
            settings["model"],
            TrainingSettings(**settings["trainer"]),
            settings["out"],
            streams=settings["dataset"]["streams"],
            resume=settings["resume"],
            command=command_line(),
            progress=settings["progress"],
        )
    console = Console(soft_wrap=True)
    console.print(f"validation mAP {result.validation_map:.4f} in epoch {result.epoch}")
    console.print(f"checkpoint     {result.checkpoint}", highlight=False)
    console.print(
        f"replay it with coadtr replay checkpoint={result.checkpoint} data={settings['data']['path']}", highlight=False
    )
    return result.validation_map
