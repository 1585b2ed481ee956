"""The one place that maps settings to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coadtr.errors import ConfigError
from coadtr.models.base import OnlineModel
from coadtr.models.config import CoOadTRConfig, ModelConfig, OadTRConfig, config_from_dict
from coadtr.models.cooadtr import CoOadTR
from coadtr.models.oadtr import OadTR

__all__ = ["build_model"]


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
    match checked:
        case CoOadTRConfig():
            return CoOadTR(checked)
        case OadTRConfig():
            return OadTR(checked)
    raise ConfigError(f"no model is built from settings of type {type(checked).__name__}")
