"""The engine: answers, and a restart at any moment that goes on as if there had been none."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coadtr.errors import CheckpointError, DataError
from coadtr.runtime import Description, EventSettings, GapPolicy, Leaf, OnlineDetector
from coadtr.serving import Limits, ServerSettings
from coadtr.serving import engine as engine_module
from coadtr.serving.engine import Engine, Frame
from coadtr.serving.metrics import Metrics
from tests.serving.leaky import CHANNELS, LeakyStepper, detector, frames_of, solo

STREAMS = ("door", "yard", "hall")


def engine_of(folder: Path | None = None, found: OnlineDetector | None = None, **changes: Any) -> Engine:
    """Open an engine, and recover what its folder holds."""
    engine = Engine(found or detector(), ServerSettings(snapshots=folder, **changes), Metrics())
    engine.recover()
    return engine


def take(engine: Engine, frames: dict[str, NDArray[np.float32]], time: float | None = None) -> dict[str, Any]:
    """Take a frame of each stream and read the answers."""
    outcomes = engine.take([Frame(name, values, time) for name, values in frames.items()])
    return {
        name: json.loads(outcome) if isinstance(outcome, str) else outcome
        for name, outcome in zip(frames, outcomes, strict=True)
    }


def ticks_of(count: int) -> list[dict[str, NDArray[np.float32]]]:
    """Make ticks in which some of the streams have a frame."""
    rng = np.random.default_rng(7)
    frames = {name: iter(frames_of(count, index)) for index, name in enumerate(STREAMS)}
    return [{name: next(frames[name]) for name in STREAMS if rng.random() < 0.7} for _ in range(count)]


def test_answers_are_those_of_each_stream_alone() -> None:
    engine = engine_of()
    rows: dict[str, list[list[float]]] = {name: [] for name in STREAMS}
    for tick in ticks_of(80):
        if tick:
            for name, answer in take(engine, tick).items():
                assert answer["frame"] == len(rows[name])
                rows[name].append(answer["scores"])
    for index, name in enumerate(STREAMS):
        assert len(rows[name]) > 40
        np.testing.assert_allclose(rows[name], solo(frames_of(80, index))[: len(rows[name])], atol=1e-6)


@pytest.mark.parametrize("timed", [False, True])
def test_a_kill_after_any_tick_loses_no_answer(tmp_path: Path, timed: bool) -> None:
    """Copy the folder after each tick, as a kill leaves it, and let another engine go on from the copy."""
    chosen: dict[str, Any] = {
        "events": EventSettings(smoothing=0.5, minimum_seconds=0.4),
        "limits": Limits(answers=3),
    }
    gaps = GapPolicy(missing="hold", reset_after=2.0)
    moments = np.cumsum(np.random.default_rng(3).choice([0.2, 0.2, 0.2, 0.7, 3.0], size=24)) if timed else None
    ticks = [tick for tick in ticks_of(26) if tick][:24]

    def run(engine: Engine, indices: Sequence[int]) -> list[dict[str, Any]]:
        return [take(engine, ticks[i], None if moments is None else float(moments[i])) for i in indices]

    whole = run(engine_of(found=detector(gaps=gaps), **chosen), range(24))
    kept, copies = tmp_path / "kept", []
    engine = engine_of(kept, detector(gaps=gaps), **chosen)
    for index in range(24):
        run(engine, [index])
        if index == 11:
            engine.snapshot()
        if index == 15:
            engine.drop(["hall"])
            engine.drop(["nobody"])
        copies.append(shutil.copytree(kept, tmp_path / f"kept-{index}"))
    engine.close()
    for index in (0, 5, 10, 11, 12, 14):
        again = engine_of(copies[index], detector(gaps=gaps), **chosen)
        assert again.known.keys() == {name for tick in ticks[: index + 1] for name in tick}
        for name, known in again.known.items():
            before = [answers[name] for answers in whole[: index + 1] if name in answers]
            assert known.frames == len(before)
            require_same([json.loads(text) for text in known.answers_since(0)], before[-3:])
        after = run(again, range(index + 1, 24))
        for found, wanted in zip(after, whole[index + 1 :], strict=True):
            require_same([found[name] for name in wanted], list(wanted.values()))
        again.close()
    forgotten = engine_of(copies[15], detector(gaps=gaps), **chosen)
    assert "hall" not in forgotten.known
    forgotten.close()


def require_same(found: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]]) -> None:
    """Compare answers, up to the rounding of other batch sizes."""
    for one, other in zip(found, wanted, strict=True):
        assert (one["frame"], one["time"]) == (other["frame"], other["time"])
        np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-5)
        events = [
            [(event["kind"], event["class"], event["time"]) for event in answer["events"]] for answer in (one, other)
        ]
        assert events[0] == events[1]


def test_a_frame_that_is_refused_is_not_kept(tmp_path: Path) -> None:
    frames = frames_of(3)
    bad = np.full(CHANNELS, np.inf, np.float32)
    engine = engine_of(tmp_path)
    take(engine, {"door": frames[0], "yard": frames[0]})
    answers = take(engine, {"door": bad, "yard": frames[1]})
    assert isinstance(answers["door"], DataError)
    assert answers["yard"]["frame"] == 1
    engine.close()
    again = engine_of(tmp_path)
    assert {name: known.frames for name, known in again.known.items()} == {"door": 1, "yard": 2}
    np.testing.assert_array_equal(
        take(again, {"door": frames[1]})["door"]["scores"], solo(frames[:2])[1].astype(str).astype(float)
    )
    again.close()


def test_a_stream_that_ends_is_gone_after_a_restart(tmp_path: Path) -> None:
    frames = frames_of(4)
    engine = engine_of(tmp_path)
    for frame in frames[:3]:
        take(engine, {"door": frame, "yard": frame})
    assert json.loads(engine.end("door"))["end"] == 3
    assert json.loads(engine.end("door")) == {"end": 0, "events": []}
    take(engine, {"door": frames[0]})
    engine.close()
    again = engine_of(tmp_path)
    assert {name: known.frames for name, known in again.known.items()} == {"door": 1, "yard": 3}
    np.testing.assert_array_equal(
        take(again, {"door": frames[1]})["door"]["scores"], solo(frames[:2])[1].astype(str).astype(float)
    )
    again.close()


@contextmanager
def full_disk(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the journal of an engine find the disk full."""
    assert engine._keeper is not None
    journal = engine._keeper._journal
    assert journal is not None
    held = journal._file

    def full(data: memoryview) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        refusing = type("Full", (), {"write": staticmethod(full), "truncate": held.truncate, "seek": held.seek})()
        refusing.close = held.close
        patch.setattr(journal, "_file", refusing)
        yield


def test_a_disk_that_refuses_is_told_and_gets_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frames = frames_of(6)
    engine = engine_of(tmp_path)
    take(engine, {"door": frames[0]})
    with full_disk(engine, monkeypatch):
        assert take(engine, {"door": frames[1]})["door"]["frame"] == 1, "the stream goes on"
    assert engine.failure is not None
    assert "No space left on device" in engine.failure
    assert "a restart would lose what came since" in caplog.text
    take(engine, {"door": frames[2]})
    engine.snapshot()
    assert engine.failure is None
    take(engine, {"door": frames[3]})
    engine.close()
    again = engine_of(tmp_path)
    assert again.known["door"].frames == 4
    again.close()


def test_a_snapshot_beside_the_steps_holds_the_streams_as_they_were(tmp_path: Path) -> None:
    """Copy the folder at each moment, as a kill leaves it, and let another engine go on from the copy."""
    ticks = [tick for tick in ticks_of(40) if tick][:30]
    kept, copies = tmp_path / "kept", list[tuple[int, Path]]()
    alone, engine = engine_of(), engine_of(kept)
    whole = [take(alone, tick) for tick in ticks]

    def run(start: int, stop: int) -> None:
        for index in range(start, stop):
            take(engine, ticks[index])
        copies.append((stop, shutil.copytree(kept, tmp_path / f"kept-{len(copies)}")))

    run(0, 8)
    write = engine.capture()
    assert write is not None
    run(8, 14)
    engine.drop(["hall"])
    run(14, 14)
    write()
    run(14, 14)
    write = engine.capture()
    assert write is not None
    writer = threading.Thread(target=write)
    writer.start()
    for tick in ticks[14:20]:
        take(engine, tick)
    writer.join()
    run(20, 20)  # a copy takes longer than a kill, and would miss files that are removed meanwhile
    run(20, 24)
    engine.close()
    for (stop, folder), dropped in zip(copies, [False, False, True, True, True, True], strict=True):
        again = engine_of(folder)
        for index in range(stop, 24):
            tick = {name: values for name, values in ticks[index].items() if name != "hall"}
            found = take(again, tick)
            require_same(list(found.values()), [whole[index][name] for name in tick])
        hall = sum("hall" in ticks[index] for index in range(14 if dropped else 0, stop))
        assert (again.known["hall"].frames if "hall" in again.known else 0) == hall
        again.close()


def test_a_snapshot_beside_the_steps_that_the_disk_refuses_is_told_and_gets_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frames = frames_of(6)
    engine = engine_of(tmp_path)
    take(engine, {"door": frames[0]})
    write = engine.capture()
    assert write is not None
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        write()
    assert engine.failure is not None
    assert "snapshot-00000002.npz: cannot be written (No space left on device)" in engine.failure
    assert "a restart goes on from the snapshot before it and what came since, and loses nothing" in caplog.text
    take(engine, {"door": frames[1]})
    copy = shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    again = engine_of(copy)
    assert again.known["door"].frames == 2
    again.close()
    write = engine.capture()
    assert write is not None
    write()
    assert engine.failure is None
    assert sorted(path.name for path in tmp_path.glob("*-0*")) == ["journal-00000003.bin", "snapshot-00000003.npz"]
    engine.close()


def test_a_folder_that_cannot_be_listed_is_tidied_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(tmp_path)
    take(engine, {"door": frames_of(1)[0]})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        engine.snapshot()
    assert len(list(tmp_path.glob("snapshot-*"))) == 2
    engine.snapshot()
    assert [path.name for path in tmp_path.glob("snapshot-*")] == ["snapshot-00000003.npz"]
    engine.close()


def test_after_a_hole_a_snapshot_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = frames_of(4)
    engine = engine_of(tmp_path)
    take(engine, {"door": frames[0]})
    write = engine.capture()
    assert write is not None
    with full_disk(engine, monkeypatch):
        take(engine, {"door": frames[1]})
    write()
    assert engine.failure is not None, "a snapshot of before the hole does not fill it"
    take(engine, {"door": frames[2]})
    assert engine.capture() is None
    assert engine.failure is None
    engine.close()
    again = engine_of(tmp_path)
    assert again.known["door"].frames == 3
    again.close()


def test_a_server_without_a_folder_captures_nothing() -> None:
    engine = engine_of()
    take(engine, {"door": frames_of(1)[0]})
    assert engine.capture() is None
    assert not engine.due


def test_a_long_journal_is_followed_by_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "JOURNAL_BYTES", 200)
    engine = engine_of(tmp_path)
    for frame in frames_of(10):
        take(engine, {"door": frame})
    (journal,) = tmp_path.glob("journal-*")
    assert journal.stat().st_size <= 200
    engine.close()
    assert int(journal.stem.partition("-")[2]) > 2


def test_a_snapshot_is_due_before_the_journal_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "JOURNAL_BYTES", 400)
    engine = engine_of(tmp_path)
    due = []
    for frame in frames_of(4):
        take(engine, {"door": frame})
        due.append(engine.due)
    assert due == [False, False, True, True]
    assert engine.capture() is not None
    assert not engine.due
    engine.close()


class OtherStepper(LeakyStepper):
    """The same, of other weights."""

    description = Description(
        class_names=LeakyStepper.description.class_names,
        background=0,
        ignored=None,
        streams={"rgb": 3, "flow": 2},
        rate_hz=5.0,
        head="softmax",
        state=(Leaf("average", np.zeros(4, np.float32)), Leaf("frames", np.zeros((), np.int64))),
        source={"weights_sha256": "cd34" * 16},
    )


def test_streams_of_another_checkpoint_are_refused(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    take(engine, {"door": frames_of(1)[0]})
    engine.close()
    with pytest.raises(CheckpointError, match=r"snapshot-00000001.npz: weights_sha256 is 'ab12.*'.* 'cd34"):
        engine_of(tmp_path, OnlineDetector(OtherStepper()))


@pytest.mark.parametrize("damage", ["changed", "empty", "not ours"])
def test_a_damaged_snapshot_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    take(engine, {"door": frames_of(1)[0]})
    engine.snapshot()
    engine.close()
    (path,) = tmp_path.glob("snapshot-*")
    if damage == "not ours":
        other = detector()
        other.push(frames_of(1)[0])
        other.snapshot(path)
    else:
        contents = bytearray(path.read_bytes())
        contents[len(contents) // 2] ^= 1
        path.write_bytes(contents if damage == "changed" else b"")
    with pytest.raises(CheckpointError, match=r"snapshot-0000000\d.npz") as caught:
        engine_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_journal_that_does_not_fit_its_snapshot_is_refused(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    for frame in frames_of(3):
        take(engine, {"door": frame})
    engine.close()
    (path,) = tmp_path.glob("journal-*")
    held = path.read_bytes()
    engine = engine_of(tmp_path)
    engine.close()
    (later,) = tmp_path.glob("journal-*")
    later.write_bytes(held)
    with pytest.raises(CheckpointError, match="goes on with frame 0 of door, and the snapshot ends before frame 3"):
        engine_of(tmp_path)


def test_a_frame_that_settings_no_longer_let_in_is_told(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, detector(non_finite="mask"))
    take(engine, {"door": np.full(CHANNELS, np.nan, np.float32)})
    engine.close()
    with pytest.raises(CheckpointError, match=r"a frame of door cannot be taken again \(frame 0 is not finite"):
        engine_of(tmp_path)
