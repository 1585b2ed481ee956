"""Exported ONNX files against the native detector."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from coadtr.checkpoint import Checkpoint, OnlineDetector, load, save_checkpoint
from coadtr.errors import CheckpointError, ConfigError, MissingExtraError
from coadtr.export import export_onnx, verification
from coadtr.layers import in_precision, state_from_tensors, state_tensors
from coadtr.models import PRESETS, build_model, preset
from coadtr.runtime import OnlineDetector as RuntimeDetector
from coadtr.runtime import OnnxStepper
from coadtr.scoring import probabilities
from tests.checkpoint.making import CHANNELS
from tests.export.conftest import save

FRAMES = 300


def draw(checkpoint: Checkpoint, frames: int = FRAMES) -> NDArray[np.float32]:
    """Draw frames as the model expects them."""
    normal = torch.randn(frames, CHANNELS, generator=torch.Generator().manual_seed(1))
    inputs = checkpoint.model.inputs
    drawn = normal / inputs.scale + inputs.mean if inputs.normalise else normal
    return drawn.numpy()


def test_scores_are_those_of_the_native_detector(checkpoint: Checkpoint, exported: Path) -> None:
    frames = draw(checkpoint)
    native, runtime = OnlineDetector(checkpoint), RuntimeDetector.from_onnx(exported)
    assert runtime.class_names == native.class_names
    wanted = native.push_many(frames)
    np.testing.assert_allclose(np.stack([runtime.push(frame) for frame in frames]), wanted, rtol=0, atol=1e-5)
    assert np.ptp(wanted[:, 1]) > 0.1  # the scores say something


def test_streams_in_one_step_answer_as_each_alone(checkpoint: Checkpoint, exported: Path) -> None:
    frames = draw(checkpoint, 60).reshape(20, 3, CHANNELS)
    together = RuntimeDetector.from_onnx(exported)
    found = [together.push_batch(dict(zip("abc", row, strict=True))) for row in frames]
    for index, name in enumerate("abc"):
        alone = OnlineDetector(checkpoint).push_many(frames[:, index])
        np.testing.assert_allclose(np.stack([answers[name] for answers in found]), alone, rtol=0, atol=1e-5)


def test_the_file_says_what_it_is(checkpoint: Checkpoint, exported: Path) -> None:
    proto = onnx.load(exported)
    assert [entry.version for entry in proto.opset_import if entry.domain == ""] == [20]
    assert [node.name for node in proto.graph.input] == ["frame", "state.keys", "state.values", "state.frames"]
    assert [node.name for node in proto.graph.output] == ["logits", "next.keys", "next.values", "next.frames"]
    assert not proto.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")
    said = json.loads({entry.key: entry.value for entry in proto.metadata_props}["coadtr"])
    assert said["spec"] == checkpoint.spec.to_dict()
    assert said["source"] == {"checkpoint": "cooadtr_b1", "weights_sha256": checkpoint.weights_sha256}
    assert (said["precision"], said["opset"], said["version"]) == ("float32", 20, 1)
    assert said["state"][0] == {"name": "keys", "shape": [2, 4, 4], "dtype": "float32", "fill": 0.0}
    assert said["state"][2] == {"name": "frames", "shape": [], "dtype": "int64", "fill": 0}


@pytest.mark.slow  # half a minute of tracing
def test_a_fresh_state_that_is_not_constant_travels_with_the_file(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, "testra")
    export_onnx(checkpoint, tmp_path / "testra.onnx")
    found = RuntimeDetector.from_onnx(tmp_path / "testra.onnx").push_many(draw(checkpoint, 40))
    np.testing.assert_allclose(found, OnlineDetector(checkpoint).push_many(draw(checkpoint, 40)), rtol=0, atol=1e-5)
    said = json.loads({e.key: e.value for e in onnx.load(tmp_path / "testra.onnx").metadata_props}["coadtr"])
    assert any("values" in leaf for leaf in said["state"])


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_every_model_over_ten_thousand_frames(name: str, tmp_path: Path) -> None:
    checkpoint = save(tmp_path, name)
    export_onnx(checkpoint, tmp_path / "model.onnx")
    frames = draw(checkpoint, 10_000)
    wanted = OnlineDetector(checkpoint).push_many(frames)
    alone = RuntimeDetector.from_onnx(tmp_path / "model.onnx")
    np.testing.assert_allclose(alone.push_many(frames), wanted, rtol=0, atol=1e-4)
    stepper = OnnxStepper(tmp_path / "model.onnx")
    state = [np.repeat(leaf.fresh[None], 16, 0) for leaf in stepper.description.state]
    batched = np.empty((10_000, 16, 3), np.float32)
    for index in range(10_000):  # stream k gets the frames rolled by k
        batched[index], state = stepper.step(np.stack([frames[(index + k) % 10_000] for k in range(16)]), state)
    spec = checkpoint.spec
    scores = probabilities(batched[:, 0].astype(np.float64), spec.ignored, head=spec.head)
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-4)
    seventh = OnlineDetector(checkpoint).push_many(np.roll(frames, -7, 0))
    scores = probabilities(batched[:, 7].astype(np.float64), spec.ignored, head=spec.head)
    np.testing.assert_allclose(scores, seventh, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("name", ["cooadtr_b1", "grab"])
def test_lower_precision_is_smaller_and_close(name: str, precision: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"embed_dim": 64, "num_classes": 3, "input_dim": CHANNELS}
    more = {"ff_dim": 64, "num_heads": 4} if name == "cooadtr_b1" else {"recurrence_dim": 54, "bank_dim": 44}
    model = build_model(preset(name, **sizes, **more))
    spec = save(tmp_path / "spec", name).spec
    values = {**spec.to_dict(), "model": model.config.to_dict(), "normalisation": "none"}
    saved = save_checkpoint(tmp_path / "wide", model, type(spec).from_dict(values), {})
    checkpoint = load(saved)
    plain, low = tmp_path / "plain.onnx", tmp_path / "low.onnx"
    export_onnx(checkpoint, plain)
    agreement = export_onnx(checkpoint, low, precision=precision)
    assert low.stat().st_size < 0.75 * plain.stat().st_size
    assert 0 < agreement.mean < 0.01
    found = RuntimeDetector.from_onnx(low).push_many(draw(checkpoint, 200))
    assert np.abs(found - OnlineDetector(checkpoint).push_many(draw(checkpoint, 200))).max() < 0.05
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_differs_is_not_saved(
    checkpoint: Checkpoint, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "b1.onnx"
    target.write_bytes(b"an older file")
    # Converting takes seconds: what was converted before stands in.
    monkeypatch.setattr("coadtr.export.onnx_file._convert", lambda *given: shutil.copy(exported, given[-1]))
    monkeypatch.setitem(verification.TOLERANCE, "float32", 0.0)
    with pytest.raises(CheckpointError, match=r"b1\.onnx: its scores differ from the model's by up to .*not saved"):
        export_onnx(checkpoint, target, overwrite=True)
    assert target.read_bytes() == b"an older file"
    assert [path.name for path in tmp_path.iterdir()] == ["b1.onnx"]


def test_a_step_that_is_wrong_only_once_warm_is_found(checkpoint: Checkpoint) -> None:
    """A file that forgets to count agrees at first, and not from a warm state."""
    model = checkpoint.model

    @torch.inference_mode()
    def step(
        frame: NDArray[np.float32], state: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.float32], list[NDArray[Any]]]:
        given = state_from_tensors([torch.from_numpy(leaf.copy()) for leaf in state], model.init_state(1))
        logits, after = model.step(torch.from_numpy(frame), given)
        leaves = [leaf.numpy() for leaf in state_tensors(after)]
        if leaves[-1][0] > 510:
            leaves[-1] = leaves[-1] - 1
        return logits.numpy(), leaves

    agreement = verification.compare(checkpoint, step)
    assert agreement.fresh < 1e-6
    assert agreement.warm > 1e-3


def test_bad_arguments_are_named(checkpoint: Checkpoint, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="precision='int4': an ONNX file takes one of float32, float16, int8"):
        export_onnx(checkpoint, tmp_path / "x.onnx", precision="int4")
    with pytest.raises(ConfigError, match="is there already: choose another out, or give overwrite=true"):
        export_onnx(checkpoint, exported)
    half = in_precision(checkpoint.model, "bfloat16")
    low = Checkpoint(checkpoint.path, half, checkpoint.spec, {}, checkpoint.weights_sha256)
    with pytest.raises(ConfigError, match="is in bfloat16: export a float32 checkpoint"):
        export_onnx(low, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_names_the_extra(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'coadtr\[export\]'"):
        export_onnx(checkpoint, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_runs_where_torch_cannot_be_imported(checkpoint: Checkpoint, exported: Path, tmp_path: Path) -> None:
    frames = draw(checkpoint, 50)
    np.save(tmp_path / "frames.npy", frames)
    script = """
import sys
for name in ("torch", "pandas", "h5py", "pytorch_lightning"):
    sys.modules[name] = None
import numpy as np
from coadtr.runtime import OnlineDetector
np.save(sys.argv[3], OnlineDetector.from_onnx(sys.argv[1]).push_many(np.load(sys.argv[2])))
"""
    files = [exported, tmp_path / "frames.npy", tmp_path / "scores.npy"]
    call = [sys.executable, "-c", script, *map(str, files)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")
    wanted = OnlineDetector(checkpoint).push_many(frames)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), wanted, rtol=0, atol=1e-5)
