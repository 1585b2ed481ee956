"""The timeline of a video: what is drawn, and the packed scores that the page draws it from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from coadtr.reporting import curves
from coadtr.reporting.charts import class_channels
from coadtr.reporting.packing import pack_video

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coadtr.data import VideoScores
    from coadtr.reporting.runs import Run

__all__ = ["bands_chart", "list_videos", "pack_runs", "scores_chart"]


def bands_chart(order: Sequence[str]) -> dict[str, Any]:
    """Return the specification of the bands: ground truth and answers, in rows, coloured and named by class.

    The page sets ``low`` and ``high`` (the ends of the visible time) and the data ``bands``.

    Example:
        >>> sorted(bands_chart(["rest"])["layer"][0]["encoding"])
        ['color', 'opacity', 'x', 'x2', 'y']
    """
    bars = (
        alt.Chart(alt.NamedData("bands"))
        .mark_bar(clip=True, height=alt.RelativeBandSize(0.86), stroke=None)
        .encode(
            x=_time(axis=None),
            x2="end:Q",
            y=alt.Y("row:N", sort=None, title=None, axis=_axis()),
            color=class_channels(order)["color"],
            opacity=alt.Opacity("strength:Q", scale=None),
        )
    )
    text = alt.Chart(alt.NamedData("bands")).mark_text(align="left", baseline="middle", dx=4, clip=True, fontSize=12)
    place = alt.X("from:Q", scale=_scale(), axis=None)
    text = text.encode(x=place, y=alt.Y("row:N", sort=None), text="label:N")
    return _specification(alt.layer(bars, text), height=alt.Step(28))


def scores_chart(order: Sequence[str]) -> dict[str, Any]:
    """Return the specification of the scores of one run: a line a class.

    The page sets ``low`` and ``high``, and the data ``scores``.

    Example:
        >>> scores_chart(["rest"])["mark"]["clip"]
        True
    """
    lines = (
        alt.Chart(alt.NamedData("scores"))
        .mark_line(clip=True, strokeWidth=1.5, strokeJoin="round")
        .encode(
            x=_time(axis=alt.Axis(title="time", tickMinStep=1, labelOverlap=True)),
            y=alt.Y(
                "score:Q",
                scale=alt.Scale(domain=[0, 1]),
                title=None,
                axis=_axis(values=[0, 0.25, 0.5, 0.75, 1], format=".2f"),
            ),
            order=alt.Order("start:Q"),
            **class_channels(order),
        )
    )
    return _specification(lines, height=220)


def _time(*, axis: Any) -> alt.X:
    return alt.X("start:Q", scale=_scale(), axis=axis)


def _scale() -> alt.Scale:
    ends: Any = [alt.ExprRef("low"), alt.ExprRef("high")]
    return alt.Scale(domain=ends, nice=False, zero=False)


def _axis(**options: Any) -> alt.Axis:
    return alt.Axis(title=None, **options)


def _specification(chart: Any, *, height: Any) -> dict[str, Any]:
    ends = (alt.param(name="low", value=0), alt.param(name="high", value=1))
    found: dict[str, Any] = chart.properties(height=height).add_params(*ends).to_dict()
    found.pop("config", None)
    return found


def list_videos(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Describe the videos of all runs, in the order of the picker and of the table of videos.

    The lowest mean accuracy over the runs comes first, of equal ones the name that sorts first; videos of which no
    frame is scored come last. Recordings of one name but of different lengths are different videos.

    Args:
        runs: The runs.

    Returns:
        A dict a video: ``name``, ``frames``, ``rate`` in frames a second or None, ``multi`` (whether labels are
        multi-hot), ``accuracy`` (mean over the runs, or None) and ``runs``: the place of the run, the identity of its
        packed scores, and the accuracy.

    Example:
        >>> list_videos([])
        []
    """
    videos: dict[tuple[str, int], dict[str, Any]] = {}  # by length too: runs on other data may share a name
    for number, run in enumerate(runs):
        table = curves.video_table(run)
        accuracies = dict(zip(table["video"], table["accuracy"], strict=True))
        for index, video in enumerate(run.scores.videos):
            found = videos.setdefault((video.name, len(video.scores)), _describe(video))
            value = float(accuracies[video.name])
            accuracy = value if np.isfinite(value) else None
            found["runs"].append({"run": number, "id": f"scores-{number}-{index}", "accuracy": accuracy})
    for found in videos.values():
        values = [entry["accuracy"] for entry in found["runs"] if entry["accuracy"] is not None]
        found["accuracy"] = float(np.mean(values)) if values else None
    return sorted(
        videos.values(), key=lambda video: (video["accuracy"] is None, video["accuracy"] or 0.0, video["name"])
    )


def _describe(video: VideoScores) -> dict[str, Any]:
    return {
        "name": video.name,
        "frames": len(video.scores),
        "rate": video.rate_hz,
        "multi": video.labels.ndim == 2,
        "runs": [],
    }


def pack_runs(runs: Sequence[Run]) -> dict[str, str]:
    """Pack every video of every run, by the identity that `list_videos` gives it.

    Example:
        >>> pack_runs([])
        {}
    """
    return {
        f"scores-{number}-{index}": pack_video(video.scores, video.labels, video.scored)
        for number, run in enumerate(runs)
        for index, video in enumerate(run.scores.videos)
    }
