"""``coadtr cost``."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from coadtr.cli.settings import group, plain, whether
from coadtr.errors import ConfigError
from coadtr.evaluation import (
    describe_machine,
    macs_per_step,
    parameters,
    published_macs,
    published_parameters,
    step_latency,
)
from coadtr.models import PRESETS, ModelConfig, build_model, config_from_dict, preset

__all__ = ["main"]


def main(cfg: DictConfig) -> None:
    """Print what a model costs, or the published table."""
    settings = plain(cfg)
    Console().print(published_table() if whether(settings, "table") else model_cost(settings))


def _millions(count: float) -> str:
    return f"{count / 1e6:.2f} M" if count < 1e8 else f"{count / 1e6:.1f} M"


def model_cost(settings: dict[str, Any]) -> Table:
    """Measure one model at one feature width."""
    latency_wanted = whether(settings, "latency")
    config: ModelConfig = config_from_dict({**group(settings, "model"), **group(settings, "features")})
    model = build_model(config)
    rows = {
        "parameters": _millions(parameters(model)),
        "multiply-accumulates a step, as executed": _millions(macs_per_step(model)),
    }
    try:
        rows["multiply-accumulates, by the published convention"] = _millions(published_macs(config))
    except ConfigError as error:
        rows["multiply-accumulates, by the published convention"] = str(error)
    if latency_wanted:
        latency = step_latency(model)
        machine = describe_machine()
        rows["step latency, batch 1"] = f"{latency.p50:.2f} ms p50, {latency.p95:.2f} p95, {latency.p99:.2f} p99"
        rows["machine"] = f"{machine['cpu']}, {machine['threads']} threads"
    title = f"{config.kind}, depth {config.depth}, {config.input_dim} channels, {config.num_classes} classes"
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def published_table() -> Table:
    """Count all published models on both published feature sets."""
    table = Table(title="Multiply-accumulates of one prediction, by the published convention", title_justify="left")
    for name in ("model", "parameters", "A.Net, 3072 channels", "parameters", "Kinetics, 4096 channels"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for name in reversed(PRESETS):
        cells = []
        for channels in (3072, 4096):
            config = preset(name, input_dim=channels, num_classes=22)
            macs = published_macs(config) / 1e6
            cells += [
                f"{published_parameters(build_model(config)) / 1e6:.1f} M",
                f"{macs:.2f} M" if macs < 100 else f"{macs:.1f} M",
            ]
        table.add_row(name, *cells)
    return table
