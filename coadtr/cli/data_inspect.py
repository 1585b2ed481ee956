"""``coadtr data inspect``."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import require
from coadtr.data import FeatureStore, render, summarise

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Show what a store holds."""
    require(cfg, "path")
    with FeatureStore.open(cfg.path) as store:
        if cfg.check:
            store.check()
        Console().print(render(summarise(store)))
