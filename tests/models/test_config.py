"""Settings: checked when made, written as JSON, named as published; and the sizes of what they build."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from coadtr.errors import ConfigError
from coadtr.models import (
    MODELS,
    PRESETS,
    CoOadTRConfig,
    ModelConfig,
    OadTRConfig,
    build_model,
    config_from_dict,
    preset,
)
from tests.models.sizes import small

SIZES: dict[str, Any] = {"input_dim": 6, "num_classes": 3, "window": 4, "embed_dim": 8, "num_heads": 2, "ff_dim": 12}

KNOWN = ", ".join(MODELS)
FIELDS = [(kind, field) for kind, (config, _) in MODELS.items() for field in dataclasses.fields(config)]
COUNTS = [
    (kind, field.name)
    for kind, field in FIELDS
    if field.name == "input_dim" or (type(field.default) is int and field.default > 0)
]
DROPOUTS = [(kind, field.name) for kind, field in FIELDS if field.name.endswith("dropout")]


def settings(kind: str = "cooadtr", **changes: Any) -> dict[str, Any]:
    return {"kind": kind, **SIZES, **changes}


def least_settings(kind: str, **changes: Any) -> dict[str, Any]:
    """Leave all that has a default at it."""
    return {"kind": kind, "input_dim": 6, "num_classes": 3, **changes}


@pytest.mark.parametrize(("kind", "name"), COUNTS)
@pytest.mark.parametrize("value", [0, -1, 2.0, "8", None, True])
def test_sizes_are_whole_numbers_of_at_least_one(kind: str, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be a whole number of at least 1, got {value!r}$"):
        config_from_dict(least_settings(kind, **{name: value}))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("value", [1, 0, 3.5])
def test_there_are_at_least_two_classes(kind: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^num_classes must be a whole number of at least 2, got {value!r}$"):
        config_from_dict(least_settings(kind, num_classes=value))


@pytest.mark.parametrize(("kind", "name"), DROPOUTS)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0, "must be at least 0 and below 1, got 1.0"),
        (-0.1, "must be at least 0 and below 1, got -0.1"),
        (float("nan"), "must be at least 0 and below 1, got nan"),
        ("0.1", "must be a number, got '0.1'"),
        (None, "must be a number, got None"),
        (True, "must be a number, got True"),
    ],
)
def test_dropouts_are_fractions(kind: str, name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} {message}$"):
        config_from_dict(least_settings(kind, **{name: value}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (settings(embed_dim=10, num_heads=4), "embed_dim must be a multiple of num_heads, got 10 and 4"),
        (settings(normalise="yes"), "normalise must be a bool, got 'yes'"),
        (settings(normalise=1), "normalise must be a bool, got 1"),
        (settings(norm_first=None), "norm_first must be a bool, got None"),
        (settings(in_bias="no"), "in_bias must be a bool, got 'no'"),
        (settings(positions="rotary"), "positions must be one of learned, fixed, got 'rotary'"),
        (settings(positions=3), "positions must be a str, got 3"),
        (settings(activation="swish"), "activation must be one of gelu, relu, got 'swish'"),
        (settings(num_positions=3), "num_positions must be 0 .* or at least the window of 4 frames, got 3"),
        (settings(num_positions=-1), "num_positions must be .* at least .*, got -1"),
        (settings(num_positions=7.5), "num_positions must be a whole number of at least 0, got 7.5"),
        (settings(num_positions="7"), "num_positions must be a whole number of at least 0, got '7'"),
        (settings("oadtr", decoder=1), "decoder must be a bool, got 1"),
        (settings("oadtr", decoder_depth=0), "decoder_depth must be a whole number of at least 1, got 0"),
        (settings("oadtr", decoder_queries=0), "decoder_queries must be a whole number of at least 1, got 0"),
        (settings("oadtr", decoder_heads=0), "decoder_heads must be a whole number of at least 1, got 0"),
        (
            settings("oadtr", decoder=True, decoder_heads=3),
            "embed_dim must be a multiple of decoder_heads, got 8 and 3",
        ),
        ({**SIZES}, f"unknown kind of model None; known are {KNOWN}"),
        (settings("gru"), f"unknown kind of model 'gru'; known are {KNOWN}"),
        ({**SIZES, "kind": ["cooadtr"]}, rf"unknown kind of model \['cooadtr'\]; known are {KNOWN}"),
        (settings(decoder=True), "cooadtr has no setting decoder; it has input_dim, num_classes, window, .*"),
        (settings("oadtr", size=1, zoom=2), "oadtr has no setting size, zoom; it has input_dim, .*"),
        ({"kind": "oadtr"}, "oadtr needs the setting input_dim, num_classes"),
        ({"kind": "cooadtr", "input_dim": 6}, "cooadtr needs the setting num_classes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_bad_settings_are_refused_by_value_and_remedy(changes: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        config_from_dict(changes)


def test_what_cannot_be_built_is_refused_when_made_directly_too() -> None:
    with pytest.raises(ConfigError, match="window must be a whole number of at least 1, got 0"):
        CoOadTRConfig(input_dim=6, num_classes=3, window=0)
    with pytest.raises(ConfigError, match="embed_dim must be a multiple of num_heads, got 10 and 8"):
        OadTRConfig(input_dim=6, num_classes=3, embed_dim=10)


@pytest.mark.parametrize("changes", [{"dropout": "0.1"}, {"dropout": None}, {"normalise": "yes"}])
def test_types_are_checked_when_made_directly_too(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CoOadTRConfig(**SIZES, **changes)


@pytest.mark.parametrize("changes", [{"embed_dim": 7, "num_heads": 1}, {"window": 1}])
def test_fixed_positions_that_cannot_be_made_are_refused_by_the_settings(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        config_from_dict(settings(positions="fixed", **changes))


def test_heads_of_an_absent_decoder_do_not_matter() -> None:
    assert config_from_dict(settings("oadtr", decoder_heads=3)) == OadTRConfig(**SIZES, decoder_heads=3)


@pytest.mark.parametrize("name", PRESETS)
def test_settings_survive_json(name: str) -> None:
    config = small(name, dropout=0.25, normalise=True, num_positions=9)
    assert (config.dropout, config.normalise, config.window) == (0.25, True, 4)
    written = json.loads(json.dumps(config.to_dict()))
    assert config_from_dict(written) == config
    assert next(iter(written)) == "kind"
    assert set(written) == {"kind"} | {field.name for field in dataclasses.fields(config)}


def test_settings_are_frozen() -> None:
    config = preset("cooadtr_b1", **SIZES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.window = 5  # type: ignore[misc]
    assert hash(config) == hash(preset("cooadtr_b1", **SIZES))


def test_presets_carry_the_published_sizes() -> None:
    depths = {}
    for name in PRESETS:
        config = preset(name, input_dim=3072, num_classes=22)
        if isinstance(config, CoOadTRConfig | OadTRConfig):
            sizes = (120, 192, 16, 192) if name.startswith("cotransformer") else (64, 1024, 8, 1024)
            assert (config.window, config.embed_dim, config.num_heads, config.ff_dim) == sizes
            assert config.dropout == 0.1
            depths[name] = config.depth
    told = {"cooadtr_b1": 1, "cooadtr_b2": 2, "cooadtr_b3": 3, "oadtr_b1": 1, "oadtr_b2": 2, "oadtr": 3}
    assert depths == told | {"cotransformer_b1": 1, "cotransformer_b2": 2}


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^unknown preset 'cooadtr_b9'; known are cooadtr_b1, .*, oadtr(, |$)"):
        preset("cooadtr_b9", **SIZES)


def test_an_unknown_change_of_a_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^cooadtr has no setting enc_layers; it has "):
        preset("cooadtr_b1", **SIZES, enc_layers=3)


def test_a_cycle_is_two_windows_less_one_unless_it_is_given() -> None:
    assert CoOadTRConfig(**SIZES).cycle == 7
    assert CoOadTRConfig(**SIZES, num_positions=4).cycle == 4


@pytest.mark.parametrize("name", PRESETS)
def test_the_builder_takes_settings_and_their_json(name: str) -> None:
    config = small(name)
    for given in (config, config.to_dict()):
        model = build_model(given)
        assert type(model) is MODELS[config.kind][1]
        assert model.config == config
        assert (model.input_dim, model.num_classes, model.window) == (6, 3, 4)


def test_settings_of_no_model_are_refused() -> None:
    with pytest.raises(ConfigError, match="no model is built from settings of type ModelConfig"):
        build_model(ModelConfig(input_dim=6, num_classes=3))


# What the published models own and no output uses, so that ours do not have it: OadTR-b1 and -b2 a class token (E) and
# a classifier of anticipated frames (E C + C), OadTR the positions of its 8 decoder queries (8 E). CoOadTR has no such.
UNUSED = {"cooadtr": 0, "oadtr_b": 1024 + (1024 * 22 + 22), "oadtr": 8 * 1024}


# CoOadTR is counted with learned positions: fixed ones are a buffer, 127 x 1024 numbers that are not parameters.
@pytest.mark.parametrize(
    ("name", "input_dim", "parameters", "published_millions"),
    [
        ("cooadtr_b1", 3072, 9_598_998, "9.6"),
        ("cooadtr_b1", 4096, 10_647_574, "10.6"),
        ("cooadtr_b2", 3072, 15_896_598, "15.9"),
        ("cooadtr_b2", 4096, 16_945_174, "16.9"),
        ("oadtr_b1", 3072, 9_536_534, "9.6"),
        ("oadtr_b1", 4096, 10_585_110, "10.6"),
        ("oadtr_b2", 3072, 15_835_158, "15.9"),
        ("oadtr_b2", 4096, 16_883_734, "16.9"),
        ("oadtr", 3072, 74_700_844, "74.7"),
        ("oadtr", 4096, 75_749_420, "75.8"),
    ],
)
def test_parameters_are_those_of_the_published_table(
    name: str, input_dim: int, parameters: int, published_millions: str
) -> None:
    learned = {"positions": "learned"} if name.startswith("cooadtr") else {}
    with torch.device("meta"):
        model = build_model(preset(name, input_dim=input_dim, num_classes=22, **learned))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    unused = UNUSED[name[:-1] if name.startswith("oadtr_b") else name.split("_", maxsplit=1)[0]]
    assert f"{(parameters + unused) / 1e6:.1f}" == published_millions


@pytest.mark.parametrize("name", ["cooadtr_b1", "cooadtr_b2"])
def test_fixed_positions_are_not_parameters(name: str) -> None:
    fixed, learned = (build_model(preset(name, **SIZES, positions=kind)) for kind in ("fixed", "learned"))
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (fixed, learned)]
    assert counts[1] - counts[0] == 7 * 8  # P E
    assert set(fixed.state_dict()) == set(learned.state_dict())
