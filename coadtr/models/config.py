"""Frozen, validated settings: what all models share. Each model's own stand beside it.

A model's settings are a plain dataclass: made from and written to a JSON object, checked when made, and never changed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from coadtr.errors import ConfigError

__all__ = ["ModelConfig", "TransformerConfig", "check_at_least", "check_fraction", "check_one_of"]


def check_types(config: Any) -> None:
    """Refuse values of another type than the field's default."""
    for field in dataclasses.fields(config):
        wanted, value = field.default, getattr(config, field.name)
        if isinstance(wanted, (bool, str)) and not isinstance(value, type(wanted)):
            raise ConfigError(f"{field.name} must be a {type(wanted).__name__}, got {value!r}")
        if isinstance(wanted, float) and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ConfigError(f"{field.name} must be a number, got {value!r}")


def check_at_least(config: Any, least: float, *names: str) -> None:
    """Refuse fields that are not whole numbers of at least ``least``."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_fraction(config: Any, *names: str) -> None:
    """Refuse fields that are not at least 0 and below 1."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise ConfigError(f"{name} must be at least 0 and below 1, got {value!r}")


def check_one_of(config: Any, name: str, choices: tuple[str, ...]) -> None:
    """Refuse a field that is none of the choices."""
    if getattr(config, name) not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {getattr(config, name)!r}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Settings that all models share.

    Attributes:
        input_dim: Feature channels D, all streams joined.
        num_classes: Classes C, with background and ignored class if the data have them.
        window: Frames N of a clip; for models with a bounded memory also the frames that one layer attends.
        embed_dim: Embedding width E.
        dropout: Dropout of embeddings and branches, in training only.
        input_dropout: Dropout of the input features, in training only.
        normalise: Standardise each input channel by mean and deviation of the training frames, kept with the weights.
    """

    kind: ClassVar[str]

    input_dim: int
    num_classes: int
    window: int = 64
    embed_dim: int = 1024
    dropout: float = 0.1
    input_dropout: float = 0.0
    normalise: bool = False

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        check_types(self)
        check_at_least(self, 1, "input_dim", "window", "embed_dim")
        check_at_least(self, 2, "num_classes")
        check_fraction(self, "dropout", "input_dropout")

    def to_dict(self) -> dict[str, Any]:
        """Write the settings as a JSON object; :func:`coadtr.models.config_from_dict` reads it back."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(ModelConfig):
    """Settings that the models built from attention blocks share.

    Attributes:
        num_heads: Attention heads H.
        ff_dim: Hidden width F of the feed-forward networks.
        depth: Encoder blocks L.
        attention_dropout: Dropout of attention weights, in training only.
    """

    num_heads: int = 8
    ff_dim: int = 1024
    depth: int = 1
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        check_at_least(self, 1, "num_heads", "ff_dim", "depth")
        check_fraction(self, "attention_dropout")
        if self.embed_dim % self.num_heads:
            raise ConfigError(f"embed_dim must be a multiple of num_heads, got {self.embed_dim} and {self.num_heads}")
