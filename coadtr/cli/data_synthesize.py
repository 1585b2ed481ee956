"""``coadtr data synthesize``."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import a_path, group, new_store, of_kind, one_of, plain, require, text, whole
from coadtr.data import FeatureStore, render, summarise
from coadtr.data.synthesize import synthesize_thumos14

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Write a store of real labels and simulated features, and show what it holds."""
    require(cfg, "like", "source", "out")
    settings = plain(cfg)
    one_of(("thumos14",), settings["like"], "like")
    out = new_store(settings)
    synthesize_thumos14(
        a_path(settings, "source"),
        out,
        seed=whole(settings, "seed", least=0),
        streams={name: whole(settings, f"streams.{name}", least=1) for name in group(settings, "streams")},
        dtype=of_kind(str, settings["dtype"], "dtype"),
        compression=text(settings, "compression"),
        noise=float(of_kind(float, settings["noise"], "noise")),
        scale=float(of_kind(float, settings["scale"], "scale")),
        validation_fraction=float(of_kind(float, settings["validation_fraction"], "validation_fraction")),
    )
    with FeatureStore.open(out) as store:
        Console().print(render(summarise(store)))
