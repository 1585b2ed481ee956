"""What stands on the page under each heading: charts, a caption, and the same numbers as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from coadtr.reporting import curves, series, timeline
from coadtr.reporting.pairs import describe_pairs, paired

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import altair as alt

    from coadtr.reporting.runs import Run

__all__ = ["Figure", "Table", "list_figures", "pair_table", "video_table"]

_RECALLS: Final = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of text: names of the columns, and rows whose first cell names the row.

    Example:
        >>> Table(caption="AP", columns=("class", "AP"), rows=(("lift", "0.5"),)).rows[0][0]
        'lift'
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One heading of the page.

    Attributes:
        key: Identity on the page.
        title: The heading.
        short: The same for the list of parts.
        caption: How to read the charts.
        charts: Names of the charts, as `charts.all_charts` gives them.
        tables: The same numbers.

    Example:
        >>> Figure(key="a", title="A", short="A", caption="", charts=(), tables=()).title
        'A'
    """

    key: str
    title: str
    short: str
    caption: str
    charts: tuple[str, ...]
    tables: tuple[Table, ...]


_FIGURES: Final = {
    "per_class_ap": (
        "Average precision by class",
        "Classes",
        "Best class of the first run first; lines are intervals. Classes that do not occur have none.",
    ),
    "precision_recall": (
        "Precision and recall",
        "Precision",
        "Each line is a class; point at one to bring it out. Precision counts all scored frames above a threshold. The "
        "curve is thinned out to what a chart can show; its corners are kept.",
    ),
    "confusion": (
        "Confusion",
        "Confusion",
        "Rows are what the frames show, columns what was answered (the highest score). Each row adds up to 1.",
    ),
    "clips": (
        "Accuracy by the time listened",
        "Listening",
        "Share of the recordings that are answered right after so many seconds. Solid: of all, those that ended with "
        "their last answer. Dashed: of those alone that last so long; towards the end these are few.",
    ),
    "clip_shares": (
        "Accuracy by the share listened",
        "Share",
        "Share of the recordings that are answered right when this part of each has passed.",
    ),
    "warmup": (
        "Warm-up",
        "Warm-up",
        "mAP of the frames this long after the start of their video. Each band is scored on its own: other classes, "
        "other negatives, so bands do not compare with each other; runs do. Bands in which fewer than half of the "
        "run's classes occur are left out.",
    ),
    "portions": (
        "Portions of an action",
        "Portions",
        "mAP by the tenth of the action that a frame lies in, with all negative frames: how early an action is known.",
    ),
    "starts": ("Action starts", "Starts", "Point-level mAP of action starts, by how far off an answer may lie."),
    "anticipation": ("Anticipation", "Anticipation", "mAP of answers for a time ahead."),
    "calibration": (
        "Calibration",
        "Calibration",
        "Accuracy of the answers by their confidence. On the dashed diagonal, confidence is what it "
        "claims to be. Hollow points are bins of fewer than 10 frames.",
    ),
    "map_against_macs": (
        "Accuracy against multiply-accumulates",
        "MACs",
        "Higher and further left is better; bars are intervals. The horizontal scale is logarithmic.",
    ),
    "map_against_latency": (
        "Accuracy against latency",
        "Latency",
        "Higher and further left is better. Latencies compare on one machine only: see where the runs come from.",
    ),
    "macs_by_block": (
        "Multiply-accumulates by block",
        "Blocks",
        "What a frame costs in each part of the network, as executed, from its input to its head.",
    ),
    "training": ("Training curves", "Training", "By epoch; the validation is that of the training, not of this test."),
}


def list_figures(runs: Sequence[Run], charts: Mapping[str, alt.TopLevelMixin]) -> list[Figure]:
    """Return the figures that there are charts for, in the order of the page.

    Args:
        runs: The runs.
        charts: What `charts.all_charts` returned for them.

    Returns:
        One figure a heading; `precision_recall` and `confusion` hold a chart a run.

    Example:
        >>> list_figures([], {})
        []
    """
    figures = []
    for key, (title, short, caption) in _FIGURES.items():
        names = tuple(name for name in charts if name == key or name.rpartition("_")[0] == key)
        if names:
            figures.append(
                Figure(key=key, title=title, short=short, caption=caption, charts=names, tables=_tables(runs, key))
            )
    return figures


def _tables(runs: Sequence[Run], key: str) -> tuple[Table, ...]:
    if key == "per_class_ap":
        table = series.per_class(runs)
        return (_by_run(table.assign(AP=_with_ends(table)), "class", ["AP", "cAP"]),)
    if key == "precision_recall":
        return tuple(_precision_table(run) for run in runs)
    if key == "confusion":
        return tuple(_confusion_table(run) for run in runs)
    if key.startswith("map_against"):
        table = series.cost(runs)
        return (
            _table(table.rename(columns={"low": "mAP from", "high": "mAP to", "latency_ms": "latency (ms)"}), "Cost"),
        )
    if key == "training":
        table = series.training(runs)
        wide = table.pivot_table(index=["run", "epoch"], columns="measure", values="value", sort=False).reset_index()
        return (_table(wide, "Training"),)
    table = getattr(series, key)(runs)
    counts = {name: [_count(value) for value in table[name]] for name in ("frames", "classes") if name in table.columns}
    table = table.assign(**counts).dropna(axis="columns", how="all")
    places, *values = [name for name in table.columns if name != "run"]
    if key == "calibration":  # in three decimals, confidences of 0 and 1 too
        table = table.assign(**{name: [f"{value:.3f}" for value in table[name]] for name in ("confidence", "accuracy")})
    return (_by_run(table, places, values),)


def _with_ends(table: pd.DataFrame) -> list[str]:
    return [
        _cell(value) if pd.isna(low) else f"{_cell(value)} ({_cell(low)} to {_cell(high)})"
        for value, low, high in zip(table["AP"], table["low"], table["high"], strict=True)
    ]


def _precision_table(run: Run) -> Table:
    curve = series.precision_recall([run])
    rows = []
    for name, points in curve.groupby("class", sort=False):
        best = [points["precision"][points["recall"] >= recall - 1e-9].max() for recall in _RECALLS]
        rows.append((str(name), *map(_cell, best)))
    heads = ("class", *(f"recall {recall:g}" for recall in _RECALLS))
    return Table(caption=f"{run.name}: highest precision at a recall of at least", columns=heads, rows=tuple(rows))


def _confusion_table(run: Run) -> Table:
    counts = series.confusion([run])
    rows = []
    for name, answers in counts[counts["frames"] > 0].groupby("true", sort=False):
        most = answers.sort_values("share", ascending=False, kind="stable").head(4)
        words = [f"{answer} {100 * share:.1f} %" for answer, share in zip(most["answered"], most["share"], strict=True)]
        rows.append((str(name), f"{int(answers['frames'].sum()):,}", ", ".join(words)))
    return Table(caption=f"{run.name}: commonest answers", columns=("shown", "frames", "answered"), rows=tuple(rows))


def video_table(runs: Sequence[Run]) -> Table:
    """Return accuracy and mAP of every video, in the order of `timeline.list_videos`.

    That is: the lowest mean accuracy over the runs first, and videos of which no frame is scored last.

    Example:
        >>> video_table([]).rows
        ()
    """
    tables = [curves.video_table(run).assign(run=run.name) for run in runs]
    if not tables:
        return Table(caption="Videos", columns=("video",), rows=())
    order = list(dict.fromkeys(video["name"] for video in timeline.list_videos(runs)))
    joined = pd.concat(tables, ignore_index=True)
    placed = joined.iloc[joined["video"].map(order.index).argsort(kind="stable")]
    found = _by_run(placed, "video", ["accuracy", "mAP"])
    mean = ", by the mean over the runs" if len(runs) > 1 else ""
    return Table(caption=f"Videos, least accurate first{mean}", columns=found.columns, rows=found.rows)


def pair_table(runs: Sequence[Run], tests: pd.DataFrame | None = None) -> Table | None:
    """Return the tests of each run against the first, over the same videos; None if no run can be tested.

    Args:
        runs: The runs.
        tests: What `coadtr.reporting.pairs.paired` returned for them, if it was asked already.

    Example:
        >>> pair_table([]) is None
        True
    """
    tests = paired(runs) if tests is None else tests
    if tests.empty:
        return None
    described = describe_pairs(tests).to_dict("records")
    rows = tuple((f"{words['metric']}, {words['runs']}", words["difference"], words["p"]) for words in described)
    caption = (
        "Each run against the first, over the same videos: difference in points with its 95 % interval, paired test"
    )
    return Table(caption=caption, columns=("metric and runs", "difference", "p"), rows=rows)


def _by_run(table: pd.DataFrame, places: str, values: Sequence[str]) -> Table:
    """Set the runs side by side: a row a place, a column a run and value."""
    runs = list(dict.fromkeys(table["run"]))
    cells = {
        (str(place), run, name): value
        for name in values
        for place, run, value in zip(table[places], table["run"], table[name], strict=True)
    }
    heads = [(run, name) for run in runs for name in values]
    rows = tuple(
        (place, *(_cell(cells.get((place, *head))) for head in heads))
        for place in dict.fromkeys(map(str, table[places]))
    )
    titles = [name if len(runs) == 1 else f"{name}, {run}" for run, name in heads]
    return Table(caption="The same numbers", columns=(places.replace("_", " "), *titles), rows=rows)


def _table(table: pd.DataFrame, caption: str) -> Table:
    rows = tuple(tuple(map(_cell, row)) for row in table.itertuples(index=False, name=None))
    return Table(caption=caption, columns=tuple(map(str, table.columns)), rows=rows)


def _cell(value: Any) -> str:
    if value is None or pd.isna(value):
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.3f}"


def _count(value: Any) -> str | None:
    return None if pd.isna(value) else f"{value:,.0f}"
