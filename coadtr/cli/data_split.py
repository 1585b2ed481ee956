"""``coadtr data split``."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import a_path, group, names, new_store, of_kind, plain, require, whole
from coadtr.data import FeatureStore, render, summarise
from coadtr.data.rewriting.splitting import split_store

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Take a part of a store or change its splits, and show what that gave."""
    require(cfg, "path", "out")
    settings = plain(cfg)
    out = new_store(settings)
    fractions, assign = group(settings, "fractions"), group(settings, "assign")
    split_store(
        a_path(settings, "path"),
        out,
        videos=names(settings, "videos"),
        streams=names(settings, "streams"),
        fractions={
            split: of_kind(float, value, f"fractions.{split}")
            for split, value in fractions.items()
            if value is not None
        },
        assign={split: names(assign, split) or [] for split, value in assign.items() if value is not None},
        seed=whole(settings, "seed", least=0),
    )
    with FeatureStore.open(out) as store:
        Console().print(render(summarise(store)))
