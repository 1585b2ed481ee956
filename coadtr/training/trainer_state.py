"""The trainer's own files (weights, optimiser, progress): written whole, read without unpickling code."""

from __future__ import annotations

import os
import warnings
from pickle import UnpicklingError
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from coadtr.errors import CheckpointError

__all__ = ["SafeCheckpointIO", "read_trainer_state"]


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
        return read_trainer_state(path)
