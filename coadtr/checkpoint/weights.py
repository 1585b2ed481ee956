"""The weights of a checkpoint: safetensors bytes in and out, and each tensor checked by name."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from safetensors import SafetensorError

from coadtr.errors import CheckpointError, ConfigError
from coadtr.models import build_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from coadtr.models import ModelConfig, OnlineModel

__all__ = ["DTYPES", "check_weights", "fresh_model", "pack_weights", "unpack_weights", "weights_digest"]

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}

_NAMED = 5  # weights that a message lists before it says how many more there are


def weights_digest(packed: bytes) -> str:
    """Return the SHA-256 of packed weights, in hexadecimal."""
    return hashlib.sha256(packed).hexdigest()


def pack_weights(model: OnlineModel) -> bytes:
    """Write all parameters and buffers as safetensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return safetensors.torch.save(tensors, metadata={"format": "pt"})


def unpack_weights(packed: bytes, source: str) -> dict[str, Tensor]:
    """Read safetensors; ``source`` is the name of the file in messages.

    Raises:
        CheckpointError: If the bytes are not safetensors.
    """
    try:
        return safetensors.torch.load(packed)
    except (SafetensorError, KeyError, ValueError, RuntimeError, AssertionError) as error:
        raise CheckpointError(f"{source}: is not a safetensors file ({error}); copy or export it again") from error


def fresh_model(config: ModelConfig, dtype: torch.dtype) -> OnlineModel:
    """Build a model on the CPU without moving the global random numbers on.

    Raises:
        ConfigError: If no such model can be built.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            return build_model(config).to(dtype)
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:  # sizes beyond the memory, or beyond 64 bits
        raise ConfigError(f"no model of these sizes can be built ({_first_line(error)})") from error


def check_weights(weights: Mapping[str, Tensor], model: OnlineModel, source: str) -> None:
    """Compare weights with those of a fresh model by name, shape and dtype, and check that they are finite.

    Args:
        weights: Weights by name.
        model: Model of the same settings and dtype.
        source: What holds the weights, for messages.

    Raises:
        CheckpointError: If a weight is missing, left over, of another shape or dtype, or not finite.
    """
    wanted = model.state_dict()
    if missing := [name for name in wanted if name not in weights]:
        raise CheckpointError(f"{source}: lacks {_listed(missing)}; do the weights belong to other model settings?")
    if left := [name for name in weights if name not in wanted]:
        raise CheckpointError(f"{source}: the model has no place for {_listed(left)}; are its settings other ones?")
    for name, tensor in wanted.items():
        found = weights[name]
        if found.shape != tensor.shape:
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(found.shape)}, the model's settings want {tuple(tensor.shape)}"
            )
        if found.dtype != tensor.dtype:
            raise CheckpointError(f"{source}: {name} is {found.dtype}, the model wants {tensor.dtype}; convert it")
        if not torch.isfinite(found).all():
            raise CheckpointError(f"{source}: {name} holds values that are not finite; export another training state")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
