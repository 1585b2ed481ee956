"""Decoding: every frame comes once, at its time and upright, and what is broken is said."""

from __future__ import annotations

import functools
import threading
import wave
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from coadtr.errors import ConfigError, DataError
from coadtr.video import VideoReader, decode_frames, probe
from coadtr.video.address import is_live, shown
from coadtr.video.clock import Clock
from tests.video.writing import blot, cut, number_of, picture, turn

Write = Callable[..., Path]


def read(path: Path | str, **options: Any) -> tuple[list[float], list[int]]:
    """Return times and numbers of all frames."""
    frames = [(time, number_of(image)) for time, image in decode_frames(path, **options)]
    return [time for time, _ in frames], [number for _, number in frames]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.ts", "libx264"), ("a.mov", "mpeg4")],
)
def test_every_frame_at_its_time(tmp_path: Path, write_video: Write, name: str, codec: str) -> None:
    times, numbers = read(write_video(tmp_path / name, 50, codec=codec))
    assert numbers == list(range(50))
    np.testing.assert_allclose(times, np.arange(50) / 30, atol=6e-4)  # Matroska keeps milliseconds


def test_frames_of_uneven_length_keep_their_times(tmp_path: Path, write_video: Write) -> None:
    stamps = np.cumsum([700, *([20, 33, 100, 7, 250] * 8)])
    for name in ("a.mkv", "a.mp4"):
        times, numbers = read(write_video(tmp_path / name, 40, stamps_ms=stamps.tolist()))
        assert numbers == list(range(40))
        np.testing.assert_allclose(times, (stamps[:40] - stamps[0]) / 1000, atol=1e-3)
        assert times[0] == 0.0


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_pictures_that_begin_after_the_sound_keep_the_time_of_a_player(
    tmp_path: Path, write_video: Write, name: str
) -> None:
    stamps = [2000 + 40 * index for index in range(50)]
    path = write_video(tmp_path / name, 50, rate=25, stamps_ms=stamps, audio=True)
    times, numbers = read(path)
    assert numbers == list(range(50))
    # The encoder of the sound begins some milliseconds before time 0.
    np.testing.assert_allclose(times, np.array(stamps) / 1000, atol=0.07)
    np.testing.assert_allclose(np.diff(times), 0.04, atol=2e-3)
    with VideoReader(path) as reader:
        assert len(list(reader)) == 50
        assert reader.measured_rate() == pytest.approx(25, rel=1e-3)
        assert reader.declared_seconds == pytest.approx(4.0, abs=0.1)
    assert read(path, max_seconds=3)[0][-1] == pytest.approx(2.96, abs=0.07)
    silent = write_video(tmp_path / f"silent.{name}", 50, rate=25, stamps_ms=stamps)
    assert read(silent)[0][0] == 0.0


def test_the_clock_begins_with_the_container() -> None:
    clock = Clock("mpegts", 0.001, 25.0, 9.0)
    np.testing.assert_allclose([clock.seconds(stamp, None) for stamp in (9500, 9540, 100)], [0.5, 0.54, 0.58])
    assert clock.span == pytest.approx(0.08)
    assert (
        Clock("mpegts", 0.001, 25.0, 9.0).seconds(9030, None) == 0.0
    )  # less than a frame: the sound codec's own delay
    assert Clock("mpegts", 0.001, 25.0, 9.0).seconds(8000, None) == 0.0
    assert Clock("avi", 0.001, 25.0, 9.0).seconds(9500, 9500) == 0.0


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_jump_in_the_time_stamps_is_broken(tmp_path: Path, write_video: Write, name: str) -> None:
    stamps = [*range(0, 1200, 40), *range(50_000, 51_200, 40)]
    assert read(write_video(tmp_path / name, 60, stamps_ms=stamps))[0][30] == pytest.approx(50)
    stamps[30:] = range(100_000_000, 100_001_200, 40)
    path = write_video(tmp_path / name, 60, stamps_ms=stamps)
    message = r"jumps from 1\.16 s to 100000\.00 s, 30 frames up to 1\.16 s are good"
    with pytest.raises(DataError, match=message):
        list(decode_frames(path))


def test_frames_without_time_stamps_come_one_after_the_other(tmp_path: Path, write_video: Write) -> None:
    times, numbers = read(write_video(tmp_path / "a.h264", 30, format="h264"))
    assert numbers == list(range(30))
    assert np.all(np.diff(times) > 0)


def test_the_clock_never_goes_back() -> None:
    clock = Clock("mpegts", 0.001, 25.0)
    stamps = [9000, 9040, 9030, None, 9120, 100, 140]  # one late, one without, then a camera that starts again
    times = [clock.seconds(stamp, None) for stamp in stamps]
    np.testing.assert_allclose(times, [0.0, 0.04, 0.04, 0.08, 0.12, 0.16, 0.2])
    assert Clock("mpegts", 0.001, None).seconds(None, None) == 0.0


def test_rotated_videos_are_turned_upright(tmp_path: Path, write_video: Write) -> None:
    path = turn(write_video(tmp_path / "a.mp4", 20))
    info = probe(path)
    assert (info.width, info.height, info.rotation) == (48, 64, 270)
    _, image = next(decode_frames(path))
    expected = np.rot90(picture(0), -1)
    np.testing.assert_allclose(image.astype(int), expected.astype(int), atol=4)
    assert image[:8, -8:].mean() < image[:8, :8].mean()  # the dark quarter has gone from upper left to upper right


def test_sound_and_further_pictures_are_left_alone(tmp_path: Path, write_video: Write) -> None:
    times, numbers = read(write_video(tmp_path / "a.mkv", 30, audio=True, second=True))
    assert (numbers, len(times)) == (list(range(30)), 30)


def test_probe_says_what_a_video_is(tmp_path: Path, write_video: Write) -> None:
    info = probe(write_video(tmp_path / "a.mp4", 45))
    assert (info.codec, info.width, info.height, info.rotation) == ("h264", 64, 48, 0)
    assert info.seconds == pytest.approx(1.5)
    assert info.rate_hz == pytest.approx(30)


@pytest.mark.parametrize(
    ("clip", "frames", "rate", "size"),
    [
        ("carphone_pristine.mp4", 120, 29.97, (176, 144)),
        ("demo_arm_wrestling.mp4", 280, 28, (340, 256)),
        ("flipping_a_pancake.mkv", 310, 30, (426, 240)),
        ("mmaction_test.avi", 164, 25, (320, 240)),
    ],
)
def test_real_clips(shared_data: Path, clip: str, frames: int, rate: float, size: tuple[int, int]) -> None:
    with VideoReader(shared_data / "clips" / clip) as reader:
        times = [frame.time for frame in reader]
        assert (reader.frames, reader.damaged) == (frames, 0)
    np.testing.assert_allclose(times, np.arange(frames) / rate, atol=2e-3)
    info = probe(shared_data / "clips" / clip)
    assert (info.width, info.height) == size


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.mp4", "libx264")])
@pytest.mark.parametrize("part", [0.4, 0.7])
def test_a_video_that_is_cut_short_is_broken(
    tmp_path: Path, write_video: Write, name: str, codec: str, part: float
) -> None:
    # An index at the front, as streaming sites write it: the file opens, and ends too soon.
    options = {"options": {"movflags": "faststart"}} if name == "a.mp4" else {}
    path = cut(write_video(tmp_path / name, 120, codec=codec, **options), part)
    good = []
    with pytest.raises(DataError, match=r"a\.\w+: .*(are good|no frame|opened)") as caught:
        good += [number_of(image) for _, image in decode_frames(path)]
    assert "\n" not in str(caught.value)
    if good:
        assert f"up to {(len(good) - 1) / 30:.2f} s are good" in str(caught.value)


def test_a_damaged_packet_is_counted_and_passed_over(tmp_path: Path, write_video: Write) -> None:
    path = blot(write_video(tmp_path / "a.avi", 60, codec="mpeg4"), 30)
    with VideoReader(path) as reader:
        frames = [(frame.time, number_of(frame.rgb)) for frame in reader]
    assert reader.damaged >= 1
    assert [number for _, number in frames[:30]] == list(range(30))
    assert frames[-1][1] == 59
    np.testing.assert_allclose([time * 30 for time, _ in (*frames[:30], frames[-1])], [*range(30), 59])
    with pytest.raises(DataError, match=r"ends in damaged data, .* frames up to .* s are good"):
        list(decode_frames(blot(path, 59)))


def test_what_is_no_video_is_refused(tmp_path: Path, write_video: Write) -> None:
    path = tmp_path / "a.mp4"
    for content in (b"", b"some text\n" * 50, bytes(2000)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.mp4: cannot be opened \(.*\): give a video file"):
            probe(path)
    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    with pytest.raises(DataError, match=r"a\.wav: has no video stream \(it holds audio\)"):
        probe(tmp_path / "a.wav")
    with pytest.raises(DataError, match="cannot be opened"):
        probe(tmp_path)
    write_video(tmp_path / "empty.mkv", 0)
    with pytest.raises(DataError, match=r"empty\.mkv: "):
        list(decode_frames(tmp_path / "empty.mkv"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{}/a.ts\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile {}/a.ts\n"),
    ],
)
def test_a_play_list_does_not_call_out(
    tmp_path: Path, write_video: Write, server: Server, name: str, content: str
) -> None:
    write_video(tmp_path / "a.ts", 60)
    path = tmp_path / name
    path.write_text(content.format(server.address))
    with pytest.raises(DataError, match=r"list\.\w+: "):
        list(decode_frames(path))
    assert server.asked == []
    if name == "list.m3u8":  # the same list is sound where calling out is meant
        assert read(f"{server.address}/{name}")[1] == list(range(60))
        assert server.asked == ["/list.m3u8", "/a.ts"]


def test_max_seconds_ends_a_video(tmp_path: Path, write_video: Write) -> None:
    path = write_video(tmp_path / "a.mp4", 60)
    assert read(path, max_seconds=0.5)[1] == list(range(15))
    with pytest.raises(ConfigError, match="max_seconds=0: give a positive number"):
        VideoReader(path, max_seconds=0)


class Server(NamedTuple):
    """Where the folder of the test is served, and the paths that were asked for."""

    address: str
    asked: list[str]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Serve the folder of the test."""
    asked: list[str] = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the library
            pass

        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield Server(f"http://127.0.0.1:{serving.server_address[1]}", asked)
        serving.shutdown()
        thread.join()


def test_addresses(tmp_path: Path, write_video: Write, server: Server) -> None:
    write_video(tmp_path / "a.mkv", 60)
    assert read(f"{server.address}/a.mkv")[1] == list(range(60))
    assert read(f"{server.address}/a.mkv", max_seconds=0.5)[1] == list(range(15))
    with pytest.raises(DataError, match=r"/b\.mkv: cannot be opened .*check the address"):
        probe(f"{server.address}/b.mkv")
    with pytest.raises(DataError, match=r"^http://\*\*\*@127\.0\.0\.1:9/a: cannot be opened"):
        probe("http://me:secret@127.0.0.1:9/a")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("rtsp://camera/1", "rtsp://camera/1"),
        ("rtsp://me@camera/1", "rtsp://***@camera/1"),
        ("rtsp://me:p@ss@camera/1", "rtsp://***@camera/1"),
        ("rtsp://me:p/w@camera/1", "rtsp://***@camera/1"),
        ("rtsp://me:p/@/w@camera:554/1", "rtsp://***@camera:554/1"),
        ("https://host/a.mp4?token=SECRET", "https://host/a.mp4?***"),
        ("https://host/a.mp4#token=SECRET", "https://host/a.mp4#***"),
        ("https://me:pw@host/a.mp4?token=SECRET", "https://***@host/a.mp4?***"),
        ("rtsp://me:p?w@camera/1", "rtsp://***"),
        ("https://host/a.mp4?mail=a@b&token=SECRET", "https://***"),
        ("clips/a@b?.mp4", "clips/a@b?.mp4"),
    ],
)
def test_addresses_are_shown_without_what_is_secret(address: str, said: str) -> None:
    assert shown(address) == said


def test_cameras_may_never_end() -> None:
    assert [is_live(place) for place in ("rtsp://camera/1", "udp://@:1234", "HTTPS://host/a", "a.mp4")] == [
        True,
        True,
        False,
        False,
    ]
