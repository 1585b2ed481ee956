"""Small models, their descriptions, and saved checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from coadtr.checkpoint import CheckpointSpec, save_checkpoint
from coadtr.models import OnlineModel, build_model
from tests.models.sizes import small

MakeModel = Callable[..., OnlineModel]
MakeSpec = Callable[..., CheckpointSpec]


@pytest.fixture
def make_model() -> MakeModel:
    """Build a small model of a preset: 5 channels, 3 classes, weights of its own."""

    def make(name: str = "cooadtr_b1", **changes: Any) -> OnlineModel:
        torch.manual_seed(3)
        model = build_model(small(name, input_dim=5, **changes))
        if model.config.normalise:
            model.inputs.set_statistics(torch.randn(5), torch.rand(5) + 0.5)
        return model

    return make


@pytest.fixture
def make_spec() -> MakeSpec:
    """Describe a small model: streams rgb 3 + flow 2, three classes."""

    def make(model: OnlineModel, **changes: Any) -> CheckpointSpec:
        values: dict[str, Any] = {
            "model": model.config,
            "class_names": ("rest", "lift", "unclear"),
            "background": 0,
            "ignored": 2,
            "streams": {"rgb": 3, "flow": 2},
            "rate_hz": 5.0,
        }
        return CheckpointSpec(**(values | changes))

    return make


@pytest.fixture
def saved(tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec) -> Path:
    """Save a small CoOadTR-b1 that standardises its input."""
    model = make_model(normalise=True)
    return save_checkpoint(tmp_path / "checkpoint", model, make_spec(model), {"data": "sketch", "metric": {"mAP": 0.5}})
