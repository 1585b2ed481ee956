"""What ``coadtr cost`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from coadtr.errors import ConfigError
from coadtr.evaluation import published_macs, published_parameters
from coadtr.models import PRESETS, build_model, preset

__all__ = ["block_table", "cost_table", "published_table"]


def _millions(count: float) -> str:
    return f"{count / 1e6:.2f} M" if count < 1e8 else f"{count / 1e6:.1f} M"


def _bytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} B"


def _times(latency: Mapping[str, Any]) -> str:
    return f"{latency['p50']:.2f} ms p50, {latency['p95']:.2f} p95, {latency['p99']:.2f} p99"


def cost_table(found: Mapping[str, Any]) -> Table:
    """Draw what was measured of one model."""
    published = found["macs_per_frame_published"]
    on_cpu = found["machine"]["device"] == "cpu"
    rows = {
        "parameters": _millions(found["parameters"]),
        "multiply-accumulates a step, as executed": _millions(found["macs_per_frame"]),
        "multiply-accumulates, by the published convention": found["not_published"]
        if published is None
        else _millions(published),
        "weights": _bytes(found["weights_bytes"]),
        "state of a stream": _bytes(found["state_bytes_per_stream"]),
        "peak memory of the process" if on_cpu else "peak memory on the GPU": _bytes(found["peak_memory_bytes"]),
    }
    if found["step_latency_ms"] is not None:
        rows["step latency, batch 1"] = _times(found["step_latency_ms"])
    for one in found["throughput"]:
        rate = one["frames_per_second"]
        count = "1 stream" if one["streams"] == 1 else f"{one['streams']} streams"
        rows[f"throughput, {count}"] = (
            f"{rate['median']:,.0f} frames/s of all together ({rate['low']:,.0f} to {rate['high']:,.0f})"
        )
    if (way := found["from_frame"]) is not None:
        size = f"{way['frame']['width_px']}x{way['frame']['height_px']}"
        rows[f"from a raw frame of {size}, decoded, to logits"] = _times(way["latency_ms"]["total"])
        for name, part in way["latency_ms"].items():
            if name != "total":
                rows[f"  of it {name}"] = _times(part)
    if found["step_latency_ms"] or found["throughput"] or way:
        machine = found["machine"]
        processor = machine["cpu"] if on_cpu else machine["gpu"]
        rows["machine"] = f"{processor}, {machine['threads']} thread{'s' * (machine['threads'] != 1)}"
    config = found["model"]
    depth = f", depth {config['depth']}" if "depth" in config else ""
    title = f"{config['kind']}{depth}, {config['input_dim']} channels, {config['num_classes']} classes"
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def block_table(found: Mapping[str, Any]) -> Table:
    """Draw multiply-accumulates by block, by both countings, with their sums."""
    executed, published = found["macs_by_block"], found["macs_by_block_published"]
    table = Table(title="Multiply-accumulates of one prediction, by block", title_justify="left")
    table.add_column("block")
    table.add_column("as executed", justify="right")
    table.add_column("share", justify="right")
    table.add_column("published convention", justify="right")
    for name in {**(published or {}), **executed}:
        macs = executed.get(name, 0)
        other = "" if published is None else f"{published.get(name, 0):,}"
        table.add_row(name, f"{macs:,}", f"{macs / found['macs_per_frame']:.1%}", other)
    table.add_section()
    total = "" if published is None else f"{found['macs_per_frame_published']:,}"
    table.add_row("total", f"{found['macs_per_frame']:,}", "100.0%", total)
    return table


def _has_published_count(name: str) -> bool:
    config = preset(name, input_dim=3072, num_classes=22)
    try:
        published_macs(config)
    except ConfigError:
        return False
    return config.window == 64  # those of the audio classification were published with other features


def published_table() -> Table:
    """Count the models that have a published way of counting, on both published feature sets."""
    table = Table(title="Multiply-accumulates of one prediction, by the published convention", title_justify="left")
    for name in ("model", "parameters", "A.Net, 3072 channels", "parameters", "Kinetics, 4096 channels"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for name in reversed(PRESETS):
        cells: list[str] = []
        if not _has_published_count(name):
            continue
        for channels in (3072, 4096):
            config = preset(name, input_dim=channels, num_classes=22)
            macs = published_macs(config) / 1e6
            cells += [
                f"{published_parameters(build_model(config)) / 1e6:.1f} M",
                f"{macs:.2f} M" if macs < 100 else f"{macs:.1f} M",
            ]
        table.add_row(name, *cells)
    return table
