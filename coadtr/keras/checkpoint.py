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
from coadtr.errors import CheckpointError, ConfigError
from coadtr.keras.model import CoOadTR
from coadtr.keras.weights import from_torch, to_torch
from coadtr.scoring import probabilities

__all__ = ["Checkpoint", "load", "load_weights", "save", "state_dict"]

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
        """Turn logits ``(..., C)`` into scores from 0 to 1, as a replay of the checkpoint does."""
        from keras import ops  # noqa: PLC0415

        plain = np.asarray(ops.convert_to_numpy(logits))
        return probabilities(plain, self.config["ignored"], head=self.config["head"])


def load(path: str | Path, **options: Any) -> Checkpoint:
    """Load a checkpoint of CoOadTR, of any depth, as a Keras model.

    Args:
        path: The folder that ``coadtr train`` or ``coadtr export`` wrote.
        **options: For :class:`CoOadTR`: ``warmup``, ``call_mode``, ``save_state``, ``name``, ``dtype``.

    Returns:
        The model and its description.

    Raises:
        CheckpointError: If a file is missing, damaged or of another version, or a weight is missing, left over or of
            another shape.
        ConfigError: If it is a checkpoint of another model.

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
    if missing := [name for name in (*SETTINGS, "kind") if name not in settings]:
        raise CheckpointError(f"{folder / CONFIG_FILE}: the setting {', '.join(missing)} is missing; export it again")
    if missing := [name for name in ("classes", "ignored", "head") if name not in config]:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {', '.join(missing)} is missing; export it again")
    weights = _read_weights(folder / WEIGHTS_FILE, config.get("weights_sha256"))
    model = CoOadTR(**{own: settings[name] for name, own in SETTINGS.items()}, **options)
    load_weights(model, weights, source=str(folder / WEIGHTS_FILE))
    return Checkpoint(model, config, origin)


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


def state_dict(model: CoOadTR) -> dict[str, NDArray[Any]]:
    """Return a model's weights under the names of `coadtr.models.CoOadTR`.

    Example:
        >>> model = CoOadTR(input_dim=6, num_classes=3, seq_len=4, embed_dim=8, num_heads=2, ff_dim=8)
        >>> list(state_dict(model))[:3]
        ['inputs.embed.weight', 'inputs.embed.bias', 'positions.table']
    """
    arrays: dict[str, NDArray[Any]] = {}
    if model.normalise:
        arrays |= {f"inputs.{name}": _plain(getattr(model, name)) for name in ("mean", "scale")}
    for name, part in (("inputs.embed", model.embedding), ("norm", model.norm), ("head", model.head)):
        weight, bias = part.weights
        arrays |= {f"{name}.weight": _plain(weight).T, f"{name}.bias": _plain(bias)}
        if part is model.embedding:
            for prefix, layer in (("positions", model.encoding), ("encoder", model.encoder)):
                arrays |= {f"{prefix}.{inner}": array for inner, array in to_torch(layer).items()}
    # The projections of tokens may have biases there, the one of outputs has none.
    return {name: array for name, array in arrays.items() if not name.endswith("out_proj.bias")}


def _plain(variable: Any) -> NDArray[Any]:
    from keras import ops  # noqa: PLC0415

    return np.array(ops.convert_to_numpy(variable))


def load_weights(model: CoOadTR, weights: dict[str, Any], *, source: str = "the weights") -> None:
    """Set a model's weights from those of `coadtr.models.CoOadTR`, by name.

    Args:
        model: The model.
        weights: Arrays, or CPU tensors, by name.
        source: What holds them, for messages.

    Raises:
        CheckpointError: If a weight is missing, left over, of another shape, or not finite.
    """
    given = {name: np.asarray(array, dtype=np.float32) for name, array in weights.items()}
    wanted = state_dict(model)
    if missing := [name for name in wanted if name not in given]:
        raise CheckpointError(f"{source}: lacks {', '.join(missing[:5])}; are the weights of other settings?")
    if left := [name for name in given if name not in wanted]:
        raise CheckpointError(f"{source}: the model has no place for {', '.join(left[:5])}; are its settings others?")
    for name, array in given.items():
        if array.shape != wanted[name].shape:
            raise CheckpointError(f"{source}: {name} has shape {array.shape}, the model wants {wanted[name].shape}")
        if not np.isfinite(array).all():
            raise CheckpointError(f"{source}: {name} holds values that are not finite; export another training state")
    if model.normalise:
        model.mean.assign(given["inputs.mean"])
        model.scale.assign(given["inputs.scale"])
    for name, part in (("inputs.embed", model.embedding), ("norm", model.norm), ("head", model.head)):
        part.set_weights([given[f"{name}.weight"].T, given[f"{name}.bias"]])
    for prefix, layer in (("positions.", model.encoding), ("encoder.", model.encoder)):
        from_torch(
            layer, {name.removeprefix(prefix): array for name, array in given.items() if name.startswith(prefix)}
        )


def save(path: str | Path, checkpoint: Checkpoint) -> Path:
    """Write a Keras CoOadTR as a checkpoint folder, which `coadtr.load` and the command line read.

    Args:
        path: The folder to make; it must not exist.
        checkpoint: What :func:`load` returned; its model may have been trained on since.

    Returns:
        ``path``.

    Raises:
        CheckpointError: If the folder is there already, cannot be written, or a weight is not finite.
    """
    folder = Path(path)
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
