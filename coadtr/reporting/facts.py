"""The tables of the page: headline numbers and where each run comes from, as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coadtr.reporting.runs import Run

__all__ = ["Row", "headline", "origin"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    Attributes:
        label: What the values are, with their unit.
        note: What it means, for readers who do not know it; may be empty.
        cells: Value and small print (such as its range, in lines) of each run; the latter may be empty.
        group: Heading that the line stands under.

    Example:
        >>> Row(label="mAP (%)", note="", cells=(("70.4", "66.1 to 74.0"),), group="Accuracy").cells[0][1]
        '66.1 to 74.0'
    """

    label: str
    note: str
    cells: tuple[tuple[str, str], ...]
    group: str


def headline(runs: Sequence[Run]) -> list[Row]:
    """Return the headline numbers, and how they came about; lines that no run has a value for are left out.

    Example:
        >>> headline([])
        []
    """
    rates = sorted({rate for run in runs if (rate := _at(run.report, "delay.false_positives_per_hour")) is not None})
    allowed = f"; at {' or '.join(f'{rate:g}' for rate in rates)} false alarms an hour and class; threshold chosen on "
    notes = {_DELAY: f"from start of action to alarm{f'{allowed}these labels' if rates else ''}"}
    rows = [
        Row(label=label, note=notes.get(label, note), group=group, cells=tuple(cell(run.report) for run in runs))
        for group, label, note, cell in (*_HEADLINE, *_throughputs(runs), *_RUNNING)
    ]
    return [row for row in rows if any(text != _NONE for text, _ in row.cells)]


def origin(runs: Sequence[Run]) -> list[Row]:
    """Return where the runs come from: data, protocol, seed, command, machine, versions.

    Example:
        >>> origin([])
        []
    """
    rows = [
        Row(label=label, note="", group="", cells=tuple((_text(_at(run.report, path)), "") for run in runs))
        for label, path in _ORIGIN.items()
    ]
    return [row for row in rows if any(text != _NONE for text, _ in row.cells)]


_NONE = "-"
_DELAY = "Median detection delay (s)"
_Cell = tuple[str, str]


def _at(report: Mapping[str, Any], path: str) -> Any:
    value: Any = report
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _text(value: Any) -> str:
    if value is None or value == "":
        return _NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items() if item is not None) or _NONE
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or _NONE
    return f"{value:,}" if isinstance(value, int) else str(value)


def _percent(path: str) -> Callable[[Mapping[str, Any]], _Cell]:
    def cell(report: Mapping[str, Any]) -> _Cell:
        value, ends = _at(report, path), _at(report, f"intervals.{path}")
        if value is None:
            return _NONE, ""
        known = ends is not None and None not in ends
        return f"{100 * value:.1f}", f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}" if known else ""

    return cell


def _number(path: str, style: str, scale: float = 1.0) -> Callable[[Mapping[str, Any]], _Cell]:
    def cell(report: Mapping[str, Any]) -> _Cell:
        value = _at(report, path)
        return (_NONE if value is None else format(value * scale, style)), ""

    return cell


def _latency(report: Mapping[str, Any]) -> _Cell:
    found = _at(report, "step_latency_ms")
    if not found:
        return _NONE, ""
    return f"{found['p50']:.2f}", f"p95 {found['p95']:.2f}, p99 {found['p99']:.2f}"


def _throughputs(runs: Sequence[Run]) -> list[_Line]:
    """Return a line for each number of streams that the throughput of a run was measured with."""
    counts = sorted({item["streams"] for run in runs for item in _at(run.report, "throughput") or []})
    return [
        (_COST, f"Frames a second, {count:,} {'stream' if count == 1 else 'streams'}", "", _throughput(count))
        for count in counts
    ]


def _throughput(streams: int) -> Callable[[Mapping[str, Any]], _Cell]:
    def cell(report: Mapping[str, Any]) -> _Cell:
        for item in _at(report, "throughput") or []:
            if item["streams"] == streams:
                found = item["frames_per_second"]
                return f"{found['median']:,.0f}", f"{found['low']:,.0f} to {found['high']:,.0f}"
        return _NONE, ""

    return cell


def _mean_ap(report: Mapping[str, Any]) -> _Cell:
    value, ends = _percent("mAP")(report)
    smoothing = _at(report, "smoothing")
    return value, "\n".join(part for part in (ends, f"smoothed: {_described(smoothing)}" if smoothing else "") if part)


def _described(smoothing: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in smoothing.items() if name != "kind" and value is not None}
    return ", ".join([_text(smoothing.get("kind")), *([_text(rest)] if rest else [])])


def _clips(report: Mapping[str, Any]) -> _Cell:
    value, ends = _at(report, "clips.accuracy"), _at(report, "clips.interval")
    if value is None:
        return _NONE, ""
    within = f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}" if ends and None not in ends else ""
    answer = "by the mean score" if _at(report, "clips.answer") == "mean" else ""
    return f"{100 * value:.1f}", "\n".join(part for part in (within, answer) if part)


def _protocol(report: Mapping[str, Any]) -> _Cell:
    name, version = _at(report, "protocol.name"), _at(report, "protocol.version")
    return _text(name), "" if version is None else f"version {version}"


def _mode(report: Mapping[str, Any]) -> _Cell:
    mode = _at(report, "mode")
    return {"step": "step by step", "chunk": "in chunks"}.get(mode, _text(mode)), ""


def _smoothing(report: Mapping[str, Any]) -> _Cell:
    smoothing = _at(report, "smoothing")
    return _described(smoothing) if smoothing else "none", ""


def _audit(report: Mapping[str, Any]) -> _Cell:
    audit = _at(report, "audit")
    if not audit:
        return "not audited", ""
    cuts, videos, change = (audit.get(name) for name in ("cuts", "videos", "largest_change"))
    looked = f"{_text(cuts)} cuts in {_text(videos)} videos" if None not in (cuts, videos) else ""
    changed = "" if change is None else f"largest change {change:g}"
    return "audited", "\n".join(part for part in (looked, changed) if part)


_Line = tuple[str, str, str, "Callable[[Mapping[str, Any]], _Cell]"]
_ACCURACY, _COST, _FRAMES, _HOW = "Accuracy", "Cost of one step", "What was scored", "How it was replayed"
_HEADLINE: tuple[_Line, ...] = (
    (_ACCURACY, "Protocol", "which frames are scored", _protocol),
    (_ACCURACY, "mAP (%)", "mean average precision per frame, over the classes that occur", _mean_ap),
    (_ACCURACY, "mcAP (%)", "calibrated: as if half of the frames were positive", _percent("mcAP")),
    (_ACCURACY, "Frame accuracy (%)", "share of frames whose highest score is right", _percent("accuracy")),
    (_ACCURACY, "Mean accuracy of a video (%)", "", _percent("mean_per_video_accuracy")),
    (_ACCURACY, "Right at the end (%)", "share of the recordings", _clips),
    (_ACCURACY, "Edit score (%)", "order of the segments", _number("segmental.edit", ".1f", 100)),
    (_ACCURACY, "Segmental F1@10 (%)", "overlap of at least 10 %", _number("segmental.f1.10", ".1f", 100)),
    (_ACCURACY, "Segmental F1@25 (%)", "", _number("segmental.f1.25", ".1f", 100)),
    (_ACCURACY, "Segmental F1@50 (%)", "", _number("segmental.f1.50", ".1f", 100)),
    (_ACCURACY, _DELAY, "", _number("delay.median_s", ".2f")),
    (_ACCURACY, "Detected actions (%)", "", _number("delay.detected", ".1f", 100)),
    (
        _ACCURACY,
        "Calibration error (%)",
        "expected gap of confidence and accuracy",
        _number("calibration.ece", ".1f", 100),
    ),
    (_COST, "MACs per frame", "multiply-accumulates as executed", _number("macs_per_frame", ",.0f")),
    (_COST, "MACs per frame, published convention", "", _number("macs_per_frame_published", ",.0f")),
    (_COST, "Parameters", "", _number("parameters", ",.0f")),
    (_COST, "Latency, median (ms)", "at batch 1, warm-up excluded", _latency),
    (_COST, "State of a stream (KiB)", "", _number("state_bytes_per_stream", ",.1f", 1 / 1024)),
    (_COST, "Peak memory (MiB)", "", _number("peak_memory_bytes", ",.0f", 2**-20)),
    (_FRAMES, "Videos", "", _number("videos", ",.0f")),
    (_FRAMES, "Frames scored", "", _number("frames_scored", ",.0f")),
    (_FRAMES, "Frames ignored", "labelled with the ignored class", _number("frames_ignored", ",.0f")),
    (_FRAMES, "Frames outside", "left out by the protocol", _number("frames_outside", ",.0f")),
    (_FRAMES, "Frames in all", "", _number("frames_total", ",.0f")),
)
_RUNNING: tuple[_Line, ...] = (
    (_HOW, "Mode", "", _mode),
    (_HOW, "Smoothing", "of the scores, from past frames only", _smoothing),
    (_HOW, "Causality", "whether answers change with what comes after", _audit),
)
_ORIGIN: Mapping[str, str] = {
    "Protocol": "protocol.name",
    "Version of the protocol": "protocol.version",
    "Protocol scores": "protocol.description",
    "Window (frames)": "protocol.window",
    "Data": "origin.data.path",
    "Fingerprint of the data": "origin.data.fingerprint",
    "Origin of the data": "origin.data.origin",
    "Rule of the labels": "origin.data.label_rule",
    "Split": "origin.split",
    "Seed of the training": "origin.seed",
    "Checkpoint": "origin.checkpoint",
    "Classes absent": "classes_absent",
    "Mode of the replay": "mode",
    "Smoothing": "smoothing",
    "Audit of causality": "audit",
    "Resamples behind the intervals": "intervals.resamples",
    "Command": "origin.command",
    "Date": "origin.date",
    "Versions": "origin.versions",
    "Machine": "machine",
}
