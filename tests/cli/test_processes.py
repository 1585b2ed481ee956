"""In processes of their own: the module, the scripts, what standard error shows, and what is left in the folder."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import coadtr
from coadtr.cli.main import COMMANDS
from tests.cli.calling import QUICK, ROOT, SMALL, contents, environment, spawn

MODULE = ("-m", "coadtr.cli.main")


def test_the_module_runs_without_torch_where_it_can(tmp_path: Path) -> None:
    version = spawn(*MODULE, "--version", folder=tmp_path)
    assert (version.code, version.out, version.err) == (0, f"coadtr {coadtr.__version__}\n", "")
    code = (
        "import sys; sys.argv = ['coadtr']; from coadtr.cli.main import main; main(); assert 'torch' not in sys.modules"
    )
    usage = spawn("-c", code, folder=tmp_path)
    assert (usage.code, usage.err) == (0, "")
    assert usage.out.startswith("usage: ")


def test_an_error_is_one_line_and_a_code(tmp_path: Path) -> None:
    outcome = spawn(*MODULE, "data", "inspect", "path=none.h5", folder=tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        "coadtr: error: none.h5: no such file: write it with `coadtr data import`, or mend the path\n"
    )
    assert contents(tmp_path) == {}


def test_nothing_but_the_result_is_said_and_left(workplace: Path) -> None:
    before = set(contents(workplace))
    run = ("dataset.path=data.h5", "out=new", "trainer.max_epochs=2")
    trained = spawn(*MODULE, "train", *SMALL, *run, folder=workplace)
    assert (trained.code, trained.err) == (0, "")
    lines = trained.out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["training", "epoch", "epoch"], "and no bars"
    assert [line.split()[0] for line in lines[-3:]] == ["validation", "checkpoint", "replay"]
    assert "Training" in lines[3]
    replayed = spawn(
        str(ROOT / "scripts/replay.py"), "checkpoint=new/checkpoint", "data=data.h5", *QUICK, folder=workplace
    )
    assert (replayed.code, replayed.err) == (0, "")
    assert "replaying" not in replayed.out
    assert {Path(name).parts[0] for name in set(contents(workplace)) - before} == {"new"}
    assert {path.name for path in (workplace / "new").iterdir()} == {
        *("checkpoint", "lightning", "logs", "replay", "run.json"),
    }


def test_a_terminal_shows_progress(workplace: Path) -> None:
    ours, theirs = pty.openpty()
    words = ["replay", "checkpoint=run/checkpoint", "data=data.h5", *QUICK]
    with subprocess.Popen(  # noqa: S603 - our own interpreter and files
        [sys.executable, *MODULE, *words],
        cwd=workplace,
        env={**environment(), "TERM": "xterm", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux says that the other side has closed
                break
            if not part:
                break
            shown += part
        out = process.communicate()[0]
    os.close(ours)
    assert process.returncode == 0
    assert "replaying 3 videos" in shown.decode()
    assert "Replay" in out


@pytest.mark.parametrize(
    ("script", "words", "expected"),
    [
        ("cost", ("table=true",), "cooadtr_b1"),
        ("data", ("inspect", "path=data.h5"), "data.h5  ("),
        ("extract", ("--help",), "coadtr extract: "),
        ("export", ("run=run", "which=last", "out=last"), "exported epoch 1 "),
        ("serve", ("--help",), "coadtr serve: "),
        ("train", ("--help",), "coadtr train: "),
    ],
)
def test_the_scripts_do_what_the_commands_do(
    script: str, words: tuple[str, ...], expected: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *words])
    with contextlib.chdir(workplace), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        runpy.run_path(str(ROOT / f"scripts/{script}.py"), run_name="__main__")
    assert expected in printed.getvalue()


def test_every_command_has_its_script() -> None:
    recipes = {"benchmark_models", "benchmark_table"}
    assert {path.stem for path in (ROOT / "scripts").glob("*.py")} == {name.split()[0] for name in COMMANDS} | recipes
