"""A damaged checkpoint is refused with one line that names what is wrong, and the folder stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from coadtr.checkpoint import OnlineDetector, load
from coadtr.checkpoint.weights import weights_digest
from coadtr.errors import CheckpointError, ConfigError

Damage = Callable[[Path], None]


def setting(name: str, value: Any) -> Damage:
    """Change one setting of config.json; a dotted name reaches into the model's settings."""

    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        holder, key = (config["model"], name.removeprefix("model.")) if "." in name else (config, name)
        holder[key] = value
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def without(name: str) -> Damage:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        del config[name]
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    """Change the weights, and their hash with them."""

    def damage(folder: Path) -> None:
        tensors = safetensors.torch.load((folder / "model.safetensors").read_bytes())
        change(tensors)
        packed = safetensors.torch.save(tensors)
        (folder / "model.safetensors").write_bytes(packed)
        setting("weights_sha256", weights_digest(packed))(folder)

    return damage


def text(name: str, content: bytes) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return damage


def missing(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def flip_a_bit(folder: Path) -> None:
    packed = bytearray((folder / "model.safetensors").read_bytes())
    packed[-3] ^= 1
    (folder / "model.safetensors").write_bytes(packed)


def cut_weights(folder: Path) -> None:
    packed = (folder / "model.safetensors").read_bytes()[:-100]
    (folder / "model.safetensors").write_bytes(packed)
    setting("weights_sha256", weights_digest(packed))(folder)


def pickled_weights(folder: Path) -> None:
    torch.save({"head.bias": torch.zeros(3)}, folder / "model.safetensors")
    setting("weights_sha256", weights_digest((folder / "model.safetensors").read_bytes()))(folder)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "no config": (missing("config.json"), r"^[^ ]*config\.json: is missing"),
    "no origin": (missing("origin.json"), r"^[^ ]*origin\.json: is missing"),
    "no weights": (missing("model.safetensors"), r"model\.safetensors: is missing"),
    "config not JSON": (text("config.json", b"{"), r"config\.json: is not JSON"),
    "config not text": (text("config.json", b"\xff\xfe\xfd"), r"config\.json: is not JSON"),
    "config nested too deeply": (text("config.json", b"[" * 100_000), r"config\.json: is not JSON"),
    "config a list": (text("config.json", b"[]"), "must hold a JSON object, got list"),
    "origin not JSON": (text("origin.json", b"x"), r"origin\.json: is not JSON"),
    "origin a number": (text("origin.json", b"3"), r"origin\.json: must hold a JSON object, got int"),
    "other format": (setting("format", "another"), "is not of the format 'coadtr-checkpoint'"),
    "newer version": (setting("version", 2), "has version 2, this coadtr reads version 1"),
    "version no number": (setting("version", True), "has version True"),
    "unknown setting": (setting("colour", 1), "unknown setting colour"),
    "setting missing": (without("rate_hz"), "the setting rate_hz is missing"),
    "version missing": (without("version"), "has version None"),
    "hash missing": (without("weights_sha256"), "weights_sha256 must be text, got None"),
    "dtype unknown": (setting("dtype", "int8"), "dtype must be one of float16, .* got 'int8'"),
    "dtype a list": (setting("dtype", []), r"dtype must be one of .* got \[\]"),
    "model no object": (setting("model", "cooadtr_b1"), "model must be an object of settings, got 'cooadtr_b1'"),
    "model of unknown kind": (setting("model.kind", "lstm"), "unknown kind of model 'lstm'"),
    "model kind a list": (setting("model.kind", []), "unknown kind of model"),
    "model setting unknown": (setting("model.layers", 3), "cooadtr has no setting layers"),
    "model setting a text": (setting("model.num_positions", "x"), r"config\.json: .*(wrong type|num_positions)"),
    "model setting out of range": (setting("model.dropout", 1.5), "dropout must be at least 0 and below 1, got 1.5"),
    "model too large": (setting("model.ff_dim", 10**15), r"no model of these sizes can be built"),
    "model beyond 64 bits": (setting("model.ff_dim", 10**30), r"no model of these sizes can be built"),
    "model size zero": (setting("model.embed_dim", 0), "embed_dim must be a whole number of at least 1, got 0"),
    "classes no list": (setting("classes", "abc"), "classes must be a list of names, got 'abc'"),
    "class missing": (setting("classes", ["rest", "lift"]), "2 class names for a model of 3 classes"),
    "class twice": (setting("classes", ["rest", "lift", "rest"]), "class name 'rest' is used twice"),
    "class a number": (setting("classes", ["rest", "lift", 3]), "class 2 is named 3"),
    "background out of range": (setting("background", 3), "background must be the index of a class, 0 to 2"),
    "ignored negative": (setting("ignored", -1), "ignored must be the index of a class, 0 to 2, or None; got -1"),
    "ignored is background": (setting("ignored", 0), "cannot be background and ignored at once"),
    "streams an object": (setting("streams", {"rgb": 3}), "streams must be a list of objects"),
    "stream twice": (setting("streams", [{"name": "rgb", "channels": 3}] * 2), "stream 'rgb' is listed twice"),
    "stream empty": (
        setting("streams", [{"name": "rgb", "channels": 0}]),
        "stream 'rgb' must have a whole number of channels above 0, got 0",
    ),
    "streams too narrow": (
        setting("streams", [{"name": "rgb", "channels": 3}]),
        r"takes 5 channels, the streams \(rgb 3\) have 3",
    ),
    "rate zero": (setting("rate_hz", 0), "rate_hz must be a finite number above 0, got 0"),
    "rate not a number": (setting("rate_hz", float("nan")), "rate_hz must be a finite number above 0, got nan"),
    "rate a text": (setting("rate_hz", "5"), "rate_hz must be a finite number above 0, got '5'"),
    "head unknown": (setting("head", "argmax"), "head must be one of softmax, sigmoid, got 'argmax'"),
    "normalisation contradicts": (setting("normalisation", "none"), "normalisation is 'none', .* 'standardise'"),
    "weights of another checkpoint": (flip_a_bit, r"model\.safetensors: its SHA-256 begins with"),
    "weights cut": (cut_weights, r"model\.safetensors: is not a safetensors file"),
    "weights pickled": (pickled_weights, r"model\.safetensors: is not a safetensors file"),
    "weight missing": (weights(lambda w: w.pop("head.bias")), r"model\.safetensors: lacks head\.bias"),
    "weight left over": (weights(lambda w: w.update(extra=torch.zeros(1))), "the model has no place for extra"),
    "all weights missing": (weights(dict.clear), r"lacks .* and \d+ more"),
    "weight of another shape": (
        weights(lambda w: w.update({"head.bias": torch.zeros(4)})),
        r"head\.bias has shape \(4,\), the model's settings want \(3,\)",
    ),
    "weight of another dtype": (
        weights(lambda w: w.update({"head.bias": torch.zeros(3, dtype=torch.float64)})),
        r"head\.bias is torch\.float64, the model wants torch\.float32",
    ),
    "weight not finite": (weights(lambda w: w["head.bias"].fill_(torch.nan)), r"head\.bias holds values that are not"),
    "settings of another size": (setting("model.ff_dim", 13), r"has shape \(12.*\), the model's settings want \(13"),
    "settings of another depth": (setting("model.depth", 2), r"model\.safetensors: lacks encoder\."),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_refused_by_name(kind: str, saved: Path) -> None:
    damage, message = DAMAGES[kind]
    damage(saved)
    before = {file: file.read_bytes() for file in saved.parent.rglob("*") if file.is_file()}
    with pytest.raises(CheckpointError, match=message) as caught:
        load(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {file: file.read_bytes() for file in saved.parent.rglob("*") if file.is_file()} == before


def test_missing_folder_and_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: there is no such folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="file: is a file; give the folder"):
        OnlineDetector.load(tmp_path / "file")


def test_a_folder_in_place_of_a_file_is_refused(saved: Path) -> None:
    (saved / "origin.json").unlink()
    (saved / "origin.json").mkdir()
    with pytest.raises(CheckpointError, match=r"origin\.json: cannot be read"):
        load(saved)


@pytest.mark.parametrize("device", ["no_such_device", "cuda:99"])
def test_device_that_is_not_there_is_refused(device: str, saved: Path) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}' cannot be used"):
        load(saved, device)


def test_the_folder_of_a_run_is_told_from_its_checkpoint(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    saved.rename(run / "checkpoint")
    with pytest.raises(CheckpointError, match=r"run: is the folder of a run; its checkpoint is .*run/checkpoint"):
        load(run)
