"""The main job done once on real recordings, through the command line: import, train, export, replay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.cli.calling import succeed

Videos = dict[str, NDArray[np.float32]]

# A model and a budget that learn the exercises in seconds.
RUN = (
    *("experiment=exercises/cooadtr_b1", "model.embed_dim=32", "model.ff_dim=32", "model.num_heads=4"),
    *("model.dropout=0.1", "model.input_dropout=0.0", "trainer.accelerator=cpu"),
    *("trainer.batch_size=4", "trainer.sequence_length=64", "trainer.learning_rate=5e-3", "trainer.schedule=cosine"),
)
EPOCHS = "trainer.max_epochs=3"


@pytest.fixture(scope="session")
def exercises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the embedded data set at its usual place, ``data/exercises.h5``."""
    pytest.importorskip("seglearn", reason="needs the data set that the extra `demo` brings")
    folder = tmp_path_factory.mktemp("main_job")
    succeed("data", "import", "format=exercises", "out=data/exercises.h5", folder=folder)
    return folder


@pytest.fixture(scope="session")
def finished(exercises: Path) -> Path:
    """Return that folder after training (``run``), export (``last``) and replay of the exported best epoch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order would be other weights: the killed run has one thread too
    try:
        succeed("train", *RUN, EPOCHS, "out=run", folder=exercises)
        succeed("export", "run=run", "which=last", "out=last/checkpoint", folder=exercises)
        replay = ("replay", "checkpoint=run/checkpoint", "data=data/exercises.h5", "batch_size=4")
        succeed(*replay, "latency.warmup=1", "latency.steps=20", folder=exercises)
    finally:
        torch.set_num_threads(threads)
    return exercises


@pytest.fixture(scope="session")
def salads(shared_data: Path) -> Videos:
    """Read the features of the first videos of 50 Salads: name to ``(T, 128)``."""
    with np.load(shared_data / "50salads_mid/Split_1.npz") as file:
        names, offsets = file["names"][:3], file["offsets"]
        features = file["features"][: offsets[3]].astype(np.float32)
    return {str(name): features[offsets[i] : offsets[i + 1]] for i, name in enumerate(names)}
