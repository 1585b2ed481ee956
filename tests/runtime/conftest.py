"""A small exported file, made by hand, and what it computes written out slowly."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from coadtr.runtime import OnlineDetector
from coadtr.scoring import probabilities

Array = NDArray[Any]
Write = Callable[..., Path]

D, E, C, N = 5, 4, 3, 3
_source = np.random.default_rng(3)
W, U, V = (_source.normal(size=size).astype(np.float32) for size in ((D, E), (D, C), (E, C)))
RING = _source.normal(size=(N, D)).astype(np.float32)  # what a fresh stream has in its ring
DECAY, DRIFT = np.float32(0.9), np.float32(0.01)

FRAMES = np.random.default_rng(5).normal(size=(400, D)).astype(np.float32)


class Reference:
    """The file's step for one stream, in float64: a leaky mean, a ring of the last frames, and a counter."""

    def __init__(self) -> None:
        self.mean, self.ring, self.frames = np.zeros(E), [row.astype(np.float64) for row in RING], 0

    def push(self, frame: Array) -> Array:
        self.mean = float(DECAY) * self.mean + frame.astype(np.float64) @ W
        self.ring = [*self.ring[1:], frame.astype(np.float64)]
        self.frames += 1
        logits = self.mean @ V + sum(self.ring) @ U + float(DRIFT) * self.frames
        return probabilities(logits, 2)

    def push_all(self, frames: Array) -> Array:
        return np.stack([self.push(frame) for frame in frames])


def described(**changes: Any) -> dict[str, Any]:
    """Return the metadata of the file."""
    packed = base64.b64encode(zlib.compress(RING.tobytes())).decode()
    spec = {
        "model": {"kind": "made by hand"},
        "classes": ["rest", "lift", "unclear"],
        "background": 0,
        "ignored": 2,
        "streams": [{"name": "rgb", "channels": 3}, {"name": "flow", "channels": 2}],
        "rate_hz": 5.0,
        "head": "softmax",
        "normalisation": "none",
    }
    return {
        "format": "coadtr-onnx",
        "version": 1,
        "coadtr": "0.1.0",
        "precision": "float32",
        "opset": 20,
        "spec": {**spec, **changes.pop("spec", {})},
        "state": [
            {"name": "mean", "shape": [E], "dtype": "float32", "fill": 0.0},
            {"name": "ring", "shape": [N, D], "dtype": "float32", "values": packed},
            {"name": "frames", "shape": [], "dtype": "int64", "fill": 0},
        ],
        "source": {"checkpoint": "by-hand", "weights_sha256": "ab" * 32},
        **changes,
    }


def graph(streams: str | int = "streams") -> onnx.GraphProto:
    """Return the step as a graph."""

    def value(name: str, kind: int, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, [streams, *shape])

    def state(prefix: str) -> list[onnx.ValueInfoProto]:
        return [
            value(f"{prefix}.mean", TensorProto.FLOAT, E),
            value(f"{prefix}.ring", TensorProto.FLOAT, N, D),
            value(f"{prefix}.frames", TensorProto.INT64),
        ]

    constants = {"W": W, "U": U, "V": V, "decay": DECAY, "drift": DRIFT, "one": np.int64(1)}
    constants |= {"from": np.array([1]), "to": np.array([N]), "axis": np.array([1])}
    steps = [
        ("Mul", ["decay", "state.mean"], "faded"),
        ("MatMul", ["frame", "W"], "embedded"),
        ("Add", ["faded", "embedded"], "next.mean"),
        ("Slice", ["state.ring", "from", "to", "axis"], "kept"),
        ("Unsqueeze", ["frame", "axis"], "newest"),
        ("Concat", ["kept", "newest"], "next.ring"),
        ("Add", ["state.frames", "one"], "next.frames"),
        ("ReduceSum", ["next.ring", "axis"], "summed"),
        ("MatMul", ["next.mean", "V"], "slow"),
        ("MatMul", ["summed", "U"], "quick"),
        ("Add", ["slow", "quick"], "both"),
        ("Cast", ["next.frames"], "count"),
        ("Mul", ["count", "drift"], "drifted"),
        ("Unsqueeze", ["drifted", "axis"], "column"),
        ("Add", ["both", "column"], "logits"),
    ]
    attributes: dict[str, dict[str, Any]] = {
        "next.ring": {"axis": 1},
        "summed": {"keepdims": 0},
        "count": {"to": TensorProto.FLOAT},
    }
    return helper.make_graph(
        [helper.make_node(kind, inputs, [out], **attributes.get(out, {})) for kind, inputs, out in steps],
        "step",
        [value("frame", TensorProto.FLOAT, D), *state("state")],
        [value("logits", TensorProto.FLOAT, C), *state("next")],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )


def write(path: Path, metadata: dict[str, Any] | str | None = None, streams: str | int = "streams") -> Path:
    """Write the file, with other metadata or a fixed number of streams."""
    model = helper.make_model(graph(streams), opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    told = described() if metadata is None else metadata
    if told != "":
        helper.set_model_props(model, {"coadtr": told if isinstance(told, str) else json.dumps(told)})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the small file."""
    return write(tmp_path_factory.mktemp("exported") / "model.onnx")


@pytest.fixture
def detector(exported: Path) -> OnlineDetector:
    """Load a detector of the small file."""
    return OnlineDetector.from_onnx(exported)


def push_all(detector: OnlineDetector, frames: Array, stream: str = "default") -> Array:
    return np.stack([detector.push(frame, stream=stream) for frame in frames])


def states(detector: OnlineDetector, tmp_path: Path) -> dict[str, list[Any]]:
    """Return all that a detector remembers, read from a snapshot of it."""
    path = tmp_path / "states.npz"
    detector.snapshot(path)
    with np.load(path) as archive:
        return {name: archive[name].tolist() for name in archive.files}
