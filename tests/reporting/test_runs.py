"""Finding runs, refusing what is damaged or of an older version, and refusing to compare what differs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coadtr.errors import CoadtrError, ConfigError, DataError, SchemaError
from coadtr.reporting import check_comparable, differences, find_runs

MakeRun = Callable[..., Path]


def edit(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the report of a run in place."""
    path = run / "replay/report.json"
    report = json.loads(path.read_text())
    change(report)
    path.write_text(json.dumps(report))


def test_a_run_folder_a_replay_folder_and_a_report_name_the_same_run(make_run: MakeRun) -> None:
    run = make_run("salads")
    for path in (run, run / "replay", run / "replay/report.json"):
        (found,) = find_runs([path])
        assert (found.name, found.folder) == ("salads", run)
        assert found.report["mAP"] == json.loads((run / "replay/report.json").read_text())["mAP"]
        assert [video.name for video in found.scores.videos] == [f"video_{index:03d}" for index in range(4)]
        assert found.curves is not None
        assert found.curves["epoch"].tolist() == [0, 1, 2, 3, 4]


def test_all_runs_below_a_folder_are_found_in_order(make_run: MakeRun, tmp_path: Path) -> None:
    for name in ("sweep/10/a", "sweep/2/b", "sweep/2/.hidden"):
        make_run(name, videos=2)
    (tmp_path / "sweep/empty").mkdir()
    assert [run.name for run in find_runs([tmp_path / "sweep"])] == ["10/a", "2/b"]
    # In the order in which they are named, and each once.
    named = [tmp_path / "sweep/2/b", tmp_path / "sweep", tmp_path / "sweep/10/../10/a/replay"]
    assert [run.name for run in find_runs(named)] == ["2/b", "10/a"]


def test_other_replays_of_a_run_are_runs_with_the_same_curves(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("run")
    (run / "int8").mkdir()
    for name in ("report.json", "scores.h5"):
        (run / "int8" / name).write_bytes((run / "replay" / name).read_bytes())
    found = find_runs([run, run / "int8"])
    assert [one.name for one in found] == ["run", "run/int8"]
    assert found[0].curves is not None
    assert found[1].curves is not None
    assert found[0].curves.equals(found[1].curves)
    assert [one.name for one in find_runs([tmp_path])] == ["run/int8", "run"]


def test_a_relative_path_is_named_by_its_folder(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_run("here"))
    assert [run.name for run in find_runs(["."])] == ["here"]


def test_curves_of_a_run_taken_up_again_are_joined(make_run: MakeRun) -> None:
    run = make_run("run")
    for version, text in {
        "2": "epoch,val_mAP,train_loss\n4,0.5,\n4,,0.1\n5,0.75,\n",
        "10": "",
        "old": "nonsense",
    }.items():
        folder = run / f"logs/csv/version_{version}"
        folder.mkdir()
        (folder / "metrics.csv").write_text(text)
    (found,) = find_runs([run])
    assert found.curves is not None
    assert found.curves["epoch"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.curves["val_mAP"].tolist()[4:] == [0.5, 0.75]
    assert found.curves["train_loss"].tolist()[4] == 0.1
    assert np.isnan(found.curves["train_loss"].tolist()[5])


def test_a_run_without_training_has_no_curves(make_run: MakeRun) -> None:
    assert find_runs([make_run("run", training=False)])[0].curves is None


def test_parts_that_a_report_lacks_are_null(make_run: MakeRun) -> None:
    run = make_run("run")
    edit(run, lambda report: [report.pop(part, None) for part in ("warmup", "portions", "smoothing", "macs_per_frame")])
    (found,) = find_runs([run])
    assert [found.report[part] for part in ("warmup", "portions", "smoothing", "macs_per_frame")] == [None] * 4


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda r: r.update(version=1), SchemaError, "version 1.*reads 2: run `coadtr replay` again"),
        (lambda r: r.update(version=9), SchemaError, "version 9.*use the coadtr that wrote it"),
        (lambda r: r.update(format="other"), SchemaError, "not a report of coadtr"),
        (lambda r: r.pop("mAP"), DataError, "mAP is missing"),
        (lambda r: r.update(mAP="high"), DataError, "mAP must be a number, got 'high'"),
        (lambda r: r.update(mAP=True), DataError, "mAP must be a number, got True"),
        (lambda r: r.update(mAP=None), DataError, "mAP must be a number, got None"),
        (lambda r: r.update(mAP=float("inf")), DataError, "Infinity is not JSON"),
        (lambda r: r.update(parameters=10**30), DataError, "parameters is out of range, got 1000000000000"),
        (lambda r: r.update(accuracy=float("nan")), DataError, "NaN is not JSON"),
        (lambda r: r["protocol"].pop("version"), DataError, r"protocol\.version is missing"),
        (lambda r: r.update(class_names="abc"), DataError, "class_names must be a list, got 'abc'"),
        (lambda r: r["class_names"].__setitem__(1, 3), DataError, r"class_names\[1\] must be a text, got 3"),
        (lambda r: r["per_class_AP"].update(class_1=[]), DataError, r"per_class_AP\.class_1 must be a number"),
        (lambda r: r["portions"].update(mAP=["x"]), DataError, r"portions\.mAP\[0\] must be a number"),
        (lambda r: r.update(machine=None), DataError, "machine must be an object, got None"),
        (lambda r: r.update(background="nobody"), SchemaError, "background 'nobody' is no class"),
        (lambda r: r.update(frames_total=7), DataError, "974.*frames .*not what report.json beside it"),
        (lambda r: r["class_names"].reverse(), DataError, "5 classes.*not what report.json beside it"),
    ],
)
def test_a_damaged_report_is_named(
    change: Callable[[dict[str, Any]], object], error: type[CoadtrError], words: str, make_run: MakeRun
) -> None:
    run = make_run("run", frames=233)
    edit(run, change)
    with pytest.raises(error, match=words) as caught:
        find_runs([run])
    assert "\n" not in str(caught.value)
    assert str(run / "replay") in str(caught.value)


@pytest.mark.parametrize(
    ("file", "contents", "words"),
    [
        ("replay/report.json", b"", "not a whole JSON file.*run `coadtr replay` again"),
        ("replay/report.json", b'{"format": "coadtr-rep', "not a whole JSON file"),
        ("replay/report.json", b"\xff\xfe", "not a whole JSON file"),
        ("replay/report.json", b"[" * 100_000, "not a whole JSON file"),
        (
            "replay/report.json",
            b'{"format": "coadtr-report", "version": 2, "mAP": 1e999}',
            "mcAP is missing|mAP is out of range",
        ),
        ("replay/report.json", b"[1]", "not a report of coadtr"),
        ("replay/scores.h5", b"none", "not an HDF5 file"),
        ("replay/scores.h5", None, "scores.h5: is missing.*run `coadtr replay` again"),
        ("logs/csv/version_0/metrics.csv", b"a,b\n1,2\n", "metrics.csv: is not a table of training curves.*epoch"),
        ("logs/csv/version_0/metrics.csv", b"epoch,b\n1,x\n", "not a table of training curves"),
        ("logs/csv/version_0/metrics.csv", b"epoch,b\n1,2\n1,2,3\n", "not a table of training curves"),
    ],
)
def test_a_damaged_file_is_named(file: str, contents: bytes | None, words: str, make_run: MakeRun) -> None:
    run = make_run("run")
    (run / file).unlink()
    if contents is not None:
        (run / file).write_bytes(contents)
    with pytest.raises(DataError, match=words):
        find_runs([run])


def test_what_holds_no_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "deep/folder").mkdir(parents=True)
    (tmp_path / "file.txt").touch()
    with pytest.raises(DataError, match=r"deep: holds no run: neither report.json, nor replay/report.json"):
        find_runs([tmp_path / "deep"])
    with pytest.raises(DataError, match=r"none: there is no such folder"):
        find_runs([tmp_path / "none"])
    with pytest.raises(DataError, match=r"file.txt: is a file, not a folder"):
        find_runs([tmp_path / "file.txt"])
    with pytest.raises(ConfigError, match="no run was given"):
        find_runs([])


def test_a_link_to_a_folder_above_ends(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("sweep/a")
    (tmp_path / "sweep/loop").symlink_to(tmp_path / "sweep", target_is_directory=True)
    assert [run.name for run in find_runs([tmp_path / "sweep"])] == ["a"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": "oadtr"}, r"protocol: all v1 \(a\) against oadtr v1 with N = 8 \(b\)"),
        (
            {"fingerprint": "other"},
            r"data: split test of data/synthetic.h5 \[b5ef5aa444329fff\] \(a\) against .*\[other\]",
        ),
        ({"split": None}, r"data: split test of .* against all videos of"),
        ({"class_names": list("rstuv")}, r"classes: 5 \(class_0, .*; background class_0, ignored None\) \(a\) against"),
        ({"background": None}, r"classes: 5 .*background None"),
        (
            {"changes": {"smoothing": {"kind": "mean", "frames": 4}}},
            r"smoothing: none \(a\) against kind mean, frames 4",
        ),
    ],
)
def test_what_was_not_evaluated_alike_is_not_compared(options: dict[str, Any], words: str, make_run: MakeRun) -> None:
    runs = find_runs([make_run("a"), make_run("b", **options)])
    with pytest.raises(ConfigError, match=words) as caught:
        check_comparable(runs)
    assert "mixed=true" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(differences(runs)) == 1


def test_all_differences_and_all_runs_are_named(make_run: MakeRun) -> None:
    runs = find_runs(
        [make_run("a"), make_run("b", fingerprint="x", protocol="oadtr"), make_run("c"), make_run("d", window=9)]
    )
    first, second = differences(runs)
    assert first == "protocol: all v1 (a, c, d) against oadtr v1 with N = 8 (b)"
    assert second.endswith("[b5ef5aa444329fff] (a, c, d) against split test of data/synthetic.h5 [x] (b)")


def test_windows_matter_where_the_protocol_leaves_out_frames_by_them(make_run: MakeRun) -> None:
    alike = [make_run("a", window=8), make_run("b", window=16, seed=1)]
    check_comparable(find_runs(alike))
    other = [make_run("c", window=8, protocol="oadtr"), make_run("d", window=16, protocol="oadtr")]
    with pytest.raises(ConfigError, match=r"oadtr v1 with N = 8 \(c\) against oadtr v1 with N = 16 \(d\)"):
        check_comparable(find_runs(other))


def test_how_a_replay_ran_and_where_its_data_lay_makes_no_difference(make_run: MakeRun) -> None:
    first, second = make_run("a"), make_run("b", seed=3, skill=1.0, macs=5, changes={"mode": "chunk"})
    edit(second, lambda report: report["origin"]["data"].update(path=os.devnull))
    assert differences(find_runs([first, second])) == []
