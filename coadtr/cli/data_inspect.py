"""``coadtr data inspect``."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import a_path, plain, require, whether
from coadtr.data import FeatureStore, render, summarise

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Show what a store holds."""
    require(cfg, "path")
    settings = plain(cfg)
    check = whether(settings, "check")
    with FeatureStore.open(a_path(settings, "path")) as store:
        if check:
            store.check()
        Console().print(render(summarise(store)))
