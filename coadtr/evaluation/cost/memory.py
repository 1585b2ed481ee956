"""Bytes that a model and the process that runs it take."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch
from torch import nn

__all__ = ["peak_memory_bytes", "weights_bytes"]

_STATUS = Path("/proc/self/status")


def weights_bytes(model: object) -> int:
    """Add up the bytes of parameters and buffers, shared ones once; 0 for a detector that is not a module.

    All streams share them. What one stream keeps besides is `state_bytes`.

    Example:
        >>> weights_bytes(nn.Linear(3, 2))
        32
    """
    if not isinstance(model, nn.Module):
        return 0
    return sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))


def peak_memory_bytes(device: torch.device | str = "cpu") -> int | None:
    """Return the most memory that this process has held at one time since it began.

    On the CPU, that is the largest resident set: the interpreter, the libraries, weights, states, and the data of
    whatever ran before the call. (Linux tells it to some hundred kilobytes.) On a GPU, it is what torch had allocated
    there for tensors (``torch.cuda.max_memory_allocated``), without the context of the driver and without what the
    allocator keeps in reserve. Called after a replay, it is the peak of the replay, and of whatever came before it.

    Args:
        device: Device of the model.

    Returns:
        Bytes; None where the system does not tell (Windows).

    Example:
        >>> peak = peak_memory_bytes()
        >>> peak is None or peak > 10_000_000
        True
    """
    if torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    # Linux hands `ru_maxrss` on to a program that a larger process starts; the high-water mark is the program's own.
    if _STATUS.exists() and (found := re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)):
        return 1024 * int(found[1])
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 - not on Windows

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest
