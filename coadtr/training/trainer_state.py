"""The trainer's own files (weights, optimiser, progress): written whole, read without unpickling code."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from coadtr.errors import CheckpointError
from coadtr.models import OnlineModel
from coadtr.training.module import MONITOR

__all__ = ["SafeCheckpointIO", "load_epoch", "read_trainer_state"]


# Of the model inside the Lightning module.
PREFIX = "model."


def read_trainer_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read tensors and plain values only, onto the CPU.

    Args:
        path: File that the trainer wrote.

    Returns:
        What it holds.

    Raises:
        CheckpointError: If the file is damaged, or asks for more than data.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch muses about files that it did not write; below, they are refused
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, IndexError, EOFError, UnpicklingError) as error:
        cause = " ".join(str(error).split())[:100] or type(error).__name__
        raise CheckpointError(
            f"{path} is damaged and cannot be read ({cause}): remove the folder of the run and train again"
        ) from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}, not what the trainer writes: train again")
    return loaded


class SafeCheckpointIO(TorchCheckpointIO):
    """Write the trainer's checkpoints whole or not at all, and read them without unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write beside the target and rename."""
        partial = f"{path}.partial"
        super().save_checkpoint(checkpoint, partial, storage_options)
        os.replace(partial, path)  # noqa: PTH105 - the trainer passes strings

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read tensors and plain values only; the trainer moves them to where they belong."""
        del map_location, weights_only
        loaded = read_trainer_state(path)
        for state in loaded.get("callbacks", {}).values():
            _move(state, str(Path(path).resolve().parent))
        return loaded


def _move(state: Any, folder: str) -> None:
    """Let a checkpoint callback find its files where they lie now: of another folder it would forget the best epoch."""
    if not isinstance(state, dict) or not isinstance(before := state.get("dirpath"), str):
        return

    def moved(value: Any) -> Any:
        if isinstance(value, str):
            return folder + value.removeprefix(before) if value.startswith(before) else value
        if isinstance(value, dict):
            return {moved(key): item for key, item in value.items()}
        return value

    state.update({name: moved(value) for name, value in state.items()})


def load_epoch(model: OnlineModel, saved: Mapping[str, Any], path: Path) -> tuple[float | None, int]:
    """Load the weights of an epoch into a model.

    Args:
        model: A model of the run's settings.
        saved: What :func:`read_trainer_state` returned.
        path: Where that came from, for messages.

    Returns:
        The epoch's validation score, None if it was not validated, and its number.

    Raises:
        CheckpointError: If a part is missing, or the weights are not the model's.
    """
    try:
        weights = {name.removeprefix(PREFIX): tensor for name, tensor in saved["state_dict"].items()}
        score, epoch = saved[MONITOR], int(saved["epoch"])
        score = None if score is None else float(score)
        model.load_state_dict(weights)
    except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} is not an epoch of this run ({cause}): train again in another folder") from error
    return score, epoch
