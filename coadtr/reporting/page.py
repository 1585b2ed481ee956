"""One self-contained HTML page for one or several runs: it opens from a file and asks the network for nothing."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import coadtr
from coadtr.errors import ConfigError
from coadtr.reporting import charts, facts, figures, series, timeline
from coadtr.reporting.packing import LEVELS, script_json
from coadtr.reporting.theme import HUES, PAGE, chart_config, class_dash

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from coadtr.reporting.runs import Run

__all__ = ["render_page"]

_FEW_VIDEOS: Final = 20
_SCRIPTS: Final = ("charts.js", "unpack.js", "timeline.js", "moving.js", "page.js")  # in this order, in one function


def render_page(
    runs: Sequence[Run], *, title: str, notes: Sequence[str] = (), tests: pd.DataFrame | None = None
) -> str:
    """Render the report of some runs as one HTML page.

    Styles, code, charts and the scores of every frame are inside. Scores are kept in 65,535 steps and unpacked when a
    video is picked, so the page opens fast however many videos there are. All text out of files is escaped.

    Args:
        runs: The runs, at least one, each name once. Whether they may be compared is for the caller to judge.
        title: Heading of the page.
        notes: In what the runs differ, so that their numbers do not compare; a banner below the heading says so.
        tests: What `coadtr.reporting.pairs.paired` returned for the runs; asked now if None, which may take a minute.

    Returns:
        The page, in UTF-8 when written.

    Raises:
        ConfigError: No run is given, two have one name, or the extra ``report`` is not installed.
        DataError: A score is not a number from 0 to 1.

    Example:
        >>> render_page([], title="Salads")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: a page shows at least one run, and none was given; name the folder of a replay
    """
    names = [run.name for run in runs]
    if not names:
        raise ConfigError("a page shows at least one run, and none was given; name the folder of a replay")
    if len(set(names)) < len(names):
        raise ConfigError(f"run names {names} are not distinct; give every run its own name")
    drawn = charts.all_charts(runs)
    order = series.class_order(runs)
    page: str = _template().render(
        title=title,
        notes=list(notes),
        runs=names,
        groups=_grouped(facts.headline(runs)),
        level=_level(runs),
        rough=_rough(runs),
        pairs=figures.pair_table(runs, tests) if len(runs) > 1 else None,
        origin=facts.origin(runs),
        figures=figures.list_figures(runs, drawn),
        videos=figures.video_table(runs),
        packed=timeline.pack_runs(runs),
        heights={name: _heights(name, chart.to_dict(), len(runs)) for name, chart in drawn.items()},
        index=script_json(_index(runs, order, drawn)),
        classes=order,
        style=_asset("page.css"),
        script="\n".join(map(_asset, _SCRIPTS)),
        libraries=_libraries(),
        version=coadtr.__version__,
        levels=LEVELS,
    )
    return page


def _index(runs: Sequence[Run], order: list[str], drawn: dict[str, Any]) -> dict[str, Any]:
    """Return what the script of the page has to know, but for the scores."""
    place = {name: index for index, name in enumerate(order)}
    return {
        "classes": order,
        "background": _background(runs, place),
        "levels": LEVELS,
        "runs": [{"name": run.name, "classes": [place[name] for name in run.scores.class_names]} for run in runs],
        "videos": timeline.list_videos(runs),
        "charts": {name: _for_page(chart) for name, chart in drawn.items()},
        "timeline": {"bands": timeline.bands_chart(order), "scores": timeline.scores_chart(order)},
        "configs": {mode: chart_config(mode, background="transparent") for mode in HUES},
        "hues": HUES,
        "paper": {mode: colours["paper"] for mode, colours in PAGE.items()},
        "dashes": [class_dash(place) for place in range(len(order))],
    }


def _background(runs: Sequence[Run], place: dict[str, int]) -> int | None:
    name = runs[0].report.get("background")
    return None if name is None else place.get(name)


def _for_page(chart: Any) -> dict[str, Any]:
    """Return a chart for the page, which brings width, colours and headings of its own."""
    found: dict[str, Any] = chart.to_dict()
    found.pop("config", None)
    found.pop("title", None)
    for channel in ("color", "strokeDash"):
        if found.get("encoding", {}).get(channel, {}).get("field") == "class":
            found["encoding"][channel]["legend"] = None  # the page has a legend with boxes to tick
    return found


def _heights(name: str, spec: dict[str, Any], runs: int) -> tuple[int, int]:
    """Return about how many pixels high a chart will be, and how many more where names of runs stand in one column.

    Charts are drawn when they come near the screen; with their height kept free, nothing below moves.
    """
    first = spec.get("layer", [spec])[0]
    longest = 0.0
    if name.startswith("confusion"):
        names = first["encoding"]["x"]["sort"]
        body, longest = 20 * len(names) + 50.0, min(190.0, 6.4 * max(map(len, names)))
    elif "vconcat" in spec:
        body = sum(panel.get("height", 170) + 58.0 for panel in spec["vconcat"]) - 46
    elif isinstance(spec["height"], dict):
        rows = len(first["encoding"]["y"]["sort"])
        body = 22.0 * rows if runs == 1 else 11 * runs / 0.8 * (rows + 0.2) + 5
    else:
        body = spec["height"] + 6.0
        if name == "warmup":
            longest = 4.6 * max(map(len, first["encoding"]["x"]["sort"]))
    keyed = runs > 1 and not name.startswith(("confusion", "precision_recall"))
    lines = (runs + 1) // 2 if keyed else 0
    return round(body + longest + 43 + (10 + 17 * lines if lines else 0)), 17 * (runs - lines) if keyed else 0


def _level(runs: Sequence[Run]) -> str | None:
    levels = [run.report["intervals"]["level"] for run in runs if run.report.get("intervals")]
    return f"{100 * levels[0]:g} %" if levels else None


def _rough(runs: Sequence[Run]) -> str:
    """Return over how many videos the intervals are, and what that means if they are few."""
    parts = [run.report.get("intervals") or {} for run in runs]
    counts = {int(part["videos"]) for part in parts if part.get("videos") is not None}
    if not counts:
        return ""
    words = f"{' or '.join(f'{count:,}' for count in sorted(counts))} {'video' if counts == {1} else 'videos'}"
    return f"{words}; few videos: take intervals as rough" if min(counts) < _FEW_VIDEOS else words


def _grouped(rows: Sequence[facts.Row]) -> dict[str, list[facts.Row]]:
    groups: dict[str, list[facts.Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return groups


def _asset(name: str) -> str:
    return resources.files("coadtr.reporting").joinpath("assets", name).read_text(encoding="utf-8")


def _template() -> Any:
    try:
        import jinja2  # noqa: PLC0415  (the package is light without its extras)
    except ImportError as error:
        raise ConfigError(f"{error}: a page needs the extra: pip install 'coadtr[report]'") from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = _breakable
    return environment.from_string(_asset("page.html.j2"))


def _breakable(name: str) -> Any:
    """Let a long name go on in the next line after a sign between words, and nowhere else."""
    from markupsafe import Markup, escape  # noqa: PLC0415  (comes with Jinja2)

    return Markup("<wbr>").join(map(escape, re.split(r"(?<=[-_/.])(?=\w)", name)))


_GLOBALS = "window.vegaEmbed = vegaEmbed;"


@cache
def _libraries() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script; seconds of work, so done once."""
    import vl_convert  # noqa: PLC0415

    # No closing tag inside, whatever a later version brings.
    return vl_convert.javascript_bundle(_GLOBALS).replace("</script", "<\\/script").replace("<!--", "<\\!--")
