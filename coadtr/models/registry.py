"""All models by name: their settings, the presets that carry published sizes, and the builder.

A new model joins by one line in ``MODELS`` and one in ``PRESETS`` for each published size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from coadtr.errors import ConfigError
from coadtr.models.base import OnlineModel
from coadtr.models.cmert import CMeRT, CMeRTConfig
from coadtr.models.config import ModelConfig
from coadtr.models.cooadtr import CoOadTR, CoOadTRConfig
from coadtr.models.deepcot import DeepCoT, DeepCoTConfig
from coadtr.models.grab import GRAB, GRABConfig
from coadtr.models.lstr import LSTR, LSTRConfig
from coadtr.models.miniroad import MiniROAD, MiniROADConfig
from coadtr.models.nystroem import Nystroem, NystroemConfig
from coadtr.models.oadtr import OadTR, OadTRConfig
from coadtr.models.testra import TeSTra, TeSTraConfig
from coadtr.models.trn import TRN, TRNConfig

__all__ = ["MODELS", "PRESETS", "build_model", "config_from_dict", "preset"]

MODELS: dict[str, tuple[type[ModelConfig], type[OnlineModel]]] = {
    config.kind: (config, model)
    for config, model in (
        (CoOadTRConfig, CoOadTR),
        (GRABConfig, GRAB),
        (DeepCoTConfig, DeepCoT),
        (NystroemConfig, Nystroem),
        (OadTRConfig, OadTR),
        (MiniROADConfig, MiniROAD),
        (TRNConfig, TRN),
        (LSTRConfig, LSTR),
        (TeSTraConfig, TeSTra),
        (CMeRTConfig, CMeRT),
    )
}
"""Kind of model to its settings and its class."""

# The encoder of the online audio classification; 192 positions because the published code takes the width for P.
_AUDIO = {"window": 120, "embed_dim": 192, "num_heads": 16, "ff_dim": 192, "positions": "learned", "num_positions": 192}

PRESETS: dict[str, dict[str, Any]] = {
    "cooadtr_b1": {"kind": "cooadtr", "depth": 1},
    "cooadtr_b2": {"kind": "cooadtr", "depth": 2},
    "cooadtr_b3": {"kind": "cooadtr", "depth": 3},
    "cotransformer_b1": {"kind": "cooadtr", "depth": 1, **_AUDIO},
    "cotransformer_b2": {"kind": "cooadtr", "depth": 2, **_AUDIO},
    "grab": {"kind": "grab"},
    "deepcot": {"kind": "deepcot", "depth": 2},
    "deepcot_soft": {"kind": "deepcot", "depth": 2, "attention": "soft"},
    "nystroem": {"kind": "nystroem", "depth": 1},
    "oadtr_b1": {"kind": "oadtr", "depth": 1, "attention_dropout": 0.1},
    "oadtr_b2": {"kind": "oadtr", "depth": 2, "attention_dropout": 0.1},
    "oadtr": {"kind": "oadtr", "depth": 3, "decoder": True, "attention_dropout": 0.1},
    "miniroad": {"kind": "miniroad"},
    "trn": {"kind": "trn"},
    "lstr": {"kind": "lstr"},
    "testra": {"kind": "testra"},
    "cmert": {"kind": "cmert"},
}
"""Published sizes by name; see :func:`preset`."""


def config_from_dict(settings: Mapping[str, Any]) -> ModelConfig:
    """Make a model's settings from a JSON object.

    Args:
        settings: ``kind`` and the fields of that kind's settings.

    Returns:
        The checked settings.

    Raises:
        ConfigError: If the kind or a field is unknown, missing, or out of range.

    Example:
        >>> config_from_dict({"kind": "cooadtr", "input_dim": 60, "num_classes": 7}).window
        64
    """
    values = dict(settings)
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in MODELS:
        raise ConfigError(f"unknown kind of model {kind!r}; known are {', '.join(MODELS)}")
    config, _ = MODELS[kind]
    fields = {field.name: field for field in dataclasses.fields(config)}
    if unknown := sorted(set(values) - set(fields)):
        raise ConfigError(f"{kind} has no setting {', '.join(unknown)}; it has {', '.join(fields)}")
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    if missing := sorted(required - set(values)):
        raise ConfigError(f"{kind} needs the setting {', '.join(missing)}")
    return config(**values)


def preset(name: str, *, input_dim: int, num_classes: int, **changes: Any) -> ModelConfig:
    """Make the settings of a named model.

    Args:
        name: One of ``PRESETS``; sizes are those of the model's paper and code, or ours (``cooadtr_b3``, ``grab``).
        input_dim: Feature channels D.
        num_classes: Classes C.
        **changes: Other settings of the model.

    Returns:
        The checked settings.

    Raises:
        ConfigError: If the name or a setting is unknown, or a value out of range.

    Example:
        >>> preset("cooadtr_b2", input_dim=4096, num_classes=22, embed_dim=512).depth
        2
    """
    if "kind" in changes:
        raise ConfigError(
            f"preset {name!r} has its own kind: choose another preset instead of kind={changes['kind']!r}"
        )
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    return config_from_dict({**PRESETS[name], "input_dim": input_dim, "num_classes": num_classes, **changes})


def build_model(config: ModelConfig | Mapping[str, Any]) -> OnlineModel:
    """Build a model from its settings.

    Args:
        config: Settings, or the JSON object that :meth:`ModelConfig.to_dict` writes.

    Returns:
        The model, with fresh weights.

    Raises:
        ConfigError: If the settings are unknown or out of range.

    Example:
        >>> model = build_model({"kind": "cooadtr", "input_dim": 6, "num_classes": 3, "embed_dim": 8, "num_heads": 2})
        >>> type(model).__name__, model.window
        ('CoOadTR', 64)
    """
    checked = config if isinstance(config, ModelConfig) else config_from_dict(config)
    if getattr(checked, "kind", None) not in MODELS:
        raise ConfigError(f"no model is built from settings of type {type(checked).__name__}")
    return MODELS[checked.kind][1](checked)
