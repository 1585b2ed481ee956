"""A snapshot goes on elsewhere with the same answers, is whole or absent, and is trusted in nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coadtr.errors import CheckpointError, ConfigError, DataError, StorageError
from coadtr.runtime import EventDecoder, GapPolicy, OnlineDetector
from tests.runtime.conftest import FRAMES, described, push_all, states, write

ELSEWHERE = """
import sys
import numpy as np
from coadtr.runtime import OnlineDetector
model, snapshot, frames, answers = sys.argv[1:]
detector = OnlineDetector.from_onnx(model)
detector.restore(snapshot)
frames = np.load(frames)
np.savez(answers, **{name: np.stack([detector.push(frame, stream=name) for frame in frames])
                     for name in detector.streams})
"""


def test_another_process_goes_on_with_the_same_answers(
    exported: Path, detector: OnlineDetector, tmp_path: Path
) -> None:
    detector.push_many(FRAMES[:50], stream="door")
    detector.push_many(FRAMES[100:120], stream="the yard, 2nd camera / é")
    detector.snapshot(tmp_path / "deep" / "down" / "s.npz")
    np.save(tmp_path / "frames.npy", FRAMES[200:])
    files = [exported, tmp_path / "deep" / "down" / "s.npz", tmp_path / "frames.npy", tmp_path / "answers.npz"]
    subprocess.run([sys.executable, "-c", ELSEWHERE, *map(str, files)], check=True)  # noqa: S603
    with np.load(tmp_path / "answers.npz") as answers:
        assert set(answers.files) == set(detector.streams)
        for name in detector.streams:
            np.testing.assert_array_equal(answers[name], push_all(detector, FRAMES[200:], name))


def test_everything_comes_back(exported: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"non_finite": "mask", "gaps": GapPolicy(missing="hold", reset_after=9.0)}
    detector, other = (OnlineDetector.from_onnx(exported, **settings) for _ in range(2))
    broken = np.where(np.random.default_rng(0).random((30, 5)) < 0.2, np.nan, FRAMES[:30])
    times = np.cumsum(np.random.default_rng(1).choice([0.2, 0.6, 9.5], size=60, p=[0.6, 0.3, 0.1]))
    detector.push_many(broken, times=times[:30])
    detector.push(FRAMES[0], stream="untimed")
    detector.push(FRAMES[0], stream="fresh")
    detector.reset("fresh")
    events = EventDecoder(detector.class_names, 0, 5.0)
    events.push(detector.push(FRAMES[1], stream="untimed"))
    detector.snapshot(tmp_path / "s.npz", extras={"untimed": events.state()})
    assert other.restore(tmp_path / "s.npz") == {"untimed": events.state()}
    assert other.streams == detector.streams
    assert [other.info(name) for name in other.streams] == [detector.info(name) for name in detector.streams]
    assert min(other.info().masked, other.info().held, other.info().restarts) > 0
    for name in detector.streams:
        more = (np.where(np.arange(5) == 2, np.nan, FRAMES[30:60]), times[30:] + 0.1)
        found, expected = (one.push_many(more[0], stream=name, times=more[1]) for one in (other, detector))
        np.testing.assert_array_equal(found, expected)


def test_chosen_streams_take_the_place_of_their_namesakes(exported: Path, tmp_path: Path) -> None:
    detector, other = OnlineDetector.from_onnx(exported), OnlineDetector.from_onnx(exported, max_streams=2)
    for name, count in (("a", 3), ("b", 5), ("c", 7)):
        detector.push_many(FRAMES[:count], stream=name)
    detector.snapshot(tmp_path / "s.npz", streams=["c", "a"])
    with pytest.raises(DataError, match="no stream 'd' has begun; name of a, b, c"):
        detector.snapshot(tmp_path / "t.npz", streams=["d"])
    assert not (tmp_path / "t.npz").exists()
    other.push(FRAMES[0], stream="a")
    other.restore(tmp_path / "s.npz")
    assert other.streams == ("a", "c")
    assert [other.frames_seen(name) for name in "abc"] == [3, 0, 7]
    other.close("c")
    other.push(FRAMES[0], stream="other")
    with pytest.raises(ConfigError, match="max_streams=2"):
        other.restore(tmp_path / "s.npz")
    assert other.streams == ("a", "other")


def test_what_was_captured_is_written_as_it_was_however_late(exported: Path, tmp_path: Path) -> None:
    detector, other = (OnlineDetector.from_onnx(exported) for _ in range(2))
    for name in ("door", "yard"):
        detector.push_many(FRAMES[:20], stream=name)
    captured = detector.capture()
    after = [detector.push_batch({"door": frame, "yard": frame}) for frame in FRAMES[20:60]]
    detector.close("yard")
    captured.write(tmp_path / "s.npz", extras={"kept": True})
    assert other.restore(tmp_path / "s.npz") == {"kept": True}
    assert other.streams == ("door", "yard")
    for frame, answers in zip(FRAMES[20:60], after, strict=True):
        again = other.push_batch({"door": frame, "yard": frame})
        np.testing.assert_array_equal([again["door"], again["yard"]], [answers["door"], answers["yard"]])
    with pytest.raises(DataError, match="no stream 'yard' has begun; name of door"):
        detector.capture(["yard"])


def test_no_streams_make_a_snapshot_too(exported: Path, detector: OnlineDetector, tmp_path: Path) -> None:
    detector.snapshot(tmp_path / "s.npz")
    assert detector.restore(tmp_path / "s.npz") == {}
    assert detector.streams == ()


def test_a_snapshot_is_whole_or_absent(
    detector: OnlineDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.npz"
    detector.push(FRAMES[0])
    detector.snapshot(path)
    before = path.read_bytes()
    detector.push(FRAMES[1])

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageError, match=r"s\.npz: cannot be written \(No space left on device\)"):
            detector.snapshot(path)
    with pytest.raises(DataError, match="extras of a snapshot must be JSON-ready"):
        detector.snapshot(path, extras={"array": FRAMES[0]})
    with pytest.raises(StorageError, match="cannot be written"):
        detector.snapshot(path / "below a file.npz")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["s.npz"]
    detector.snapshot(path)
    assert path.read_bytes() != before


OTHERS: dict[str, dict[str, Any]] = {
    "weights_sha256 is 'abababababab', not 'cdcdcdcdcdcd'": {"source": {"weights_sha256": "cd" * 32}},
    "precision is 'float32', not 'int8'": {"precision": "int8"},
}


@pytest.mark.parametrize("message", OTHERS)
def test_a_snapshot_of_other_weights_is_refused(message: str, detector: OnlineDetector, tmp_path: Path) -> None:
    detector.push(FRAMES[0])
    detector.snapshot(tmp_path / "s.npz")
    other = OnlineDetector.from_onnx(write(tmp_path / "other.onnx", described(**OTHERS[message])))
    with pytest.raises(CheckpointError, match=f"{message}; restore it with the export that it was taken on"):
        other.restore(tmp_path / "s.npz")
    assert other.streams == ()


def _rewritten(path: Path, change: Any) -> None:
    """Write a snapshot's arrays again, changed."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(arrays["header"].tobytes())
    change(arrays, header)
    if "header" in arrays:
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)


DAMAGES: dict[str, Any] = {
    "no header": lambda arrays, _: arrays.pop("header"),
    "other format": lambda _, header: header.update(format="else"),
    "other version": lambda _, header: header.update(version=True),
    "no extras": lambda _, header: header.pop("extras"),
    "other leaves": lambda _, header: header["state"][0].update(name="other"),
    "no array": lambda arrays, _: arrays.pop("state.1"),
    "other shape": lambda arrays, _: arrays.update({"state.1": arrays["state.1"][:, :2]}),
    "other dtype": lambda arrays, _: arrays.update({"state.0": arrays["state.0"].astype(np.float64)}),
    "too few rows": lambda arrays, _: arrays.update({"state.2": arrays["state.2"][:1]}),
    "too many streams": lambda _, header: header["streams"].append(header["streams"][0]),
    "the same stream": lambda _, header: header["streams"][1].update(name="door"),
    "no name": lambda _, header: header["streams"][1].update(name=3),
    "negative count": lambda _, header: header["streams"][1].update(seen=-1),
    "no whole count": lambda _, header: header["streams"][1].update(held=0.5),
    "no time": lambda _, header: header["streams"][1].update(time=float("nan")),
    "a last frame of nobody": lambda _, header: header["streams"][1].update(last=False),
    "not finite": lambda arrays, _: arrays["last"].fill(np.inf),
    "an object": lambda arrays, _: arrays.update({"state.0": np.array([{}, {}])}),
}


def _snapshot(exported: Path, path: Path) -> OnlineDetector:
    detector = OnlineDetector.from_onnx(exported, non_finite="mask")
    detector.push_many(FRAMES[:7], stream="door", times=range(7))
    detector.push_many(FRAMES[:9], stream="yard")
    detector.snapshot(path)
    return detector


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_is_refused_and_changes_nothing(damage: str, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    detector = _snapshot(exported, path)
    detector.push(FRAMES[10], stream="door")
    before = states(detector, tmp_path)
    _rewritten(path, DAMAGES[damage])
    with pytest.raises(CheckpointError, match=r"s\.npz: ") as caught:
        detector.restore(path)
    assert "\n" not in str(caught.value)
    assert states(detector, tmp_path) == before


def test_files_that_are_no_snapshots_are_refused(exported: Path, detector: OnlineDetector, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", FRAMES)
    (tmp_path / "empty.npz").touch()
    (tmp_path / "text.npz").write_text("text")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("header.npy", bytes(10**7))
    for path in (exported, tmp_path, tmp_path / "none.npz", *tmp_path.glob("*.np*")):
        with pytest.raises(CheckpointError, match=r"give an?"):
            detector.restore(path)


def test_no_damaged_byte_goes_unnoticed(exported: Path, tmp_path: Path) -> None:
    """A snapshot with a changed byte is refused, or goes on as the whole one would."""
    path, bad = tmp_path / "s.npz", tmp_path / "bad.npz"
    expected = states(_snapshot(exported, path), tmp_path)
    whole, source = path.read_bytes(), np.random.default_rng(0)
    target, refused = OnlineDetector.from_onnx(exported), 0
    for place in source.choice(len(whole), size=200, replace=False):
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ int(source.integers(1, 256))]) + whole[place + 1 :])
        for name in target.streams:
            target.close(name)
        try:
            target.restore(bad)
        except CheckpointError:
            refused += 1
            assert target.streams == ()
        else:
            assert states(target, tmp_path) == expected
    assert refused > 100
    for size in range(0, len(whole), 97):
        bad.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            target.restore(bad)
