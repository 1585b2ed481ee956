"""Call the command line as a user does, in this process or in one of its own, and hold what it answers."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from coadtr.cli.main import main

ROOT = Path(__file__).resolve().parents[2]

# A model and a run that take a second.
SMALL = ("model.window=8", "model.embed_dim=16", "model.ff_dim=16", "model.num_heads=2", "trainer.accelerator=cpu")
QUICK = ("latency.warmup=1", "latency.steps=5")


@dataclass(frozen=True)
class Outcome:
    """Exit code and what was written."""

    code: int
    out: str
    err: str


def call(*arguments: str, folder: Path) -> Outcome:
    """Run the console script in this process, with ``folder`` as the working folder."""
    out, err, before, code = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = ["coadtr", *arguments]
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else -1
    finally:
        sys.argv = before
    return Outcome(code, out.getvalue(), err.getvalue())


def succeed(*arguments: str, folder: Path) -> str:
    """Run the console script in this process; it must do its job and say nothing on standard error."""
    outcome = call(*arguments, folder=folder)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


def refuse(*arguments: str, folder: Path, code: int, names: tuple[str, ...]) -> None:
    """Run a call that cannot work: one line that holds ``names``, this exit code, and no file made or changed."""
    before = contents(folder)
    outcome = call(*arguments, folder=folder)
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert outcome.err.startswith("coadtr: error: ")
    assert outcome.err.endswith("\n")
    assert outcome.err.count("\n") == 1, outcome.err
    for name in names:
        assert name in outcome.err
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, tuple[int, int] | None]:
    """List all files with size and time of change, and all folders."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None
        for path in folder.rglob("*")
    }


def environment(**changes: str) -> dict[str, str]:
    """Give a process of its own one thread, and this checkout."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", **changes}


def spawn(*words: str, folder: Path, **changes: str) -> Outcome:
    """Run Python with these words in a process of its own, whose environment has these changes."""
    done = subprocess.run(  # noqa: S603 - our own interpreter and files
        [sys.executable, *words],
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
