"""Operations whose result changes from run to run: refused by default, allowed where that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from coadtr.training import TrainingSettings, train

from .conftest import MakeStore
from .test_run import MODEL, settings


class Look(Callback):
    """Note in each step whether torch refuses such operations."""

    def __init__(self) -> None:
        self.refused: set[bool] = set()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        self.refused.add(torch.are_deterministic_algorithms_enabled())


@pytest.fixture(autouse=True)
def setting_of_torch() -> Iterator[None]:
    """Leave torch's own setting, which the trainer changes for the whole process, as it was."""
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def test_they_are_refused_by_default() -> None:
    assert TrainingSettings().deterministic is True


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_setting_reaches_torch_and_the_run_trains(
    deterministic: bool, make_store: MakeStore, tmp_path: Path
) -> None:
    look = Look()
    torch.use_deterministic_algorithms(not deterministic)
    wanted = settings(max_epochs=1, **({} if deterministic else {"deterministic": False}))
    result = train(make_store(), MODEL, wanted, tmp_path / "run", progress=False, callbacks=[look])
    assert look.refused == {deterministic}
    assert 0 < result.validation_map <= 1
