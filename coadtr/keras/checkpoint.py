"""Checkpoints of this project as Keras models, and back: a folder of safetensors and JSON, without PyTorch."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from coadtr import __version__
from coadtr.errors import CheckpointError, ConfigError, ShapeError
from coadtr.keras.model import CoOadTR
from coadtr.keras.weights import load_weights, state_dict
from coadtr.scoring import HEADS, probabilities

__all__ = ["Checkpoint", "load", "save"]

FORMAT: Final = "coadtr-checkpoint"
VERSION: Final = 1
WEIGHTS_FILE, CONFIG_FILE, ORIGIN_FILE = "model.safetensors", "config.json", "origin.json"
FILES: Final = (WEIGHTS_FILE, CONFIG_FILE, ORIGIN_FILE)
# Settings of `coadtr.models.CoOadTRConfig` by their names here.
SETTINGS: Final = {
    "input_dim": "input_dim", "num_classes": "num_classes", "window": "seq_len", "embed_dim": "embed_dim",
    "num_heads": "num_heads", "ff_dim": "ff_dim", "depth": "depth", "positions": "positions",
    "num_positions": "num_positions", "normalise": "normalise", "activation": "activation",
    "norm_first": "norm_first", "in_bias": "use_bias", "dropout": "dropout", "input_dropout": "input_dropout",
    "attention_dropout": "attention_dropout",
}  # fmt: skip
# What they may be, as `coadtr.models.CoOadTRConfig` has it.
LEAST: Final = {
    "input_dim": 1, "num_classes": 2, "window": 1, "embed_dim": 1, "num_heads": 1, "ff_dim": 1, "depth": 1,
    "num_positions": 0,
}  # fmt: skip
CHOICES: Final = {
    "positions": ("learned", "fixed"), "activation": ("gelu", "relu"), "normalise": (True, False),
    "norm_first": (True, False), "in_bias": (True, False),
}  # fmt: skip
FRACTIONS: Final = ("dropout", "input_dropout", "attention_dropout")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint, loaded as a Keras model.

    Attributes:
        model: The model with its weights.
        config: What ``config.json`` says: settings, classes, feature streams, rate.
        origin: Where it came from.
    """

    model: CoOadTR
    config: dict[str, Any]
    origin: dict[str, Any]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C class names, in the order of the answers."""
        return tuple(self.config["classes"])

    def scores(self, logits: Any) -> NDArray[np.float64]:
        """Turn logits ``(..., C)`` into scores from 0 to 1, as a replay of the checkpoint does.

        Raises:
            ConfigError: If there are no logits, which a model with ``warmup="none"`` answers at first.
            ShapeError: If there are not C logits.
        """
        from keras import ops  # noqa: PLC0415

        if logits is None:
            raise ConfigError("None has no scores: leave out the steps of the warm-up, or load with warmup='mask'")
        plain, classes = np.asarray(ops.convert_to_numpy(logits)), len(self.class_names)
        if plain.shape[-1:] != (classes,):
            raise ShapeError(f"the checkpoint has {classes} classes, got logits of shape {plain.shape}; give (..., C)")
        return probabilities(plain, self.config["ignored"], head=self.config["head"])


def load(path: str | Path, **options: Any) -> Checkpoint:
    """Load a checkpoint of CoOadTR, of any depth, as a Keras model.

    Args:
        path: The folder that ``coadtr train`` or ``coadtr export`` wrote.
        **options: For :class:`CoOadTR`: ``warmup``, ``call_mode``, ``save_state``, ``name``, ``dtype``.

    Returns:
        The model and its description.

    Raises:
        CheckpointError: If a file is missing, damaged or of another version, a setting is out of range, or a weight is
            missing, left over or of another shape.
        ConfigError: If it is a checkpoint of another model, or CoOadTR refuses an option.

    Example:
        >>> load("no/such/folder")
        Traceback (most recent call last):
            ...
        coadtr.errors.CheckpointError: no/such/folder/config.json: is missing; give the folder of a checkpoint
    """
    folder = Path(path)
    config, origin = _read_json(folder / CONFIG_FILE), _read_json(folder / ORIGIN_FILE)
    if config.get("format") != FORMAT or config.get("version") != VERSION:
        raise CheckpointError(
            f"{folder / CONFIG_FILE}: is {config.get('format')!r} version {config.get('version')!r}, not {FORMAT!r} "
            f"version {VERSION}; export the checkpoint again"
        )
    settings = config.get("model")
    if not isinstance(settings, dict) or settings.get("kind") != "cooadtr":
        kind = settings.get("kind") if isinstance(settings, dict) else settings
        raise ConfigError(f"{folder}: is a checkpoint of {kind!r}; coadtr.keras loads 'cooadtr', export others to ONNX")
    _check_config(config, folder / CONFIG_FILE)
    weights = _read_weights(folder / WEIGHTS_FILE, config.get("weights_sha256"))
    _check_sizes(weights, settings, folder / WEIGHTS_FILE)
    model = _make_model(settings, options, folder / CONFIG_FILE)
    load_weights(model, weights, source=str(folder / WEIGHTS_FILE))
    return Checkpoint(model, config, origin)


def _check_config(config: dict[str, Any], file: str | Path) -> None:
    """Refuse settings that no CoOadTR has, and classes that are not those of its answers."""
    settings: dict[str, Any] = config.get("model", {})
    if missing := [name for name in SETTINGS if name not in settings]:
        raise CheckpointError(f"{file}: the setting {', '.join(missing)} is missing; export it again")
    if missing := [name for name in ("classes", "ignored", "head") if name not in config]:
        raise CheckpointError(f"{file}: {', '.join(missing)} is missing; export it again")

    def require(holds: bool, name: str, wanted: str, value: object) -> None:
        if not holds:
            raise CheckpointError(f"{file}: {name} must be {wanted}, got {value!r}; export it again")

    for name, least in LEAST.items():
        count = settings[name]
        require(_is_index(count) and count >= least, name, f"a whole number of at least {least}", count)
    for name in FRACTIONS:
        share = settings[name]
        require(type(share) in (int, float) and 0 <= share < 1, name, "a number of at least 0 and below 1", share)
    for name, choices in CHOICES.items():
        value, told = settings[name], " or ".join(map(str, choices))
        require(type(value) is type(choices[0]) and value in choices, name, told, value)
    width, window, cycle = (settings[name] for name in ("embed_dim", "window", "num_positions"))
    require(width % settings["num_heads"] == 0, "embed_dim", f"a multiple of num_heads={settings['num_heads']}", width)
    require(cycle == 0 or cycle >= window, "num_positions", f"0 or at least the window of {window} frames", cycle)
    names, ignored, classes = config["classes"], config["ignored"], settings["num_classes"]
    texts = isinstance(names, list) and all(isinstance(name, str) and name.strip() for name in names)
    require(texts and len({*names}) == len(names) == classes, "classes", f"{classes} names, each its own", names)
    right = ignored is None or (_is_index(ignored) and 0 <= ignored < classes)
    require(right, "ignored", f"None or the index of a class, 0 to {classes - 1}", ignored)
    require(config["head"] in HEADS, "head", " or ".join(HEADS), config["head"])


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_sizes(weights: dict[str, NDArray[Any]], settings: dict[str, Any], file: Path) -> None:
    """Compare the sizes with the weights' before a model is made, which would take whatever memory they ask for."""
    width, hidden = settings["embed_dim"], [name for name in weights if name.endswith("feed_forward.0.weight")]
    if len(hidden) != settings["depth"]:
        raise CheckpointError(
            f"{file}: its number of blocks is {len(hidden)}, {CONFIG_FILE} says depth={settings['depth']}; "
            "export it again"
        )
    wanted = {
        "inputs.embed.weight": (width, settings["input_dim"]),
        "positions.table": (settings["num_positions"] or 2 * settings["window"] - 1, width),
        "head.weight": (settings["num_classes"], width),
        **dict.fromkeys(hidden, (settings["ff_dim"], width)),
    }
    for name, shape in wanted.items():
        if name in weights and weights[name].shape != shape:
            raise CheckpointError(
                f"{file}: {name} has shape {weights[name].shape}, {CONFIG_FILE} wants {shape}; export it again"
            )
    if missing := [name for name in wanted if name not in weights]:
        raise CheckpointError(f"{file}: lacks {', '.join(missing)}; are the weights of other settings?")


def _make_model(settings: dict[str, Any], options: dict[str, Any], file: Path) -> CoOadTR:
    try:
        return CoOadTR(**{own: settings[name] for name, own in SETTINGS.items()}, **options)
    except (ValueError, TypeError, ArithmeticError) as error:
        told = " ".join(str(error).split())
        if not options:
            raise CheckpointError(f"{file}: CoOadTR refuses its settings ({told}); export it again") from error
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"CoOadTR refuses the options {', '.join(options)} ({told}); leave one out") from error


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"{file}: is missing; give the folder of a checkpoint") from error
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error


def _read_json(file: Path) -> dict[str, Any]:
    text = _read_bytes(file)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: is not JSON ({error}); copy or export the checkpoint again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: must hold a JSON object, got {type(values).__name__}; export it again")
    return values


def _read_weights(file: Path, digest: object) -> dict[str, NDArray[Any]]:
    packed = _read_bytes(file)
    if (found := hashlib.sha256(packed).hexdigest()) != digest:
        raise CheckpointError(
            f"{file}: its SHA-256 begins with {found[:12]}, {CONFIG_FILE} says {str(digest)[:12]!r}: it is damaged or "
            "of another checkpoint; copy or export it again"
        )
    try:
        return safetensors.numpy.load(packed)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); save the checkpoint in float32") from error


def save(path: str | Path, checkpoint: Checkpoint) -> Path:
    """Write a Keras CoOadTR as a checkpoint folder, which `coadtr.load` and the command line read.

    Args:
        path: The folder to make; it must not exist.
        checkpoint: What :func:`load` returned; its model may have been trained on since.

    Returns:
        ``path``.

    Raises:
        CheckpointError: If the folder is there already, cannot be written, a weight is not finite, the model has
            other settings than ``checkpoint.config`` says, or a bias that the PyTorch model does not have.
    """
    folder = Path(path)
    _check_config(checkpoint.config, "checkpoint.config")
    for name, own in SETTINGS.items():
        if (said := checkpoint.config["model"][name]) != (found := checkpoint.model._settings[own]):
            raise CheckpointError(
                f"checkpoint.config says {name}={said!r}, the model has {own}={found!r}; save each model with its own"
            )
    arrays = {
        name: np.ascontiguousarray(array, dtype=np.float32) for name, array in state_dict(checkpoint.model).items()
    }
    if broken := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise CheckpointError(f"{broken[0]} holds values that are not finite; save another training state")
    if folder.exists():
        raise CheckpointError(f"{folder}: is there already; name another folder")
    packed = safetensors.numpy.save(arrays, metadata={"format": "pt"})
    config = {**checkpoint.config, "dtype": "float32", "weights_sha256": hashlib.sha256(packed).hexdigest()}
    origin = {**checkpoint.origin, "code_version": f"coadtr {__version__} (Keras)"}
    part = folder.with_name(f".{folder.name}.part")
    try:
        part.mkdir(parents=True)
        (part / WEIGHTS_FILE).write_bytes(packed)
        for name, values in ((CONFIG_FILE, config), (ORIGIN_FILE, origin)):
            (part / name).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise CheckpointError(
            f"{folder}: cannot be written ({error.strerror or error}): choose a folder that you may write"
        ) from error
    return folder
