"""``coadtr data inspect``."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import a_path, names, plain, require, whole
from coadtr.data import FeatureStore, render, summarise
from coadtr.data.timeline import plot_timeline

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Show what a store holds, and draw it if asked to."""
    require(cfg, "path")
    settings = plain(cfg)
    plot = None if settings["plot"] is None else a_path(settings, "plot")
    videos, most = names(settings, "videos"), whole(settings, "most", least=1)
    with FeatureStore.open(a_path(settings, "path")) as store:
        if plot is not None:
            plot_timeline(store, plot, videos=videos, most=most)
        console = Console()
        console.print(render(summarise(store)))
        if plot is not None:
            console.print(f"drawn to {plot}", soft_wrap=True, highlight=False, markup=False)
