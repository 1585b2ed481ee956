"""The charts: each shows what the runs hold, and those that runs have nothing for are left out."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest
import vl_convert

from coadtr.reporting import charts, figures, series
from coadtr.reporting.runs import find_runs
from coadtr.reporting.theme import DASHES, HUES, PAGE
from coadtr.reporting.timeline import scores_chart
from tests.reporting.conftest import NASTY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MANY = {
    "per_class_ap", "precision_recall_1", "precision_recall_2", "confusion_1", "confusion_2", "warmup", "portions",
    "starts", "calibration", "training", "map_against_macs", "map_against_latency", "macs_by_block",
}  # fmt: skip


def _rows(spec: dict[str, Any]) -> list[dict[str, str]]:
    """Read the rows that a chart draws."""
    (text,) = spec["datasets"].values()
    return list(csv.DictReader(io.StringIO(text)))


def test_two_runs_have_every_chart_but_anticipation(make_run: Callable[..., Path]) -> None:
    runs = find_runs([make_run("a"), make_run("b", seed=1, skill=1.0)])
    assert set(charts.all_charts(runs)) == MANY


def test_parts_that_are_null_have_no_chart(make_run: Callable[..., Path]) -> None:
    nothing = dict.fromkeys(
        (
            *("portions", "starts", "calibration", "warmup", "intervals"),
            *("macs_per_frame", "macs_by_block", "step_latency_ms"),
        )
    )
    runs = find_runs([make_run("a", changes=nothing, training=False)])
    assert set(charts.all_charts(runs)) == {"per_class_ap", "precision_recall", "confusion"}


def test_anticipation_is_drawn_where_there_is_some(make_run: Callable[..., Path]) -> None:
    ahead = {"horizons_s": [0.25, 0.5], "mAP": [0.4, None], "mcAP": [0.5, None]}
    runs = find_runs([make_run("a", changes={"anticipation": ahead})])
    rows = _rows(charts.all_charts(runs)["anticipation"].to_dict())
    assert [(row["horizon_s"], row["mAP"]) for row in rows] == [("0.25", "0.4")]


def test_recordings_are_drawn_by_the_time_and_the_share_listened(make_run: Callable[..., Path]) -> None:
    seconds = {
        "seconds": [0.5, 1.0],
        "recordings": [9, 4],
        "accuracy_going_on": [0.5, None],
        "accuracy_all": [0.5, 0.75],
    }
    part = {"recordings": 9, "answer": "last", "accuracy": 0.75, "interval": [0.6, 0.9], "by_seconds": seconds}
    part |= {"by_share": {"share": [0.1, 1.0], "accuracy": [0.4, 0.75]}}
    runs = find_runs([make_run("a", changes={"clips": part})])
    drawn = charts.all_charts(runs)
    assert set(drawn) >= {"clips", "clip_shares"}
    assert [(row["share"], row["accuracy"]) for row in _rows(drawn["clip_shares"].to_dict())] == [
        ("10.0", "0.4"),
        ("100.0", "0.75"),
    ]
    table = next(figure for figure in figures.list_figures(runs, drawn) if figure.key == "clips").tables[0]
    assert [row[0] for row in table.rows] == ["0.5", "1.0"]


def test_bars_show_the_values_of_the_report_best_class_first(make_run: Callable[..., Path]) -> None:
    runs = find_runs([make_run("a"), make_run("b", seed=1)])
    spec = charts.per_class_ap(runs).to_dict()
    rows = {(row["run"], row["class"]): float(row["AP"]) for row in _rows(spec)}
    wanted = {(run.name, name): value for run in runs for name, value in run.report["per_class_AP"].items()}
    assert rows == pytest.approx(wanted, abs=1e-5)
    order = spec["layer"][0]["encoding"]["y"]["sort"]
    first = runs[0].report["per_class_AP"]
    assert order == sorted(first, key=lambda name: -first[name])


def test_bars_carry_the_intervals_that_there_are(make_run: Callable[..., Path]) -> None:
    ends = {"level": 0.95, "mAP": None, "mcAP": None, "accuracy": None}
    (run,) = find_runs([make_run("a", changes={"intervals": {**ends, "per_class_AP": {"class_1": [0.25, 0.75]}}})])
    spec = charts.per_class_ap([run]).to_dict()
    rows = {row["class"]: (row["low"], row["high"]) for row in _rows(spec)}
    assert rows["class_1"] == ("0.25", "0.75")
    assert rows["class_2"] == ("", "")
    assert (spec["layer"][1]["encoding"]["x"]["field"], spec["layer"][1]["encoding"]["x2"]["field"]) == ("low", "high")
    (figure,) = figures.list_figures([run], {"per_class_ap": charts.per_class_ap([run])})
    cells = {row[0]: row[1] for row in figure.tables[0].rows}
    assert cells["class_1"].endswith(" (0.250 to 0.750)")
    assert "(" not in cells["class_2"]


def test_bands_of_the_warm_up_are_names_in_their_order(make_run: Callable[..., Path]) -> None:
    part = {"edges": [0, 1, 2, 4, 1024], "mAP": [0.1, 0.2, None, 0.4, 0.5], "frames": [4, 4, 0, 99, 12]}
    runs = find_runs([make_run("a", changes={"warmup": part}), make_run("b", changes={"warmup": None})])
    spec = charts.warmup(runs).to_dict()
    found = [(row["frames_since_start"], row["mAP"], float(row["frames"])) for row in _rows(spec)]
    assert found == [("0", "0.1", 4), ("1", "0.2", 4), ("4-1,023", "0.4", 99), ("1,024 on", "0.5", 12)]
    x = spec["layer"][0]["encoding"]["x"]
    assert (x["type"], x["sort"]) == ("ordinal", ["0", "1", "4-1,023", "1,024 on"])


def test_bands_with_few_of_the_classes_are_left_out(make_run: Callable[..., Path]) -> None:
    part = {"edges": [0, 1, 2], "mAP": [1.0, 0.4, 0.5], "frames": [4, 1500, 12], "classes": [1, 2, 4]}
    runs = find_runs([make_run("a", changes={"warmup": part})])
    assert len(runs[0].report["per_class_AP"]) == 4
    (figure,) = figures.list_figures(runs, {"warmup": charts.warmup(runs)})
    assert figure.tables[0].columns == ("frames since start", "mAP", "frames", "classes")
    assert figure.tables[0].rows == (("1", "0.400", "1,500", "2"), ("2 on", "0.500", "12", "4"))


def test_bins_of_few_frames_are_hollow_and_off_the_line(make_run: Callable[..., Path]) -> None:
    bins = [
        {"low": 0.0, "high": 0.5, "confidence": 0.25, "accuracy": 1.0, "frames": 9},
        {"low": 0.5, "high": 1.0, "confidence": 1.0, "accuracy": 0.5, "frames": 1210},
    ]
    runs = find_runs([make_run("a", changes={"calibration": {"ece": 0.1, "brier": 0.3, "bins": bins}})])
    chart = charts.calibration(runs)
    spec = chart.to_dict()
    frames = {name: row["frames"] for name, text in spec["datasets"].items() if isinstance(text, str)
              for row in csv.DictReader(io.StringIO(text))}  # fmt: skip
    line, hollow = spec["layer"][1:]
    assert (line["layer"][0]["mark"]["type"], float(frames[line["data"]["name"]])) == ("line", 1210)
    assert (hollow["mark"]["filled"], float(frames[hollow["data"]["name"]])) == (False, 9)
    (figure,) = figures.list_figures(runs, {"calibration": chart})
    assert figure.tables[0].rows == (("0.250", "1.000", "9"), ("1.000", "0.500", "1,210"))


def test_blocks_keep_the_order_of_the_network(make_run: Callable[..., Path]) -> None:
    runs = find_runs([make_run("a", macs=1001), make_run("b", changes={"macs_by_block": None})])
    spec = charts.macs_by_block(runs).to_dict()
    assert [tuple(row.values()) for row in _rows(spec)] == [("a", "embed", "500"), ("a", "encoder.0", "501")]
    assert spec["encoding"]["y"]["sort"] == ["embed", "encoder.0"]


def test_a_class_keeps_hue_and_dash_whichever_are_drawn() -> None:
    names = [f"c{index}" for index in range(30)]
    channels = scores_chart(names)["encoding"]
    assert channels["color"]["scale"]["domain"] == names
    dashes = channels["strokeDash"]["scale"]["range"]
    looks = [(index % len(HUES["light"]), tuple(dash)) for index, dash in enumerate(dashes)]
    assert len(set(looks)) == len(names)
    assert dashes[4] != dashes[1]  # ochre beside orange
    assert len(HUES["light"]) == len(HUES["dark"])
    assert len(DASHES) * len(HUES["light"]) >= 30


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_hues_stand_out_and_carry_words(mode: str) -> None:
    """WCAG contrast: 3 for lines, 4.5 for the words written on bands in the colour of the paper."""
    paper = _luminance(PAGE[mode]["paper"])
    for colour in (*HUES[mode], PAGE[mode]["ink"], PAGE[mode]["faint"]):
        high, low = sorted((_luminance(colour), paper), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, colour


def test_costs_show_the_interval(make_run: Callable[..., Path]) -> None:
    runs = find_runs([make_run("a", macs=1000, latency=0.5), make_run("b", macs=4000, latency=2.0)])
    table = series.cost(runs)
    assert table["MACs"].tolist() == [1000, 4000]
    assert table["latency_ms"].tolist() == [0.5, 2.0]
    assert table["low"].tolist() == [run.report["intervals"]["mAP"][0] for run in runs]


def test_every_chart_becomes_an_image_whatever_the_names(make_run: Callable[..., Path]) -> None:
    run = make_run("a", classes=len(NASTY), class_names=NASTY)
    for name, chart in charts.all_charts(find_runs([run])).items():
        image = vl_convert.vegalite_to_png(chart.to_json())
        assert image[:4] == b"\x89PNG", name
        assert len(image) > 2000, name
