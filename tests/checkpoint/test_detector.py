"""The detector answers what ``forward`` answers, forgets when told to, and refuses bad frames unharmed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from coadtr.checkpoint import OnlineDetector, load, save_checkpoint
from coadtr.errors import CoadtrError, DataError, ShapeError
from coadtr.models import PRESETS
from coadtr.scoring import probabilities
from tests.checkpoint.conftest import MakeModel, MakeSpec

FRAMES = np.random.default_rng(5).normal(size=(100, 5)).astype(np.float32)


def push_all(detector: OnlineDetector, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([detector.push(frame) for frame in frames])


@pytest.mark.parametrize(("name", "head"), [*((name, "softmax") for name in PRESETS), ("cooadtr_b1", "sigmoid")])
def test_answers_equal_forward(
    name: str, head: str, tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec
) -> None:
    model = make_model(name, normalise=True).eval()
    detector = OnlineDetector.load(save_checkpoint(tmp_path / "c", model, make_spec(model, head=head), {}))
    with torch.no_grad():
        logits = model(torch.from_numpy(FRAMES)[None])[0].double()
    if head == "softmax":
        logits[:, 2] = -torch.inf  # the ignored class
    expected = logits.softmax(dim=1) if head == "softmax" else logits.sigmoid() * torch.tensor([1, 1, 0])
    assert len(FRAMES) > 20 * model.window
    scores = push_all(detector, FRAMES)
    assert scores.dtype == np.float32
    assert scores.shape == (100, 3)
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-6)
    assert (scores[:, 2] == 0).all()


def test_scores_are_those_of_the_evaluation(saved: Path) -> None:
    checkpoint = load(saved)
    detector, state = checkpoint.detector(), checkpoint.model.init_state(1)
    for frame in FRAMES[:10]:
        with torch.inference_mode():
            logits, state = checkpoint.model.step(torch.from_numpy(frame)[None], state)
        assert detector.push(frame).tolist() == probabilities(logits.numpy(), 2)[0].astype(np.float32).tolist()


@pytest.mark.parametrize("chunk", [1, 2, 7, 100])
@pytest.mark.parametrize("name", ["cooadtr_b2", "oadtr_b1"])
def test_chunks_agree(name: str, chunk: int, tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    model = make_model(name)
    checkpoint = load(save_checkpoint(tmp_path / "c", model, make_spec(model), {}))
    chunked = checkpoint.detector()
    parts = [chunked.push_many(FRAMES[start : start + chunk]) for start in range(0, 100, chunk)]
    np.testing.assert_array_equal(np.concatenate(parts), push_all(checkpoint.detector(), FRAMES))
    assert chunked.frames_seen == 100
    assert chunked.push_many(FRAMES[:0]).shape == (0, 3)


@pytest.mark.parametrize("name", PRESETS)
def test_reset_equals_fresh(name: str, tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    model = make_model(name)
    checkpoint = load(save_checkpoint(tmp_path / "c", model, make_spec(model), {}))
    used = checkpoint.detector()
    used.push_many(FRAMES[50:])
    used.reset()
    assert used.frames_seen == 0
    np.testing.assert_array_equal(push_all(used, FRAMES[:30]), push_all(checkpoint.detector(), FRAMES[:30]))


def test_detectors_of_one_checkpoint_do_not_meet(saved: Path) -> None:
    checkpoint = load(saved)
    alone = push_all(checkpoint.detector(), FRAMES[:20])
    first, second = checkpoint.detector(), OnlineDetector(checkpoint)
    for frame, other, expected in zip(FRAMES[:20], FRAMES[50:], alone, strict=False):
        np.testing.assert_array_equal(first.push(frame), expected)
        second.push(other)


def test_frames_of_all_kinds(saved: Path) -> None:
    detector, frame = OnlineDetector.load(saved), FRAMES[0]
    expected = OnlineDetector.load(saved).push(frame)
    read_only = frame.copy()
    read_only.flags.writeable = False
    kinds: list[Any] = [
        frame,
        frame.tolist(),
        tuple(frame.tolist()),
        frame.astype(np.float64),
        frame[::-1].copy()[::-1],
        read_only,
        torch.from_numpy(frame),
        torch.from_numpy(frame).double().requires_grad_(),
        {"rgb": frame[:3], "flow": frame[3:]},
        {"flow": torch.from_numpy(frame[3:]), "rgb": frame[:3].tolist()},
    ]
    for kind in kinds:
        detector.reset()
        np.testing.assert_array_equal(detector.push(kind), expected)
    detector.reset()
    both = detector.push_many({"flow": FRAMES[:2, 3:], "rgb": torch.from_numpy(FRAMES[:2, :3])})
    np.testing.assert_array_equal(both[0], expected)
    assert detector.push([1, 2, 3, 4, 5]).shape == (3,)


def test_frames_are_not_changed_and_not_kept(saved: Path) -> None:
    detector, reference = OnlineDetector.load(saved), OnlineDetector.load(saved)
    buffer = np.empty(5, np.float32)
    for frame in FRAMES[:10]:
        buffer[:] = frame
        np.testing.assert_array_equal(detector.push(buffer), reference.push(frame))
        np.testing.assert_array_equal(buffer, frame)
        buffer[:] = 99


def _with(value: float) -> NDArray[np.float32]:
    return np.where(np.arange(5) == 3, np.float32(value), FRAMES[0])


BAD: dict[str, tuple[Any, type[CoadtrError], str]] = {
    "NaN": (_with(np.nan), DataError, "frame 6 is not finite in channel 3"),
    "infinity": (_with(-np.inf).tolist(), DataError, "frame 6 is not finite in channel 3"),
    "beyond float32": ([0, 0, 1e300, 0, 0], DataError, "frame 6 is not finite in channel 2"),
    "NaN in a stream": ({"rgb": FRAMES[0, :3], "flow": [0, np.nan]}, DataError, "not finite in channel 4"),
    "answer not finite": (np.full(5, 3e38, np.float32), DataError, "the answer to frame 6 is not finite"),
    "too narrow": (FRAMES[0, :4], ShapeError, r"D = 5 \(rgb 3 \+ flow 2\), got \(4,\)"),
    "two frames": (FRAMES[:2], ShapeError, r"push takes \(D,\) .* got \(2, 5\)"),
    "a number": (np.float32(3), ShapeError, r"got \(\)"),
    "empty": ([], ShapeError, r"got \(0,\)"),
    "stream missing": ({"rgb": FRAMES[0, :3]}, DataError, r"got the streams rgb; give rgb 3 \+ flow 2"),
    "stream unknown": ({"rgb": FRAMES[0, :3], "audio": [0]}, DataError, "got the streams rgb, audio"),
    "stream too wide": ({"rgb": FRAMES[0], "flow": [0, 0]}, ShapeError, r"stream 'rgb' is \(5,\)"),
    "text": (["a", "b", "c", "d", "e"], DataError, "not a number"),
    "nothing": (None, DataError, "not a number"),
    "ragged": ([[1, 2], 3, 4, 5, 6], DataError, "not a number"),
    "complex": (FRAMES[0] * 1j, DataError, "complex"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("name", ["cooadtr_b1", "cooadtr_b2", "oadtr_b1"])
def test_bad_frame_is_refused_and_leaves_the_memory_alone(
    name: str, kind: str, tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec
) -> None:
    frame, error, message = BAD[kind]
    model = make_model(name, normalise=True)
    checkpoint = load(save_checkpoint(tmp_path / "c", model, make_spec(model), {}))
    detector, reference = checkpoint.detector(), checkpoint.detector()
    np.testing.assert_array_equal(detector.push_many(FRAMES[:6]), reference.push_many(FRAMES[:6]))
    with pytest.raises(error, match=message):
        detector.push(frame)
    assert detector.frames_seen == 6
    np.testing.assert_array_equal(push_all(detector, FRAMES[6:20]), push_all(reference, FRAMES[6:20]))


def test_push_many_takes_all_frames_or_none(saved: Path) -> None:
    detector, reference = OnlineDetector.load(saved), OnlineDetector.load(saved)
    bad = FRAMES[:8].copy()
    bad[5, 1] = np.nan
    with pytest.raises(DataError, match="frame 5 is not finite in channel 1"):
        detector.push_many(bad)
    with pytest.raises(ShapeError, match=r"different numbers of frames \(rgb 4, flow 3\)"):
        detector.push_many({"rgb": FRAMES[:4, :3], "flow": FRAMES[:3, 3:]})
    with pytest.raises(ShapeError, match=r"push_many takes \(T, D\)"):
        detector.push_many(FRAMES[0])
    assert detector.frames_seen == 0
    np.testing.assert_array_equal(detector.push_many(FRAMES[:8]), reference.push_many(FRAMES[:8]))


@pytest.mark.parametrize("name", PRESETS)
def test_frames_before_an_answer_that_is_not_finite_are_not_taken_either(
    name: str, tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec
) -> None:
    model = make_model(name, normalise=True)
    checkpoint = load(save_checkpoint(tmp_path / "c", model, make_spec(model), {}))
    detector, reference = checkpoint.detector(), checkpoint.detector()
    np.testing.assert_array_equal(detector.push_many(FRAMES[:6]), reference.push_many(FRAMES[:6]))
    bad = FRAMES[50:54].copy()
    bad[2] = 3e38  # finite, but no longer after the standardisation or the first layer
    with pytest.raises(DataError, match="the answer to frame 8 is not finite"):
        detector.push_many(bad)
    assert detector.frames_seen == 6
    np.testing.assert_array_equal(detector.push_many(FRAMES[6:20]), reference.push_many(FRAMES[6:20]))


def test_an_interrupted_step_leaves_the_memory_alone(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = load(saved)
    detector, reference = checkpoint.detector(), checkpoint.detector()
    detector.push_many(FRAMES[:6])
    reference.push_many(FRAMES[:6])
    step = checkpoint.model.step

    def interrupted(frame: torch.Tensor, state: Any) -> Any:
        step(frame, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.model, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            detector.push(FRAMES[6])
    np.testing.assert_array_equal(detector.push(FRAMES[6]), reference.push(FRAMES[6]))


def test_half_precision_model_answers(tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    model = make_model()
    full = load(save_checkpoint(tmp_path / "full", model, make_spec(model), {})).detector()
    half = model.to(torch.bfloat16)
    detector = load(save_checkpoint(tmp_path / "half", half, make_spec(half), {})).detector()
    np.testing.assert_allclose(detector.push_many(FRAMES[:30]), full.push_many(FRAMES[:30]), atol=0.05)


def test_class_names_are_those_of_the_checkpoint(saved: Path) -> None:
    assert OnlineDetector.load(saved).class_names == ("rest", "lift", "unclear")
