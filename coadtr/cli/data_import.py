"""``coadtr data import``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import plain, require
from coadtr.data import FeatureStore, import_features, render, summarise
from coadtr.errors import ConfigError

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Import and show what was imported."""
    require(cfg, "format", "out")
    settings = plain(cfg)
    out = Path(settings["out"])
    if out.exists() and not settings["overwrite"]:
        raise ConfigError(f"{out} exists: choose another out, or say overwrite=true to replace it")
    options = {name: value for name, value in settings["options"].items() if value is not None}
    import_features(settings["format"], settings["source"], out, **options)
    with FeatureStore.open(out) as store:
        Console().print(render(summarise(store)))
