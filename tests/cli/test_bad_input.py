"""Bad input, through the command line: one clear line that names what is wrong, and nothing left behind."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.cli.calling import QUICK, SMALL, call, refuse
from tests.cli.conftest import write_store

REPLAY = ("replay", "checkpoint=run/checkpoint", "data=data.h5", *QUICK)
IMPORT = ("data", "import", "format=sequence-npz", "source=source.npz", "out=new/out.h5")
OADTR = ("data", "import", "format=oadtr", "source=thumos", "out=new/out.h5")


def sequence_source(**changes: Any) -> dict[str, Any]:
    """Give the fields of a sequence .npz file of six videos of ten frames."""
    rng = np.random.default_rng(0)
    fields: dict[str, Any] = {
        "features": rng.standard_normal((60, 4)).astype("f2"),
        "labels": rng.integers(0, 3, 60),
        "offsets": np.arange(0, 61, 10),
        "names": np.array([f"video-{index}" for index in range(6)]),
        "is_test": np.arange(6) > 3,
        "class_names": np.array(["background", "cut", "mix"]),
        "fps": np.float64(3),
    }
    return {**fields, **changes}


class Malice:
    """What a pickle can hold: a call that is made when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_a_missing_file_is_named(workplace: Path) -> None:
    refuse("data", "inspect", "path=none.h5", folder=workplace, code=1, names=("none.h5", "no such file"))
    refuse("train", *SMALL, "dataset.path=none.h5", "out=new", folder=workplace, code=1, names=("none.h5",))
    refuse(*REPLAY, "data=none.h5", "out=new", folder=workplace, code=1, names=("none.h5",))
    refuse(*REPLAY, "checkpoint=none", "out=new", folder=workplace, code=1, names=("none", "no such folder"))
    refuse(*IMPORT, folder=workplace, code=1, names=("source.npz", "no such file"))
    refuse(*OADTR, folder=workplace, code=1, names=("thumos", "no such folder"))
    refuse("export", "run=none", "out=new", folder=workplace, code=2, names=("none", "holds no training run"))


def test_another_schema_version_is_named(workplace: Path) -> None:
    with h5py.File(workplace / "data.h5", "a") as file:
        file.attrs["version"] = 7
    for words in (REPLAY, ("train", *SMALL, "dataset.path=data.h5", "out=new"), ("data", "inspect", "path=data.h5")):
        refuse(*words, folder=workplace, code=1, names=("data.h5", "schema version 7", "reads version 1"))


def test_a_file_that_is_no_store_is_named(workplace: Path) -> None:
    (workplace / "data.h5").write_text("features")
    refuse(*REPLAY, folder=workplace, code=1, names=("data.h5", "is not an HDF5 file"))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"labels": np.zeros(59, int)}, ("source.npz", "60 frames", "labels 59")),
        ({"labels": np.full(60, 5)}, ("source.npz", "class 5 at frame 0", "0..2")),
        ({"features": np.full((60, 4), np.nan, "f4")}, ("video-0", "nan at frame 0, channel 0")),
        ({"is_test": np.ones(6, bool)}, ("0 training videos",)),
    ],
    ids=["lengths", "unknown class", "NaN", "empty split"],
)
def test_a_source_that_is_not_right_is_refused(changes: dict[str, Any], names: tuple[str, ...], tmp_path: Path) -> None:
    np.savez(tmp_path / "source.npz", **sequence_source(**changes))
    refuse(*IMPORT, folder=tmp_path, code=1, names=names)


def test_a_damaged_source_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "source.npz", **sequence_source())
    whole = (tmp_path / "source.npz").read_bytes()
    (tmp_path / "source.npz").write_bytes(whole[: len(whole) // 2])
    refuse(*IMPORT, folder=tmp_path, code=1, names=("source.npz", "copy or download it again"))


def test_objects_in_an_npz_file_are_not_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    np.savez(tmp_path / "source.npz", **sequence_source(names=np.array([Malice(marker)], dtype=object)))
    refuse(*IMPORT, folder=tmp_path, code=1, names=("source.npz", "'names'", "pickled objects"))
    assert not marker.exists()


def test_a_pickle_that_imports_something_is_refused(tmp_path: Path) -> None:
    marker, folder = tmp_path / "marker", tmp_path / "thumos"
    folder.mkdir()
    sessions = {"val": ["v0", "v1"], "test": ["t0"]}
    classes = ["Background", "Jump", "Ambiguous"]
    lists = {"class_index": classes, "train_session_set": sessions["val"], "test_session_set": sessions["test"]}
    (folder / "data_info_new.json").write_text(json.dumps({"THUMOS": lists}))
    for subset, names in sessions.items():
        annotations = {name: {"anno": np.eye(3)[np.zeros(4, int)], "feature_length": 4} for name in names}
        features = {name: {"rgb": np.ones((4, 2), "f4")} for name in names}
        (folder / f"thumos_{subset}_anno.pickle").write_bytes(pickle.dumps(annotations))
        (folder / f"thumos_anet_{subset}.pickle").write_bytes(pickle.dumps(features))
    hostile = folder / "thumos_anet_val.pickle"
    hostile.write_bytes(pickle.dumps({"v0": Malice(marker)}))
    refuse(*OADTR, folder=tmp_path, code=1, names=("thumos_anet_val.pickle", "system"))
    assert not marker.exists()
    pickle.loads(hostile.read_bytes())
    assert marker.exists(), "the pickle would have done nothing anyway"


def test_nan_features_in_a_store_are_found_at_replay(workplace: Path) -> None:
    with h5py.File(workplace / "data.h5", "a") as file:
        file["videos/e/imu"][17, 2] = np.nan
    refuse(*REPLAY, "out=new", folder=workplace, code=1, names=("'e'", "frame 17"))
    checked = call("data", "check", "path=data.h5", folder=workplace)
    assert checked.code == 1
    assert "problem: video 'e': field 'imu': value nan at frame 17, channel 2: repair the source" in checked.out
    assert checked.err == "coadtr: error: data.h5: has a problem, listed above: import or copy it again\n"


@pytest.mark.parametrize(
    ("store", "names"),
    [
        ({"streams": {"imu": 5, "gyro": 2}}, ("'imu' has 5 channels, not 6",)),
        ({"streams": {"gyro": 2, "skin": 6}}, ("'imu' is missing",)),
        ({"streams": {"skin": 6}}, ("'imu' is missing",)),
        ({"rate_hz": 15.0}, ("trained at 5 frames a second, the features have 15",)),
        ({"classes": ("rest", "lift", "jump")}, ("no class turn", "no class jump")),
        ({"classes": ("rest", "turn", "lift")}, ("class 1 is 'turn' in the data and 'lift' in the model",)),
    ],
    ids=["width", "stream", "no stream", "rate", "unknown class", "class order"],
)
def test_data_of_another_kind_than_the_checkpoint_are_refused(
    store: dict[str, Any], names: tuple[str, ...], workplace: Path
) -> None:
    write_store(workplace / "other.h5", **store)
    refuse(*REPLAY, "data=other.h5", "out=new", folder=workplace, code=1, names=("run/checkpoint", *names))


def test_an_empty_split_is_named(workplace: Path) -> None:
    with h5py.File(workplace / "data.h5", "a") as file:
        for name in ("c", "d", "e", "f"):
            file["videos"][name].attrs["split"] = "train"
    refuse(*REPLAY, folder=workplace, code=1, names=("data.h5", "'test'", "'train'"))
    refuse(*REPLAY, "split=tests", folder=workplace, code=1, names=("'tests'",))
    train = ("train", *SMALL, "dataset.path=data.h5", "out=new")
    refuse(*train, folder=workplace, code=1, names=("data.h5", "'validation'"))
    refuse(*train, "features.streams=[imu,flow]", folder=workplace, code=1, names=("'validation'",))


def test_a_protocol_that_scores_nothing_is_refused(workplace: Path) -> None:
    write_store(workplace / "short.h5", run=1)
    words = (*REPLAY, "data=short.h5", "protocol=oadtr", "out=new")
    refuse(*words, folder=workplace, code=1, names=("'oadtr'", "none of 28 frames"))


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("name", "spoil", "word"),
    [
        ("model.safetensors", _truncate, "damaged"),
        ("model.safetensors", _flip, "damaged"),
        ("model.safetensors", Path.unlink, "is missing"),
        ("config.json", _truncate, "is not JSON"),
        ("config.json", Path.unlink, "is missing"),
    ],
)
def test_a_damaged_checkpoint_is_refused(name: str, spoil: Callable[[Path], None], word: str, workplace: Path) -> None:
    spoil(workplace / "run/checkpoint" / name)
    refuse(*REPLAY, "out=new", folder=workplace, code=1, names=(f"run/checkpoint/{name}", word))


def _make_unfinished(run: Path) -> None:
    """Take a run back to where it was before its checkpoint was exported."""
    shutil.rmtree(run / "checkpoint")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "finished": False}))


def test_a_damaged_run_is_refused(workplace: Path) -> None:
    export = ("export", "run=run", "out=new")
    (workplace / "run/lightning/best.ckpt").write_bytes(pickle.dumps(Malice(workplace / "marker")))
    refuse(*export, folder=workplace, code=1, names=("run/lightning/best.ckpt", "damaged"))
    _make_unfinished(workplace / "run")
    shutil.copy(workplace / "run/lightning/best.ckpt", workplace / "run/lightning/last.ckpt")
    train = ("train", *SMALL, "dataset.path=data.h5", "out=run", "seed=3", "trainer.max_epochs=2")
    outcome = call(*train, folder=workplace)
    assert (outcome.code, outcome.out.count("\n"), outcome.err.count("\n")) == (1, 1, 1)
    assert outcome.out.startswith("going on with")
    assert "run/lightning/last.ckpt is damaged" in outcome.err
    (workplace / "run/lightning/best.ckpt").unlink()
    refuse(*export, folder=workplace, code=2, names=("no best epoch",))
    (workplace / "run/run.json").write_text("{")
    refuse(*export, folder=workplace, code=2, names=("run/run.json", "is not JSON"))
    assert not (workplace / "marker").exists()


def test_outputs_that_are_there_are_kept(workplace: Path) -> None:
    shutil.copy(workplace / "data.h5", workplace / "out.h5")
    np.savez(workplace / "source.npz", **sequence_source())
    words = ("data", "import", "format=sequence-npz", "source=source.npz")
    refuse(*words, "out=out.h5", folder=workplace, code=2, names=("out.h5 exists", "overwrite=true"))
    refuse(*words, "out=run", "overwrite=true", folder=workplace, code=2, names=("out=run is a folder", "name a file"))
    refuse("export", "run=run", folder=workplace, code=1, names=("run/checkpoint", "there already"))
    refuse("export", "run=run", "out=data.h5", folder=workplace, code=1, names=("data.h5", "is a file"))
    refuse(*REPLAY, "out=data.h5", folder=workplace, code=2, names=("data.h5 is a file",))


def test_a_finished_run_is_kept(workplace: Path) -> None:
    train = ("train", *SMALL, "dataset.path=data.h5", "out=run", "seed=3")
    names = ("the run in run has finished", "run/checkpoint", "choose another out")
    refuse(*train, "trainer.max_epochs=2", folder=workplace, code=2, names=names)
    _make_unfinished(workplace / "run")
    refuse(*train, "trainer.max_epochs=3", folder=workplace, code=2, names=("max_epochs=2, not 3",))
    refuse(*train, "trainer.max_epochs=2", "resume=false", folder=workplace, code=2, names=("resume=true",))


def test_a_run_cannot_lie_where_a_file_is(workplace: Path) -> None:
    train = ("train", *SMALL, "dataset.path=data.h5", "trainer.max_epochs=1")
    refuse(*train, "out=data.h5", folder=workplace, code=1, names=("data.h5",))
    refuse(*train, "out=data.h5/run", folder=workplace, code=1, names=("data.h5/run",))
