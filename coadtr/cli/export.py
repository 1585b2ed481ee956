"""``coadtr export``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import command_line, require
from coadtr.training import export_run

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Export an epoch of a run."""
    require(cfg, "run")
    out = cfg.out or Path(cfg.run) / "checkpoint"
    result = export_run(cfg.run, out, which=cfg.which, command=command_line(), overwrite=cfg.overwrite)
    Console(soft_wrap=True).print(
        f"exported epoch {result.epoch} (validation mAP {result.validation_map:.4f}) to {result.checkpoint}"
    )
