"""Read an exported checkpoint, trusting nothing in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from coadtr.checkpoint.detector import OnlineDetector
from coadtr.checkpoint.matching import explain_mismatch
from coadtr.checkpoint.spec import CheckpointSpec
from coadtr.checkpoint.weights import DTYPES, check_weights, fresh_model, unpack_weights, weights_digest
from coadtr.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coadtr.models import OnlineModel

__all__ = ["CONFIG_FILE", "FILES", "FORMAT", "ORIGIN_FILE", "VERSION", "WEIGHTS_FILE", "Checkpoint", "load"]

FORMAT: Final = "coadtr-checkpoint"
VERSION: Final = 1
WEIGHTS_FILE: Final = "model.safetensors"
CONFIG_FILE: Final = "config.json"
ORIGIN_FILE: Final = "origin.json"
FILES: Final = (WEIGHTS_FILE, CONFIG_FILE, ORIGIN_FILE)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        path: The folder that it was read from.
        model: The model with its weights, in eval mode.
        spec: Its description: settings, classes, feature streams, rate.
        origin: Where it came from.
        weights_sha256: Digest of the weights' file.
    """

    path: Path
    model: OnlineModel
    spec: CheckpointSpec
    origin: dict[str, Any]
    weights_sha256: str

    def check_features(
        self,
        streams: Mapping[str, int],
        rate_hz: float | None = None,
        class_names: Sequence[str] | None = None,
        *,
        special_classes: tuple[int | None, int | None] | None = None,
        extractors: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Refuse features, or labels, of another kind than the model was trained on.

        Args:
            streams: Name and channels of each feature stream, in the order in which they are joined.
            rate_hz: Frames a second; up to 1 % off is taken as the same. None if it is not known.
            class_names: Names of the classes that labels count. None if there are no labels.
            special_classes: Index of the background class and of the ignored class, each None if there is none.
            extractors: What made the features of each stream (``backbone``, ``weights``, ...). What only one
                side knows is not compared.

        Raises:
            CheckpointError: If one differs; the message names the difference.
        """
        if mismatch := explain_mismatch(
            self.spec, streams, rate_hz, class_names, special_classes=special_classes, extractors=extractors
        ):
            raise CheckpointError(f"{self.path}: {mismatch}")

    def detector(self) -> OnlineDetector:
        """Return a detector with a memory of its own; any number of them share this checkpoint's model."""
        return OnlineDetector(self)


def load(path: str | Path, device: torch.device | str | None = None) -> Checkpoint:
    """Load an exported checkpoint: no Lightning, no Hydra, no pickle, and no code from the folder.

    Args:
        path: The folder that `save_checkpoint` or ``coadtr export`` wrote.
        device: Where the model goes; the CPU if None.

    Returns:
        The checkpoint, its model in eval mode and in the dtype that it was saved in.

    Raises:
        CheckpointError: If a file is missing, damaged or of another version, a setting is unknown or out of range, or
            a weight is missing, left over, or of another shape or dtype; the message names it.
        ConfigError: If the device cannot be used.

    Example:
        >>> load("no/such/folder")
        Traceback (most recent call last):
            ...
        coadtr.errors.CheckpointError: no/such/folder: there is no such folder; give the folder of a checkpoint
    """
    folder = Path(path)
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "there is no such folder"
        raise CheckpointError(f"{folder}: {problem}; give the folder of a checkpoint")
    if not (folder / CONFIG_FILE).exists() and (folder / "checkpoint" / CONFIG_FILE).exists():
        raise CheckpointError(f"{folder}: is the folder of a run; its checkpoint is {folder / 'checkpoint'}")
    spec, dtype, digest = _read_config(folder / CONFIG_FILE)
    origin = _read_json(folder / ORIGIN_FILE)
    model = _read_model(folder, spec, dtype, digest)
    try:
        model = model.to(device or "cpu").eval()
    except (RuntimeError, AssertionError) as error:  # torch raises either, depending on how it was built
        raise ConfigError(f"device {str(device)!r} cannot be used ({str(error).splitlines()[0]}); try 'cpu'") from error
    return Checkpoint(path=folder, model=model, spec=spec, origin=origin, weights_sha256=digest)


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: is missing; copy or export the checkpoint again") from error
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error


def _read_json(file: Path) -> dict[str, Any]:
    text = _read_bytes(file)  # its error is a ValueError too, and says more than "not JSON"
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or not text
        raise CheckpointError(f"{file}: is not JSON ({error}); copy or export the checkpoint again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: must hold a JSON object, got {type(values).__name__}; export it again")
    return values


def _read_config(file: Path) -> tuple[CheckpointSpec, torch.dtype, str]:
    values = _read_json(file)
    if values.pop("format", None) != FORMAT:
        raise CheckpointError(f"{file}: is not of the format {FORMAT!r}; give the folder of an exported checkpoint")
    version = values.pop("version", None)
    if isinstance(version, bool) or version != VERSION:
        raise CheckpointError(f"{file}: has version {version!r}, this coadtr reads version {VERSION}; export it again")
    digest, dtype = values.pop("weights_sha256", None), values.pop("dtype", None)
    if not isinstance(digest, str):
        raise CheckpointError(f"{file}: weights_sha256 must be text, got {digest!r}; export the checkpoint again")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(f"{file}: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    try:
        return CheckpointSpec.from_dict(values), DTYPES[dtype], digest
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error


def _read_model(folder: Path, spec: CheckpointSpec, dtype: torch.dtype, digest: str) -> OnlineModel:
    file = folder / WEIGHTS_FILE
    packed = _read_bytes(file)
    if (found := weights_digest(packed)) != digest:
        raise CheckpointError(
            f"{file}: its SHA-256 begins with {found[:12]}, {CONFIG_FILE} says {digest[:12]!r}: it is damaged or of "
            "another checkpoint; copy or export it again"
        )
    weights = unpack_weights(packed, str(file))
    try:
        model = fresh_model(spec.model, dtype)
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {error}") from error
    check_weights(weights, model, str(file))
    model.load_state_dict(weights)
    return model
