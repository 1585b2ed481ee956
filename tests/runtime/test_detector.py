"""The detector answers what the file computes, forgets when told to, and refuses bad frames unharmed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coadtr.errors import CoadtrError, ConfigError, DataError, ShapeError
from coadtr.runtime import OnlineDetector, StreamInfo
from tests.runtime.conftest import FRAMES, Reference, push_all, states


def test_answers_are_those_of_the_slow_reference(detector: OnlineDetector) -> None:
    scores = push_all(detector, FRAMES)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, Reference().push_all(FRAMES), atol=1e-5)
    assert (scores[:, 2] == 0).all()
    assert detector.frames_seen() == len(FRAMES)


def test_facts_are_those_of_the_file(detector: OnlineDetector) -> None:
    assert (detector.class_names, detector.rate_hz, detector.input_dim) == (("rest", "lift", "unclear"), 5.0, 5)
    assert detector.description.background == 0
    assert detector.description.source["checkpoint"] == "by-hand"


@pytest.mark.parametrize("chunk", [1, 2, 7, 100])
def test_chunks_agree(exported: Path, chunk: int) -> None:
    frames = FRAMES[:100]
    chunked, single = OnlineDetector.from_onnx(exported), OnlineDetector.from_onnx(exported)
    parts = [chunked.push_many(frames[start : start + chunk]) for start in range(0, 100, chunk)]
    np.testing.assert_array_equal(np.concatenate(parts), push_all(single, frames))
    assert chunked.frames_seen() == 100
    assert chunked.push_many(FRAMES[:0]).shape == (0, 3)


def test_more_threads_answer_alike(exported: Path, detector: OnlineDetector) -> None:
    threaded = OnlineDetector.from_onnx(exported, threads=2)
    np.testing.assert_allclose(push_all(threaded, FRAMES[:50]), push_all(detector, FRAMES[:50]), atol=1e-6)


def test_reset_equals_fresh(exported: Path, detector: OnlineDetector) -> None:
    fresh = OnlineDetector.from_onnx(exported)
    detector.push_many(FRAMES[50:])
    detector.push_many(FRAMES[:9], stream="yard")
    detector.reset("default")
    assert (detector.frames_seen(), detector.frames_seen("yard")) == (0, 9)
    np.testing.assert_array_equal(push_all(detector, FRAMES[:30]), push_all(fresh, FRAMES[:30]))
    detector.reset()
    assert detector.streams == ("default", "yard")
    assert (detector.frames_seen(), detector.frames_seen("yard")) == (0, 0)
    detector.reset("never begun")
    assert detector.streams == ("default", "yard")


def test_streams_begin_and_end(exported: Path) -> None:
    detector = OnlineDetector.from_onnx(exported, max_streams=2)
    first = detector.push(FRAMES[0], stream="door")
    detector.push(FRAMES[1], stream="yard")
    with pytest.raises(ConfigError, match="2 streams are open, and max_streams=2; close one, or raise the limit"):
        detector.push(FRAMES[0], stream="roof")
    assert detector.frames_seen("roof") == 0
    detector.close("door")
    detector.close("door")
    assert detector.streams == ("yard",)
    np.testing.assert_array_equal(detector.push(FRAMES[0], stream="door"), first)
    assert detector.info("door") == StreamInfo(1, None, 0, 0, 0, 0)


def test_a_stream_that_fails_at_once_does_not_begin(detector: OnlineDetector) -> None:
    with pytest.raises(DataError):
        detector.push(np.full(5, np.nan), stream="door")
    with pytest.raises(DataError, match="the name of a stream must be a text, got 3"):
        detector.push(FRAMES[0], stream=3)  # type: ignore[arg-type]
    assert detector.streams == ()


def test_frames_of_all_kinds(exported: Path) -> None:
    frame = FRAMES[0]
    expected = OnlineDetector.from_onnx(exported).push(frame)
    read_only = frame.copy()
    read_only.flags.writeable = False
    kinds: list[Any] = [
        frame,
        frame.tolist(),
        tuple(frame.tolist()),
        frame.astype(np.float64),
        frame.astype(">f4"),
        frame[::-1].copy()[::-1],
        read_only,
        np.ma.MaskedArray(frame),
        {"rgb": frame[:3], "flow": frame[3:]},
        {"flow": frame[3:].tolist(), "rgb": frame[:3].astype(np.float64)},
    ]
    detector = OnlineDetector.from_onnx(exported)
    for kind in kinds:
        detector.reset()
        np.testing.assert_array_equal(detector.push(kind), expected)
    detector.reset()
    both = detector.push_many({"flow": FRAMES[:2, 3:], "rgb": FRAMES[:2, :3].tolist()})
    np.testing.assert_array_equal(both[0], expected)
    assert detector.push([1, 2, 3, 4, 5]).shape == (3,)


@pytest.mark.parametrize("non_finite", ["reject", "mask"])
def test_frames_are_not_changed_and_not_kept(exported: Path, detector: OnlineDetector, non_finite: Any) -> None:
    tested, buffer = OnlineDetector.from_onnx(exported, non_finite=non_finite), np.empty(5, np.float32)
    for frame in FRAMES[:10]:
        buffer[:] = frame
        np.testing.assert_array_equal(tested.push(buffer), detector.push(frame))
        np.testing.assert_array_equal(buffer, frame)
        buffer[:] = 99


def test_answers_belong_to_the_caller(exported: Path, detector: OnlineDetector) -> None:
    reference = OnlineDetector.from_onnx(exported)
    for frame in FRAMES[:10]:
        scores = detector.push(frame)
        np.testing.assert_array_equal(scores, reference.push(frame))
        scores[:] = 99


def _with(value: float) -> NDArray[np.float32]:
    return np.where(np.arange(5) == 3, np.float32(value), FRAMES[0])


BAD: dict[str, tuple[Any, type[CoadtrError], str]] = {
    "NaN": (_with(np.nan), DataError, "frame 6 is not finite in channel 3"),
    "infinity": (_with(-np.inf).tolist(), DataError, "frame 6 is not finite in channel 3"),
    "beyond float32": ([0, 0, 1e300, 0, 0], DataError, "frame 6 is not finite in channel 2"),
    "NaN in a stream": ({"rgb": FRAMES[0, :3], "flow": [0, np.nan]}, DataError, "not finite in channel 4"),
    "answer not finite": (np.full(5, 3e38, np.float32), DataError, "the answer to frame 6 is not finite"),
    "too narrow": (FRAMES[0, :4], ShapeError, r"D = 5 \(rgb 3 \+ flow 2\), got \(4,\)"),
    "two frames": (FRAMES[:2], ShapeError, r"takes \(D,\) .* got \(2, 5\)"),
    "a number": (np.float32(3), ShapeError, r"got \(\)"),
    "empty": ([], ShapeError, r"got \(0,\)"),
    "stream missing": ({"rgb": FRAMES[0, :3]}, DataError, r"got the streams rgb; give rgb 3 \+ flow 2"),
    "stream unknown": ({"rgb": FRAMES[0, :3], "audio": [0]}, DataError, "got the streams rgb, audio"),
    "stream too wide": ({"rgb": FRAMES[0], "flow": [0, 0]}, ShapeError, r"stream 'rgb' is \(5,\)"),
    "text": (["a", "b", "c", "d", "e"], DataError, "not a number"),
    "nothing": (None, DataError, "not a number"),
    "ragged": ([[1, 2], 3, 4, 5, 6], DataError, "not a number"),
    "beyond all floats": ([10**400, 0, 0, 0, 0], DataError, "not a number"),
    "complex": (FRAMES[0] * 1j, DataError, "complex"),
    "dates": (np.zeros(5, "datetime64[s]"), DataError, "not a number"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_frame_is_refused_and_leaves_the_memory_alone(kind: str, exported: Path, tmp_path: Path) -> None:
    frame, error, message = BAD[kind]
    detector, reference = OnlineDetector.from_onnx(exported), OnlineDetector.from_onnx(exported)
    np.testing.assert_array_equal(detector.push_many(FRAMES[:6]), reference.push_many(FRAMES[:6]))
    before = states(detector, tmp_path)
    with pytest.raises(error, match=message) as caught:
        detector.push(frame)
    assert "\n" not in str(caught.value)
    assert states(detector, tmp_path) == before
    np.testing.assert_array_equal(push_all(detector, FRAMES[6:20]), push_all(reference, FRAMES[6:20]))


def test_push_many_takes_all_frames_or_none(detector: OnlineDetector, tmp_path: Path) -> None:
    detector.push_many(FRAMES[:6])
    before = states(detector, tmp_path)
    bad, large = FRAMES[:8].copy(), FRAMES[50:54].copy()
    bad[5, 1] = np.nan
    large[2] = 3e38
    with pytest.raises(DataError, match="frame 11 is not finite in channel 1"):
        detector.push_many(bad)
    with pytest.raises(DataError, match="the answer to frame 8 is not finite"):
        detector.push_many(large)
    with pytest.raises(ShapeError, match=r"different numbers of frames \(rgb 4, flow 3\)"):
        detector.push_many({"rgb": FRAMES[:4, :3], "flow": FRAMES[:3, 3:]})
    with pytest.raises(ShapeError, match=r"push_many takes \(T, D\)"):
        detector.push_many(FRAMES[0])
    with pytest.raises(ShapeError, match="push_many got 8 frames and 7 times; give a time for each frame"):
        detector.push_many(FRAMES[:8], times=range(7))
    with pytest.raises(DataError, match=r"time went back from 3\.0 s to 2 s"):
        detector.push_many(FRAMES[:4], times=[1, 2, 3, 2])
    assert states(detector, tmp_path) == before


def test_an_interrupted_step_leaves_the_memory_alone(
    exported: Path, detector: OnlineDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = OnlineDetector.from_onnx(exported)
    detector.push_many(FRAMES[:6])
    reference.push_many(FRAMES[:6])
    step = detector.stepper.step

    def interrupted(frames: Any, state: Any) -> Any:
        step(frames, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(detector.stepper, "step", interrupted)
        for push in (lambda: detector.push(FRAMES[6]), lambda: detector.push_batch({"default": FRAMES[6]})):
            with pytest.raises(KeyboardInterrupt):
                push()
    np.testing.assert_array_equal(detector.push(FRAMES[6]), reference.push(FRAMES[6]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"non_finite": "drop"}, "non_finite must be one of reject, mask, got 'drop'"),
        ({"max_streams": 0}, "max_streams must be a whole number above 0, or None, got 0"),
        ({"threads": 0}, "threads must be a whole number above 0, got 0"),
        ({"providers": ["TeaProvider"]}, "provider 'TeaProvider' is not in this onnxruntime; choose of .*CPU"),
        ({"providers": []}, "provider none is not in this onnxruntime"),
    ],
)
def test_bad_settings_are_refused(exported: Path, settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OnlineDetector.from_onnx(exported, **settings)
