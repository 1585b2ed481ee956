"""Frozen, validated settings of the models, and the presets that carry published sizes.

A model's settings are a plain dataclass: made from and written to a JSON object, checked when made, and never changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from coadtr.errors import ConfigError

__all__ = ["PRESETS", "CoOadTRConfig", "ModelConfig", "OadTRConfig", "config_from_dict", "preset"]


def _check_types(config: Any) -> None:
    for field in dataclasses.fields(config):
        wanted, value = field.default, getattr(config, field.name)
        if isinstance(wanted, (bool, str)) and not isinstance(value, type(wanted)):
            raise ConfigError(f"{field.name} must be a {type(wanted).__name__}, got {value!r}")
        if isinstance(wanted, float) and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ConfigError(f"{field.name} must be a number, got {value!r}")


def _at_least(config: Any, least: float, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _fraction(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise ConfigError(f"{name} must be at least 0 and below 1, got {value!r}")


def _one_of(config: Any, name: str, choices: tuple[str, ...]) -> None:
    if getattr(config, name) not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {getattr(config, name)!r}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Settings that all models share.

    Attributes:
        input_dim: Feature channels D, all streams joined.
        num_classes: Classes C, with background and ignored class if the data have them.
        window: Frames N that an answer depends on.
        embed_dim: Embedding width E.
        num_heads: Attention heads H.
        ff_dim: Hidden width of the feed-forward networks.
        depth: Encoder blocks.
        dropout: Dropout of embeddings and branches, in training only.
        attention_dropout: Dropout of attention weights, in training only.
        input_dropout: Dropout of the input features, in training only.
        normalise: Standardise each input channel by mean and deviation of the training frames, kept with the weights.
    """

    kind: ClassVar[str]

    input_dim: int
    num_classes: int
    window: int = 64
    embed_dim: int = 1024
    num_heads: int = 8
    ff_dim: int = 1024
    depth: int = 1
    dropout: float = 0.1
    attention_dropout: float = 0.0
    input_dropout: float = 0.0
    normalise: bool = False

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        _check_types(self)
        _at_least(self, 1, "input_dim", "window", "embed_dim", "num_heads", "ff_dim", "depth")
        _at_least(self, 2, "num_classes")
        _fraction(self, "dropout", "attention_dropout", "input_dropout")
        if self.embed_dim % self.num_heads:
            raise ConfigError(f"embed_dim must be a multiple of num_heads, got {self.embed_dim} and {self.num_heads}")

    def to_dict(self) -> dict[str, Any]:
        """Write the settings as a JSON object; :func:`config_from_dict` reads it back."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


@dataclass(frozen=True, kw_only=True)
class CoOadTRConfig(ModelConfig):
    """Settings of CoOadTR, the continual OadTR: post-norm blocks, no attention biases, recycling positions.

    Attributes:
        positions: Recycling encodings that are ``"learned"`` or ``"fixed"``.
        num_positions: Embeddings P in one cycle; 0 means 2 N - 1.
        norm_first: Pre-norm instead of the published post-norm.
        activation: ``"gelu"`` or ``"relu"``.
        in_bias: Bias of the query, key and value projections.

    Source: Hedegaard et al., ICLR 2023, section 4.2.

    Example:
        >>> CoOadTRConfig(input_dim=3072, num_classes=22).cycle
        127
    """

    kind: ClassVar[str] = "cooadtr"

    positions: Literal["learned", "fixed"] = "fixed"
    num_positions: int = 0
    norm_first: bool = False
    activation: Literal["gelu", "relu"] = "gelu"
    in_bias: bool = False

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        _one_of(self, "positions", ("learned", "fixed"))
        _one_of(self, "activation", ("gelu", "relu"))
        _at_least(self, 0, "num_positions")
        if self.num_positions and self.num_positions < self.window:
            raise ConfigError(
                f"num_positions must be 0 (for 2 N - 1) or at least the window of {self.window} frames, "
                f"got {self.num_positions}"
            )

        if self.positions == "fixed" and (self.embed_dim % 2 or self.cycle < 2):
            raise ConfigError(
                f"fixed positions need an even embed_dim and at least 2 positions, got embed_dim={self.embed_dim} and "
                f"{self.cycle} positions: use positions=learned"
            )

    @property
    def cycle(self) -> int:
        """Embeddings P of one cycle."""
        return self.num_positions or 2 * self.window - 1


@dataclass(frozen=True, kw_only=True)
class OadTRConfig(ModelConfig):
    """Settings of OadTR, the clip model that runs its whole window at every frame: pre-norm blocks, learned positions.

    Attributes:
        decoder: Use the class token and the decoder of anticipated frames (OadTR); without them, OadTR-b1 and -b2.
        decoder_depth: Decoder layers.
        decoder_queries: Anticipated frames.
        decoder_heads: Attention heads of the decoder.

    Source: Wang et al., *OadTR: Online Action Detection with Transformers*, ICCV 2021, section 3.

    Example:
        >>> OadTRConfig(input_dim=3072, num_classes=22, depth=2).decoder
        False
    """

    kind: ClassVar[str] = "oadtr"

    decoder: bool = False
    decoder_depth: int = 5
    decoder_queries: int = 8
    decoder_heads: int = 4

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        _at_least(self, 1, "decoder_depth", "decoder_queries", "decoder_heads")
        if self.decoder and self.embed_dim % self.decoder_heads:
            raise ConfigError(
                f"embed_dim must be a multiple of decoder_heads, got {self.embed_dim} and {self.decoder_heads}"
            )


CONFIGS: dict[str, type[ModelConfig]] = {config.kind: config for config in (CoOadTRConfig, OadTRConfig)}

PRESETS: dict[str, dict[str, Any]] = {
    "cooadtr_b1": {"kind": "cooadtr", "depth": 1},
    "cooadtr_b2": {"kind": "cooadtr", "depth": 2},
    "oadtr_b1": {"kind": "oadtr", "depth": 1, "attention_dropout": 0.1},
    "oadtr_b2": {"kind": "oadtr", "depth": 2, "attention_dropout": 0.1},
    "oadtr": {"kind": "oadtr", "depth": 3, "decoder": True, "attention_dropout": 0.1},
}


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
    if not isinstance(kind, str) or kind not in CONFIGS:
        raise ConfigError(f"unknown kind of model {kind!r}; known are {', '.join(CONFIGS)}")
    fields = {field.name: field for field in dataclasses.fields(CONFIGS[kind])}
    if unknown := sorted(set(values) - set(fields)):
        raise ConfigError(f"{kind} has no setting {', '.join(unknown)}; it has {', '.join(fields)}")
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    if missing := sorted(required - set(values)):
        raise ConfigError(f"{kind} needs the setting {', '.join(missing)}")
    return CONFIGS[kind](**values)


def preset(name: str, *, input_dim: int, num_classes: int, **changes: Any) -> ModelConfig:
    """Make the settings of a named model.

    Args:
        name: One of ``PRESETS``; sizes are the published ones (E 1024, 8 heads, feed-forward 1024, N 64).
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
