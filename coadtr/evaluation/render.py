"""Draw the report of an evaluation for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.bar import Bar
from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

__all__ = ["render_report"]


def render_report(report: Mapping[str, Any], *, bar_width: int = 32) -> RenderableType:
    """Draw a report for the terminal: what it scored, what it cost, and AP by class, best first.

    Args:
        report: What `build_report` returned, or read from its file.
        bar_width: Characters of a bar of AP 1.

    Returns:
        Something that ``rich.print`` shows.
    """
    parts: list[RenderableType] = [_headline(report), Text(), _classes(report, bar_width)]
    absent = report["classes_absent"]
    if absent:
        parts.append(Text(f"absent from the scored frames, left out of the means: {', '.join(absent)}", style="dim"))
    return Group(*parts)


def _headline(report: Mapping[str, Any]) -> Table:
    table = Table(title="Replay", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    protocol = report["protocol"]
    rows = {
        "mAP": _percent(report["mAP"]),
        "mcAP": _percent(report["mcAP"]),
        "accuracy": f"{_percent(report['accuracy'])} by frame, "
        f"{_percent(report['mean_per_video_accuracy'])} mean by video",
        "protocol": f"{protocol['name']} v{protocol['version']}",
        "frames": f"{report['frames_scored']:,} scored of {report['frames_total']:,} "
        f"in {report['videos']:,} videos ({report['frames_ignored']:,} ignored by label, "
        f"{report['frames_outside']:,} outside the protocol)",
    }
    data = report["origin"].get("data", {})
    rows |= {name: str(data[key]) for name, key in (("data", "origin"), ("label rule", "label_rule")) if data.get(key)}
    if report["macs_per_frame"] is not None:
        latency, machine = report["step_latency_ms"], report["machine"]
        published = report["macs_per_frame_published"]
        rows |= {
            "arithmetic": f"{_count(report['macs_per_frame'])} multiply-accumulates a frame"
            + ("" if published is None else f" ({_count(published)} by the published convention)"),
            "parameters": _count(report["parameters"]),
            "step latency": f"{latency['p50']:.2f} ms p50, {latency['p95']:.2f} p95, "
            f"{latency['p99']:.2f} p99 (batch 1, {machine['threads']} threads)",
            "step": f"{machine.get('precision', machine['dtype'])}, {machine.get('backend', 'eager')}",
            "machine": str(machine["gpu"] if "cuda" in machine["device"] else machine["cpu"]),
            "state": f"{report['state_bytes_per_stream']:,} bytes a stream",
        }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _classes(report: Mapping[str, Any], bar_width: int) -> Table:
    table = Table(title="Average precision by class", title_justify="left", box=None)
    table.add_column("class")
    table.add_column("AP", justify="right")
    table.add_column("cAP", justify="right")
    table.add_column("", width=bar_width)
    calibrated = report["per_class_cAP"]
    for name, value in sorted(report["per_class_AP"].items(), key=lambda item: -item[1]):
        bar = Bar(1.0, 0.0, value, width=bar_width, color="cyan")
        table.add_row(Text(name), _percent(value), _percent(calibrated[name]), bar)
    return table


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f} %"


def _count(value: float) -> str:
    if value <= 0:
        return str(value)
    step = min(3, int(math.log10(value) // 3))
    return f"{value / 1000**step:.4g}{['', ' K', ' M', ' G'][step]}"
