"""Exported files are trusted in nothing: what does not fit is refused by name before a frame is taken."""

from __future__ import annotations

import base64
import copy
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coadtr.errors import CheckpointError, MissingExtraError
from coadtr.runtime import Description, OnnxStepper
from tests.runtime.conftest import RING, described, write


def changed(way: str, value: Any) -> str:
    """Return the metadata with one entry changed, or removed if the value is `...`."""
    told = copy.deepcopy(described())
    *parents, last = way.split(".")
    part: Any = told
    for name in parents:
        part = part[int(name) if name.isdigit() else name]
    if value is ...:
        del part[last]
    else:
        part[int(last) if last.isdigit() else last] = value
    return json.dumps(told)


def packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw)).decode()


BAD: dict[str, tuple[str, Any, str]] = {
    "other format": ("format", "coadtr-pt2", "format is 'coadtr-pt2', not 'coadtr-onnx'"),
    "no format": ("format", ..., "format is None"),
    "newer": ("version", 2, "version is 2, this coadtr reads 1; export the checkpoint again"),
    "version true": ("version", True, "version is True"),
    "no spec": ("spec", ..., "spec must be a dict, got None"),
    "no source": ("source", [], r"source must be a dict, got \[\]"),
    "no digest": ("source.weights_sha256", ..., "source must be weights_sha256, a text"),
    "no precision": ("precision", ..., "precision must be a name, got ''"),
    "no classes": ("spec.classes", [], "classes must be one name for each class"),
    "unnamed class": ("spec.classes", ["rest", " ", "lift"], "classes must be one name for each class"),
    "class twice": ("spec.classes", ["rest", "lift", "lift"], "classes must be another name for each class"),
    "class no text": ("spec.classes", ["rest", 1, "lift"], "classes must be one name"),
    "background": ("spec.background", 3, "background must be the index of a class, got 3"),
    "background true": ("spec.background", True, "background must be the index of a class, got True"),
    "ignored": ("spec.ignored", -1, "ignored must be the index of a class, got -1"),
    "no streams": ("spec.streams", [], "streams must be a name for each"),
    "stream twice": ("spec.streams.1.name", "rgb", "streams must be listed once each"),
    "stream unnamed": ("spec.streams.1.name", "", "streams must be a name for each"),
    "stream no object": ("spec.streams.1", "flow", "streams must be a list of objects with name and channels"),
    "stream of nothing": ("spec.streams.1.channels", 0, "streams must be channels above 0"),
    "channels no number": ("spec.streams.1.channels", "2", "streams must be channels above 0"),
    "no rate": ("spec.rate_hz", ..., "rate_hz must be a finite number above 0, got nan"),
    "rate": ("spec.rate_hz", 0, "rate_hz must be a finite number above 0, got 0"),
    "head": ("spec.head", "argmax", "head must be one of softmax, sigmoid, got 'argmax'"),
    "extractors": ("spec.extractors", {"rgb": 3}, "extractors must be texts by stream"),
    "state no list": ("state", {}, "state must be a list"),
    "leaf no object": ("state.0", "mean", "state must be a list of named arrays"),
    "leaf twice": ("state.1.name", "mean", "state must be another name for each array"),
    "leaf dtype": ("state.0.dtype", "object", "state 'mean' must be of one of float32, float16, int64"),
    "leaf shape": ("state.0.shape", [-4], "state 'mean' must be of a shape that a stream can have"),
    "leaf too large": ("state.0.shape", [10**6, 10**6], "state 'mean' must be of a shape that a stream can have"),
    "leaf too deep": ("state.0.shape", [1] * 99, "state 'mean' must be of a shape that a stream can have"),
    "fill": ("state.0.fill", "0", "state 'mean' must be filled with a float32, got '0'"),
    "fill of a count": ("state.2.fill", 0.5, "state 'frames' must be filled with a int64, got 0.5"),
    "fill beyond all": ("state.2.fill", 2**80, "state 'frames' must be filled with a int64"),
    "no values": ("state.1.values", ..., "state 'ring' holds 0 bytes, not 60"),
    "values no base64": ("state.1.values", "@@@", "state 'ring' holds damaged values"),
    "values no zlib": ("state.1.values", "AAAA", "state 'ring' holds damaged values"),
    "too few values": ("state.1.values", packed(RING.tobytes()[:-4]), "state 'ring' holds 56 bytes, not 60"),
    "too many values": ("state.1.values", packed(bytes(10**8)), "state 'ring' holds more than 60 bytes"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_description_is_refused(kind: str) -> None:
    way, value, message = BAD[kind]
    with pytest.raises(CheckpointError, match=message) as caught:
        Description.from_json(changed(way, value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "nothing", "[1]", "[" * 10**5])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="the description "):
        Description.from_json(text)


def test_a_description_is_read_as_it_was_written() -> None:
    told = described(spec={"extractors": {"rgb": {"backbone": "x"}}, "head": "sigmoid"}, precision="int8")
    told["state"][0]["fill"] = -np.inf
    told["state"][1] |= {"dtype": "float16", "values": packed(RING.astype("<f2").tobytes())}
    description = Description.from_json(json.dumps(told))
    assert description.class_names == ("rest", "lift", "unclear")
    assert (description.background, description.ignored, description.head) == (0, 2, "sigmoid")
    assert (description.streams, description.input_dim, description.rate_hz) == ({"rgb": 3, "flow": 2}, 5, 5.0)
    assert (description.precision, description.digest) == ("int8", "ab" * 32)
    assert description.extractors == {"rgb": {"backbone": "x"}}
    mean, ring, frames = description.state
    assert mean.layout == {"name": "mean", "shape": [4], "dtype": "float32"}
    np.testing.assert_array_equal(mean.fresh, np.full(4, -np.inf))
    np.testing.assert_array_equal(ring.fresh, RING.astype(np.float16))
    assert frames.layout == {"name": "frames", "shape": [], "dtype": "int64"}


MISFITS: dict[str, tuple[str, Any, str]] = {
    "other leaf": ("state.0.name", "average", "the graph has the inputs frame, state.mean, .* state.average"),
    "other shape": ("state.0.shape", [3], r"the graph's input state.mean is tensor\(float\) .* float32 .'streams', 3."),
    "other rank": ("state.2.shape", [1], "the graph's input state.frames is"),
    "other dtype": ("state.0.dtype", "float16", "the graph's input state.mean is .*, its description says float16"),
    "other width": ("spec.streams.0.channels", 4, "the graph's input frame is .* 5., .* 6."),
    "other classes": ("spec.classes", ["rest", "lift", "a", "b"], "the graph's output logits is"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_a_description_of_another_graph_is_refused(kind: str, tmp_path: Path) -> None:
    way, value, message = MISFITS[kind]
    path = write(tmp_path / "model.onnx", changed(way, value))
    with pytest.raises(CheckpointError, match=rf"model\.onnx: {message}"):
        OnnxStepper(path)


def test_a_graph_of_a_fixed_number_of_streams_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the graph's input frame is tensor\(float\) \[1, 5\]"):
        OnnxStepper(write(tmp_path / "model.onnx", streams=1))


def test_files_that_are_no_exports_are_refused(tmp_path: Path, exported: Path) -> None:
    empty, text, cut = (tmp_path / name for name in ("empty.onnx", "text.onnx", "cut.onnx"))
    empty.touch()
    text.write_text("hello")
    cut.write_bytes(exported.read_bytes()[:-500])
    with pytest.raises(
        CheckpointError, match="the file says nothing of itself; give a file that `coadtr export` wrote"
    ):
        OnnxStepper(write(tmp_path / "bare.onnx", ""))
    for path in (empty, text, cut):
        with pytest.raises(CheckpointError, match=r"\.onnx: .*export") as caught:
            OnnxStepper(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="is a folder; give an exported ONNX file"):
        OnnxStepper(tmp_path)
    with pytest.raises(CheckpointError, match="there is no such file; give an exported ONNX file"):
        OnnxStepper(tmp_path / "none.onnx")


def test_without_onnxruntime_its_extra_is_named(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r'needs onnxruntime: .*pip install "coadtr\[runtime\]"'):
        OnnxStepper(exported)
