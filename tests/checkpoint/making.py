"""Small saved checkpoints of any preset, for what runs or exports them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from coadtr.checkpoint import CheckpointSpec, save_checkpoint
from coadtr.models import build_model
from tests.models.sizes import small

CHANNELS = 5


def save_small(
    folder: Path, name: str, *, mean: float | None = None, dtype: torch.dtype = torch.float32, **described: Any
) -> Path:
    """Save a small model of a preset: streams rgb 3 + flow 2, three classes of which one is ignored.

    With ``mean`` it standardises its input: channels have means of about that size.
    """
    torch.manual_seed(3)
    model = build_model(small(name, input_dim=CHANNELS, normalise=mean is not None)).eval()
    if mean is not None:
        model.inputs.set_statistics(mean * torch.randn(CHANNELS), torch.rand(CHANNELS) + 0.5)
    spec = CheckpointSpec(
        model=model.config,
        class_names=("rest", "lift", "unclear"),
        background=0,
        ignored=2,
        streams={"rgb": 3, "flow": 2},
        rate_hz=5.0,
        **described,
    )
    return save_checkpoint(folder / name, model.to(dtype), spec, {})
