"""Several processes of one training run, which the command starts itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from coadtr.cli import train
from coadtr.cli.processes import run_processes
from coadtr.errors import ConfigError, TrainingError
from tests.cli.calling import SMALL, call, contents, spawn, succeed
from tests.cli.conftest import write_store

RUN = (*SMALL, "dataset.path=data.h5", "trainer.max_epochs=2", "model.dropout=0.0", "seed=3")


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
        ("sys.exit(3)", "time.sleep(100)", "^process 0 of 2 failed: see its message above$"),
        ("time.sleep(100)", "sys.exit(3)", "^process 1 of 2 failed: it said nothing$"),
    ],
)
def test_the_process_that_failed_is_named(first: str, second: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        run_processes(in_each(first, second), 2)


@pytest.mark.slow
def test_what_ends_the_first_process_comes_out_as_it_is(tmp_path: Path) -> None:
    write_store(tmp_path / "data.h5")
    outcome = call("train", *RUN, "out=run", "trainer.devices=2", "model.window=0", folder=tmp_path)
    assert outcome.err == "coadtr: error: window must be a whole number of at least 1, got 0\n"
    assert outcome.code == 2


def test_processes_are_told_their_places(tmp_path: Path) -> None:
    tell = "open(os.environ['RANK'], 'w').write(' '.join(os.environ[name] for name in names))"
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
