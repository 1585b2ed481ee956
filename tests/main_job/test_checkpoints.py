"""The checkpoints that come with the project: small, listed, and good on the test subjects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import coadtr
from coadtr.data import FeatureStore, write_exercises
from tests.cli.calling import succeed

FOLDER = Path(__file__).parents[2] / "checkpoints"
NAMES = sorted(path.parent.name for path in FOLDER.glob("exercises-*/config.json"))
# What a linear classifier of single frames gets is 0.46.
LEAST = {"exercises-cooadtr-b1": 0.76, "exercises-grab": 0.8}


def test_every_checkpoint_is_listed_and_small() -> None:
    assert set(NAMES) == set(LEAST)
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"| `{name}` |" in listed
        assert sum(path.stat().st_size for path in (FOLDER / name).iterdir()) < 2_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_says_how_it_was_made_and_names_no_place_of_its_maker(name: str) -> None:
    origin = coadtr.load(FOLDER / name).origin
    assert f"experiment=exercises/{name.removeprefix('exercises-').replace('-', '_')}" in origin["command"]
    assert not Path(origin["data"]["path"]).is_absolute()
    assert f"{100 * origin['metric']['value']:.2f} %" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_replays_right_after_installation(tmp_path: Path, name: str) -> None:
    store = write_exercises(tmp_path / "exercises.h5")
    with FeatureStore(store) as opened:
        assert opened.videos("test")
    succeed(
        "replay", f"checkpoint={FOLDER / name}", f"data={store}", f"out={tmp_path / 'out'}", "latency=null",
        "details.resamples=20", folder=tmp_path,
    )  # fmt: skip
    assert json.loads((tmp_path / "out/report.json").read_text())["mAP"] > LEAST[name]
