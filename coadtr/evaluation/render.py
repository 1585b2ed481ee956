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
    for name, value in {**_accuracy(report), **_details(report), **_scored(report), **_cost(report)}.items():
        table.add_row(name, Text(value))
    return table


def _accuracy(report: Mapping[str, Any]) -> dict[str, str]:
    found = report["intervals"]

    def within(key: str) -> str:
        interval = None if found is None else found[key]
        return "" if interval is None else f" ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"

    rows = {
        "mAP": _percent(report["mAP"]) + within("mAP"),
        "mcAP": _percent(report["mcAP"]) + within("mcAP"),
        "accuracy": f"{_percent(report['accuracy'])}{within('accuracy')} by frame, "
        f"{_percent(report['mean_per_video_accuracy'])} mean by video",
    }
    if found is not None:
        rough = "; few videos: take them as rough" if found["videos"] < 20 else ""
        rows["in brackets"] = f"{100 * found['level']:g} % intervals, by resampling {found['videos']} videos{rough}"
    return rows


def _details(report: Mapping[str, Any]) -> dict[str, str]:
    rows = _clips(report)
    if segmental := report["segmental"]:
        f1 = ", ".join(f"{_percent(value)} @{overlap}" for overlap, value in segmental["f1"].items())
        rows["segments"] = f"edit {_percent(segmental['edit'])}, F1 {f1}"
    if delay := report["delay"]:
        median = "undefined" if delay["median_s"] is None else f"{delay['median_s']:.2f} s"
        rows["detection delay"] = (
            f"{median} median of the {_percent(delay['detected'])} of actions detected, at "
            f"{delay['false_positives_per_hour']:g} false alarms an hour and class"
        )
    if starts := report["starts"]:
        first, last = starts["mAP"][0], starts["mAP"][-1]
        offsets = starts["offsets_s"]
        rows["action starts"] = (
            f"point-level mAP {_percent(first)} within {offsets[0]:g} s, {_percent(last)} within {offsets[-1]:g} s"
        )
    if ahead := report["anticipation"]:
        pairs = zip(ahead["horizons_s"], ahead["mAP"], strict=True)
        rows["anticipation"] = "mAP " + ", ".join(f"{_percent(value)} in {at:g} s" for at, value in pairs)
    if calibration := report["calibration"]:
        rows["calibration error"] = _percent(calibration["ece"])
    if smoothing := report["smoothing"]:
        rows["smoothing"] = ", ".join(f"{key} {value}" for key, value in smoothing.items())
    if audit := report["audit"]:
        rows["causality"] = (
            f"no earlier score moved when the future was replaced, at {audit['cuts']} cuts of {audit['videos']} videos"
        )
    return rows


def _clips(report: Mapping[str, Any]) -> dict[str, str]:
    clips = report.get("clips")
    if not clips:
        return {}
    low_high = clips["interval"]
    within = "" if low_high is None else f" ({100 * low_high[0]:.2f} to {100 * low_high[1]:.2f})"
    answer = "" if clips["answer"] == "last" else f", answered by the {clips['answer']} score"
    curve, share = clips["by_seconds"], clips["by_share"]
    times = len(curve["seconds"])
    steps = range((times - 1) % math.ceil(times / 7), times, math.ceil(times / 7))  # at most 7, the last is the end
    points = [f"{_percent(curve['accuracy_all'][at])} at {curve['seconds'][at]:.4g} s" for at in steps]
    parts = [f"{_percent(share['accuracy'][at])} at {100 * share['share'][at]:g} %" for at in range(1, 9, 2)]
    return {
        "recordings": f"{_percent(clips['accuracy'])}{within} right at their end, of {clips['recordings']:,}{answer}",
        "by time listened": ", ".join(points) or "-",
        "by share listened": ", ".join(parts) or "-",
    }


def _scored(report: Mapping[str, Any]) -> dict[str, str]:
    protocol = report["protocol"]
    rows = {
        "protocol": f"{protocol['name']} v{protocol['version']}",
        "frames": f"{report['frames_scored']:,} scored of {report['frames_total']:,} "
        f"in {report['videos']:,} videos ({report['frames_ignored']:,} ignored by label, "
        f"{report['frames_outside']:,} outside the protocol)",
    }
    data = report["origin"].get("data", {})
    return rows | {
        name: str(data[key]) for name, key in (("data", "origin"), ("label rule", "label_rule")) if data.get(key)
    }


def _cost(report: Mapping[str, Any]) -> dict[str, str]:
    if report["macs_per_frame"] is None:
        return {}
    latency, machine = report["step_latency_ms"], report["machine"]
    published = report["macs_per_frame_published"]
    rows = {
        "arithmetic": f"{_count(report['macs_per_frame'])} multiply-accumulates a frame"
        + ("" if published is None else f" ({_count(published)} by the published convention)"),
        "parameters": _count(report["parameters"]),
        "state": f"{report['state_bytes_per_stream']:,} bytes a stream",
        "step": f"{machine.get('precision', machine['dtype'])}, {machine.get('backend', 'eager')}"
        + ("" if report["mode"] is None else f", scores made in {report['mode']} mode"),
    }
    if latency is not None:
        rows["step latency"] = (
            f"{latency['p50']:.2f} ms p50, {latency['p95']:.2f} p95, "
            f"{latency['p99']:.2f} p99 (batch 1, {machine['threads']} threads)"
        )
    for found in report["throughput"] or ():
        rate = found["frames_per_second"]
        rows[f"{found['streams']} streams"] = (
            f"{rate['median']:,.0f} frames a second ({rate['low']:,.0f} to {rate['high']:,.0f})"
        )
    if report["peak_memory_bytes"] is not None:
        rows["peak memory"] = f"{report['peak_memory_bytes'] / 2**20:,.0f} MiB"
    return rows | {"machine": str(machine["gpu"] if "cuda" in machine["device"] else machine["cpu"])}


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
