"""What goes over a connection, byte by byte and text by text; who may enter; how fast one may go."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coadtr.errors import ConfigError, DataError
from coadtr.runtime import Event
from coadtr.serving import Limits, ServerSettings
from coadtr.serving.access import may_enter, page_allowed
from coadtr.serving.answers import Answer
from coadtr.serving.pace import Pace
from coadtr.serving.protocol import (
    Close,
    Closing,
    answer_text,
    check_name,
    end_text,
    error_text,
    is_end,
    read_message,
    write_message,
)

FLOATS = st.floats(width=32)


@given(st.lists(st.tuples(st.floats(), FLOATS, FLOATS), min_size=1, max_size=5))
def test_frames_are_little_endian_numbers_one_after_the_other(rows: list[tuple[float, float, float]]) -> None:
    """The slow reference: each number packed on its own."""
    plain = b"".join(struct.pack("<ff", a, b) for _, a, b in rows)
    timed = b"".join(struct.pack("<dff", time, a, b) for time, a, b in rows)
    values = [row[1:] for row in rows]
    assert write_message(values) == plain or any(np.isnan(values).flat)
    frames, times = read_message(plain, 2, timed=False)
    np.testing.assert_array_equal(frames, np.array(values, np.float32))
    assert times is None
    frames, times = read_message(timed, 2, timed=True)
    np.testing.assert_array_equal(frames, np.array(values, np.float32))
    np.testing.assert_array_equal(times, [row[0] for row in rows])
    assert frames.flags.writeable, "a view of the message would keep all of it"


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_whole_frames_or_refused(data: bytes, timed: bool) -> None:
    size = 20 if timed else 12
    if data and len(data) % size == 0:
        assert read_message(data, 3, timed=timed)[0].shape == (len(data) // size, 3)
    else:
        parts = "8 bytes of time and 3 float32 values" if timed else "3 float32 values"
        with pytest.raises(DataError) as caught:
            read_message(data, 3, timed=timed)
        assert str(caught.value) == (f"a message has {len(data)} bytes; a frame is {size} ({parts}), send whole frames")


@given(st.lists(st.floats(0, 1, width=32), min_size=1), st.floats(allow_nan=False, allow_infinity=False))
def test_scores_and_times_come_back_bit_for_bit(scores: list[float], time: float) -> None:
    text = answer_text(3, time, np.array(scores, np.float32), [Event("start", 'a "b"', 1.5, 0.75)])
    answer = Answer.read(json.loads(text))
    assert answer.scores.tobytes() == np.array(scores, np.float32).tobytes()
    assert (answer.frame, answer.time) == (3, time)
    assert answer.events == (Event("start", 'a "b"', 1.5, 0.75),)


def test_other_texts_are_json_too() -> None:
    assert json.loads(error_text('not "finite"', 3)) == {"error": 'not "finite"', "frame": 3}
    assert json.loads(error_text("too long")) == {"error": "too long"}
    ended = json.loads(end_text(4, [Event("end", "lift", 0.8, 0.1)]))
    assert ended == {"end": 4, "events": [{"kind": "end", "class": "lift", "time": 0.8, "score": 0.1}]}


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ('{"end": true}', True),
        ('{"end":true}', True),
        ('{"end": true, "x": 1}', False),
        ('{"end": "true"}', False),
        ("true", False),
        ("", False),
        ("[" * 100_000, False),
        ('{"end": true}' + " " * 100, False),
    ],
)
def test_one_text_alone_ends_a_stream(text: str, ends: bool) -> None:
    assert is_end(text) is ends


def test_a_reason_fits_into_a_close_frame() -> None:
    assert Closing(Close.BAD_FRAME, "short").short == "short"
    cut = Closing(Close.BAD_FRAME, "ü" * 100).short
    assert cut == "ü" * 61
    assert len(cut.encode()) <= 123


@pytest.mark.parametrize("name", ["a", "door-2", "A.b_c", "7", "x" * 64])
def test_a_name_that_can_be_a_file_and_an_address(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "a b", "a/b", "é", "a\n", "x" * 65, "a\0"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="cannot name a stream: use 1 to 64 letters"):
        check_name(name)


@pytest.mark.parametrize(
    ("headers", "query", "enters"),
    [
        ({"authorization": "Bearer abc"}, {}, True),
        ({"authorization": "bearer  abc "}, {}, True),
        ({"authorization": "Bearer abcd"}, {}, False),
        ({"authorization": "Basic abc"}, {}, False),
        ({"authorization": "abc"}, {}, False),
        ({}, {"token": "abc"}, True),
        ({}, {"token": "ABC"}, False),
        ({}, {"token": "é"}, False),
        ({}, {}, False),
    ],
)
def test_the_token_is_wanted_whole(headers: dict[str, str], query: dict[str, str], enters: bool) -> None:
    assert may_enter("abc", headers, query) is enters
    assert may_enter(None, headers, query)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://here:8000", True),
        ("https://here:8000", True),
        ("http://here", False),
        ("http://here:8000.elsewhere.net", False),
        ("https://page.org", True),
        ("https://page.org.evil.net", False),
        ("null", False),
        ("", False),
    ],
)
def test_a_page_is_of_this_host_or_allowed(origin: str | None, allowed: bool) -> None:
    headers = {"host": "here:8000", **({} if origin is None else {"origin": origin})}
    assert page_allowed(headers, ["https://page.org/"]) is allowed


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60), st.sampled_from([0.5, 2.0, 10.0]))
def test_no_second_has_more_than_its_frames_and_those_saved_up(pauses: list[float], rate: float) -> None:
    pace, now, gone = Pace(rate, now=0.0), 0.0, []
    for pause in pauses:
        now += pause
        now += pace.wait(now=now)
        gone.append(now)
    for start in gone:
        assert sum(start <= moment < start + 1 - 1e-9 for moment in gone) <= 2 * max(rate, 1) + 1
    # In the long run it is the rate, and whoever keeps to it never waits.
    assert len(gone) <= rate * gone[-1] + max(rate, 1) + 1
    steady = Pace(rate, now=0.0)
    assert [steady.wait(now=index / rate) for index in range(50)] == [0.0] * 50


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"port": -1}, "port must be from 0 to 65535, got -1"),
        ({"host": ""}, "host must be an address"),
        ({"token": "  "}, "token must be printable ASCII characters, at least one"),
        ({"token": "tökén"}, "token must be printable ASCII"),
        ({"gather_seconds": -0.1}, "gather_seconds must be from 0 to 1, got -0.1"),
        ({"gather_seconds": float("nan")}, "gather_seconds must be from 0 to 1, got nan"),
        ({"snapshot_seconds": 0.0}, "snapshot_seconds must be a finite number above 0, got 0.0"),
        ({"shutdown_seconds": float("inf")}, "shutdown_seconds must be a finite number above 0, got inf"),
        ({"origins": ("example.org",)}, "origins must be like https://example.org, got 'example.org'"),
    ],
)
def test_a_setting_out_of_range_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ServerSettings(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": 0}, "streams must be at least 1, got 0"),
        ({"message_bytes": 0}, "message_bytes must be at least 1, got 0"),
        ({"waiting": 0}, "waiting must be at least 1, got 0"),
        ({"answers": -1}, "answers must be at least 0, got -1"),
        ({"frames_per_second": 0.0}, "frames_per_second must be a finite number above 0, got 0.0"),
        ({"idle_seconds": float("nan")}, "idle_seconds must be a finite number above 0, got nan"),
    ],
)
def test_a_limit_out_of_range_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Limits(**changes)  # type: ignore[arg-type]


def test_no_log_shows_the_token() -> None:
    shown = repr(ServerSettings(token="s3cret"))  # noqa: S106
    assert "s3cret" not in shown
    assert "port=8000" in shown
