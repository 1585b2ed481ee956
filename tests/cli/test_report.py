"""`coadtr report`: from runs to a folder, and calls that cannot work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from coadtr.cli import report
from coadtr.reporting import export
from tests.cli.calling import call, contents, refuse, succeed
from tests.cli.test_configs import Recorder, compose_plain
from tests.reporting.conftest import write_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder with three runs of two protocols."""
    write_run(tmp_path / "runs/a", videos=2)
    write_run(tmp_path / "runs/b", videos=2, seed=1)
    write_run(tmp_path / "other/c", videos=2, protocol="oadtr")
    return tmp_path


def just_the_title(_: object, title: str, __: object, *_rest: object) -> str:
    """Stand in for the page, which takes seconds."""
    return title


def test_runs_are_compared_on_the_terminal_and_in_a_folder(runs: Path) -> None:
    out = succeed("report", "runs/a", "runs/b/replay", "out=new/report", "title=Two", "png=false", folder=runs)
    for name in ("a", "b"):
        value = json.loads((runs / f"runs/{name}/replay/report.json").read_text())["mAP"]
        assert f"{100 * value:.1f} [" in out
    assert "b - a" in out
    assert out.splitlines()[-1] == f"written to {runs / 'new/report/index.html'}"
    assert "Two" in (runs / "new/report/index.html").read_text(encoding="utf-8")
    assert {"headline.csv", "headline.md", "headline.tex"} <= {
        path.name for path in (runs / "new/report/tables").iterdir()
    }


def test_the_report_lies_in_the_run_or_in_the_folder_of_all_runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_page", just_the_title)
    quick = ("png=false", "formats=csv")
    succeed("report", "runs=runs/a", *quick, folder=runs)
    assert (runs / "runs/a/report/index.html").read_text() == "Report: a"
    # The folder of runs holds a report now, which is no run.
    succeed("report", "runs=runs", *quick, folder=runs)
    assert (runs / "runs/report/index.html").read_text() == "Report: a, b"
    succeed("report", "runs=[runs]", *quick, folder=runs)


def test_runs_that_differ_are_refused_or_named(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[list[str]] = []

    def keep(_: object, title: str, notes: list[str], *_rest: object) -> str:
        handed.append(notes)
        return title

    monkeypatch.setattr(export, "_page", keep)
    both = ("report", "runs=[runs/a,other/c]", "png=false", "formats=null", "out=out")
    refuse(*both, folder=runs, code=2, names=("all v1 (runs/a) against oadtr v1 with N = 8 (other/c)", "mixed=true"))
    out = succeed(*both, "mixed=true", folder=runs)
    assert "These runs differ in protocol: all v1 (runs/a) against oadtr v1 with N = 8 (other/c)" in out
    assert handed == [["These runs differ in protocol: all v1 (runs/a) against oadtr v1 with N = 8 (other/c)"]]


@pytest.mark.parametrize(
    ("words", "code", "names"),
    [
        ("report", 2, ("runs=... must be given",)),
        ("report runs=[]", 2, ("no run was given",)),
        ("report runs=true", 2, ("runs must be a path, got True",)),
        ("report runs=none", 1, ("none: there is no such folder",)),
        ("report runs=runs/a/logs", 1, ("runs/a/logs: holds no run",)),
        ("report runs=runs/a out=runs/b", 2, ("out=runs/b is a folder that holds no report",)),
        ("report runs=runs/a formats=[csv,xlsx]", 2, ("formats must be one of csv, md, tex; got 'xlsx'",)),
        ("report runs=runs/a mixed=5", 2, ("mixed must be true or false, got 5",)),
        ("report runs=runs/a png=maybe", 2, ("png must be true or false, got 'maybe'",)),
        ("report runs=runs/a title=5", 2, ("title must be text",)),
        ("report runs=runs/a titel=x", 2, ("titel is not a setting",)),
    ],
)
def test_a_wrong_call_ends_with_one_line(words: str, code: int, names: tuple[str, ...], runs: Path) -> None:
    refuse(*words.split(), folder=runs, code=code, names=names)


def test_a_missing_extra_is_named(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_NEEDED", {"no_such_package": "Altair"})
    before = contents(runs)
    outcome = call("report", "runs=runs", folder=runs)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == 'coadtr: error: a report needs Altair: run `pip install "coadtr[report]"`\n'
    assert contents(runs) == before


def test_every_setting_is_used(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    recorder = Recorder(compose_plain("report", "runs=[runs/a]", "png=false"), "", read)
    monkeypatch.chdir(runs)
    monkeypatch.setattr(sys, "argv", ["coadtr report"])
    monkeypatch.setattr(report, "plain", lambda _: recorder)
    monkeypatch.setattr(export, "_page", just_the_title)
    report.main(OmegaConf.create({"runs": ["runs/a"]}))
    assert recorder.leaves() == read & recorder.leaves()
