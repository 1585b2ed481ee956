"""Answer a live stream by an exported ONNX file with coadtr.runtime: no torch, and nothing to do around the step.

command: python examples/deployment/python/runtime.py model.onnx < frames.f32

Needs `pip install --no-deps coadtr` and `pip install numpy onnxruntime`. Frames come on standard input, D little-endian
float32 values each; each is answered by a line of C scores. A frame that is refused leaves the stream as it was.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from coadtr.errors import DataError
from coadtr.runtime import OnlineDetector

Push: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def open_detector(path: str) -> tuple[Push, int]:
    """Open a file; return the function that takes the stream's next frame, and the values D of a frame."""
    detector = OnlineDetector.from_onnx(path)
    return detector.push, detector.input_dim


def main(path: str) -> None:
    """Answer frames until the input ends."""
    push, channels = open_detector(path)
    while len(data := sys.stdin.buffer.read(4 * channels)) == 4 * channels:
        try:
            print(*(f"{score:.9g}" for score in push(np.frombuffer(data, "<f4"))), flush=True)  # noqa: T201
        except DataError as error:
            print(error, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
