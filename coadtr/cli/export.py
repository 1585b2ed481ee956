"""``coadtr export``."""

from __future__ import annotations

import math

from omegaconf import DictConfig
from rich.console import Console

from coadtr.cli.settings import a_path, command_line, of_kind, plain, require, whether
from coadtr.training import export_run

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Export an epoch of a run."""
    require(cfg, "run")
    settings = plain(cfg)
    run = a_path(settings, "run")
    out = run / "checkpoint" if settings["out"] is None else a_path(settings, "out")
    which, overwrite = of_kind(str, settings["which"], "which"), whether(settings, "overwrite")
    result = export_run(run, out, which=which, command=command_line(), overwrite=overwrite)
    score = "not validated" if math.isnan(result.validation_map) else f"validation mAP {result.validation_map:.4f}"
    Console(soft_wrap=True, highlight=False).print(f"exported epoch {result.epoch} ({score}) to {result.checkpoint}")
