"""A small feature store, a run trained on it through the command line, and copies of both to be spoilt."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from coadtr.data import StoreWriter
from tests.cli.calling import SMALL, succeed

CLASSES = ("rest", "lift", "turn")
SPLITS = {"a": "train", "b": "train", "c": "validation", "d": "test", "e": "test", "f": "test"}


def write_store(
    path: Path,
    *,
    classes: tuple[str, ...] = CLASSES,
    streams: dict[str, int] | None = None,
    run: int = 10,
    rate_hz: float = 5.0,
) -> Path:
    """Write six videos of 8 to 11 runs of frames of a class, on which their features depend."""
    streams = streams or {"imu": 6, "gyro": 2}
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, sum(streams.values())))
    with StoreWriter(path, class_names=classes, background=0, ignored=None, streams=streams) as writer:
        for index, (name, split) in enumerate(SPLITS.items()):
            labels = rng.integers(0, 3, size=8 + index % 4).repeat(run)
            frames = (centres[labels] + rng.normal(scale=0.8, size=(len(labels), len(centres[0])))).astype("f4")
            edges = np.cumsum([0, *streams.values()])
            features = {stream: frames[:, a:b] for stream, a, b in zip(streams, edges[:-1], edges[1:], strict=True)}
            writer.add(name, split=split, rate_hz=rate_hz, features=features, labels=labels)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``data.h5`` and ``run``, which one epoch of training wrote; not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    write_store(folder / "data.h5")
    succeed("train", *SMALL, "dataset.path=data.h5", "out=run", "trainer.max_epochs=2", "seed=3", folder=folder)
    return folder


@pytest.fixture
def workplace(trained: Path, tmp_path: Path) -> Path:
    """Return a folder of this test's own, with the same in it."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path
