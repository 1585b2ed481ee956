"""``coadtr data import``."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape

from coadtr.cli.options import as_settings, settings_named, typed_options
from coadtr.cli.settings import a_path, group, new_store, of_kind, plain, require, text, whether
from coadtr.data import import_features, render
from coadtr.data.importers import planner

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Import, and show what was imported."""
    require(cfg, "format", "out")
    settings = plain(cfg)
    dry_run = whether(settings, "dry_run")
    out = a_path(settings, "out") if dry_run else new_store(settings)
    layout = of_kind(str, settings["format"], "format")
    plan = planner(layout)
    options = typed_options(plan, group(settings, "options"))
    with settings_named(plan, dry_run=dry_run):
        report = import_features(
            layout,
            None if settings["source"] is None else a_path(settings, "source"),
            out,
            align=of_kind(str, settings["align"], "align"),
            dry_run=dry_run,
            dtype=text(settings, "dtype"),
            compression=text(settings, "compression"),
            **options,
        )
    console = Console()
    console.print(render(report.summary))
    if report.kept:
        console.print(f"{report.kept} videos were kept from an import that was interrupted", highlight=False)
    for warning in report.warnings:
        console.print(f"[yellow]warning[/]: {escape(as_settings(warning, plan))}", soft_wrap=True, highlight=False)
