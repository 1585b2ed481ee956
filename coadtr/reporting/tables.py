"""The tables of a report: numbers in full precision to compute with, and the same rounded to be read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from coadtr.reporting.curves import video_table
from coadtr.reporting.pairs import describe_pairs, paired

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import RenderableType

    from coadtr.reporting.runs import Run

__all__ = ["ReportTable", "headline", "per_class", "render_comparison", "report_tables"]

_NONE: Final = "-"
_SIDE_BY_SIDE: Final = 6  # more runs than these are rows, not columns


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """Hold a table in two forms.

    Attributes:
        name: Name of its files.
        caption: What it shows, with units and rounding.
        values: In full precision, shares from 0 to 1; for CSV.
        shown: The same as rounded text; for Markdown and LaTeX.
        headings: How many columns, from the first on, are text and not numbers.
    """

    name: str
    caption: str
    values: pd.DataFrame
    shown: pd.DataFrame
    headings: int = 1


@dataclass(frozen=True)
class _Quantity:
    """A number of the report: where it is, its column, and how it reads."""

    column: str
    title: str
    path: str
    kind: str
    show: Callable[[Any], str]
    interval: bool = False
    ends: str = ""  # where its interval is, if not with those of the details
    brief: bool = False  # shown where runs are many


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:,.0f}"


def _count(value: float) -> str:
    if value < 1000:
        return f"{value:g}"
    step = min(3, int(math.log10(value) // 3))
    return f"{value / 1000**step:.4g} {['', 'K', 'M', 'G'][step]}"


def _places(digits: int) -> Callable[[float], str]:
    return lambda value: f"{value:,.{digits}f}"


_QUANTITIES: Final = (
    _Quantity("mAP", "mAP (%)", "mAP", "float64", _percent, interval=True, brief=True),
    _Quantity("mcAP", "mcAP (%)", "mcAP", "float64", _percent, interval=True),
    _Quantity("accuracy", "accuracy by frame (%)", "accuracy", "float64", _percent, interval=True, brief=True),
    _Quantity("mean_per_video_accuracy", "accuracy by video (%)", "mean_per_video_accuracy", "float64", _percent),
    _Quantity(
        *("clip_accuracy", "right at the end (%)", "clips.accuracy", "float64", _percent),
        interval=True,
        ends="clips.interval",
        brief=True,
    ),
    _Quantity("clip_answer", "answer of a recording", "clips.answer", "string", str),
    _Quantity("edit", "edit score (%)", "segmental.edit", "float64", _percent),
    _Quantity("F1@10", "segmental F1@10 (%)", "segmental.f1.10", "float64", _percent),
    _Quantity("F1@25", "segmental F1@25 (%)", "segmental.f1.25", "float64", _percent),
    _Quantity("F1@50", "segmental F1@50 (%)", "segmental.f1.50", "float64", _percent),
    _Quantity("delay_median_s", "median delay of detection (s)", "delay.median_s", "float64", _places(2)),
    _Quantity("macs_per_frame", "MACs a frame, executed", "macs_per_frame", "Int64", _count, brief=True),
    _Quantity(
        "macs_per_frame_published", "MACs a frame, published counting", "macs_per_frame_published", "Int64", _count
    ),
    _Quantity("parameters", "parameters", "parameters", "Int64", _count, brief=True),
    _Quantity("latency_p50_ms", "step latency, p50 (ms)", "step_latency_ms.p50", "float64", _places(2), brief=True),
    _Quantity("latency_p95_ms", "step latency, p95 (ms)", "step_latency_ms.p95", "float64", _places(2)),
    _Quantity("state_bytes_per_stream", "state of a stream (bytes)", "state_bytes_per_stream", "Int64", _places(0)),
    _Quantity("peak_memory_bytes", "peak memory (MiB)", "peak_memory_bytes", "Int64", _mebibytes),
    _Quantity("protocol", "protocol", "protocol.name", "string", str, brief=True),
    _Quantity("protocol_version", "version of the protocol", "protocol.version", "Int64", str),
    _Quantity("window", "window (frames)", "protocol.window", "Int64", str),
    _Quantity("frames_scored", "frames scored", "frames_scored", "Int64", _places(0)),
    _Quantity("frames_total", "frames in all", "frames_total", "Int64", _places(0)),
    _Quantity("split", "split", "origin.split", "string", str),
    _Quantity("data", "fingerprint of the data", "origin.data.fingerprint", "string", str),
    _Quantity("smoothing", "smoothing", "smoothing.kind", "string", str),
    _Quantity("seed", "seed of the training", "origin.seed", "Int64", str),
)


def headline(runs: Sequence[Run]) -> pd.DataFrame:
    """Put the main numbers of all runs into a table, in full precision.

    Args:
        runs: The runs.

    Returns:
        One row a run: ``run``; accuracies, each with the ends ``_low`` and ``_high`` of its interval;
        ``macs_per_frame`` in multiply-accumulates as executed, and by the published convention; latency, memory,
        protocol, frames, seed. A value that is not known is missing.

    Example:
        >>> headline([]).columns[:4].tolist()
        ['run', 'mAP', 'mAP_low', 'mAP_high']
    """
    columns: dict[str, pd.Series[Any]] = {"run": pd.Series([run.name for run in runs], dtype="string")}
    for quantity in _QUANTITIES:
        columns[quantity.column] = pd.Series([_at(run.report, quantity.path) for run in runs], dtype=quantity.kind)
        if quantity.interval:
            ends = [_interval(run.report, quantity) for run in runs]
            columns[f"{quantity.column}_low"] = pd.Series([low for low, _ in ends], dtype="float64")
            columns[f"{quantity.column}_high"] = pd.Series([high for _, high in ends], dtype="float64")
    return pd.DataFrame(columns)


def _at(report: Mapping[str, Any], path: str) -> Any:
    value: Any = report
    for key in path.split("."):
        value = None if value is None else value.get(key)
    return value


def _interval(report: Mapping[str, Any], quantity: _Quantity) -> tuple[float | None, float | None]:
    ends = _at(report, quantity.ends or f"intervals.{quantity.path}")
    return (ends[0], ends[1]) if ends is not None and len(ends) == 2 else (None, None)


def _shown(runs: Sequence[Run], *, brief: bool) -> pd.DataFrame:
    """Return the headline as text, a row for each quantity that a run has."""
    rows = []
    for quantity in _QUANTITIES:
        if quantity.brief or not brief:
            cells = [_cell(run.report, quantity) for run in runs]
            if any(cell != _NONE for cell in cells):
                rows.append([quantity.title, *cells])
    return pd.DataFrame(rows, columns=["", *(run.name for run in runs)])


def _cell(report: Mapping[str, Any], quantity: _Quantity) -> str:
    value = _at(report, quantity.path)
    if value is None:
        return _NONE
    low, high = _interval(report, quantity) if quantity.interval else (None, None)
    ends = "" if low is None or high is None else f" [{quantity.show(low)}, {quantity.show(high)}]"
    return f"{quantity.show(value)}{ends}"


def per_class(runs: Sequence[Run]) -> pd.DataFrame:
    """Put average precision and calibrated average precision by class into a table, in full precision.

    Args:
        runs: The runs.

    Returns:
        One row a class, in the order of the runs: ``class``, then ``NAME AP`` and ``NAME cAP`` of each run. Background
        and ignored class have no row; a class that the scored frames of a run do not show is missing there.

    Example:
        >>> per_class([]).columns.tolist()
        ['class']
    """
    names = dict.fromkeys(name for run in runs for name in run.report["class_names"])
    special = {run.report[role] for run in runs for role in ("background", "ignored")}
    kept = [name for name in names if name not in special]
    columns: dict[str, Any] = {"class": pd.Series(kept, dtype="string")}
    for run in runs:
        for short in ("AP", "cAP"):
            values = run.report[f"per_class_{short}"]
            columns[f"{run.name} {short}"] = pd.Series([values.get(name) for name in kept], dtype="float64")
    return pd.DataFrame(columns)


def paired_of(tables: Sequence[ReportTable]) -> pd.DataFrame | None:
    """Return the paired tests among the tables of a report, so that they are not made again; None if there are none.

    Example:
        >>> paired_of(report_tables([])) is None
        True
    """
    return next((table.values for table in tables if table.name == "paired"), None)


def report_tables(runs: Sequence[Run]) -> list[ReportTable]:
    """Make all tables of a report.

    Args:
        runs: The runs, one or more.

    Returns:
        ``headline``, ``per_class``, ``videos``, and ``paired`` where runs can be tested against the first.

    Example:
        >>> [table.name for table in report_tables([])]
        ['headline', 'per_class', 'videos']
    """
    classes, tests = per_class(runs), paired(runs)
    videos = [video_table(run).assign(run=run.name) for run in runs]
    listed = pd.concat(videos, ignore_index=True) if videos else pd.DataFrame(columns=["run"])
    listed = listed[["run", *(name for name in listed.columns if name != "run")]]
    levels = sorted({100 * run.report["intervals"]["level"] for run in runs if run.report["intervals"]})
    level = f", in brackets the {', '.join(f'{one:g}' for one in levels)} % interval over videos" if levels else ""
    made = [
        ReportTable(
            name="headline",
            caption=f"Main results. Shares in per cent to one decimal{level}. Multiply-accumulates (MACs, one is two "
            "FLOPs), parameters to four digits, latencies and delays to two decimals.",
            values=headline(runs),
            shown=_shown(runs, brief=False),
        ),
        ReportTable(
            name="per_class",
            caption="AP and calibrated AP by class, in per cent to one decimal.",
            values=classes,
            shown=_text(classes),
        ),
        ReportTable(
            name="videos",
            caption="Each video on its own, the worst first; accuracy and mAP in per cent to one decimal.",
            values=listed,
            shown=_text(listed),
            headings=2,
        ),
    ]
    if len(tests):
        caption = (
            f"Differences on the same {tests['videos'].max()} videos, in percentage points to one decimal, with their "
            f"95 % intervals; p-values of {tests['resamples'].max()} permutations, to three decimals."
        )
        made.append(ReportTable(name="paired", caption=caption, values=tests, shown=describe_pairs(tests), headings=2))
    return made


def _text(table: pd.DataFrame) -> pd.DataFrame:
    """Write shares in per cent, and the rest as it is."""
    columns = {
        name: [
            _NONE if pd.isna(value) else _percent(value) if isinstance(value, float) else str(value) for value in column
        ]
        for name, column in table.items()
    }
    return pd.DataFrame(columns, columns=table.columns)


def render_comparison(runs: Sequence[Run], tests: pd.DataFrame | None = None) -> RenderableType:
    """Draw the main numbers of several runs beside each other for the terminal; many runs one below the other.

    Args:
        runs: The runs.
        tests: What `paired` returned, to be shown below.

    Returns:
        Something that ``rich.print`` shows.

    Example:
        >>> render_comparison([]).renderables[0].row_count
        0
    """
    few = len(runs) <= _SIDE_BY_SIDE
    shown = _shown(runs, brief=not few)
    if not few:
        turned = shown.set_index("").T
        shown = turned.reset_index(names="run")
    parts: list[RenderableType] = [_drawn(shown, "Runs")]
    if tests is not None and len(tests):
        parts += [
            Text(),
            _drawn(describe_pairs(tests[tests["metric"] == "mAP"]), "Against the first run, over the same videos"),
        ]
    return Group(*parts)


def _drawn(shown: pd.DataFrame, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(shown.columns):
        table.add_column(Text(str(name)), justify="left" if index == 0 else "right", overflow="fold")
    for row in shown.itertuples(index=False):
        table.add_row(*(Text(str(cell)) for cell in row))
    return table
