"""Answer a live stream by an exported ONNX file with onnxruntime and numpy alone.

command: python examples/deployment/python/bare.py model.onnx < frames.f32

Frames come on standard input, D little-endian float32 values each; each is answered by a line of C scores. This is all
that has to happen around the file's step, written out: a program in another language does the same. `runtime.py` beside
it does more in fewer lines.
"""

from __future__ import annotations

import base64
import json
import sys
import zlib
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Push: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def open_detector(path: str) -> tuple[Push, int]:
    """Open a file; return the function that takes the stream's next frame, and the values D of a frame."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a small step is done before a second thread has begun
    session = onnxruntime.InferenceSession(path, options)
    told = json.loads(session.get_modelmeta().custom_metadata_map["coadtr"])
    state = {f"state.{leaf['name']}": fresh(leaf) for leaf in told["state"]}

    def push(frame: NDArray[np.float32]) -> NDArray[np.float64]:
        logits, *after = session.run(None, {"frame": frame[None], **state})
        if not np.isfinite(logits).all():
            raise ValueError("the answer is not finite: this frame is not taken")
        state.update(zip(state, after, strict=True))  # what comes out goes in with the next frame
        return scores(logits[0], told["spec"])

    return push, sum(part["channels"] for part in told["spec"]["streams"])


def fresh(leaf: dict[str, Any]) -> NDArray[Any]:
    """Make what one stream remembers before its first frame: one number everywhere, or packed values."""
    shape, dtype = (1, *leaf["shape"]), np.dtype(leaf["dtype"]).newbyteorder("<")
    if "fill" in leaf:
        return np.full(shape, leaf["fill"], dtype)
    return np.frombuffer(zlib.decompress(base64.b64decode(leaf["values"])), dtype).reshape(shape)


def scores(logits: NDArray[np.float32], spec: dict[str, Any]) -> NDArray[np.float64]:
    """Make scores from 0 to 1 of logits, in double precision; the ignored class scores 0."""
    values: NDArray[np.float64] = logits.astype(np.float64)
    if spec["ignored"] is not None:
        values[spec["ignored"]] = -np.inf
    if spec["head"] == "sigmoid":
        values = np.exp(-np.logaddexp(0, -values))
    else:
        values = np.exp(values - values.max())
        values /= values.sum()
    return values


def main(path: str) -> None:
    """Answer frames until the input ends."""
    push, channels = open_detector(path)
    while len(data := sys.stdin.buffer.read(4 * channels)) == 4 * channels:
        print(*(f"{score:.9g}" for score in push(np.frombuffer(data, "<f4"))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
