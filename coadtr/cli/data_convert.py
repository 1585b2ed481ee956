"""``coadtr data convert``."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape

from coadtr.cli.settings import a_path, new_store, one_of, plain, require
from coadtr.data import FeatureStore, render, summarise
from coadtr.data.rewriting.rewrite import convert_store

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Write a store anew, show it, and say what rounding cost."""
    require(cfg, "path", "out")
    settings = plain(cfg)
    out = new_store(settings)
    path = a_path(settings, "path")
    worst = convert_store(
        path,
        out,
        dtype=one_of((None, "float16", "float32"), settings["dtype"], "dtype"),
        compression=one_of((None, "gzip", "lzf"), settings["compression"], "compression"),
    )
    console = Console()
    with FeatureStore.open(out) as store:
        console.print(render(summarise(store)))
    before, after = path.stat().st_size, out.stat().st_size
    console.print(f"{after:,} bytes, {after / before:.0%} of {escape(str(path))}", soft_wrap=True, highlight=False)
    if worst is not None:
        console.print(
            f"largest rounding error: {worst.error:.3g} (value {worst.value:.6g}; video {escape(repr(worst.video))}, "
            f"stream {escape(repr(worst.stream))}, frame {worst.frame}, channel {worst.channel})",
            soft_wrap=True,
            highlight=False,
        )
