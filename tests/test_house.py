"""The house around the package: light imports, public names, the Makefile, machine paths."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import coadtr

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "pytorch_lightning", "lightning", "hydra", "omegaconf", "h5py", "numpy", "pandas")
# Folders of one machine. Written so that this line does not match itself.
MACHINE_PATH = re.compile(r"/(?:work|root|home|Users|opt|tmp)/[\w.]")


def _make(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run make in the project, unaware of a make that may be running these tests."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "VENV"))}
    environment["PATH"] = path or environment["PATH"]
    command = [make, "--no-print-directory", "-C", str(ROOT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def _fake_python(folder: Path, *, pip_works: bool) -> Path:
    """Write a stand-in for python: right version, makes an environment whose pip works or fails."""
    code = 0 if pip_works else 1
    inner = f'#!/bin/sh\necho "$@" >> "{folder}/calls"\ncase "$*" in *install*) exit {code};; esac\n'
    (folder / "inner").write_text(inner)
    script = (
        '#!/bin/sh\nif [ "$1" = -m ] && [ "$2" = venv ]; then for last; do :; done\n'
        f'mkdir -p "$last/bin" && cp "{folder}/inner" "$last/bin/python" && chmod +x "$last/bin/python"; fi\n'
    )
    python = folder / "python"
    python.write_text(script)
    python.chmod(0o755)
    return python


def _source_files() -> list[Path]:
    """List the files that are, or would be, committed."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = [git, "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_import_is_light() -> None:
    code = "import json, sys, coadtr, coadtr.errors, coadtr.types; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert "coadtr" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_public_names_resolve() -> None:
    assert [name for name in coadtr.__all__ if getattr(coadtr, name, None) is None] == []
    assert set(coadtr.__all__) <= set(dir(coadtr))


def test_unknown_public_name_is_refused_by_name() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = coadtr.no_such_name


def test_make_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    listed = re.findall(r"^  make ([a-z-]+)", _make("help").stdout, re.MULTILINE)
    assert sorted(listed) == sorted(phony.group(1).split())


def test_install_runs_once(tmp_path: Path) -> None:
    python, venv = _fake_python(tmp_path, pip_works=True), tmp_path / "venv"
    first = _make("install", f"PYTHON={python}", f"VENV={venv}")
    assert first.returncode == 0, first.stderr
    assert (venv / ".installed").exists()
    calls = (tmp_path / "calls").read_text()
    assert "pip install" in calls
    second = _make("install", f"PYTHON={python}", f"VENV={venv}")
    assert second.returncode == 0
    assert (tmp_path / "calls").read_text() == calls


def test_failed_install_leaves_no_stamp(tmp_path: Path) -> None:
    python, venv = _fake_python(tmp_path, pip_works=False), tmp_path / "venv"
    assert _make("install", f"PYTHON={python}", f"VENV={venv}").returncode != 0
    assert "pip install" in (tmp_path / "calls").read_text()
    assert not (venv / ".installed").exists()


@pytest.mark.parametrize("python", ["false", "no-such-python"])
def test_install_refuses_an_old_python(python: str, tmp_path: Path) -> None:
    done = _make("install", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert f"coadtr needs Python 3.11 or newer, and '{python}' is not" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_demo_keeps_what_is_there() -> None:
    recipe = _make("--dry-run", "demo").stdout
    for command in (
        "data import format=exercises",
        "train experiment=exercises/cooadtr_b1",
        "replay checkpoint=",
    ):
        assert command in recipe
    assert "if [ -e data/exercises.h5 ]" in recipe
    assert "if [ -e runs/demo/checkpoint ]" in recipe


def test_ci_script_is_executable() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()


def test_no_machine_paths() -> None:
    found = []
    for path in _source_files():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
            if MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []
