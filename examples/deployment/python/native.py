"""Answer a live stream by a checkpoint's folder: the model itself, with torch.

command: python examples/deployment/python/native.py runs/demo/checkpoint [compiled] < frames.f32

Frames come on standard input, D little-endian float32 values each; each is answered by a line of C scores. With
``compiled`` the step is compiled ahead of time at the first frame, which needs a C++ compiler and some time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray

from coadtr.checkpoint import load
from coadtr.layers import StepRunner
from coadtr.models import OnlineModel

Push: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def open_detector(path: str, backend: str = "eager") -> tuple[Push, int]:
    """Load a checkpoint; return the function that takes the stream's next frame, and the values D of a frame."""
    torch.set_num_threads(1)  # a small step is done before a second thread has begun
    checkpoint = load(path)
    if backend == "compiled":
        runner = StepRunner(checkpoint.model, backend="compiled")
        checkpoint = replace(checkpoint, model=cast("OnlineModel", runner))
    return checkpoint.detector().push, checkpoint.model.input_dim


def main(path: str, *backend: str) -> None:
    """Answer frames until the input ends."""
    push, channels = open_detector(path, *backend)
    while len(data := sys.stdin.buffer.read(4 * channels)) == 4 * channels:
        print(*(f"{score:.9g}" for score in push(np.frombuffer(data, "<f4"))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
