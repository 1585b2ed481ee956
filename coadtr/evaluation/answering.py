"""Ask a detector: where it computes, and in evaluation mode without gradients."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coadtr.types import Detector

__all__ = ["answering", "placement"]


def placement(model: Detector[Any], device: torch.device | str | None = None) -> tuple[torch.device, torch.dtype]:
    """Return the device and floating dtype that frames for ``model`` should have.

    Args:
        model: A detector; a module answers with its first floating parameter.
        device: Taken instead of the model's own, if given.

    Returns:
        Device and dtype; CPU and float32 for a detector without parameters.

    Example:
        >>> placement(nn.Linear(2, 2).double())
        (device(type='cpu'), torch.float64)
    """
    found = torch.device("cpu"), torch.float32
    if isinstance(model, nn.Module):
        for parameter in model.parameters():
            if parameter.is_floating_point():
                found = parameter.device, parameter.dtype
                break
    return (found[0] if device is None else torch.device(device)), found[1]


@contextmanager
def answering(model: Detector[Any]) -> Iterator[None]:
    """Hold a detector in evaluation mode without gradients, and put every submodule back as it was.

    Args:
        model: A detector; one that is not a module is left alone.

    Example:
        >>> layer = nn.Dropout()
        >>> with answering(layer):
        ...     layer.training
        False
        >>> layer.training
        True
    """
    trained = [part for part in model.modules() if part.training] if isinstance(model, nn.Module) else []
    for part in trained:
        part.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for part in trained:
            part.training = True
