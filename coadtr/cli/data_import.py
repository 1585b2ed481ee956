"""``coadtr data import``."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import a_path, group, of_kind, plain, require, whether
from coadtr.data import FeatureStore, import_features, render, summarise
from coadtr.errors import ConfigError

__all__ = ["main"]

# Kinds of the options that are not names of files, streams or feature sets.
KINDS = {"seed": int, "validation_fraction": float, "rate_hz": float}


def main(cfg: DictConfig) -> None:
    """Import and show what was imported."""
    require(cfg, "format", "out")
    settings = plain(cfg)
    out = a_path(settings, "out")
    if not whether(settings, "overwrite") and out.exists():
        raise ConfigError(f"{out} exists: choose another out, or say overwrite=true to replace it")
    source = None if settings["source"] is None else a_path(settings, "source")
    options = {
        name: of_kind(KINDS.get(name, str), value, f"options.{name}")
        for name, value in group(settings, "options").items()
        if value is not None
    }
    import_features(of_kind(str, settings["format"], "format"), source, out, **options)
    with FeatureStore.open(out) as store:
        Console().print(render(summarise(store)))
