"""``coadtr data split``."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import a_path, group, names, of_kind, plain, require, whether, whole
from coadtr.data import FeatureStore, render, summarise
from coadtr.data.rewriting.splitting import split_store
from coadtr.errors import ConfigError

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Take a part of a store or change its splits, and show what that gave."""
    require(cfg, "path", "out")
    settings = plain(cfg)
    out = a_path(settings, "out")
    if not whether(settings, "overwrite") and out.exists():
        raise ConfigError(f"{out} exists: choose another out, or say overwrite=true to replace it")
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
