"""``coadtr train``."""

from __future__ import annotations

from functools import partial

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import a_path, command_line, fill, group, names, plain, watched, whether
from coadtr.data import FeatureStore
from coadtr.training import TrainingSettings, train

__all__ = ["main"]


def main(cfg: DictConfig) -> float:
    """Train as the settings say; return the validation score, for sweeps."""
    settings = plain(cfg)
    dataset = group(settings, "dataset")
    with FeatureStore.open(a_path(dataset, "path")) as store:
        result = train(
            store,
            group(settings, "model"),
            fill(TrainingSettings, settings, "trainer"),
            a_path(settings, "out"),
            streams=names(dataset, "streams"),
            resume=whether(settings, "resume"),
            command=command_line(),
            progress=watched(settings, "progress"),
            say=partial(print, flush=True),
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"validation mAP {result.validation_map:.4f} in epoch {result.epoch}")
    console.print(f"checkpoint     {result.checkpoint}")
    console.print(f"replay it with coadtr replay checkpoint={result.checkpoint} data={dataset['path']}")
    return result.validation_map
