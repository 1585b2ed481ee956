from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from coadtr.errors import ConfigError
from coadtr.evaluation import (
    build_origin,
    build_report,
    describe_machine,
    evaluate_answers,
    measure_cost,
    render_report,
    replay,
    write_report,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coadtr.evaluation import ReplayVideo
    from coadtr.types import Detector

NAMES = ["none", "run", "jump", "unclear", "fly"]


@pytest.fixture
def report(window_mean: Detector[Any], make_videos: Callable[..., list[ReplayVideo]]) -> dict[str, Any]:
    accuracy = evaluate_answers(
        replay(window_mean, make_videos(60, 40, classes=4), batch_size=2),
        class_names=NAMES,
        background=0,
        ignored=3,
        protocol="oadtr",
        window=8,
    )
    origin = build_origin(
        checkpoint="runs/one",
        data="store.h5",
        fingerprint="ab12",
        described={"origin": "kitchen videos", "label_rule": "centre"},
        split="test",
        seed=3,
        command=["coadtr", "replay"],
    )
    cost = measure_cost(window_mean, warmup=0, steps=5)
    return build_report(accuracy, cost=cost, macs_per_frame_published=9.6e6, origin=origin)


def test_report_says_what_was_scored_what_it_cost_and_where_it_came_from(report: dict[str, Any]) -> None:
    assert (report["format"], report["version"]) == ("coadtr-report", 2)
    assert report["macs_unit"] == "multiply-accumulates"
    assert (report["macs_per_frame"], report["macs_per_frame_published"]) == (30, 9.6e6)
    assert report["parameters"] == 35
    assert report["state_bytes_per_stream"] == 200
    assert set(report["step_latency_ms"]) == {"p50", "p95", "p99", "mean", "steps"}
    assert sum(report["macs_by_block"].values()) == 30
    assert report["weights_bytes"] == 4 * 35
    assert (report["throughput"], report["intervals"], report["audit"]) == ([], None, None)
    assert report["classes_absent"] == ["fly"]
    assert report["frames_total"] == 100
    assert report["frames_total"] == sum(report[f"frames_{part}"] for part in ("scored", "ignored", "outside"))
    assert report["mAP"] == pytest.approx(sum(report["per_class_AP"].values()) / 2)
    assert {"cpu", "cores", "threads", "torch", "device"} <= set(report["machine"])
    origin = report["origin"]
    assert origin["data"] == {
        "path": "store.h5",
        "fingerprint": "ab12",
        "origin": "kitchen videos",
        "label_rule": "centre",
    }
    assert (origin["checkpoint"], origin["split"], origin["seed"]) == ("runs/one", "test", 3)
    assert origin["command"] == "coadtr replay"
    assert set(origin["versions"]) == {"coadtr", "torch", "numpy", "python"}
    assert origin["date"].endswith("+00:00")


def test_written_report_reads_back_and_replaces_the_old_one(report: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    write_report({"old": True}, path)
    assert write_report(report, path) == path
    assert json.loads(path.read_text(encoding="utf-8")) == report
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_json_cannot_hold_leaves_the_old_report(tmp_path: Path, value: object) -> None:
    path = tmp_path / "report.json"
    write_report({"old": True}, path)
    with pytest.raises(ConfigError, match="JSON"):
        write_report({"mAP": value}, path)
    assert json.loads(path.read_text(encoding="utf-8")) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ConfigError, match="JSON"):
        build_report({"mAP": value}, origin={})


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report({"mAP": 0.5}, tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []


def test_folder_in_the_place_of_the_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder.*report\.json"):
        write_report({}, tmp_path)


def drawn(report: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(render_report(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_table_shows_headline_and_classes_best_first(report: dict[str, Any]) -> None:
    report["per_class_AP"] = {"run": 0.25, "jump": 0.75}
    report["per_class_cAP"] = {"run": 0.5, "jump": 0.9}
    text = drawn(report)
    assert f"{100 * report['mAP']:.2f} %" in text
    assert "oadtr v1" in text
    assert "30 multiply-accumulates a frame (9.6 M by the published convention)" in text
    assert "200 bytes a stream" in text
    assert ["label", "rule", "centre"] in [line.strip("│┃ ").replace("│", " ").split() for line in text.splitlines()]
    assert "kitchen videos" in text
    assert "fly" in text
    assert text.index("jump") < text.index("run ")
    bars = {line.split()[0]: line.count("█") for line in text.splitlines() if "█" in line}
    assert bars == {"jump": 24, "run": 8}


def test_table_does_without_what_was_not_measured(report: dict[str, Any]) -> None:
    report = build_report(
        {key: value for key, value in report.items() if key not in {"machine", "origin"}}
        | {"accuracy": None, "mean_per_video_accuracy": None, "classes_absent": []},
        origin={},
    )
    text = drawn(report)
    assert "undefined by frame" in text
    assert "latency" not in text
    assert "absent" not in text


def test_machine_is_named() -> None:
    machine = describe_machine()
    assert machine["cpu"]
    assert machine["cores"] >= machine["cores_usable"] >= 1
    json.dumps(machine)
