"""What `coadtr replay` reads where `data` is not given: the store that the checkpoint was trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from coadtr.data import write_exercises
from tests.cli.calling import ROOT, call, refuse, succeed
from tests.forking import command, side_by_side

REPLAY = ("replay", "checkpoint=run/checkpoint", "latency=null", "details.resamples=50")
IMPORT = "coadtr data import format=exercises out=data/exercises.h5"


@pytest.fixture(scope="module")
def exercises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the store of the embedded recordings."""
    return write_exercises(tmp_path_factory.mktemp("exercises") / "exercises.h5")


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def origin_with(checkpoint: Path, data: object) -> None:
    origin = json.loads((checkpoint / "origin.json").read_text())
    (checkpoint / "origin.json").write_text(json.dumps({**origin, "data": data}))


def test_without_data_the_store_of_training_is_replayed(workplace: Path) -> None:
    succeed(*REPLAY, "out=found", folder=workplace)
    succeed(*REPLAY, "data=data.h5", "out=named", folder=workplace)
    found, named = report_of(workplace / "found"), report_of(workplace / "named")
    assert found["origin"]["data"] == named["origin"]["data"]
    assert found["origin"]["data"]["path"] == "data.h5"
    assert (found["mAP"], found["frames_total"]) == (named["mAP"], named["frames_total"])
    assert (workplace / "found/scores.h5").read_bytes() == (workplace / "named/scores.h5").read_bytes()


def test_processes_find_the_store_of_training_too(workplace: Path) -> None:
    two = side_by_side(command, 2, *REPLAY, "threads=1", "out=two", folder=workplace)
    assert [process.code for process in two] == [0, 0], "".join(process.err for process in two)
    assert report_of(workplace / "two")["origin"]["data"]["path"] == "data.h5"


def test_the_store_of_training_is_looked_for_in_the_working_folder(workplace: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = ("replay", f"checkpoint={workplace / 'run/checkpoint'}", "out=new")
    refuse(*words, folder=elsewhere, code=2, names=("data=...", "there is no data.h5 here", str(workplace / "run")))


@pytest.mark.parametrize("data", [None, {}, {"path": 3}, {"path": ""}, "data.h5"])
def test_a_checkpoint_that_names_no_store_asks_for_data(data: object, workplace: Path) -> None:
    origin_with(workplace / "run/checkpoint", data)
    refuse(*REPLAY, folder=workplace, code=2, names=("data=... must be given", "run/checkpoint/origin.json"))


def test_the_store_of_another_is_not_taken_for_the_embedded_recordings(workplace: Path) -> None:
    origin_with(workplace / "run/checkpoint", {"path": "data/exercises.h5", "fingerprint": "0"})
    outcome = call(*REPLAY, folder=workplace)
    assert outcome.code == 2
    assert "there is no data/exercises.h5 here" in outcome.err
    assert "format=exercises" not in outcome.err


@pytest.mark.parametrize("name", ["exercises-cooadtr-b1", "exercises-grab"])
def test_the_checkpoints_of_the_project_replay_as_they_are(name: str, exercises: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "checkpoints" / name, tmp_path / "checkpoints" / name)
    words = ("replay", f"checkpoint=checkpoints/{name}", "latency=null", "details.resamples=0")
    refuse(*words, folder=tmp_path, code=2, names=("data=...", "there is no data/exercises.h5 here", f"`{IMPORT}`"))
    (tmp_path / "data").mkdir()
    shutil.copy(exercises, tmp_path / "data")
    succeed(*words, folder=tmp_path)
    report = report_of(tmp_path / f"checkpoints/{name}-replay")
    assert report["mAP"] == pytest.approx({"exercises-cooadtr-b1": 0.7898, "exercises-grab": 0.8348}[name], abs=2e-3)
