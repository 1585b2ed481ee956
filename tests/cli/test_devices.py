"""Several processes of one training run, which the command starts itself."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from coadtr.cli import processes, train
from coadtr.cli.processes import run_processes, started_outside
from coadtr.errors import ConfigError, TrainingError
from tests.cli.calling import SMALL, call, contents, environment, spawn, succeed
from tests.cli.conftest import write_store

RUN = (*SMALL, "dataset.path=data.h5", "trainer.max_epochs=2", "model.dropout=0.0", "seed=3")


def composed_settings(text: str) -> Any:
    """Read what ``--cfg job`` prints."""
    return OmegaConf.create(text)


def curves(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "logs/csv/version_0/metrics.csv").groupby("epoch").max()


@pytest.mark.slow
def test_two_processes_of_a_command_learn_what_one_learns_from_the_doubled_batch(tmp_path: Path) -> None:
    write_store(tmp_path / "data.h5")
    halves = ("out=two", "trainer.devices=2", "trainer.batch_size=1", "trainer.sequence_length=32")
    done = spawn("-m", "coadtr.cli.main", "train", *RUN, *halves, folder=tmp_path)
    assert done.code == 0, done.err
    assert done.err == ""
    words = [line.split()[0] for line in done.out.splitlines()]
    assert (words[0], words.count("epoch"), words[-2:]) == ("training", 2, ["checkpoint", "replay"]), "said by one"
    assert json.loads((tmp_path / "two/run.json").read_text())["training"]["devices"] == 2
    whole = ("out=one", "trainer.batch_size=2", "trainer.sequence_length=32")
    succeed("train", *RUN, *whole, folder=tmp_path)
    found, expected = curves(tmp_path / "two"), curves(tmp_path / "one")
    np.testing.assert_allclose(found["train_loss"], expected["train_loss"], rtol=1e-5)
    np.testing.assert_allclose(found["val_mAP"], expected["val_mAP"], rtol=1e-4)


def in_each(first: str, second: str) -> list[str]:
    """Write a command that does one thing in the first process, and another in the second."""
    return [sys.executable, "-c", f"import os, sys, time\nif os.environ['RANK'] == '0': {first}\nelse: {second}"]


def test_a_second_process_that_fails_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path / "data.h5")
    before = contents(tmp_path)
    failing = in_each(
        "time.sleep(60); open('late', 'w')", "sys.exit('some lines\\nbefore\\ncoadtr: error: the card is full')"
    )
    monkeypatch.setattr(train, "this_command", lambda *_: failing)
    outcome = call("train", *RUN, "out=run", "trainer.devices=2", folder=tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == "coadtr: error: process 1 of 2 failed: the card is full\n"
    assert contents(tmp_path) == before, "the first process was ended"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("sys.exit(3)", "time.sleep(100)", "^process 0 of 2 failed: it said nothing$"),
        ("time.sleep(100)", "sys.exit(3)", "^process 1 of 2 failed: it said nothing$"),
        (
            "time.sleep(100)",
            "os.kill(os.getpid(), 9)",
            r"^process 1 of 2 failed: signal 9 \(Killed\) ended it; run the same command again to go on$",
        ),
        (
            "raise RuntimeError('Connection closed by peer')",
            "raise RuntimeError('the card is full')",
            "^process 1 of 2 failed: RuntimeError: the card is full$",
        ),
        (
            "raise RuntimeError('Connection reset')",
            "open(os.environ['COADTR_ERROR_FILE'], 'w').write('1 no disk'); sys.exit(1)",
            "^process 1 of 2 failed: no disk$",
        ),
    ],
)
def test_the_process_that_failed_is_named(
    first: str, second: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainingError, match=message):
        run_processes(in_each(first, second), 2)
    assert capfd.readouterr().err == "", "and the others say nothing"


def test_warnings_of_the_first_process_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    run_processes(in_each("sys.stderr.write('mind')", "sys.stderr.write('not said twice')"), 2)
    assert capfd.readouterr().err == "mind"
    run_processes(in_each("sys.stderr.write('bars')", "pass"), 2, progress=True)
    assert capfd.readouterr().err == "bars"


def test_debug_shows_the_traceback_of_the_process_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path / "data.h5")
    failing = in_each("sys.exit(1)", "open(os.environ['COADTR_ERROR_FILE'], 'w').write('1 no disk\\nin the_function')")
    failing[-1] += "; sys.exit(1)"
    monkeypatch.setattr(train, "this_command", lambda *_: failing)
    shown = call("train", *RUN, "out=run", "trainer.devices=2", "--debug", folder=tmp_path).err.splitlines()
    assert {"RuntimeError: in process 1:", "in the_function"} <= set(shown)
    assert shown[-1] == "coadtr: error: process 1 of 2 failed: no disk"


def test_a_process_deaf_to_its_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "END_S", 0.1)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)"
    began = time.monotonic()
    with pytest.raises(TrainingError, match="process 1 of 2"):
        run_processes(in_each(deaf, "time.sleep(0.5); sys.exit(3)"), 2)
    assert time.monotonic() - began < 60


def test_an_interruption_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run", interrupt)
    alone = call("train", folder=tmp_path)
    assert (alone.code, alone.err) == (130, "coadtr: interrupted; run the same command again to go on\n")
    monkeypatch.setenv("COADTR_ERROR_FILE", str(tmp_path / "0"))
    one_of_two = call("train", folder=tmp_path)
    assert (one_of_two.code, one_of_two.err) == (130, "")


HOLD = """
import fcntl, os, sys, time
from coadtr.cli.processes import end_with_parent
end_with_parent()
held = open(os.environ["RANK"] + ".lock", "w")
fcntl.flock(held, fcntl.LOCK_EX)
open(os.environ["RANK"] + ".held", "w")
time.sleep(60)
open("late", "w")
"""


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    limit = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < limit, f"no {path.name}"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_command_that_started_them(ending: signal.Signals, tmp_path: Path) -> None:
    start = f"run_processes([sys.executable, '-c', {HOLD!r}], 2)"
    code = f"import sys; from coadtr.cli.processes import run_processes; {start}"
    with subprocess.Popen(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL
    ) as parent:
        for rank in range(2):
            wait_for(tmp_path / f"{rank}.held")
        parent.send_signal(ending)
        assert parent.wait(60) != 0
        for rank in range(2):
            with (tmp_path / f"{rank}.lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # free once its holder has ended
    assert not (tmp_path / "late").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find the processes")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_of_a_run_that_is_killed_is_named_in_one_line(rank: int, tmp_path: Path) -> None:
    write_store(tmp_path / "data.h5")
    words = ("train", *RUN, "out=run", "trainer.devices=2", "trainer.max_epochs=100000")
    with subprocess.Popen(  # noqa: S603 - our own interpreter and files
        [sys.executable, "-m", "coadtr.cli.main", *words],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        wait_for(tmp_path / "run/lightning/last.ckpt")
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
        mine = f"RANK={rank}".encode()
        found = [int(pid) for pid in children if mine in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]
        os.kill(found[0], signal.SIGKILL)
        err = command.communicate(timeout=120)[1]
    message = f"process {rank} of 2 failed: signal 9 (Killed) ended it; run the same command again to go on"
    assert (command.returncode, err) == (1, f"coadtr: error: {message}\n")


def test_a_process_is_told_what_the_user_and_a_sweep_have_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(tmp_path / "data.h5")
    (tmp_path / "mine/dataset").mkdir(parents=True)
    (tmp_path / "mine/dataset/ours.yaml").write_text("path: data.h5\nstreams: null\n")
    (tmp_path / "more/model").mkdir(parents=True)
    (tmp_path / "more/model/tiny.yaml").write_text("kind: cooadtr\ndepth: 1\nwindow: 4\nembed_dim: 8\n")
    commands: list[list[str]] = []

    def caught(command: list[str], count: int, **_: object) -> None:
        commands.append(command)
        raise TrainingError("caught")

    monkeypatch.setattr(train, "run_processes", caught)
    words = ("dataset=ours", "model=tiny", "trainer.devices=2", "trainer.accelerator=cpu")
    search = f"hydra.searchpath=[{tmp_path / 'more'}]"
    for out in ("a b, it's [c]", "back\\slash"):
        given = ("train", "-cd", "mine", *words, search, f'out="{out}"')
        assert call(*given, folder=tmp_path).err == "coadtr: error: caught\n"
        composed = succeed(*commands[-1][3:], "--cfg", "job", folder=tmp_path)
        told = composed_settings(composed)
        assert (told["out"], told["dataset"]["path"], told["model"]["window"]) == (out, "data.h5", 4)
        assert told["progress"] is False, "as no terminal watches"
    sweep = ("train", "-m", "-cd", "mine", *words, search, "hydra.sweep.dir=mine/sweep", "seed=0,1")
    call(*sweep, folder=tmp_path)
    assert [composed_settings(succeed(*one[3:], "--cfg", "job", folder=tmp_path))["out"] for one in commands[2:]] == [
        f"mine/sweep/seed-{seed}" for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("given", "outside"),
    [
        ({}, False),
        ({"WORLD_SIZE": "2"}, True),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, False),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, False),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}, True),
        ({"SLURM_STEP_NUM_TASKS": "1", "WORLD_SIZE": "2"}, True),
    ],
)
def test_a_batch_script_is_not_a_launcher(
    given: dict[str, str], outside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert started_outside(2) is outside


def test_a_launcher_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    message = (
        "^trainer.devices times trainer.nodes is 2, and torchrun or srun has started 4 processes: make both equal$"
    )
    with pytest.raises(ConfigError, match=message):
        started_outside(2)


def test_no_other_command_can_take_the_port_on_which_the_processes_meet() -> None:
    take = "import socket; socket.socket().bind(('127.0.0.1', int(os.environ['MASTER_PORT'])))"
    with pytest.raises(TrainingError, match=r"process 1 of 2 failed: OSError: .*[Aa]ddress already in use"):
        run_processes(in_each("pass", take), 2)


@pytest.mark.slow
def test_what_ends_the_first_process_comes_out_as_it_is(tmp_path: Path) -> None:
    write_store(tmp_path / "data.h5")
    outcome = call("train", *RUN, "out=run", "trainer.devices=2", "model.window=0", folder=tmp_path)
    assert outcome.err == "coadtr: error: model.window must be a whole number of at least 1, got 0\n"
    assert outcome.code == 2


def test_processes_are_told_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "3")  # of which Lightning would conclude that srun has started them
    tell = "assert 'SLURM_NTASKS' not in os.environ; "
    tell += "open(os.environ['RANK'], 'w').write(' '.join(os.environ[name] for name in names))"
    names = ["RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR"]
    code = f"import os; os.chdir({str(tmp_path)!r}); names = {names}; {tell}"
    run_processes([sys.executable, "-c", code], 3)
    told = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert told == {str(rank): f"{rank} {rank} 0 3 127.0.0.1" for rank in range(3)}


def test_several_machines_need_a_launcher(tmp_path: Path) -> None:
    message = "^trainer.nodes=2 needs torchrun or srun on every machine, as docs/training.md shows$"
    with pytest.raises(ConfigError, match=message):
        run_processes([sys.executable, "-c", f"open({str(tmp_path / 'x')!r}, 'w')"], 1, nodes=2)
    assert contents(tmp_path) == {}
