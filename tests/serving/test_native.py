"""A checkpoint folder as a stepper: it answers as the native detector, for many streams at once."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from coadtr.checkpoint import OnlineDetector as NativeDetector
from coadtr.checkpoint import load
from coadtr.errors import CheckpointError, ConfigError, MissingExtraError
from coadtr.models import PRESETS
from coadtr.runtime import OnlineDetector
from coadtr.serving import NativeStepper, ServerSettings, StreamClient, running
from tests.checkpoint.making import save_small


def save(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> Path:
    """Save a small model of a preset that says what its features are of."""
    return save_small(folder, name, dtype=dtype, extractors={"rgb": {"backbone": "net"}})


def frames_of(count: int, seed: int) -> np.ndarray:
    """Make frames."""
    return np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)


@pytest.mark.parametrize("name", PRESETS)
def test_it_answers_as_the_native_detector(name: str, tmp_path: Path) -> None:
    path = save(tmp_path, name)
    detector = OnlineDetector(NativeStepper(path))
    frames = {stream: frames_of(20, index) for index, stream in enumerate("abc")}
    found: dict[str, list[np.ndarray]] = {stream: [] for stream in frames}
    for index in range(20):
        batch = {stream: values[index] for stream, values in frames.items() if stream != "b" or index % 3}
        for stream, scores in detector.push_batch(batch).items():
            found[stream].append(scores)
    for stream, values in frames.items():
        taken = [index for index in range(20) if stream != "b" or index % 3]
        native = NativeDetector.load(path).push_many(values[taken])
        np.testing.assert_allclose(found[stream], native, atol=2e-6)


def test_it_says_what_the_checkpoint_is(tmp_path: Path) -> None:
    path = save(tmp_path, "cooadtr_b1")
    told, checkpoint = NativeStepper(path).description, load(path)
    assert told.class_names == checkpoint.spec.class_names
    assert (told.background, told.ignored, told.head, told.rate_hz) == (0, 2, "softmax", 5.0)
    assert (told.streams, told.precision) == ({"rgb": 3, "flow": 2}, "float32")
    assert told.extractors == {"rgb": {"backbone": "net"}}
    assert told.source == {"checkpoint": "cooadtr_b1", "weights_sha256": checkpoint.weights_sha256}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_pass_through_numpy_unchanged(dtype: torch.dtype, tmp_path: Path) -> None:
    path = save(tmp_path, "cooadtr_b2", dtype)
    frames = frames_of(12, 0)
    detector = OnlineDetector(NativeStepper(path))
    native = NativeDetector.load(path).push_many(frames)
    np.testing.assert_allclose(detector.push_many(frames), native, atol=1e-7)  # logits leave the step as float32
    detector.snapshot(tmp_path / "kept.npz")
    other = OnlineDetector(NativeStepper(path))
    other.restore(tmp_path / "kept.npz")
    np.testing.assert_array_equal(other.push(frames[0]), detector.push(frames[0]))


def test_it_writes_to_nothing_that_it_is_given(tmp_path: Path) -> None:
    stepper = NativeStepper(save(tmp_path, "cooadtr_b2"))
    state = [np.stack([leaf.fresh] * 2) for leaf in stepper.description.state]
    copies = [leaf.copy() for leaf in state]
    frames = frames_of(2, 0)
    for array in (frames, *state):
        array.flags.writeable = False
    first = stepper.step(frames, state)
    second = stepper.step(frames, state)
    for leaf, copy in zip(state, copies, strict=True):
        np.testing.assert_array_equal(leaf, copy)
    np.testing.assert_array_equal(first[0], second[0])
    for after, leaf in zip(first[1], state, strict=True):
        assert after.shape == leaf.shape
        assert not np.shares_memory(after, leaf)


def test_a_checkpoint_is_served(tmp_path: Path) -> None:
    path = save(tmp_path, "miniroad")
    frames = frames_of(10, 0)
    detector = OnlineDetector(NativeStepper(path, threads=torch.get_num_threads()))
    with running(detector, ServerSettings(port=0)) as url, StreamClient(url, "door") as client:
        assert client.hello.class_names == ("rest", "lift", "unclear")
        scores = [answer.scores for answer in client.push_many(frames)]
    np.testing.assert_allclose(scores, NativeDetector.load(path).push_many(frames), atol=2e-6)


def test_what_cannot_be_served_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, "miniroad")
    with pytest.raises(ConfigError, match="device 'abacus' cannot be used"):
        NativeStepper(path, device="abacus")
    with pytest.raises(ConfigError, match="threads must be a whole number above 0, got 0"):
        NativeStepper(path, threads=0)
    (path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model.safetensors: its SHA-256 begins with"):
        NativeStepper(path)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="needs torch to be served: run `pip install torch`, or give a file"):
        NativeStepper(path)
