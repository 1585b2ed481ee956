"""The wheel: what is in it, and that it works outside a checkout, its settings included."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = "exercises/cooadtr_b1"


def _python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """Run this interpreter elsewhere, with ``path`` before all installed packages; return what it printed."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the project's wheel, offline."""
    folder = tmp_path_factory.mktemp("wheel")
    _python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone in a folder of its own."""
    target = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    _python("-m", "pip", "install", *options, "--target", str(target), str(wheel), cwd=target)
    return target


def _shipped(folder: str, pattern: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob(pattern)}


def test_wheel_holds_the_package_and_its_settings(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    settings = {f"coadtr/{name}" for name in _shipped("configs", "*.yaml")}
    assert f"coadtr/configs/experiment/{EXPERIMENT}.yaml" in settings
    assert settings <= names
    assert _shipped("coadtr", "*.py") | {"coadtr/py.typed"} <= names


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"coadtr"}
    assert [name for name in names if name.endswith((".pyc", ".h5", ".ckpt", ".safetensors"))] == []
    assert [name for name in names if "/tests/" in name or "/test_" in name] == []


def test_wheel_carries_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (licence,) = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        assert "License-Expression: Apache-2.0" in archive.read(metadata).decode()


def test_installed_wheel_finds_its_settings(installed: Path, tmp_path: Path) -> None:
    where = _python("-c", "import coadtr; print(coadtr.__file__)", cwd=tmp_path, path=installed)
    assert Path(where.strip()).is_relative_to(installed)
    entry = ["-m", "coadtr.cli.main", "train", f"experiment={EXPERIMENT}"]
    settings = _python(*entry, "--cfg", "job", cwd=tmp_path, path=installed)
    assert "model:" in settings
    assert "trainer:" in settings
    assert list(tmp_path.iterdir()) == [], "showing the settings left files behind"
