"""The files for a server: the unit of systemd and the container's file say what the command and the project know."""

from __future__ import annotations

import configparser
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from coadtr.runtime import OnlineDetector
from coadtr.serving import ServerSettings, StreamClient, running
from tests.examples.conftest import DEPLOYMENT
from tests.runtime.conftest import FRAMES, write

PROJECT = tomllib.loads((DEPLOYMENT.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
UNIT = DEPLOYMENT / "coadtr.service"
CLOSING_SECONDS = 5  # that connections get after the answers, in coadtr/serving/server.py
# What none of the packages of the container's file brings cannot be imported.
ABSENT = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.argv = {words}
runpy.run_module("coadtr.cli.main", run_name="__main__")
"""


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Write a small file."""
    return write(tmp_path / "model.onnx")


def unit() -> configparser.ConfigParser:
    """Read the unit."""
    read = configparser.ConfigParser(strict=False, interpolation=None)  # the filter of system calls stands there twice
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read(UNIT, encoding="utf-8")
    return read


def instructions() -> list[tuple[str, str]]:
    """Read the container's file: name and words of each instruction."""
    text = re.sub(r"^#.*\n", "", (DEPLOYMENT / "Containerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(name, words.strip()) for name, _, words in (line.partition(" ") for line in lines if line.strip())]


def only(name: str) -> str:
    """Return the words of the one instruction of a name."""
    (words,) = [words for found, words in instructions() if found == name]
    return words


def packages() -> dict[str, Requirement]:
    """Return what the container's file installs by name."""
    quoted = [word for name, words in instructions() if name == "RUN" for word in re.findall(r'"([^"]+)"', words)]
    return {need.name: need for need in map(Requirement, quoted)}


def composed(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> str:
    """Return the settings of a command as composed."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["coadtr", *words, "--cfg", "job"])
    importlib.import_module("coadtr.cli.main").main()
    return capsys.readouterr().out


def test_the_command_of_the_unit_composes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    service = unit()["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert (Path(program).name, words[0]) == ("coadtr", "serve")
    settings = composed(words, monkeypatch, capsys, tmp_path)
    assert "host: 127.0.0.1\n" in settings
    assert f"snapshots: /var/lib/{service['StateDirectory']}/streams\n" in settings
    assert "token: null\n" in settings  # a command line can be read by all users


def test_the_unit_stops_and_starts_as_the_server_does() -> None:
    service = unit()["Service"]
    seconds = int(service["TimeoutStopSec"].removesuffix("s"))
    assert seconds > ServerSettings().shutdown_seconds + CLOSING_SECONDS
    assert (service["KillSignal"], service["KillMode"], service["Restart"]) == ("SIGTERM", "mixed", "always")
    assert not service["EnvironmentFile"].startswith("-")  # without its token the server does not start
    assert set(service["RestrictAddressFamilies"].split()) >= {"AF_INET", "AF_INET6", "AF_UNIX"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    path, program = tmp_path / UNIT.name, shlex.split(unit()["Service"]["ExecStart"])[0]
    path.write_text(UNIT.read_text(encoding="utf-8").replace(program, "/bin/true"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)  # noqa: S603, S607
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (0, [])


def test_the_container_installs_what_the_project_asks_for() -> None:
    base, serve = ({need.name: need for need in map(Requirement, list_)} for list_ in _needs("serve"))
    assert packages() == serve | {name: base[name] for name in ("filelock", "hydra-core", "numpy")}
    assert "torch" in base, "the container leaves torch out: this asks whether anybody would notice"


def _needs(extra: str) -> tuple[list[str], list[str]]:
    return PROJECT["dependencies"], PROJECT["optional-dependencies"][extra]


def test_the_command_of_the_container_composes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program, *words = json.loads(only("ENTRYPOINT"))
    assert program.endswith("/coadtr")
    settings = composed(words, monkeypatch, capsys, tmp_path)
    assert "host: 0.0.0.0\n" in settings
    assert f"snapshots: {only('VOLUME')}/streams\n" in settings
    assert f"port: {only('EXPOSE')}\n" in settings
    assert f"checkpoint: {[words for name, words in instructions() if name == 'COPY'][-1].split()[1]}\n" in settings
    assert only("USER") not in ("root", "0")


def test_the_health_check_tells_a_server_that_runs_from_none(exported: Path) -> None:
    _, flag, code = json.loads(only("HEALTHCHECK").partition("CMD ")[2])
    assert flag == "-c"
    with running(OnlineDetector.from_onnx(exported), ServerSettings(port=0)) as url:
        there = [sys.executable, "-c", code.replace("http://127.0.0.1:8000", url)]
        assert subprocess.run(there, check=False, capture_output=True).returncode == 0  # noqa: S603
    assert subprocess.run(there, check=False, capture_output=True).returncode == 1  # noqa: S603


def test_a_file_is_served_by_what_the_container_installs(exported: Path, tmp_path: Path) -> None:
    own = {"torch", "continual-inference", *(Requirement(need).name for need in PROJECT["dependencies"])}
    absent = {
        "continual" if name == "continual-inference" else name.replace("-", "_") for name in own - set(packages())
    }
    assert {"torch", "h5py", "pandas", "pytorch_lightning", "rich", "continual"} <= absent
    words = ["coadtr", "serve", f"checkpoint={exported}", "port=0", f"snapshots={tmp_path / 'streams'}"]
    command = [sys.executable, "-c", ABSENT.format(absent=absent, words=words)]
    environment = {**os.environ, "COADTR_TOKEN": "secret"}
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        found = re.search(r" at (http://\S+) ", process.stdout.readline())
        if found is None:
            pytest.fail(process.communicate()[1])
        with StreamClient(found[1], "door", token="secret") as client:  # noqa: S106
            answer: Any = client.push(FRAMES[0])
        with urllib.request.urlopen(f"{found[1]}/healthz", timeout=10) as health:  # noqa: S310
            assert json.load(health) == {"status": "ok"}
        process.terminate()
        assert process.wait(30) == 0
    assert (answer.frame, answer.scores.shape) == (0, (3,))
    assert sorted(path.suffix for path in (tmp_path / "streams").iterdir() if path.suffix) == [".bin", ".npz"]
