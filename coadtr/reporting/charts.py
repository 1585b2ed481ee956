"""The charts of a report, for the page and for PNG alike.

Each function takes the runs and returns a Vega-Altair chart in light colours; `all_charts` leaves out those that the
runs have nothing for. Runs differ by colour and by the shape of their points.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import altair as alt
import pandas as pd

from coadtr.reporting import series
from coadtr.reporting.theme import chart_config, class_dash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coadtr.reporting.runs import Run

__all__ = [
    "all_charts",
    "anticipation",
    "calibration",
    "clip_shares",
    "clips",
    "confusion",
    "macs_by_block",
    "map_against_latency",
    "map_against_macs",
    "per_class_ap",
    "portions",
    "precision_recall",
    "starts",
    "training",
    "warmup",
]

_WIDTH: Final = 620
_SHARE: Final = alt.Scale(domain=[0, 1])
SHOWN: Final = "shown"  # the parameter that holds the class names to draw; null draws all


def all_charts(runs: Sequence[Run]) -> dict[str, alt.TopLevelMixin]:
    """Return every chart that the runs have data for, by name.

    Args:
        runs: The runs to compare, or one.

    Returns:
        Charts in the order of a report. `confusion` and `precision_recall` show one run: with several runs their
        names end in ``_1``, ``_2`` and so on.

    Example:
        >>> all_charts([])
        {}
    """
    charts: dict[str, alt.TopLevelMixin] = {}
    if len(series.per_class(runs)):
        charts["per_class_ap"] = per_class_ap(runs)
    for name, table, chart in (
        ("precision_recall", series.precision_recall, precision_recall),
        ("confusion", series.confusion, confusion),
    ):
        for number, run in enumerate(runs, start=1):
            if len(table([run])):
                charts[f"{name}_{number}" if len(runs) > 1 else name] = chart(run)
    for name, table, many in (
        ("clips", series.clips, clips),
        ("clip_shares", series.clip_shares, clip_shares),
        ("warmup", series.warmup, warmup),
        ("portions", series.portions, portions),
        ("starts", series.starts, starts),
        ("anticipation", series.anticipation, anticipation),
        ("calibration", series.calibration, calibration),
        ("training", series.training, training),
    ):
        if len(table(runs)):
            charts[name] = many(runs)
    costs = series.cost(runs)
    if costs["MACs"].notna().any():
        charts["map_against_macs"] = map_against_macs(runs)
    if costs["latency_ms"].notna().any():
        charts["map_against_latency"] = map_against_latency(runs)
    if len(series.macs_by_block(runs)):
        charts["macs_by_block"] = macs_by_block(runs)
    return charts


def per_class_ap(runs: Sequence[Run]) -> alt.TopLevelMixin:
    """Draw the average precision of each class as bars with intervals, best class of the first run first."""
    table = series.per_class(runs)
    base = alt.Chart(_data(table)).encode(**_rows(runs, list(dict.fromkeys(table["class"])), "class"))
    bars = base.mark_bar(cornerRadiusEnd=2, opacity=0.75).encode(
        x=alt.X("AP:Q", scale=_SHARE, title="average precision"),
        color=_run_colour(runs),
        tooltip=_tips("run:N", "class:N", "AP:Q", "low:Q", "high:Q", "cAP:Q"),
    )
    ends = base.mark_rule(style="interval").encode(
        x=alt.X("low:Q", scale=_SHARE, title="average precision"), x2="high:Q"
    )
    layers = alt.layer(bars, ends.transform_filter("isValid(datum.low)")).transform_filter(_shown())
    layers = layers.add_params(alt.param(name=SHOWN, value=None))
    return _finish(layers, height=_step(runs), title="Average precision by class")


def macs_by_block(runs: Sequence[Run]) -> alt.TopLevelMixin:
    """Draw the multiply-accumulates of a frame by block of the network, in its order."""
    table = series.macs_by_block(runs)
    bars = alt.Chart(_data(table)).mark_bar(cornerRadiusEnd=2, opacity=0.75)
    bars = bars.encode(
        x=alt.X("MACs:Q", title="multiply-accumulates per frame", axis=alt.Axis(format="~s", tickCount=5)),
        color=_run_colour(runs),
        tooltip=_tips("run:N", "block:N", "MACs:Q"),
        **_rows(runs, list(dict.fromkeys(table["block"])), "block"),
    )
    return _finish(bars, height=_step(runs), title=None)


def _rows(runs: Sequence[Run], order: list[str], column: str) -> dict[str, Any]:
    """Return the channels that give each name a row, and in it each run a line of its own."""
    y = alt.Y(f"{column}:N", sort=order, title=None, axis=alt.Axis(ticks=False, domain=False, grid=False))
    if len(runs) == 1:
        return {"y": y}
    return {"y": y, "yOffset": alt.YOffset("run:N", sort=[run.name for run in runs])}


def _step(runs: Sequence[Run]) -> alt.Step:
    return alt.Step(22 if len(runs) == 1 else 11)


def precision_recall(run: Run) -> alt.TopLevelMixin:
    """Draw precision over recall for each class of one run."""
    table, order = series.precision_recall([run]), series.class_order([run])
    near = alt.selection_point(name="near", fields=["class"], on="pointerover", empty=True, clear="pointerout")
    chart = (
        alt.Chart(_data(table))
        .mark_line(interpolate="step-before", strokeWidth=1.75)
        .encode(
            x=alt.X("recall:Q", scale=_SHARE),
            y=alt.Y("precision:Q", scale=_SHARE),
            order="recall:Q",
            **class_channels(order, legend=[name for name in order if name in set(table["class"])]),
            opacity=alt.condition(near, alt.value(0.95), alt.value(0.15)),
            tooltip=_tips("class:N", "recall:Q", "precision:Q"),
        )
        .transform_filter(_shown())
        .add_params(alt.param(name=SHOWN, value=None), near)
    )
    return _finish(chart, height=380, title=f"Precision and recall: {run.name}")


def class_channels(order: Sequence[str], *, legend: Sequence[str] = ()) -> dict[str, Any]:
    """Return the colour and dash of the classes: always the same for a class, whichever are drawn.

    Args:
        order: All class names; their places decide.
        legend: Those that the legend names; no legend if there are none.

    Example:
        >>> sorted(class_channels(["rest", "lift"]))
        ['color', 'strokeDash']
    """
    domain = list(order)
    dashes = [class_dash(index) for index in range(len(domain))]
    shown = (
        alt.Legend(title=None, orient="bottom", columns=3, symbolType="stroke", values=list(legend)) if legend else None
    )
    return {
        "color": alt.Color("class:N", scale=alt.Scale(domain=domain, range="category"), legend=shown),
        "strokeDash": alt.StrokeDash("class:N", scale=alt.Scale(domain=domain, range=dashes), legend=shown),
    }


def confusion(run: Run) -> alt.TopLevelMixin:
    """Draw how the frames of each class were answered by one run, each row adding up to 1."""
    table = series.confusion([run])
    order = series.class_order([run])
    present = [name for name in order if name in set(table["true"]) | set(table["answered"])]
    axis: dict[str, Any] = {"ticks": False, "domain": False, "grid": False}
    chart = (
        alt.Chart(_data(table))
        .mark_rect()
        .encode(
            x=alt.X("answered:N", sort=present, axis=alt.Axis(labelAngle=-90, **axis), scale=alt.Scale(domain=present)),
            y=alt.Y("true:N", sort=present, axis=alt.Axis(**axis), scale=alt.Scale(domain=present)),
            color=alt.Color(
                "share:Q",
                scale=alt.Scale(domain=[0, 1], range="heatmap"),
                legend=alt.Legend(title="share of the class", orient="top", gradientLength=160),
            ),
            tooltip=_tips("true:N", "answered:N", "share:Q", "frames:Q"),
        )
    )
    return _finish(chart, height=alt.Step(20), title=f"Confusion: {run.name}")


def warmup(runs: Sequence[Run]) -> alt.TopLevelMixin:
    """Draw the mAP by frames since the start of the video, in bands that each hold twice the frames of the last."""
    table = series.warmup(runs).dropna(axis="columns", how="all")
    order = list(dict.fromkeys(table["frames_since_start"]))
    axis = alt.Axis(labelAngle=-45, labelOverlap=False, grid=False)
    x = alt.X("frames_since_start:O", sort=order, title="frames since the start of the video", axis=axis)
    return _finish(_line_layer(runs, table, x, "mAP"), height=260, title=None)


def portions(runs: Sequence[Run]) -> alt.TopLevelMixin:
    """Draw the mAP by portion of the action that has been seen."""
    return _lines(runs, series.portions(runs), "portion", "portion of the action seen (%)")


def starts(runs: Sequence[Run]) -> alt.TopLevelMixin:
    """Draw the point-level mAP of action starts by the offset allowed."""
    return _lines(runs, series.starts(runs), "offset_s", "offset allowed (s)")


def clips(runs: Sequence[Run]) -> alt.TopLevelMixin:
    """Draw the accuracy over recordings by the time listened; dashed, over those alone that last so long."""
    table = series.clips(runs)
    x = alt.X("seconds:Q", title="time listened (s)")
    lasting = alt.Chart(_data(table.dropna(subset=["going_on"]))).mark_line(strokeWidth=1.5, strokeDash=[5, 3])
    lasting = lasting.encode(x=x, y=alt.Y("going_on:Q", scale=_SHARE, title="accuracy"), color=_run_colour(runs))
    return _finish(alt.layer(_line_layer(runs, table, x, "accuracy"), lasting), height=300, title=None)


def clip_shares(runs: Sequence[Run]) -> alt.TopLevelMixin:
    """Draw the accuracy over recordings by the share of them that was listened to."""
    x = alt.X("share:Q", title="share of the recording listened to (%)")
    return _finish(_line_layer(runs, series.clip_shares(runs), x, "accuracy"), height=260, title=None)


def anticipation(runs: Sequence[Run]) -> alt.TopLevelMixin:
    """Draw the mAP by how far ahead the answer is."""
    return _lines(runs, series.anticipation(runs), "horizon_s", "time ahead (s)")


def calibration(runs: Sequence[Run]) -> alt.TopLevelMixin:
    """Draw the accuracy of answers over their confidence; the dashed diagonal is perfect calibration.

    Bins of few frames are hollow points off the line.
    """
    ideal = alt.Chart(alt.InlineData(values=[{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]))
    diagonal = ideal.mark_rule(strokeDash=[4, 4]).encode(
        x=alt.datum(0), y=alt.datum(0), x2=alt.datum(1), y2=alt.datum(1)
    )
    bins = series.calibration(runs)
    x, few = alt.X("confidence:Q", title="confidence"), bins["frames"] < series.FEW_FRAMES
    layers = [diagonal, _line_layer(runs, bins[~few], x, "accuracy")]
    if few.any():
        hollow = alt.Chart(_data(bins[few])).mark_point(filled=False, size=45, opacity=1)
        tips = _tips("run:N", "confidence:Q", "accuracy:Q", "frames:Q")
        y = alt.Y("accuracy:Q", scale=_SHARE)
        layers.append(hollow.encode(x=x, y=y, color=_run_colour(runs), shape=_run_shape(runs), tooltip=tips))
    return _finish(alt.layer(*layers), height=300, title=None)


def training(runs: Sequence[Run]) -> alt.TopLevelMixin:
    """Draw losses and validation mAP by epoch, one panel a measure."""
    table = series.training(runs)
    panels = []
    for measure in dict.fromkeys(table["measure"]):
        rows = table[table["measure"] == measure].rename(columns={"value": measure})
        lines = _line_layer(runs, rows, alt.X("epoch:Q", title="epoch"), measure)
        panels.append(lines.properties(height=170, width=_WIDTH))
    chart: alt.TopLevelMixin = alt.vconcat(*panels).configure(**chart_config("light"))
    return chart


def map_against_macs(runs: Sequence[Run]) -> alt.TopLevelMixin:
    """Draw the mAP of the runs against the multiply-accumulates of a frame."""
    return _scatter(runs, "MACs", "multiply-accumulates per frame (as executed)", "~s")


def map_against_latency(runs: Sequence[Run]) -> alt.TopLevelMixin:
    """Draw the mAP of the runs against the median latency of a step."""
    return _scatter(runs, "latency_ms", "step latency (ms, median at batch 1)", "~g")


def _scatter(runs: Sequence[Run], column: str, title: str, number: str) -> alt.TopLevelMixin:
    table = series.cost(runs).dropna(subset=[column])
    values = [float(value) for value in table[column]]
    # Room on both sides: a single run sits in the middle, and labels stay inside.
    low, high = min(values) / 2, max(values) * 2
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    places = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    ticks = alt.Axis(format=number, values=[place for place in places if low <= place <= high], labelOverlap="greedy")
    base = alt.Chart(_data(table)).encode(x=alt.X(f"{column}:Q", scale=scale, title=title, axis=ticks))
    bounds = [float(value) for name in ("low", "mAP", "high") for value in table[name].dropna()]
    room = 0.15 * (max(bounds) - min(bounds)) + 0.02
    share = alt.Scale(domain=[max(0.0, min(bounds) - room), min(1.0, max(bounds) + room)], nice=False)
    y = alt.Y("mAP:Q", scale=share)
    bars = base.mark_rule(strokeWidth=1.5).encode(
        y=alt.Y("low:Q", scale=share, title="mAP"), y2="high:Q", color=_run_colour(runs)
    )
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        y=y,
        color=_run_colour(runs),
        shape=_run_shape(runs),
        tooltip=_tips("run:N", "mAP:Q", "low:Q", "high:Q", f"{column}:Q"),
    )
    return _finish(alt.layer(bars.transform_filter("isValid(datum.low)"), points), height=280, title=None)


def _lines(runs: Sequence[Run], table: pd.DataFrame, column: str, title: str) -> alt.TopLevelMixin:
    return _finish(_line_layer(runs, table, alt.X(f"{column}:Q", title=title), "mAP"), height=260, title=None)


def _line_layer(runs: Sequence[Run], table: pd.DataFrame, x: alt.X, value: str) -> Any:
    scale = alt.Scale(zero=True) if "loss" in value else _SHARE
    column = x.shorthand
    others = [name for name in table.columns if name not in {"run", "measure", column[:-2], value}]
    base = alt.Chart(_data(table)).encode(
        x=x,
        y=alt.Y(f"{value}:Q", scale=scale),
        color=_run_colour(runs),
    )
    lines = base.mark_line(strokeWidth=2)
    points = base.mark_point(filled=True, size=45, opacity=1).encode(
        shape=_run_shape(runs),
        tooltip=_tips("run:N", column, f"{value}:Q", *(f"{name}:Q" for name in others)),
    )
    return alt.layer(lines, points)


def _run_shape(runs: Sequence[Run]) -> alt.Shape:
    return alt.Shape("run:N", scale=alt.Scale(domain=[run.name for run in runs]), legend=_run_legend(runs))


def _run_colour(runs: Sequence[Run]) -> alt.Color:
    names = [run.name for run in runs]
    return alt.Color("run:N", scale=alt.Scale(domain=names, range="category"), legend=_run_legend(runs))


def _run_legend(runs: Sequence[Run]) -> alt.Legend | None:
    return alt.Legend(title=None, orient="top", columns=2) if len(runs) > 1 else None


def _shown() -> str:
    return f"!isValid({SHOWN}) || indexof({SHOWN}, datum['class']) >= 0"


def _tips(*fields: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(field, format=",.4~g") if field.endswith(":Q") else alt.Tooltip(field) for field in fields]


def _data(table: pd.DataFrame) -> alt.InlineData:
    """Return a table as CSV, a third of the size of rows in JSON; five digits are more than a pixel can show."""
    kinds = {name: "number" if pd.api.types.is_numeric_dtype(table[name]) else "string" for name in table.columns}
    text = table.round(5).to_csv(index=False, lineterminator="\n")
    return alt.InlineData(values=text, format=alt.CsvDataFormat(type="csv", parse=kinds))


def _finish(chart: Any, *, height: Any, title: str | None) -> alt.TopLevelMixin:
    named = chart.properties(width=_WIDTH, height=height, **({} if title is None else {"title": title}))
    finished: alt.TopLevelMixin = named.configure(**chart_config("light"))
    return finished
