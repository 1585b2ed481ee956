"""A small checkpoint, and its step as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import pytest

from coadtr.checkpoint import Checkpoint, load
from coadtr.export import export_onnx
from tests.checkpoint.making import save_small


def save(folder: Path, name: str = "cooadtr_b1") -> Checkpoint:
    """Save and load a small model of a preset that standardises its input."""
    return load(save_small(folder, name, mean=100.0))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Load a small CoOadTR-b1 that standardises its input."""
    return save(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export it to ONNX, in float32."""
    path = tmp_path_factory.mktemp("onnx") / "b1.onnx"
    export_onnx(checkpoint, path)
    return path
