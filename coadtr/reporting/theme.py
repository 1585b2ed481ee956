"""Colours and type of the charts, for light and dark.

The eight hues differ in lightness too, so that they hold for colour-blind eyes and in grey, and each reaches a contrast
of 4.5 : 1 on its background. The ninth class takes the first hue again with another dash. Two hues that are near others
to colour-blind eyes begin with a dash: colour never speaks alone.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["DASHES", "HUES", "PAGE", "chart_config", "class_dash"]

HUES: Final = {
    "light": ("#0060a8", "#c04a00", "#00805a", "#b0309c", "#806000", "#7c1030", "#20252b", "#6f747a"),
    "dark": ("#5cb3f0", "#ff9650", "#3fcf9f", "#ec8cd2", "#ecc94b", "#f0606e", "#f4f6f8", "#8f98a2"),
}
DASHES: Final = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
_FIRST_DASH: Final = (0, 0, 0, 0, 1, 0, 0, 1)  # ochre is near orange, grey near green
PAGE: Final = {
    "light": {"paper": "#ffffff", "ink": "#1a2026", "faint": "#56606a", "line": "#d5dbe1"},
    "dark": {"paper": "#15191e", "ink": "#e9edf1", "faint": "#a9b3bd", "line": "#3a434c"},
}
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"


def class_dash(index: int) -> list[int]:
    """Return the dash of a class by its place: strokes and gaps in turn, in pixels.

    Args:
        index: Place of the class, from 0.

    Returns:
        One of `DASHES`; with the hue it tells apart as many classes as there are pairs of the two.

    Example:
        >>> class_dash(0), class_dash(8)
        ([1, 0], [7, 3])
    """
    turn, hue = divmod(index, len(_FIRST_DASH))
    return list(DASHES[(turn + _FIRST_DASH[hue]) % len(DASHES)])


def chart_config(mode: str, *, background: str | None = None) -> dict[str, Any]:
    """Return the Vega-Lite configuration of a mode.

    Args:
        mode: ``"light"`` or ``"dark"``.
        background: Colour behind the chart; None for that of the page.

    Returns:
        Configuration for ``altair.Chart.configure`` or Vega-Embed.

    Example:
        >>> chart_config("dark")["background"]
        '#15191e'
    """
    page = PAGE[mode]
    return {
        "background": background or page["paper"],
        "font": _FONT,
        "range": {"category": list(HUES[mode]), "heatmap": _ramp(mode), "ramp": _ramp(mode)},
        "axis": {
            "labelColor": page["faint"],
            "titleColor": page["ink"],
            "titleFontWeight": 500,
            "domainColor": page["line"],
            "tickColor": page["line"],
            "gridColor": page["line"],
            "gridOpacity": 0.6,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "labelLimit": 190,
            "labelFlush": False,
        },
        "legend": {
            "labelColor": page["ink"],
            "titleColor": page["ink"],
            "labelFontSize": 12,
            "labelLimit": 260,
            "symbolSize": 110,
            "symbolStrokeWidth": 2,
        },
        "title": {"color": page["ink"], "fontSize": 13, "fontWeight": 500, "anchor": "start"},
        "text": {"color": page["ink"]},
        "rule": {"color": page["faint"]},
        "style": {"interval": {"color": page["ink"], "strokeWidth": 1.5}},
        "view": {"stroke": None},
    }


def _ramp(mode: str) -> list[str]:
    """Return a ramp of one hue from the background up: more is darker on light, lighter on dark."""
    if mode == "light":
        return ["#f2f6fa", "#b9d6ec", "#6fadda", "#2a7fbd", "#004f8f", "#002f5c"]
    return ["#1c232a", "#173d5c", "#1f618f", "#3289c2", "#74b9e6", "#d3ecfb"]
