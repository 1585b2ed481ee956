"""``coadtr data add-audio``."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import a_path, group, new_store, of_kind, plain, require, text
from coadtr.data import FeatureStore, render, summarise
from coadtr.data.rewriting.add_audio import add_audio

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Add the stream, and show what that gave."""
    require(cfg, "data", "audio", "out")
    settings = plain(cfg)
    out = new_store(settings)
    rate_hz, first_s = (
        None if settings[name] is None else float(of_kind(float, settings[name], name))
        for name in ("rate_hz", "first_s")
    )
    add_audio(
        a_path(settings, "data"),
        a_path(settings, "audio"),
        out,
        stream=of_kind(str, settings["stream"], "stream"),
        front_end=text(settings, "front_end") or "vggish",
        log_mel=None if settings["log_mel"] is None else group(settings, "log_mel"),
        rate_hz=rate_hz,
        first_s=first_s,
        align=of_kind(str, settings["align"], "align"),
        tolerance_s=float(of_kind(float, settings["tolerance_s"], "tolerance_s")),
    )
    with FeatureStore.open(out) as store:
        Console().print(render(summarise(store)))
