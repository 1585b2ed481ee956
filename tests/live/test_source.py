"""Files, cameras and addresses, frame by frame."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coadtr.errors import ConfigError, DataError
from coadtr.live import Block, LiveSource, source
from tests.video.writing import write_video

CAMERA = "camera:lavfi:testsrc=size=32x32:rate=20:duration=0.5"


def test_a_file_is_shown_at_its_own_speed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=15, rate=30)
    begun = time.monotonic()
    seen = [(one.frame.time, time.monotonic() - begun) for one in LiveSource(str(path)).frames()]
    assert [round(moment, 3) for moment, _ in seen] == [round(index / 30, 3) for index in range(15)]
    first = seen[0][1]
    assert all(now - first >= moment - 1e-3 for moment, now in seen)


def test_a_file_may_go_as_fast_as_it_is_taken(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=300, rate=10)
    begun = time.monotonic()
    fast = LiveSource(str(path), realtime=False)
    assert len(list(fast.frames())) == 300
    assert time.monotonic() - begun < 29
    assert not fast.live
    assert LiveSource(str(path)).live


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("clips/of/mine/a.mp4", "a.mp4"),
        ("rtsp://me:secret@camera/1", "rtsp://***@camera/1"),
        ("https://host/a.mp4?token=secret", "https://host/a.mp4?***"),
        ("camera:0", "camera:0"),
        ("camera:mjpeg:http://me:secret@camera/x?key=1", "camera:mjpeg:http://***@camera/x?***"),
        ("file:///clips/a.mp4", "a.mp4"),
    ],
)
def test_views_name_no_folder_and_no_password(place: str, name: str) -> None:
    assert LiveSource(place).name == name


def test_a_camera_is_read() -> None:
    seen = list(LiveSource(CAMERA, realtime=False).frames())
    assert len(seen) == 10
    assert not isinstance(seen[0].frame, Block)
    assert seen[0].frame.rgb.shape == (32, 32, 3)


def test_it_stops_when_told_and_after_its_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=30, rate=30)
    short = LiveSource(str(path), realtime=False, max_seconds=0.5)
    assert len(list(short.frames())) == 15
    slow = LiveSource(str(write_video(tmp_path / "slow.mp4", frames=20, rate=1)))
    frames = slow.frames()
    next(frames)
    threading.Timer(0.2, slow.stop).start()
    assert len(list(frames)) < 19  # it does not wait for the next frame of a second later


def test_a_file_address_is_a_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=9)
    assert len(list(LiveSource(f"file://{path}", realtime=False).frames())) == 9


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_seconds": 0.0}, "max_seconds=0.0: give a positive number, or null for the whole video"),
        ({"max_seconds": float("nan")}, "max_seconds=nan: give a positive number"),
        ({"reconnect_seconds": -1.0}, "reconnect_seconds=-1.0: give 0 or more, or null to try for ever"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LiveSource("a.mp4", **options)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("nothing.mp4", "nothing.mp4: cannot be opened (No such file or directory): give a video file"),
        ("camera:no_such_format:0", "camera:no_such_format:0: cannot be opened"),
        ("/dev/video99", "/dev/video99: cannot be opened"),
        ("rtsp://me:secret@127.0.0.1:9/x", "rtsp://***@127.0.0.1:9/x: cannot be opened"),
    ],
)
def test_what_cannot_be_opened_at_first_is_an_error(place: str, told: str) -> None:
    with pytest.raises(DataError) as caught:
        list(LiveSource(place).frames())
    assert str(caught.value).startswith(told)


class Connection:
    """A camera that is lost after some frames, or cannot be had."""

    plan: list[Any]

    def __init__(self, _: str) -> None:
        step = self.plan.pop(0)
        if isinstance(step, DataError):
            raise step
        self.frames = step

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        for frame in self.frames:
            if isinstance(frame, DataError):
                raise frame
            yield frame


class At:
    """A frame that is nothing but its time."""

    def __init__(self, moment: float) -> None:
        self.time = moment


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    steps: list[Any] = []
    monkeypatch.setattr(Connection, "plan", steps, raising=False)
    monkeypatch.setattr(source, "VideoReader", Connection)
    monkeypatch.setattr(source, "_FIRST_WAIT_S", 0.01)
    return steps


def test_a_lost_connection_is_had_again(plan: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    plan += [[At(0.0), At(0.1), DataError("the cable")], DataError("no"), DataError("no"), [At(0.0), At(0.1)]]
    camera = LiveSource("rtsp://camera/1", reconnect_seconds=60.0)
    seen = list(itertools.islice(camera.frames(), 4))
    camera.stop()
    assert [one.part for one in seen] == [0, 0, 3, 3]  # two were refused
    assert [one.frame.time for one in seen] == [0.0, 0.1, 0.0, 0.1]
    assert seen[2].offset == seen[3].offset > 0.03  # three pauses
    assert caplog.text.count("the cable; trying again") == 1


def test_time_goes_on_where_a_clock_ran_ahead(plan: list[Any]) -> None:
    burst = [At(index / 10) for index in range(50)]  # five seconds, at once
    plan += [[*burst, DataError("the cable")], burst]
    camera = LiveSource("rtsp://camera/1")
    times = [one.offset + one.frame.time for one in itertools.islice(camera.frames(), 100)]
    camera.stop()
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert times[50] > times[49] >= 4.9


def test_connections_that_bring_nothing_are_no_connections(plan: list[Any]) -> None:
    plan += [[At(0.0), DataError("gone")], *([DataError("empty")] for _ in range(99))]
    frames = LiveSource("rtsp://camera/1", reconnect_seconds=0.05).frames()
    next(frames)
    with pytest.raises(DataError, match=r"empty; it was tried again for 0\.\d+ s"):
        next(frames)
    assert len(plan) > 90  # the pauses grow
    plan[:] = [[DataError("rtsp://camera/1: holds no frame")], [At(0.0)]]
    with pytest.raises(DataError, match="holds no frame"):
        list(LiveSource("rtsp://camera/1").frames())


def test_patience_ends(plan: list[Any]) -> None:
    plan += [[At(0.0), DataError("rtsp://camera/1: the cable")], *[DataError("rtsp://camera/1: gone")] * 99]
    frames = LiveSource("rtsp://camera/1", reconnect_seconds=0.05).frames()
    next(frames)
    with pytest.raises(DataError, match=r"rtsp://camera/1: gone; it was tried again for 0\.\d+ s"):
        next(frames)


def test_a_stream_that_is_not_to_be_had_again_ends(plan: list[Any]) -> None:
    plan += [[At(0.0), DataError("the cable")], [At(0.0)]]
    assert len(list(LiveSource("rtsp://camera/1", reconnect_seconds=0.0).frames())) == 1


def test_a_file_that_is_broken_is_an_error(plan: list[Any]) -> None:
    plan += [[At(0.0), DataError("a.mp4: ends in damaged data")], [At(0.0)]]
    frames = LiveSource("a.mp4").frames()
    next(frames)
    with pytest.raises(DataError, match="ends in damaged data"):
        next(frames)
