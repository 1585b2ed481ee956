"""The tables: what they hold, how they read, and how they look in a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from coadtr.evaluation.metrics.paired import paired_precision_test
from coadtr.reporting import find_runs, headline, paired, per_class, render_comparison
from coadtr.reporting.tables import report_tables

MakeRun = Callable[..., Path]


def drawn(renderable: Any, width: int = 200) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(renderable)
    return file.getvalue()


def row(table: pd.DataFrame, head: str) -> list[str]:
    (found,) = table[table.iloc[:, 0] == head].to_numpy().tolist()
    return [str(cell) for cell in found]


def test_the_headline_holds_what_the_reports_say(make_run: MakeRun) -> None:
    runs = find_runs([make_run("a"), make_run("b", seed=4, skill=3.0, macs=2_500_000)])
    table = headline(runs)
    assert table["run"].tolist() == ["a", "b"]
    for column, path in {
        "mAP": ("mAP",),
        "accuracy": ("accuracy",),
        "F1@25": ("segmental", "f1", "25"),
        "delay_median_s": ("delay", "median_s"),
        "macs_per_frame": ("macs_per_frame",),
        "macs_per_frame_published": ("macs_per_frame_published",),
        "latency_p95_ms": ("step_latency_ms", "p95"),
        "protocol_version": ("protocol", "version"),
        "frames_scored": ("frames_scored",),
        "seed": ("origin", "seed"),
        "data": ("origin", "data", "fingerprint"),
    }.items():
        expected = []
        for run in runs:
            value: Any = run.report
            for key in path:
                value = value[key]
            expected.append(value)
        assert table[column].tolist() == expected, column
    for column in ("mAP", "mcAP", "accuracy"):
        assert table[f"{column}_low"].tolist() == [run.report["intervals"][column][0] for run in runs]
        assert table[f"{column}_high"].tolist() == [run.report["intervals"][column][1] for run in runs]


def test_what_is_not_known_is_missing_and_a_count_stays_whole(make_run: MakeRun) -> None:
    unknown = dict.fromkeys(("macs_per_frame", "step_latency_ms", "intervals", "segmental", "accuracy", "delay"))
    runs = find_runs([make_run("a"), make_run("b", changes=unknown)])
    table = headline(runs)
    assert table["macs_per_frame"].tolist() == [133_376, pd.NA]
    for column in ("latency_p50_ms", "mAP_low", "accuracy_high", "edit", "delay_median_s"):
        assert table[column].isna().tolist() == [False, True], column
    assert "133376," in table.to_csv()
    shown = report_tables(runs)[0].shown
    assert row(shown, "MACs a frame, executed") == ["MACs a frame, executed", "133.4 K", "-"]
    assert row(shown, "mAP (%)")[2] == f"{100 * runs[1].report['mAP']:.1f}"
    # A line that no run has is left out.
    assert "smoothing" not in shown.iloc[:, 0].tolist()


def test_numbers_read_rounded_with_their_interval(make_run: MakeRun) -> None:
    changes = {
        "mAP": 0.70449,
        "intervals": {"level": 0.9, "mAP": [0.66, 0.741], "mcAP": None, "accuracy": [None, None]},
        "step_latency_ms": {"p50": 0.40973, "p95": 1234.5, "p99": 2.0},
        "state_bytes_per_stream": 65_544,
        "parameters": 999,
        "peak_memory_bytes": 4.2e9,
        "smoothing": {"kind": "exponential", "factor": 0.5},
    }
    runs = find_runs([make_run("a", changes=changes)])
    table = report_tables(runs)[0]
    for head, text in {
        "mAP (%)": "70.4 [66.0, 74.1]",
        "accuracy by frame (%)": f"{100 * runs[0].report['accuracy']:.1f}",
        "step latency, p50 (ms)": "0.41",
        "step latency, p95 (ms)": "1,234.50",
        "state of a stream (bytes)": "65,544",
        "parameters": "999",
        "peak memory (MiB)": "4,005",
        "smoothing": "exponential",
    }.items():
        assert row(table.shown, head) == [head, text]
    assert "in brackets the 90 % interval" in table.caption


def test_classes_of_all_runs_have_a_row(make_run: MakeRun) -> None:
    first = make_run("a", class_names=["none", "lift", "turn"], ignored=None)
    second = make_run("b", class_names=["none", "turn", "walk", "unclear"], ignored=3)
    runs = find_runs([first, second])
    table = per_class(runs)
    assert list(table) == ["class", "a AP", "a cAP", "b AP", "b cAP"]
    assert table["class"].tolist() == ["lift", "turn", "walk"]
    assert table["a AP"].isna().tolist() == [False, False, True]
    assert table["b AP"].tolist()[1:] == [runs[1].report["per_class_AP"][name] for name in ("turn", "walk")]
    assert table["a cAP"].tolist()[:2] == [runs[0].report["per_class_cAP"][name] for name in ("lift", "turn")]


def test_runs_are_tested_against_the_first(make_run: MakeRun) -> None:
    runs = find_runs([make_run("a", skill=1.0), make_run("b", seed=1, skill=4.0), make_run("c", seed=2, skill=1.0)])
    tests = paired(runs, resamples=200, seed=5)
    assert tests["run"].tolist() == ["b"] * 3 + ["c"] * 3
    assert set(tests["against"]) == {"a"}
    found = paired_precision_test(
        runs[1].scores.videos,
        runs[0].scores.videos,
        class_names=runs[0].scores.class_names,
        background=0,
        resamples=200,
        seed=5,
    )
    for metric in ("mAP", "mcAP", "accuracy"):
        (line,) = tests[(tests["run"] == "b") & (tests["metric"] == metric)].to_dict("records")
        value = getattr(found, metric)
        assert (line["difference"], line["low"], line["high"]) == (value.difference, *value.interval)
        assert (line["p_value"], line["videos"], line["resamples"], line["seed"]) == (value.p_value, 4, 200, 5)
    differences = tests.set_index(["run", "metric"])["difference"]
    assert differences["b", "mAP"] == pytest.approx(runs[1].report["mAP"] - runs[0].report["mAP"])


def test_runs_on_another_test_set_are_not_tested(make_run: MakeRun) -> None:
    others = [
        make_run("videos", videos=3),
        make_run("classes", class_names=list("abcde")),
        make_run("frames", protocol="oadtr"),
        make_run("ignored", ignored=4),
    ]
    runs = find_runs([make_run("a"), *others])
    assert paired(runs, resamples=10).empty
    assert [table.name for table in report_tables(runs)] == ["headline", "per_class", "videos"]


def test_one_video_has_a_difference_and_no_interval(make_run: MakeRun) -> None:
    runs = find_runs([make_run("a", videos=1), make_run("b", videos=1, seed=1)])
    tests = paired(runs, resamples=10)
    assert tests["difference"].notna().all()
    assert tests[["low", "high", "p_value"]].isna().all().all()
    (table,) = (table for table in report_tables(runs) if table.name == "paired")
    assert row(table.shown[table.shown["metric"] == "mAP"], "b - a")[3] == "-"


def test_the_terminal_shows_runs_beside_each_other(make_run: MakeRun) -> None:
    runs = find_runs([make_run("a[red]"), make_run("b", seed=1)])
    out = drawn(render_comparison(runs, paired(runs, resamples=20)))
    head = next(line for line in out.splitlines() if "a[red]" in line)
    assert "b" in head
    (line,) = (line for line in out.splitlines() if "mAP (%)" in line)
    for run in runs:
        assert f"{100 * run.report['mAP']:.1f} [" in line
    assert "b - a[red]" in out
    assert "Against the first run" in out
    alone = drawn(render_comparison(runs[:1]))
    assert "Against" not in alone
    assert max(len(line) for line in drawn(render_comparison(runs), width=60).splitlines()) <= 60


def test_many_runs_are_rows(make_run: MakeRun) -> None:
    runs = find_runs([make_run(f"run_{index}", videos=2, seed=index) for index in range(7)])
    lines = drawn(render_comparison(runs)).splitlines()
    assert all(word in lines[2] for word in ("run", "mAP (%)", "parameters", "protocol"))
    for run in runs:
        (line,) = (line for line in lines if f"│ {run.name} " in line)
        assert f"{100 * run.report['mAP']:.1f}" in line


def test_all_videos_of_all_runs_are_listed(make_run: MakeRun) -> None:
    runs = find_runs([make_run("a"), make_run("b", videos=2)])
    (table,) = (table for table in report_tables(runs) if table.name == "videos")
    assert table.values["run"].tolist() == ["a"] * 4 + ["b"] * 2
    assert table.values["frames"].sum() == sum(run.report["frames_total"] for run in runs)
    assert table.shown["mAP"].tolist() == [f"{100 * value:.1f}" for value in table.values["mAP"]]
