"""Clients that leave, and servers that are told to go at once: what was received is taken and kept."""

from __future__ import annotations

import base64
import logging
import signal
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coadtr.runtime import OnlineDetector
from coadtr.serving import Limits, ServerSettings, bind, open_service, running, served
from coadtr.serving.protocol import write_message, write_picture
from coadtr.serving.server import _server
from tests.serving.leaky import detector, frames_of, solo
from tests.serving.seeing import ColourEyes, files_of, picturing, solo_pictures, times_of, watching
from tests.serving.talking import drained, eventually, get, raw, scores, settings, told
from tests.serving.test_limits import SlowStepper

END = '{"end": true}'


@pytest.mark.parametrize("together", [True, False])
def test_all_that_came_before_the_end_is_taken_though_the_client_left(together: bool) -> None:
    frames = frames_of(60)
    messages = [write_message(frames)] if together else [write_message(frame[None]) for frame in frames]
    with running(OnlineDetector(SlowStepper()), settings()) as url, watching(url, "door") as watcher:
        told(watcher)
        with raw(url, "door") as connection:
            told(connection)
            for message in messages:
                connection.send(message)
            connection.send(END)
        *answers, last = drained(watcher)
        assert eventually(lambda: get(f"{url}/v1/streams").json() == [])
    assert last["end"] == 60
    np.testing.assert_array_equal(scores(answers), solo(frames))


def test_all_pictures_before_the_end_are_looked_at_though_the_client_left() -> None:
    files, times = files_of(9), times_of(9)
    with running(detector(), settings(), ColourEyes()) as url, watching(url, "door") as watcher:
        told(watcher)
        with picturing(url, "door") as connection:
            told(connection)
            for file, moment in zip(files, times, strict=True):
                connection.send(write_picture(moment, file))
            connection.send(END)
        *answers, last = drained(watcher)
    assert last["end"] == 5
    np.testing.assert_array_equal(scores(answers), solo_pictures(files, times, ended=True))


def test_of_a_client_that_left_without_the_end_no_more_is_taken_than_is_kept_for_it() -> None:
    """What it comes back for are answers, of which few are kept."""
    limits = Limits(answers=20, waiting=4)
    with running(OnlineDetector(SlowStepper()), settings(limits=limits)) as url:
        with raw(url, "door") as connection:
            told(connection)
            connection.send(write_message(frames_of(200)))
            told(connection)
        with raw(url, "door", "next=1") as connection:
            hello = told(connection)
            assert hello["kept_from"] <= 1
            assert 1 < hello["frames"] < 20


def deaf(url: str) -> socket.socket:
    """Connect, send frames for as long as they are read, and read nothing."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.settimeout(20)
    connection.connect((host, int(port)))
    key = base64.b64encode(b"0123456789abcdef").decode()
    connection.sendall(
        f"GET /v1/streams/deaf HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):  # frames that come before the server has greeted may end the connection
        answer += connection.recv(1)
    connection.settimeout(0.5)
    message = write_message(frames_of(3000))
    head = b"\x82\xfe" + len(message).to_bytes(2, "big") + bytes(4)
    with pytest.raises(TimeoutError):  # the server reads no more
        connection.sendall((head + message) * 1000)
    return connection


def test_the_second_signal_stops_at_once_and_what_was_taken_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = ServerSettings(port=0, snapshots=tmp_path, shutdown_seconds=600.0, limits=Limits(frames_per_second=1e6))
    started = threading.Event()
    with ExitStack() as stack, caplog.at_level(logging.ERROR):
        listener = stack.enter_context(bind(chosen))
        service = open_service(detector(), chosen)
        server = _server(service, started.set)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        assert started.wait(20)
        url = "http://{}:{}".format(*listener.getsockname())
        stack.enter_context(deaf(url))
        server.handle_exit(signal.SIGTERM, None)
        time.sleep(0.3)
        assert thread.is_alive()
        server.handle_exit(signal.SIGTERM, None)
        thread.join(20)
        assert not thread.is_alive()
    assert "Traceback" not in caplog.text
    assert "Cancelled" not in caplog.text
    assert [record for record in caplog.records if record.exc_info] == []
    (snapshot,) = tmp_path.glob("snapshot-*")
    assert int(snapshot.stem.partition("-")[2]) == 2
    with running(detector(), settings(snapshots=tmp_path)) as url, raw(url, "deaf") as connection:
        assert told(connection)["frames"] > 0


def test_a_fault_while_snapshots_are_kept_is_told_and_got_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = settings(snapshots=tmp_path, snapshot_seconds=0.1)
    with ExitStack() as stack:
        listener = stack.enter_context(bind(chosen))
        service = open_service(detector(), chosen)
        capture, failing, tried = service.engine.capture, True, 0

        def captured() -> Any:
            nonlocal tried
            tried += 1
            if failing:
                raise MemoryError("no room")
            return capture()

        monkeypatch.setattr(service.engine, "capture", captured)
        url = stack.enter_context(served(service, listener))
        assert eventually(lambda: tried > 2)
        told_of = get(f"{url}/healthz").json()
        assert (told_of["status"], "no room" in told_of["reason"]) == ("degraded", True)
        failing = False
        assert eventually(lambda: get(f"{url}/healthz").json() == {"status": "ok"})
    assert "snapshots and old streams could not be seen to" in caplog.text


def test_a_fault_while_streams_are_forgotten_is_told_and_got_over() -> None:
    chosen = settings(limits=Limits(forget_seconds=0.1))
    with ExitStack() as stack:
        listener = stack.enter_context(bind(chosen))
        service = open_service(detector(), chosen)
        sweep, failing = service.board.sweep, True

        def swept(*arguments: Any, **named: Any) -> None:
            if failing:
                raise ValueError("a broom")
            sweep(*arguments, **named)

        service.board.sweep = swept  # type: ignore[method-assign]
        url = stack.enter_context(served(service, listener))
        assert eventually(lambda: get(f"{url}/healthz").json()["status"] == "degraded")
        failing = False
        assert eventually(lambda: get(f"{url}/healthz").json() == {"status": "ok"})
