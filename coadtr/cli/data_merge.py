"""``coadtr data merge``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import names, new_store, one_of, plain, require, whether
from coadtr.data import FeatureStore, render, summarise
from coadtr.data.rewriting.merge import merge_stores

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Join stores, and show what that gave."""
    require(cfg, "paths", "out")
    settings = plain(cfg)
    out = new_store(settings)
    classes = one_of(("same", "union"), settings["classes"], "classes")
    paths = [Path(path) for path in names(settings, "paths") or []]
    merge_stores(paths, out, classes=classes, prefix=whether(settings, "prefix"))
    with FeatureStore.open(out) as store:
        Console().print(render(summarise(store)))
