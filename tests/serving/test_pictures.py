"""Streams whose clients send pictures: the server makes the features."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import InvalidStatus

from coadtr.errors import DataError
from coadtr.serving import Limits, ServerSettings, running
from coadtr.serving.eyes import Gaze, Picture
from coadtr.serving.images import SIDE, read_image, write_jpeg
from coadtr.serving.protocol import Close, read_picture, write_message, write_picture
from tests.serving.leaky import CLASSES, detector, frames_of
from tests.serving.seeing import (
    ColourEyes,
    Colours,
    ColourStream,
    encode,
    features_of,
    files_of,
    picture_of,
    picturing,
    show,
    solo_pictures,
    times_of,
    watching,
)
from tests.serving.talking import ask, drained, ending, eventually, get, raw, scores, send_behind, settings, told

TOKEN = "s3cret"  # noqa: S105 - of a test


@contextmanager
def seeing(eyes: Any = None, **changes: Any) -> Iterator[str]:
    """Run a server with eyes."""
    with running(detector(), settings(**changes), eyes or ColourEyes()) as url:
        yield url


def show_all(connection: Any, files: list[bytes], times: list[float]) -> list[dict[str, Any]]:
    """Send pictures and receive all answers, of which there is one for every two."""
    answers = show(connection, files, times)
    while len(answers) < len(files) // 2:
        answers.append(told(connection))
    return answers


def test_pictures_are_answered_as_their_features_are() -> None:
    eyes, files = ColourEyes(), files_of(21)
    times = times_of(21, start=1000.0)
    with seeing(eyes) as url, picturing(url, "door") as connection:
        hello = told(connection)
        answers = show_all(connection, files, times)
        connection.send('{"end": true}')
        answers.append(told(connection))
        last = told(connection)
        assert ending(connection) == (Close.NORMAL, "the stream has ended")
    assert (hello["hello"], hello["stream"], hello["timed"]) == ("coadtr", "door", True)
    assert (hello["classes"], hello["pictures"]) == (list(CLASSES), {"per_second": 10.0, "width": 640})
    assert [answer["frame"] for answer in answers] == list(range(11))
    assert [answer["time"] for answer in answers] == pytest.approx(times[::2])
    np.testing.assert_array_equal(scores(answers), solo_pictures(files, times, ended=True))
    assert last["end"] == 11
    assert eyes.threads == {"coadtr-eyes_0"}


def test_each_picture_is_said_to_be_seen() -> None:
    files = files_of(5)
    with seeing() as url, picturing(url, "door") as connection:
        told(connection)
        for file, moment in zip(files, times_of(5), strict=True):
            connection.send(write_picture(moment, file))
        messages = [told(connection) for _ in range(7)]
        text = get(f"{url}/metrics").text
    seen = [message for message in messages if "seen" in message]
    assert [message["seen"] for message in seen] == [1, 2, 3, 4, 5]
    assert all(message["ms"] > 0 for message in seen)
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines["coadtr_pictures_total"]) == float(lines["coadtr_picture_seconds_count"]) == 5
    assert float(lines["coadtr_pictures_refused_total"]) == 0
    assert float(lines["coadtr_frames_total"]) == 2


def test_streams_of_pictures_and_of_frames_do_not_mix() -> None:
    inputs = {f"camera-{index}": files_of(30, index) for index in range(3)}
    frames = frames_of(40)
    found: dict[str, list[dict[str, Any]]] = {}

    def serve(name: str, url: str) -> None:
        with picturing(url, name) as connection:
            told(connection)
            found[name] = show_all(connection, inputs[name], times_of(30))

    with seeing() as url, raw(url, "good") as good:
        told(good)
        threads = [threading.Thread(target=serve, args=(name, url)) for name in inputs]
        for thread in threads:
            thread.start()
        answers = ask(good, frames)
        for thread in threads:
            thread.join()
    for name, files in inputs.items():
        np.testing.assert_allclose(scores(found[name]), solo_pictures(files, times_of(30)), atol=1e-6)
    np.testing.assert_allclose(scores(answers), detector().push_many(frames), atol=1e-6)


def forged_png(width: int, height: int) -> bytes:
    """Write a PNG of which there is nothing but its size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    parts = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


GOOD = encode(picture_of(7, (48, 64)))
NOISY = encode(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
WRONG: dict[str, tuple[str | bytes, str]] = {
    "nothing": (b"", "a message has 0 bytes; send 8 bytes of time and then a picture"),
    "half a time": (b"abcd", "a message has 4 bytes"),
    "no picture": (write_picture(1.0, b""), "a message has 8 bytes"),
    "no time": (write_picture(float("nan"), GOOD), "the time of a picture must be a finite number of seconds, got nan"),
    "endless": (write_picture(float("inf"), GOOD), "must be a finite number of seconds, got inf"),
    "back": (
        write_picture(0.05, GOOD),
        "time went back from 0.1 s to 0.05 s; send pictures in order, or say fresh=true",
    ),
    "truncated": (write_picture(1.0, NOISY[:-900]), "is damaged (image file is truncated"),
    "truncated PNG": (write_picture(1.0, encode(picture_of(1), "PNG")[:-30]), "is damaged ("),
    "a GIF": (write_picture(1.0, encode(picture_of(1), "GIF")), "is no JPEG, PNG or WebP; send one of them"),
    "a BMP": (write_picture(1.0, encode(picture_of(1), "BMP")), "is no JPEG, PNG or WebP"),
    "noise": (write_picture(1.0, np.random.default_rng(0).bytes(900)), "is no JPEG, PNG or WebP"),
    "frames": (write_message(frames_of(9), times=times_of(9, 1.0)), "is no JPEG, PNG or WebP"),
    "too large": (write_picture(1.0, forged_png(2500, 2000)), "2500 x 2000 pixels, and the limit is 4000000"),
    "a large bomb": (write_picture(1.0, forged_png(10000, 10000)), "has far more than 4000000 pixels"),
    "a larger bomb": (write_picture(1.0, forged_png(60000, 60000)), "has far more than 4000000 pixels"),
    "many scans": (write_picture(1.0, GOOD[:-2] + b"\xff\xda\0\0" * 80), "has more than 64 scans"),
    "a text": ("hello", 'a text is no picture; send binary messages, or {"end": true}'),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_picture_ends_its_own_stream_alone(case: str) -> None:
    message, reason = WRONG[case]
    files, frames = files_of(6), frames_of(10)
    with seeing() as url, raw(url, "good") as good:
        told(good)
        before = ask(good, frames[:5])
        with picturing(url, "bad") as bad:
            told(bad)
            answers = show_all(bad, files[:2], times_of(2))
            bad.send(message)
            send_behind(bad, write_picture(2.0, GOOD))  # so it is not taken
            refusal = told(bad)
            assert reason in refusal["error"]
            code, why = ending(bad)
            assert code == Close.BAD_FRAME
            assert refusal["error"].startswith(why)
        with picturing(url, "bad") as again:
            assert told(again)["frames"] == 1
            answers += show(again, files[2:4], [3.0, 3.1])
            answers += [told(again)] if len(answers) == 1 else []
        after = ask(good, frames[5:])
        refused = 'coadtr_rejected_total{reason="bad_frame"} 1.0'
        assert refused in get(f"{url}/metrics").text
    np.testing.assert_array_equal(scores(before + after), detector().push_many(frames))
    np.testing.assert_array_equal(scores(answers), solo_pictures(files[:4], [0.0, 0.1, 3.0, 3.1]))


def test_the_formats_of_pictures_and_their_colours() -> None:
    rgb = picture_of(3, (16, 20))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        np.testing.assert_array_equal(read_image(encode(rgb, kind, **options)), rgb)
    grey = io.BytesIO()
    Image.fromarray(rgb[:, :, 0]).save(grey, "PNG")
    np.testing.assert_array_equal(read_image(grey.getvalue()), np.repeat(rgb[:, :, :1], 3, axis=2))
    assert np.abs(read_image(encode(rgb)).astype(int) - rgb).max() <= 4


def test_a_picture_is_turned_as_its_file_says() -> None:
    rgb = np.zeros((8, 16, 3), np.uint8)
    rgb[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    upright = read_image(encode(rgb, "PNG", exif=exif))
    np.testing.assert_array_equal(upright, np.rot90(rgb, -1))


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_read_or_refused_in_one_line(seed: int) -> None:
    rng = np.random.default_rng(seed)
    said: list[str] = []
    for kind in ("JPEG", "PNG", "WEBP"):
        file = encode(rng.integers(0, 256, (24, 32, 3), np.uint8), kind)
        for _ in range(60):
            data = bytearray(file)
            for _ in range(int(rng.integers(1, 6))):
                data[int(rng.integers(len(data)))] = int(rng.integers(256))
            try:
                assert read_image(bytes(data)).ndim == 3
            except DataError as error:
                said.append(str(error))
    assert len(said) > 10
    assert not [text for text in said if "\n" in text or " object at 0x" in text]


def test_a_picture_for_others_is_no_wider_than_wanted() -> None:
    assert read_image(write_jpeg(np.zeros((300, 1200, 3), np.uint8), width=640)).shape == (160, 640, 3)
    assert read_image(write_jpeg(np.zeros((30, 120, 3), np.uint8), width=640)).shape == (30, 120, 3)


def test_what_is_kept_of_a_picture_is_bounded() -> None:
    assert read_image(encode(picture_of(2, (1000, 4000)))).shape == (SIDE // 4, SIDE, 3)
    assert read_image(encode(picture_of(2, (2000, 1600)), "PNG")).shape == (SIDE, SIDE * 4 // 5, 3)
    assert read_image(encode(picture_of(2, (1, 40_000)), "PNG")).shape == (1, SIDE, 3)
    assert read_image(encode(picture_of(2, (SIDE, SIDE)))).shape == (SIDE, SIDE, 3)
    np.testing.assert_allclose(read_image(encode(picture_of(2, (1500, 1500)), "PNG"))[7, 9], picture_of(2)[0, 0])


def test_eyes_are_given_small_pictures() -> None:
    eyes = ColourEyes()
    gaze = Gaze(eyes, None)
    seen = gaze.see(write_picture(0.0, encode(picture_of(5, (1800, 2000)))))
    assert gaze._stream is not None
    assert gaze._stream._waiting[0].rgb.shape == (SIDE * 9 // 10, SIDE, 3)  # type: ignore[attr-defined]
    assert read_image(seen.jpeg).shape == (576, 640, 3)


def test_what_a_file_says_beside_its_picture_is_not_shown_to_others() -> None:
    exif = Image.Exif()
    exif[0x9286] = "at home"  # a comment of the user
    secrets = {"exif": exif, "comment": b"at home"}
    for kind in ("JPEG", "PNG", "WEBP"):
        message = write_picture(0.0, encode(picture_of(1), kind, **secrets if kind == "JPEG" else {"exif": exif}))
        assert b"at home" in message
        with seeing() as url, watching(url, "door", "pictures=true") as watcher, picturing(url, "door") as connection:
            told(watcher)
            told(connection)
            connection.send(message)
            told(connection)
            shown = watcher.recv(timeout=20)
        assert isinstance(shown, bytes)
        assert b"at home" not in shown
        assert np.abs(read_image(read_picture(shown)[1]).astype(int) - picture_of(1)).max() <= 4


def test_eyes_that_fail_end_the_stream_that_they_failed_on(caplog: pytest.LogCaptureFixture) -> None:
    files = files_of(6)
    poison = encode(picture_of(0, (ColourEyes.POISON, 20)))
    with seeing() as url, picturing(url, "good") as good, picturing(url, "bad") as bad:
        told(good)
        told(bad)
        answers = show(good, files[:3], times_of(3))
        bad.send(write_picture(0.0, poison))
        assert told(bad) == {"error": "the server could not look at this picture; its log says why"}
        assert ending(bad)[0] == Close.FAULT
        answers += show(good, files[3:], times_of(6)[3:])
        answers += [told(good) for _ in range(3 - len(answers))]
        assert "coadtr_pictures_refused_total 1.0" in get(f"{url}/metrics").text
    assert "a picture of stream bad could not be looked at" in caplog.text
    assert "the network fell over" in caplog.text
    np.testing.assert_array_equal(scores(answers), solo_pictures(files, times_of(6)))


class WrongEyes(ColourEyes):
    """Make what the detector does not take."""

    def __init__(self, values: Any) -> None:
        super().__init__()
        self._values = np.asarray(values, np.float32)

    def stream(self) -> Any:
        """Begin with a video."""
        values = self._values

        class Wrong:
            def push(self, picture: Picture) -> list[Colours]:
                return [Colours(picture.time, values)]

        return Wrong()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([np.nan] * 5, "frame 0 is not finite in channel 0"),
        ([1.0] * 4, "push_batch takes (D,) with D = 5 (rgb 3 + flow 2), got (4,)"),
    ],
)
def test_features_that_the_detector_refuses_end_the_stream(values: list[float], reason: str) -> None:
    with seeing(WrongEyes(values)) as url, picturing(url, "door") as connection:
        told(connection)
        connection.send(write_picture(0.0, GOOD))
        refusal = next(message for message in drained(connection) if "error" in message)
        assert reason in refusal["error"]
        assert refusal["frame"] == 0
        assert ending(connection)[0] == Close.BAD_FRAME


def test_a_client_that_is_killed_leaves_its_stream() -> None:
    files, times = files_of(12), times_of(12)
    with seeing() as url:
        with picturing(url, "door") as connection:
            told(connection)
            before = show_all(connection, files[:5], times[:5])
            connection.socket.shutdown(2)
        (stream,) = get(f"{url}/v1/streams").json()
        assert (stream["name"], stream["frames"], stream["live"]) == ("door", 2, True)
        with picturing(url, "door") as connection:
            hello = told(connection)
            assert (hello["frames"], hello["time"]) == (2, before[-1]["time"])
            after = show_all(connection, files[6:], times[6:])
    # Features begin anew with a connection, so the fifth picture has no part in any.
    np.testing.assert_array_equal(scores(before + after), solo_pictures(files[:4] + files[6:], times[:4] + times[6:]))


def test_a_client_that_says_the_end_and_leaves_has_ended_its_stream() -> None:
    files = files_of(5)
    with seeing() as url:
        with picturing(url, "door") as connection:
            told(connection)
            for file, moment in zip(files, times_of(5), strict=True):
                connection.send(write_picture(moment, file))
            connection.send('{"end": true}')
        assert eventually(lambda: get(f"{url}/v1/streams").json() == [])
        with watching(url, "door") as late:
            assert list(drained(late))[-1]["end"] == 3


def test_a_stream_begins_anew_or_is_taken_over() -> None:
    files = files_of(8)
    with seeing() as url:
        with picturing(url, "door") as first:
            told(first)
            show_all(first, files[:4], times_of(4))
            with picturing(url, "door") as second:
                assert ending(second)[0] == Close.IN_USE
            with picturing(url, "door", "takeover=true") as third:
                assert told(third)["frames"] == 2
                assert ending(first) == (Close.IN_USE, "another connection has taken stream door over")
                third.send(write_picture(0.1, files[0]))
                assert "time went back from 0.2 s to 0.1 s" in told(third)["error"]
        with picturing(url, "door", "fresh=true") as fourth:
            assert told(fourth)["frames"] == 0
            answers = show_all(fourth, files, times_of(8))
        with raw(url, "door") as frames:  # pictures bring times, and so does all else of this stream
            assert ending(frames) == (Close.BAD_FRAME, "stream door began with timed=true; say so")
    np.testing.assert_array_equal(scores(answers), solo_pictures(files, times_of(8)))


def test_after_a_long_pause_the_features_begin_anew() -> None:
    files = files_of(7)
    times = [0.0, 0.1, 0.2, 1e9, 1e9 + 0.1, 1e9 + 9.0, 1e9 + 18.0]
    with seeing() as url, picturing(url, "door") as connection:
        told(connection)
        answers = show_all(connection, files, times)
    assert [answer["time"] for answer in answers] == [0.0, 1e9, 1e9 + 9.0]
    kept = [0, 1, 3, 4, 5, 6]  # the third picture waited for a fourth
    expected = solo_pictures([files[index] for index in kept], [times[index] for index in kept])
    np.testing.assert_array_equal(scores(answers), expected)


def test_only_who_brings_the_token_sends_pictures() -> None:
    with seeing(token=TOKEN) as url:
        with pytest.raises(InvalidStatus, match="401"), picturing(url, "door", "token=wrong"):
            pass
        with picturing(url, "door", additional_headers={"Origin": url}) as connection:
            assert ending(connection) == (Close.UNAUTHORISED, "a token is needed: give it as ?token=...")
        with picturing(url, "door", f"token={TOKEN}", additional_headers={"Origin": "http://other"}) as connection:
            assert ending(connection)[0] == Close.FORBIDDEN
        with picturing(url, "door", f"token={TOKEN}") as connection:
            assert told(connection)["stream"] == "door"


@pytest.mark.parametrize(
    ("stream", "query", "reason"),
    [
        ("..", "", "'..' cannot name a stream"),
        ("door", "fresh=yes", "fresh must be true or false, got 'yes'"),
        ("door", "takeover=1", "takeover must be true or false, got '1'"),
    ],
)
def test_a_connection_that_asks_for_nonsense_is_told_so(stream: str, query: str, reason: str) -> None:
    with seeing() as url, picturing(url, stream, query) as connection:
        code, told_reason = ending(connection)
    assert code == Close.BAD_FRAME
    assert reason in told_reason


def test_a_server_without_eyes_says_how_it_gets_some() -> None:
    with running(detector(), settings()) as url, picturing(url, "door") as connection:
        assert ending(connection) == (
            Close.BAD_FRAME,
            "this server takes no pictures: start it by `coadtr serve ... pictures=true`",
        )
        assert get(f"{url}/v1/model").json()["pictures"] is None


def test_eyes_that_want_all_pictures_are_sent_those_of_a_usual_video() -> None:
    eyes = ColourEyes()
    eyes.pictures_per_second = None
    with seeing(eyes) as url:
        assert get(f"{url}/v1/model").json()["pictures"] == {"per_second": 25.0, "width": 640}


def test_no_more_streams_of_pictures_than_the_limit() -> None:
    with seeing(limits=Limits(pictures=2)) as url:
        with picturing(url, "a") as one, picturing(url, "b") as two:
            told(one)
            told(two)
            with picturing(url, "c") as three:
                assert ending(three) == (Close.TOO_MANY, "2 streams send pictures, the limit; try again later")
            with picturing(url, "a", "takeover=true") as again:
                assert told(again)["stream"] == "a"
                with picturing(url, "c") as three:
                    assert ending(three)[0] == Close.TOO_MANY
        assert eventually(lambda: _greeted(url, "c"))


def _greeted(url: str, stream: str) -> bool:
    with picturing(url, stream) as connection:
        return "hello" in next(drained(connection), {})


def test_a_client_that_sends_no_picture_is_let_go() -> None:
    with seeing(limits=Limits(idle_seconds=0.2)) as url, picturing(url, "door") as connection:
        told(connection)
        assert ending(connection) == (Close.IDLE, "no picture came in 0.2 s")
        assert eventually(lambda: get(f"{url}/v1/streams").json() == [])


class SlowEyes(ColourEyes):
    """Take a while, as networks do."""

    def stream(self) -> ColourStream:
        """Begin with a video."""

        class Slow(ColourStream):
            def push(self, picture: Picture) -> list[Colours]:
                time.sleep(0.15)
                return super().push(picture)

        return Slow(self)


def test_stopping_answers_the_picture_that_is_looked_at(tmp_path: Path) -> None:
    files, times = files_of(8), times_of(8)
    with ExitStack() as server:
        url = server.enter_context(seeing(SlowEyes(), snapshots=tmp_path))
        with picturing(url, "door") as connection:
            told(connection)
            for file, moment in zip(files, times, strict=True):
                connection.send(write_picture(moment, file))
            assert told(connection)["seen"] == 1
            stopping = threading.Thread(target=server.close)  # while the second is looked at
            stopping.start()
            messages = list(drained(connection))
            assert ending(connection) == (Close.STOPPING, "the server is stopping; connect again later")
            stopping.join()
    answers = [message for message in messages if "frame" in message]
    seen = 1 + len(messages) - len(answers)
    assert 2 <= seen < 8
    assert len(answers) == seen // 2
    features = features_of(files, times)[: len(answers)]
    with running(detector(), settings(snapshots=tmp_path)) as url, raw(url, "door", "timed=true&next=0") as connection:
        assert told(connection)["frames"] == len(answers)
        assert [told(connection) for _ in answers] == answers
    assert [answer["time"] for answer in answers] == [feature.time for feature in features]
    np.testing.assert_array_equal(scores(answers), solo_pictures(files[: 2 * len(answers)], times[: 2 * len(answers)]))


def test_a_server_that_looks_for_too_long_stops_all_the_same() -> None:
    with ExitStack() as server:
        url = server.enter_context(seeing(SlowEyes(), shutdown_seconds=0.01))
        with picturing(url, "door") as connection:
            told(connection)
            for file, moment in zip(files_of(8), times_of(8), strict=True):
                connection.send(write_picture(moment, file))
            stopping = threading.Thread(target=server.close)
            stopping.start()
            assert ending(connection)[0] == Close.STOPPING
            stopping.join()


@pytest.mark.parametrize("name", ["watchers", "pictures"])
def test_a_limit_out_of_range_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
        Limits(**{name: -1})
    assert getattr(ServerSettings().limits, name) > 0


def test_a_picture_comes_back_as_it_was_written() -> None:
    assert read_picture(write_picture(0.1, b"\xff\xd8...")) == (0.1, b"\xff\xd8...")
    assert write_picture(0.5, b"x") == struct.pack("<d", 0.5) + b"x"
