"""Every preset at sizes that a test can afford, whatever settings its model has: a new preset joins by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from coadtr.errors import ConfigError
from coadtr.evaluation import published_macs
from coadtr.models import MODELS, PRESETS, ModelConfig, config_from_dict, preset

WIDTH, HIDDEN, WINDOW = 8, 12, 4

# Number of blocks, of positions (0: as many as the window needs), and what the data say: as they are.
KEPT = ("depth", "num_positions", "input_dim", "num_classes")


def shrunk(model: Mapping[str, Any], *, window: int = WINDOW) -> dict[str, Any]:
    """Return a model's settings with no size above a small one: other widths 12, other counts 2.

    A work memory is of two frames then, so that a window of four has a long memory before it.
    """
    bounds = {"embed_dim": WIDTH, "window": window}
    sizes = {
        name: min(value, bounds.get(name, HIDDEN if name.endswith("_dim") else 2))
        for name, value in model.items()
        if isinstance(value, int) and not isinstance(value, bool) and name not in KEPT
    }
    return {**model, **sizes}


def small(name: str, *, input_dim: int = 6, num_classes: int = 3, **wanted: Any) -> ModelConfig:
    """Make small settings of a preset, with those of the wanted settings that its model has."""
    known = {field.name for config, _ in MODELS.values() for field in dataclasses.fields(config)}
    assert set(wanted) <= known, "no model has such a setting"
    plain = preset(name, input_dim=input_dim, num_classes=num_classes).to_dict()
    return config_from_dict({**shrunk(plain), **{key: value for key, value in wanted.items() if key in plain}})


def is_counted(name: str) -> bool:
    """Whether the literature has a count of multiply-accumulates for a preset."""
    try:
        return published_macs(preset(name, input_dim=8, num_classes=3)) > 0
    except ConfigError:
        return False


COUNTED = tuple(name for name in PRESETS if is_counted(name))
