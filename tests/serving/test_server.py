"""A server on loopback: what is said over a connection, and what a stream is."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from coadtr.runtime import EventDecoder, EventSettings, GapPolicy, OnlineDetector
from coadtr.serving import running
from coadtr.serving.protocol import PROTOCOL, Close, write_message
from tests.serving.leaky import CHANNELS, CLASSES, INTO, OUT, RATE, LeakyStepper, detector, frames_of, solo
from tests.serving.talking import ask, ending, raw, scores, send_behind, settings, told


def test_a_stream_is_greeted_and_answered_as_it_is_alone() -> None:
    frames = frames_of(60)
    with running(detector(), settings()) as url, raw(url, "door") as connection:
        hello = told(connection)
        answers = ask(connection, frames)
    assert (hello["hello"], hello["protocol"], hello["stream"], hello["frames"]) == ("coadtr", PROTOCOL, "door", 0)
    assert (hello["classes"], hello["background"], hello["channels"], hello["rate_hz"]) == (list(CLASSES), 0, 5, 5.0)
    assert hello["streams"] == [{"name": "rgb", "channels": 3}, {"name": "flow", "channels": 2}]
    assert [answer["frame"] for answer in answers] == list(range(60))
    assert [answer["time"] for answer in answers] == [number / RATE for number in range(60)]
    np.testing.assert_array_equal(scores(answers), solo(frames))


def test_a_message_may_hold_several_frames() -> None:
    frames = frames_of(40)
    with running(detector(), settings()) as url, raw(url, "door") as connection:
        told(connection)
        connection.send(write_message(frames[:33]))  # more than may wait for a step
        connection.send(write_message(frames[33:]))
        answers = [told(connection) for _ in frames]
    np.testing.assert_array_equal(scores(answers), solo(frames))


def test_streams_are_stepped_together_and_do_not_mix() -> None:
    stepper = LeakyStepper()
    inputs = {f"camera-{index}": frames_of(30, index) for index in range(12)}
    found: dict[str, list[dict[str, Any]]] = {}
    barrier = threading.Barrier(len(inputs))

    def serve(name: str, url: str) -> None:
        with raw(url, name) as connection:
            told(connection)
            barrier.wait()
            connection.send(write_message(inputs[name]))
            found[name] = [told(connection) for _ in inputs[name]]

    with running(OnlineDetector(stepper), settings(gather_seconds=0.02)) as url:
        threads = [threading.Thread(target=serve, args=(name, url)) for name in inputs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name, frames in inputs.items():
        np.testing.assert_allclose(scores(found[name]), solo(frames), atol=1e-6)
    assert sum(stepper.sizes) == 12 * 30
    assert max(stepper.sizes) > 1


def test_events_are_told_with_the_frame_that_brings_them() -> None:
    chosen = EventSettings(start=0.6, end=0.4, smoothing=0.5)
    frames = frames_of(80)
    with running(detector(), settings(events=chosen)) as url, raw(url, "door") as connection:
        told(connection)
        answers = ask(connection, frames)
        connection.send('{"end": true}')
        last = told(connection)
        assert ending(connection) == (Close.NORMAL, "the stream has ended")
    decoder = EventDecoder(CLASSES, 0, RATE, chosen)
    for answer, row in zip(answers, solo(frames), strict=True):
        expected = [(event.kind, event.class_name, event.time) for event in decoder.push(row, answer["time"])]
        assert [(event["kind"], event["class"], event["time"]) for event in answer["events"]] == expected
    assert sum(len(answer["events"]) for answer in answers) > 4
    assert last["end"] == 80
    assert [event["class"] for event in last["events"]] == [event.class_name for event in decoder.finish()]


def test_a_timed_stream_brings_its_times_and_begins_anew_after_a_gap() -> None:
    frames, times = frames_of(9), [0.0, 0.2, 0.4, 0.6, 30.0, 30.2, 30.4, 30.6, 30.8]
    with (
        running(detector(gaps=GapPolicy(reset_after=5.0)), settings()) as url,
        raw(url, "door", "timed=true") as connection,
    ):
        told(connection)
        answers = ask(connection, frames, times=times)
    assert [answer["time"] for answer in answers] == times
    assert [answer["frame"] for answer in answers] == list(range(9))
    np.testing.assert_array_equal(scores(answers), np.concatenate([solo(frames[:4]), solo(frames[4:])]))


def test_events_end_with_what_a_gap_makes_forgotten() -> None:
    # A frame whose first scores are all for "lift".
    up = np.linalg.lstsq((INTO @ OUT).T, np.array([-50.0, 50.0, -50.0]), rcond=None)[0]
    frames = np.array([up, up, -up], np.float32)
    with (
        running(detector(gaps=GapPolicy(reset_after=5.0)), settings()) as url,
        raw(url, "door", "timed=true") as connection,
    ):
        told(connection)
        answers = ask(connection, frames, times=[0.0, 0.2, 60.0])
    events = [[(event["kind"], event["class"], event["time"]) for event in answer["events"]] for answer in answers]
    assert events[:2] == [[("start", "lift", 0.0)], []]
    assert events[2][0] == ("end", "lift", 0.2)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "a message has 0 bytes; a frame is 20 (5 float32 values), send whole frames"),
        (b"\0" * 19, "a message has 19 bytes"),
        (b"\0" * 21, "a message has 21 bytes"),
        (write_message(np.full((1, CHANNELS), np.nan)), "frame 2 is not finite in channel 0"),
        (write_message(np.full((1, CHANNELS), 3e38)), "the answer to frame 2 is not finite"),
        ("hello", 'a text is no frame; send binary messages, or {"end": true}'),
        ('{"end": false}', "a text is no frame"),
    ],
)
def test_what_is_no_frame_ends_its_own_stream_alone(message: bytes | str, reason: str) -> None:
    frames = frames_of(20)
    with running(detector(), settings()) as url, raw(url, "good") as good, raw(url, "bad") as bad:
        told(good)
        told(bad)
        before = ask(good, frames[:10])
        assert [answer["frame"] for answer in ask(bad, frames[:2])] == [0, 1]
        bad.send(message)
        send_behind(bad, write_message(frames[2:3]))  # so it is not taken
        answer = told(bad)
        assert reason in answer["error"]
        assert answer.get("frame", 2) == 2
        code, why = ending(bad)
        assert code == Close.BAD_FRAME
        assert answer["error"].startswith(why)
        after = ask(good, frames[10:])
        with raw(url, "bad") as again:
            assert told(again)["frames"] == 2
            assert ask(again, frames[2:3])[0]["frame"] == 2
    np.testing.assert_array_equal(scores(before + after), solo(frames))


def test_a_value_that_is_not_finite_can_be_masked() -> None:
    frames = frames_of(4)
    broken = frames.copy()
    broken[2, 3] = np.nan
    filled = frames.copy()
    filled[2, 3] = frames[1, 3]
    with running(detector(non_finite="mask"), settings()) as url, raw(url, "door") as connection:
        told(connection)
        np.testing.assert_array_equal(scores(ask(connection, broken)), solo(filled))


def test_a_step_that_fails_is_tried_stream_by_stream() -> None:
    frames = frames_of(6)
    poison = frames[:1].copy()
    poison[0, 0] = LeakyStepper.POISON
    with running(detector(), settings(gather_seconds=0.2)) as url, raw(url, "good") as good, raw(url, "bad") as bad:
        told(good)
        told(bad)
        bad.send(write_message(poison))
        answers = ask(good, frames)
        assert "could not step" in told(bad)["error"]
        assert ending(bad)[0] == Close.FAULT
    np.testing.assert_array_equal(scores(answers), solo(frames))


def test_time_that_goes_back_ends_the_stream() -> None:
    frames = frames_of(3)
    with running(detector(), settings()) as url, raw(url, "door", "timed=true") as connection:
        told(connection)
        ask(connection, frames[:2], times=[1.0, 1.2])
        connection.send(write_message(frames[2:], times=[0.5]))
        assert "time went back from 1.2 s to 0.5 s" in told(connection)["error"]
        assert ending(connection)[0] == Close.BAD_FRAME


def test_a_stream_has_one_connection_which_can_be_taken_over() -> None:
    frames = frames_of(6)
    with running(detector(), settings()) as url, raw(url, "door") as first:
        told(first)
        before = ask(first, frames[:3])
        with raw(url, "door") as second:
            code, reason = ending(second)
            assert (code, reason) == (
                Close.IN_USE,
                "stream door has another connection; close that one, or say takeover=true",
            )
        with raw(url, "door", "takeover=true") as third:
            assert told(third)["frames"] == 3
            assert ending(first) == (Close.IN_USE, "another connection has taken stream door over")
            after = ask(third, frames[3:])
    np.testing.assert_array_equal(scores(before + after), solo(frames))


def test_a_stream_goes_on_begins_anew_or_ends() -> None:
    frames = frames_of(6)
    with running(detector(), settings()) as url:
        with raw(url, "door") as connection:
            told(connection)
            before = ask(connection, frames[:3])
        with raw(url, "door", "next=1") as connection:
            hello = told(connection)
            assert (hello["frames"], hello["kept_from"]) == (3, 0)
            assert [told(connection), told(connection)] == before[1:]
            after = ask(connection, frames[3:])
        np.testing.assert_array_equal(scores(before + after), solo(frames))
        with raw(url, "door", "fresh=true") as connection:
            assert told(connection)["frames"] == 0
            np.testing.assert_array_equal(scores(ask(connection, frames)), solo(frames))
            connection.send('{"end":true}')
            assert told(connection)["end"] == 6
            assert ending(connection)[0] == Close.NORMAL
        with raw(url, "door") as connection:
            assert told(connection)["frames"] == 0


def test_frames_that_were_received_are_taken_though_their_client_left() -> None:
    frames = frames_of(9)
    with running(detector(), settings()) as url:
        with raw(url, "door") as connection:
            told(connection)
            connection.send(write_message(frames[:5]))
            told(connection)
        with raw(url, "door", "next=0") as connection:
            assert told(connection)["frames"] == 5
            answers = [told(connection) for _ in range(5)] + ask(connection, frames[5:])
    np.testing.assert_array_equal(scores(answers), solo(frames))


@pytest.mark.parametrize(
    ("stream", "query", "reason"),
    [
        ("a%2Fb", "", None),
        ("..", "", "'..' cannot name a stream"),
        ("-x", "", "'-x' cannot name a stream: use 1 to 64 letters, digits, _ . -"),
        ("x" * 65, "", "a name of 65 characters cannot name a stream"),
        ("%C3%A9", "", "cannot name a stream"),
        ("door", "timed=yes", "timed must be true or false, got 'yes'"),
        ("door", "next=-1", "next must be the number of a frame, got '-1'"),
        ("door", f"next={'9' * 30}", "next must be the number of a frame"),
    ],
)
def test_a_connection_that_asks_for_nonsense_is_told_so(stream: str, query: str, reason: str | None) -> None:
    with running(detector(), settings()) as url:
        if reason is None:  # no address of a stream
            with pytest.raises(InvalidStatus), raw(url, stream, query):
                pass
            return
        with raw(url, stream, query) as connection:
            code, told_reason = ending(connection)
        assert code == Close.BAD_FRAME
        assert reason in told_reason


def test_a_stream_keeps_to_times_or_to_none() -> None:
    with running(detector(), settings()) as url:
        with raw(url, "door", "timed=true") as connection:
            told(connection)
            ask(connection, frames_of(1), times=[3.0])
        with raw(url, "door") as connection:
            assert ending(connection) == (Close.BAD_FRAME, "stream door began with timed=true; say so")
        with raw(url, "door", "fresh=true") as connection:
            assert told(connection)["timed"] is False
