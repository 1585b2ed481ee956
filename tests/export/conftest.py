"""A small checkpoint, and its step as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from coadtr.checkpoint import Checkpoint, CheckpointSpec, load, save_checkpoint
from coadtr.export import export_onnx
from coadtr.models import build_model
from tests.models.sizes import small

CHANNELS = 5


def save(folder: Path, name: str = "cooadtr_b1", *, normalise: bool = True) -> Checkpoint:
    """Save and load a small model of a preset: streams rgb 3 + flow 2, three classes of which one is ignored."""
    torch.manual_seed(3)
    model = build_model(small(name, input_dim=CHANNELS, normalise=normalise))
    if normalise:
        model.inputs.set_statistics(100 * torch.randn(CHANNELS), torch.rand(CHANNELS) + 0.5)
    spec = CheckpointSpec(
        model=model.config,
        class_names=("rest", "lift", "unclear"),
        background=0,
        ignored=2,
        streams={"rgb": 3, "flow": 2},
        rate_hz=5.0,
    )
    return load(save_checkpoint(folder / name, model, spec, {}))


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
