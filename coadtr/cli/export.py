"""``coadtr export``."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from coadtr.checkpoint import Checkpoint, load
from coadtr.cli.settings import a_path, command_line, of_kind, one_of, plain, whether
from coadtr.errors import ConfigError
from coadtr.training import export_run

__all__ = ["main"]

FORMATS = ("native", "onnx", "pt2")


def main(cfg: DictConfig) -> None:
    """Export an epoch of a run, or a checkpoint."""
    settings = plain(cfg)
    form = one_of(FORMATS, settings["to"], "format")
    if (settings["run"] is None) == (settings["checkpoint"] is None):
        raise ConfigError("give one of run=... (a training run) and checkpoint=... (a checkpoint's folder)")
    if form == "native":
        _export_native(settings)
        return
    if settings["checkpoint"] is not None:
        folder = a_path(settings, "checkpoint")
        checkpoint = load(folder)
        _export_file(settings, form, checkpoint, checkpoint.path)
        return
    run = a_path(settings, "run")
    with tempfile.TemporaryDirectory() as part:
        # The epoch that `which` names, whatever checkpoint lies in the run already.
        folder = Path(part) / run.resolve().name
        export_run(run, folder, which=of_kind(str, settings["which"], "which"), command=command_line())
        _export_file(settings, form, load(folder), run / "checkpoint")


def _export_native(settings: dict[str, Any]) -> None:
    if settings["run"] is None:
        raise ConfigError("format=native exports a run: give run=..., or another format for checkpoint=...")
    if settings["precision"] != "float32":
        raise ConfigError(f"precision={settings['precision']}: format=native keeps the weights as they were trained")
    run = a_path(settings, "run")
    out = run / "checkpoint" if settings["out"] is None else a_path(settings, "out")
    which, overwrite = of_kind(str, settings["which"], "which"), whether(settings, "overwrite")
    result = export_run(run, out, which=which, command=command_line(), overwrite=overwrite)
    score = "not validated" if math.isnan(result.validation_map) else f"validation mAP {result.validation_map:.4f}"
    Console(soft_wrap=True, highlight=False).print(f"exported epoch {result.epoch} ({score}) to {result.checkpoint}")


def _export_file(settings: dict[str, Any], form: str, checkpoint: Checkpoint, beside: Path) -> None:
    from coadtr.export import export_onnx, export_program  # noqa: PLC0415 - the exporters take seconds to import

    precision = of_kind(str, settings["precision"], "precision")
    named = beside.with_name(f"{beside.name}{'' if precision == 'float32' else f'-{precision}'}.{form}")
    out = named if settings["out"] is None else a_path(settings, "out")
    if out.suffix != f".{form}":
        raise ConfigError(f"out={out}: what reads the file goes by its ending; end it in .{form}, or give format=...")
    export = export_onnx if form == "onnx" else export_program
    agreement = export(checkpoint, out, precision=precision, overwrite=whether(settings, "overwrite"))
    Console(soft_wrap=True, highlight=False).print(
        f"exported {beside} to {out} ({form}, {out.stat().st_size / 1e6:.2f} MB, {precision}); its scores differ "
        f"from the model's by at most {max(agreement.fresh, agreement.warm):.2g}, by {agreement.mean:.2g} on average"
    )
