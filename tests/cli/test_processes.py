"""In processes of their own: the module, the scripts, what standard error shows, and what is left in the folder."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import runpy
import select
import sys
from pathlib import Path

import pytest

import coadtr
from coadtr.cli.main import COMMANDS
from tests.cli.calling import QUICK, ROOT, SMALL, contents, spawn
from tests.forking import command, forked, script

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


def test_nothing_but_the_result_is_said_and_left(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = set(contents(workplace))
    run = ("dataset.path=data.h5", "out=new", "trainer.max_epochs=2")
    # TensorBoard would load TensorFlow, which says much, wherever it is installed.
    elsewhere = tmp_path_factory.mktemp("packages")
    (elsewhere / "tensorflow.py").write_text("import sys\nsys.stderr.write('TensorFlow is loaded')\n")
    trained = spawn(*MODULE, "train", *SMALL, *run, folder=workplace, PYTHONPATH=f"{elsewhere}{os.pathsep}{ROOT}")
    assert (trained.code, trained.err) == (0, "")
    lines = trained.out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["training", "epoch", "epoch"], "and no bars"
    assert [line.split()[0] for line in lines[-3:]] == ["validation", "checkpoint", "replay"]
    assert "Training" in lines[3]
    words = (str(ROOT / "scripts/replay.py"), "checkpoint=new/checkpoint", "data=data.h5", *QUICK)
    with forked(script, *words, folder=workplace) as process:
        replayed = process.wait()
    assert (replayed.code, replayed.err) == (0, "")
    assert "replaying" not in replayed.out
    assert {Path(name).parts[0] for name in set(contents(workplace)) - before} == {"new"}
    assert {path.name for path in (workplace / "new").iterdir()} == {
        *("checkpoint", "lightning", "logs", "replay", "run.json"),
    }


def test_a_terminal_shows_progress(workplace: Path) -> None:
    ours, theirs = pty.openpty()
    words = ("replay", "checkpoint=run/checkpoint", "data=data.h5", *QUICK)
    kind = {"TERM": "xterm", "COLUMNS": "200"}
    with forked(command, *words, folder=workplace, terminal=os.ttyname(theirs), **kind) as replay:
        shown = b""
        while ours in select.select([ours, replay.process.sentinel], [], [])[0]:
            shown += os.read(ours, 4096)
        done = replay.wait()
    os.close(theirs)
    os.close(ours)
    assert done.code == 0
    assert "replaying 3 videos" in shown.decode()
    assert "Replay" in done.out


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("cost", ("table=true",), "cooadtr_b1"),
        ("data", ("inspect", "path=data.h5"), "data.h5  ("),
        ("extract", ("--cfg", "job"), "\nbackbone: "),
        ("export", ("run=run", "which=last", "out=last"), "exported epoch 1 "),
        ("serve", ("--cfg", "job"), "\nport: "),
        ("train", ("--cfg", "job"), "\ntrainer:"),
    ],
)
def test_the_scripts_do_what_the_commands_do(
    name: str, words: tuple[str, ...], expected: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    with contextlib.chdir(workplace), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        runpy.run_path(str(ROOT / f"scripts/{name}.py"), run_name="__main__")
    assert expected in printed.getvalue()


def test_every_command_has_its_script() -> None:
    recipes = {"benchmark_models", "benchmark_table"}
    assert {path.stem for path in (ROOT / "scripts").glob("*.py")} == {name.split()[0] for name in COMMANDS} | recipes
