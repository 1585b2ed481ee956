"""A server on loopback: who may enter, how much one may ask, what it tells of itself, and how it stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import InvalidStatus

from coadtr.errors import ConfigError
from coadtr.runtime import OnlineDetector
from coadtr.runtime.snapshots import Capture
from coadtr.serving import Limits, ServerSettings, bind, open_service, running
from coadtr.serving.protocol import Close, write_message
from tests.serving.leaky import RATE, LeakyStepper, detector, frames_of, solo
from tests.serving.talking import ask, drained, ending, eventually, get, raw, scores, settings, told

TOKEN = "s3cret"  # noqa: S105 - of a test


def test_only_who_brings_the_token_enters() -> None:
    with running(detector(), settings(token=TOKEN)) as url:
        for query in ("", "token=s3cre", "token=", "token=s3cretx"):
            with pytest.raises(InvalidStatus, match="401"), raw(url, "door", query):
                pass
        page = {"Origin": url}
        with raw(url, "door", "token=wrong", additional_headers=page) as connection:
            assert ending(connection) == (Close.UNAUTHORISED, "a token is needed: give it as ?token=...")
        for options in ({"query": "token=s3cret"}, {"additional_headers": {"Authorization": "Bearer s3cret"}}):
            with raw(url, "door", **options) as connection:
                assert told(connection)["stream"] == "door"
        for path in ("/metrics", "/v1/model", "/v1/streams"):
            assert get(url + path).status_code == 401
            assert get(url + path, headers={"Authorization": "Bearer nope"}).status_code == 401
            assert get(url + path, headers={"Authorization": "bearer s3cret"}).status_code == 200
        assert get(f"{url}/healthz").json() == {"status": "ok"}


def test_pages_of_other_hosts_may_not_connect_unless_allowed() -> None:
    with running(detector(), settings(origins=("https://example.org",))) as url:
        with raw(url, "door", additional_headers={"Origin": "https://elsewhere.net"}) as connection:
            assert ending(connection)[0] == Close.FORBIDDEN
        for origin in (url, "https://example.org"):
            with raw(url, "door", "takeover=true", additional_headers={"Origin": origin}) as connection:
                assert told(connection)["stream"] == "door"


def test_no_more_streams_than_the_limit() -> None:
    frames = frames_of(2)
    with running(detector(), settings(limits=Limits(streams=2))) as url:
        with raw(url, "a") as one, raw(url, "b") as two:
            told(one)
            told(two)
            ask(one, frames)
            with raw(url, "c") as three:
                assert ending(three)[0] == Close.TOO_MANY
        with raw(url, "a") as one, raw(url, "c") as three:  # b has had no frame: there is nothing to remember
            assert told(one)["frames"] == 2
            assert told(three)["frames"] == 0


def test_a_message_above_the_limit_is_refused() -> None:
    with running(detector(), settings(limits=Limits(message_bytes=100))) as url:
        with raw(url, "door") as connection:
            told(connection)
            connection.send(write_message(frames_of(5)))
            assert [told(connection)["frame"] for _ in range(5)] == list(range(5))
            connection.send(write_message(frames_of(6)))
            assert ending(connection)[0] == Close.TOO_BIG
        with raw(url, "door") as connection:
            assert told(connection)["frames"] == 5


def test_a_limit_that_no_frame_keeps_is_refused_at_the_start(tmp_path: Path) -> None:
    wanted = settings(limits=Limits(message_bytes=20), snapshots=tmp_path / "kept")
    with pytest.raises(
        ConfigError, match=r"limits.message_bytes=20 is less than one frame of 5 values; make it at least 28"
    ):
        open_service(detector(), wanted)
    assert list(tmp_path.iterdir()) == []


def test_silence_ends_a_connection() -> None:
    with running(detector(), settings(limits=Limits(idle_seconds=0.3))) as url, raw(url, "door") as connection:
        told(connection)
        assert ending(connection) == (Close.IDLE, "no frame came in 0.3 s")


def test_a_fast_client_is_slowed_down() -> None:
    frames = frames_of(50)
    with running(detector(), settings(limits=Limits(frames_per_second=20.0))) as url, raw(url, "door") as connection:
        told(connection)
        begun = time.monotonic()
        connection.send(write_message(frames))
        answers = [told(connection) for _ in frames]
        # A second's worth at once, the others 20 a second.
        assert time.monotonic() - begun >= (50 - 21) / 20
    np.testing.assert_array_equal(scores(answers), solo(frames))


def test_streams_that_nobody_comes_back_to_are_forgotten() -> None:
    with running(detector(), settings(limits=Limits(forget_seconds=0.2))) as url:
        with raw(url, "gone") as connection, raw(url, "here") as here:
            told(connection)
            told(here)
            ask(connection, frames_of(1))
            ask(here, frames_of(1))
            connection.close()
            assert eventually(lambda: [stream["name"] for stream in get(f"{url}/v1/streams").json()] == ["here"])
        with raw(url, "gone") as connection:
            assert told(connection)["frames"] == 0


def test_health_metrics_model_and_streams_are_told() -> None:
    frames = frames_of(7)
    with running(detector(), settings()) as url, raw(url, "door") as connection:
        hello = told(connection)
        ask(connection, frames)
        assert get(f"{url}/healthz").json() == {"status": "ok"}
        model = get(f"{url}/v1/model").json()
        assert {key: hello[key] for key in model} == model
        assert model["source"]["checkpoint"] == "leaky"
        (stream,) = get(f"{url}/v1/streams").json()
        assert stream == {"name": "door", "frames": 7, "time": 6 / RATE, "connected": True}
        with raw(url, "-") as refused:
            ending(refused)
        text = get(f"{url}/metrics").text
        page = get(url)
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines["coadtr_frames_total"]) == 7
    assert float(lines["coadtr_connections"]) == 1
    assert float(lines["coadtr_streams"]) == 1
    assert float(lines["coadtr_step_seconds_count"]) == 7
    assert float(lines["coadtr_waiting_seconds_count"]) == 7
    assert float(lines['coadtr_rejected_total{reason="bad_frame"}']) == 1
    assert page.status_code == 200
    assert "<title>coadtr" in page.text


def test_a_port_that_is_taken_is_told() -> None:
    with bind(settings()) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port={port} on 127.0.0.1 cannot be had \(Address already in use\)"):
            bind(ServerSettings(port=port))
    with pytest.raises(ConfigError, match=r"host=256.0.0.1 is no address of this machine"):
        bind(ServerSettings(host="256.0.0.1"))


class SlowStepper(LeakyStepper):
    """Takes a while, as a large model does."""

    def step(
        self, frames: NDArray[np.float32], state: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.float32], list[NDArray[Any]]]:
        """Take the next frame of each stream."""
        time.sleep(0.03)
        return super().step(frames, state)


def test_stopping_answers_what_was_received(tmp_path: Path) -> None:
    frames = frames_of(12)
    with ExitStack() as server:
        url = server.enter_context(running(OnlineDetector(SlowStepper()), settings(snapshots=tmp_path)))
        with raw(url, "door") as connection, raw(url, "yard") as silent:
            told(connection)
            told(silent)
            connection.send(write_message(frames))
            first = told(connection)
            stopping = threading.Thread(target=server.close)
            stopping.start()
            answers = [first] + [told(connection) for _ in range(11)]
            for one in (connection, silent):
                assert ending(one) == (Close.STOPPING, "the server is stopping; connect again later")
            stopping.join()
    np.testing.assert_array_equal(scores(answers), solo(frames))
    with running(detector(), settings(snapshots=tmp_path)) as url, raw(url, "door", "next=11") as connection:
        assert told(connection)["frames"] == 12
        assert told(connection) == answers[11]


def test_frames_are_answered_while_a_snapshot_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, begun, may_write = frames_of(20), threading.Event(), threading.Event()
    write = Capture.write

    def slowly(self: Capture, *where: Any, **what: Any) -> None:
        if threading.current_thread().name.startswith("coadtr-keep"):
            begun.set()
            assert may_write.wait(20)
        write(self, *where, **what)

    monkeypatch.setattr(Capture, "write", slowly)
    with ExitStack() as server:
        url = server.enter_context(running(detector(), settings(snapshots=tmp_path, snapshot_seconds=0.05)))
        with raw(url, "door") as connection:
            told(connection)
            answers = ask(connection, frames[:8])
            assert begun.wait(20)
            answers += ask(connection, frames[8:])
            stopping = threading.Thread(target=server.close)
            stopping.start()
            may_write.set()
            assert ending(connection)[0] == Close.STOPPING
            stopping.join()
    np.testing.assert_array_equal(scores(answers), solo(frames))
    assert len(list(tmp_path.glob("snapshot-*"))) == 1
    with running(detector(), settings(snapshots=tmp_path)) as url, raw(url, "door", "next=0") as connection:
        assert told(connection)["frames"] == 20
        assert [told(connection) for _ in frames] == answers


def test_a_server_that_cannot_answer_in_time_stops_all_the_same(tmp_path: Path) -> None:
    frames = frames_of(200)
    with ExitStack() as server:
        wanted = settings(snapshots=tmp_path, shutdown_seconds=0.2)
        url = server.enter_context(running(OnlineDetector(SlowStepper()), wanted))
        with raw(url, "door") as connection:
            told(connection)
            connection.send(write_message(frames))
            told(connection)
            stopping = threading.Thread(target=server.close)
            stopping.start()
            answers = list(drained(connection))
            stopping.join()
    assert 1 < len(answers) < 199
    with running(detector(), settings(snapshots=tmp_path)) as url, raw(url, "door", "next=1") as connection:
        taken = told(connection)["frames"]
        assert len(answers) < taken < 199
        again = [told(connection) for _ in range(taken - 1)] + ask(connection, frames[taken:])
    assert again[: len(answers)] == answers
    np.testing.assert_array_equal(scores(again), solo(frames)[1:])
