"""A detector that tests can afford, as numpy code and as an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from coadtr.runtime import Description, Leaf, OnlineDetector

CHANNELS = 5
CLASSES = ("rest", "lift", "turn")
RATE = 5.0
_rng = np.random.default_rng(5)
INTO = _rng.normal(size=(CHANNELS, 4)).astype(np.float32)
OUT = _rng.normal(size=(4, len(CLASSES))).astype(np.float32)


class LeakyStepper:
    """Score a leaky average of the frames: it remembers the whole past, so a lost or doubled frame shows.

    Frames whose first value is `POISON` make the step of all streams in it fail, as a fault of a runtime would.
    """

    POISON = 12345.0

    description = Description(
        class_names=CLASSES,
        background=0,
        ignored=None,
        streams={"rgb": 3, "flow": 2},
        rate_hz=RATE,
        head="softmax",
        state=(Leaf("average", np.zeros(4, np.float32)), Leaf("frames", np.zeros((), np.int64))),
        source={"checkpoint": "leaky", "weights_sha256": "ab12" * 16},
    )

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def step(
        self, frames: NDArray[np.float32], state: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.float32], list[NDArray[Any]]]:
        """Take the next frame of each stream."""
        if (frames[:, 0] == self.POISON).any():
            raise RuntimeError("the runtime fell over")
        self.sizes.append(len(frames))
        with np.errstate(over="ignore", invalid="ignore"):
            average = np.float32(0.95) * state[0] + frames @ INTO
            return average @ OUT, [average, state[1] + 1]


def detector(**settings: Any) -> OnlineDetector:
    """Make a detector without streams."""
    return OnlineDetector(LeakyStepper(), **settings)


def frames_of(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Make frames ``(T, D)``."""
    return np.random.default_rng(seed).normal(size=(count, CHANNELS)).astype(np.float32)


def solo(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score frames ``(T, D)`` as a stream of their own."""
    return detector().push_many(frames)


def write_onnx(path: Path) -> Path:
    """Write the same as an ONNX file, in the layout of an export."""
    nodes = [
        helper.make_node("MatMul", ["frame", "into"], ["came"]),
        helper.make_node("Mul", ["state.average", "decay"], ["kept"]),
        helper.make_node("Add", ["kept", "came"], ["next.average"]),
        helper.make_node("MatMul", ["next.average", "out"], ["logits"]),
        helper.make_node("Add", ["state.frames", "one"], ["next.frames"]),
    ]
    constants = {"into": INTO, "out": OUT, "decay": np.float32(0.95), "one": np.int64(1)}
    real, whole = TensorProto.FLOAT, TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "leaky",
        [
            helper.make_tensor_value_info("frame", real, ["streams", CHANNELS]),
            helper.make_tensor_value_info("state.average", real, ["streams", 4]),
            helper.make_tensor_value_info("state.frames", whole, ["streams"]),
        ],
        [
            helper.make_tensor_value_info("logits", real, ["streams", len(CLASSES)]),
            helper.make_tensor_value_info("next.average", real, ["streams", 4]),
            helper.make_tensor_value_info("next.frames", whole, ["streams"]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    told = LeakyStepper.description
    spec = {
        "classes": list(CLASSES),
        "background": 0,
        "ignored": None,
        "streams": [{"name": name, "channels": channels} for name, channels in told.streams.items()],
        "rate_hz": RATE,
        "head": "softmax",
    }
    state = [{**leaf.layout, "fill": 0} for leaf in told.state]
    text = {"format": "coadtr-onnx", "version": 1, "precision": "float32", "spec": spec, "state": state}
    helper.set_model_props(model, {"coadtr": json.dumps({**text, "source": told.source})})
    onnx.save(model, path)
    return path
