"""Watching streams: everybody hears what a stream's client hears, and no stream notices."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from coadtr.errors import DataError
from coadtr.serving import Board, Limits, ServerSettings, Service, bind, open_service, running, served
from coadtr.serving import board as board_module
from coadtr.serving.board import WAITING, Watcher
from coadtr.serving.images import read_image
from coadtr.serving.protocol import Close, Closing, answer_text, end_text, read_picture, write_message, write_picture
from tests.serving.leaky import CLASSES, detector, frames_of, solo
from tests.serving.seeing import ColourEyes, encode, files_of, picture_of, picturing, show, watching
from tests.serving.talking import ask, drained, ending, eventually, get, raw, scores, settings, told

TOKEN = "s3cret"  # noqa: S105 - of a test
JPEG = encode(picture_of(0))


def take(connection: ClientConnection, count: int) -> list[dict[str, Any]]:
    """Receive so many texts."""
    return [told(connection) for _ in range(count)]


def text_of(frame: int) -> str:
    """Write an answer."""
    return answer_text(frame, frame / 5, np.array([0.5, 0.25, 0.25], np.float32), [])


@contextmanager
def program(eyes: ColourEyes | None = None, **changes: Any) -> Iterator[tuple[str, Service]]:
    """Run a server in a program that shows streams of its own."""
    chosen = settings(**changes)
    service = open_service(detector(), chosen, eyes)
    with served(service, bind(chosen)) as url:
        yield url, service


def test_who_watches_hears_what_the_client_hears() -> None:
    frames = frames_of(30)
    with running(detector(), settings()) as url, raw(url, "door") as connection:
        told(connection)
        answers = ask(connection, frames[:10])
        with watching(url, "door") as watcher:
            hello = told(watcher)
            assert take(watcher, 10) == answers
            answers += ask(connection, frames[10:20])
            with watching(url, "door") as later:
                told(later)
                assert take(later, 20) == answers
                answers += ask(connection, frames[20:])
                assert take(watcher, 20) == answers[10:]
                connection.send('{"end": true}')
                last = told(connection)
                assert take(later, 11) == [*answers[20:], last]
            assert told(watcher) == last
            assert ending(watcher) == (Close.NORMAL, "the stream has ended")
        model = get(f"{url}/v1/model").json()
    assert hello == {"hello": "coadtr", "watch": "door", **model}
    assert (hello["classes"], hello["pictures"]) == (list(CLASSES), None)
    np.testing.assert_array_equal(scores(answers), solo(frames))


def test_a_stream_may_be_watched_before_it_is_there() -> None:
    frames = frames_of(3)
    with running(detector(), settings()) as url, watching(url, "door") as watcher:
        told(watcher)
        with pytest.raises(TimeoutError):
            watcher.recv(timeout=0.1)
        assert get(f"{url}/v1/streams").json() == []
        with raw(url, "door") as connection:
            told(connection)
            answers = ask(connection, frames)
        assert take(watcher, 3) == answers


def test_no_more_answers_are_kept_than_the_limit_says() -> None:
    with running(detector(), settings(limits=Limits(answers=4))) as url, raw(url, "door") as connection:
        told(connection)
        answers = ask(connection, frames_of(9))
        with watching(url, "door") as watcher:
            told(watcher)
            assert take(watcher, 4) == answers[-4:]


def test_a_stream_that_begins_anew_is_watched_from_its_beginning() -> None:
    frames = frames_of(4)
    with running(detector(), settings()) as url:
        with raw(url, "door") as connection:
            told(connection)
            before = ask(connection, frames)
        with watching(url, "door") as watcher:
            told(watcher)
            take(watcher, 4)
            with raw(url, "door", "fresh=true") as connection:
                told(connection)
                answers = ask(connection, frames[:2])
                with watching(url, "door") as later:
                    told(later)
                    assert take(later, 2) == answers
            assert take(watcher, 2) == answers == before[:2]


def test_watchers_do_not_change_what_they_watch() -> None:
    inputs = {f"camera-{index}": frames_of(60, index) for index in range(4)}
    found: dict[str, list[dict[str, Any]]] = {}
    heard: dict[tuple[str, int], list[dict[str, Any]]] = {}

    def serve(name: str, url: str) -> None:
        with raw(url, name) as connection:
            told(connection)
            found[name] = ask(connection, inputs[name])
            connection.send('{"end": true}')
            found[name].append(told(connection))

    def listen(key: tuple[str, int], url: str, ready: threading.Barrier) -> None:
        with watching(url, key[0], "pictures=true") as watcher:
            told(watcher)
            ready.wait()
            heard[key] = list(drained(watcher))

    with running(detector(), settings()) as url:
        ready = threading.Barrier(4 * 8 + 1)
        keys = [(name, index) for name in inputs for index in range(8)]
        watchers = [threading.Thread(target=listen, args=(key, url, ready)) for key in keys]
        for thread in watchers:
            thread.start()
        ready.wait()
        assert "coadtr_watchers 32.0" in get(f"{url}/metrics").text
        streams = [threading.Thread(target=serve, args=(name, url)) for name in inputs]
        for thread in (*streams, *watchers):
            if thread in streams:
                thread.start()
        for thread in (*streams, *watchers):
            thread.join()
        assert eventually(lambda: "coadtr_watchers 0.0" in get(f"{url}/metrics").text)
    for name, frames in inputs.items():
        np.testing.assert_allclose(scores(found[name][:-1]), solo(frames), atol=1e-6)
        assert all(heard[name, index] == found[name] for index in range(8))


def test_a_stream_that_a_restart_brings_back_can_be_watched(tmp_path: Path) -> None:
    with running(detector(), settings(snapshots=tmp_path)) as url, raw(url, "door") as connection:
        told(connection)
        answers = ask(connection, frames_of(5))
    with running(detector(), settings(snapshots=tmp_path)) as url, watching(url, "door") as watcher:
        told(watcher)
        assert take(watcher, 5) == answers


def test_the_pictures_of_a_client_are_shown_to_those_who_want_them() -> None:
    files = files_of(4)
    files[1] = encode(picture_of(1), "PNG")
    with (
        running(detector(), settings(), ColourEyes()) as url,
        watching(url, "door", "pictures=true") as watcher,
        watching(url, "door") as other,
        picturing(url, "door") as connection,
    ):
        for one in (watcher, other, connection):
            told(one)
        for index, file in enumerate(files):
            show(connection, [file], [index / 10])
            moment, jpeg = read_picture(next(message for message in received(watcher) if isinstance(message, bytes)))
            assert moment == index / 10
            assert np.abs(read_image(jpeg).astype(int) - picture_of(index)).max() <= 6
        assert [message["frame"] for message in take(other, 2)] == [0, 1]
        (stream,) = get(f"{url}/v1/streams").json()
        assert (stream["name"], stream["live"], stream["connected"]) == ("door", True, True)
        with watching(url, "door", "pictures=true") as late:
            told(late)
            assert [json.loads(late.recv(timeout=20))["frame"] for _ in range(2)] == [0, 1]
            assert late.recv(timeout=20) == write_picture(0.3, jpeg)


def received(connection: ClientConnection) -> Iterator[str | bytes]:
    """Receive whatever comes."""
    while True:
        yield connection.recv(timeout=20)


def test_a_program_shows_a_stream_of_its_own() -> None:
    with program() as (url, service), watching(url, "yard", "pictures=true") as watcher:
        told(watcher)
        board = service.board
        assert board.watched("yard")
        assert not board.watched("door")

        def publish() -> None:
            board.answer("yard", text_of(0))
            board.live("yard", {"lag": 0.25, "source": "a file"})

        thread = threading.Thread(target=publish)
        thread.start()
        assert told(watcher) == json.loads(text_of(0))
        assert told(watcher) == {"live": {"lag": 0.25, "source": "a file"}}
        thread.join()
        board.picture("yard", 0.2, JPEG)
        assert watcher.recv(timeout=20) == write_picture(0.2, JPEG)
        assert get(f"{url}/v1/streams").json() == [
            {"name": "yard", "frames": 1, "time": 0.0, "connected": True, "live": True}
        ]
        with raw(url, "yard") as connection:
            assert ending(connection) == (
                Close.IN_USE,
                "stream yard is fed by the server's own program; take another name",
            )
        board.end("yard", end_text(1, []))
        assert told(watcher) == {"end": 1, "events": []}
        assert ending(watcher) == (Close.NORMAL, "the stream has ended")
        assert get(f"{url}/v1/streams").json() == []
        with watching(url, "yard", "pictures=true") as late:
            told(late)
            assert take(late, 2) == [json.loads(text_of(0)), {"live": {"lag": 0.25, "source": "a file"}}]
            assert late.recv(timeout=20) == write_picture(0.2, JPEG)
            assert told(late) == {"end": 1, "events": []}
            assert ending(late)[0] == Close.NORMAL
        with raw(url, "yard") as connection:  # the name is free again
            told(connection)
            answers = ask(connection, frames_of(1))
        with watching(url, "yard") as later:
            told(later)
            assert told(later) == answers[0]


def test_a_program_reserves_the_name_of_its_stream() -> None:
    with program(ColourEyes()) as (url, service), watching(url, "yard") as watcher:
        told(watcher)
        service.board.reserve("yard")
        reason = "stream yard is fed by the server's own program; take another name"
        for query in ("", "takeover=true", "fresh=true"):
            with raw(url, "yard", query) as connection:
                assert ending(connection) == (Close.IN_USE, reason)
            with picturing(url, "yard", query) as connection:
                assert ending(connection) == (Close.IN_USE, reason)
        assert get(f"{url}/v1/streams").json() == []
        service.board.answer("yard", text_of(0))
        assert told(watcher) == json.loads(text_of(0))
        service.board.end("yard", end_text(1, []))
        assert told(watcher) == {"end": 1, "events": []}
        with raw(url, "yard") as connection:
            assert ending(connection)[0] == Close.IN_USE
        with raw(url, "door") as connection:
            assert told(connection)["stream"] == "door"
        with pytest.raises(DataError, match="'front door' cannot name a stream: use 1 to 64 letters"):
            service.board.reserve("front door")


def test_only_who_brings_the_token_watches() -> None:
    with running(detector(), settings(token=TOKEN)) as url:
        with pytest.raises(InvalidStatus, match="401"), watching(url, "door", "token=wrong"):
            pass
        with watching(url, "door", additional_headers={"Origin": url}) as watcher:
            assert ending(watcher) == (Close.UNAUTHORISED, "a token is needed: give it as ?token=...")
        with watching(url, "door", f"token={TOKEN}", additional_headers={"Origin": "http://other"}) as watcher:
            assert ending(watcher)[0] == Close.FORBIDDEN
        with watching(url, "door", f"token={TOKEN}", additional_headers={"Origin": url}) as watcher:
            assert told(watcher)["watch"] == "door"


@pytest.mark.parametrize(
    ("stream", "query", "reason"),
    [("..", "", "'..' cannot name a stream"), ("door", "pictures=1", "pictures must be true or false, got '1'")],
)
def test_a_connection_that_asks_for_nonsense_is_told_so(stream: str, query: str, reason: str) -> None:
    with running(detector(), settings()) as url, watching(url, stream, query) as watcher:
        code, told_reason = ending(watcher)
    assert code == Close.BAD_FRAME
    assert reason in told_reason


@pytest.mark.parametrize("message", ["hello", '{"end": true}', b"", b"frames"])
def test_who_watches_says_nothing(message: str | bytes) -> None:
    frames = frames_of(4)
    with running(detector(), settings()) as url, raw(url, "door") as connection:
        told(connection)
        answers = ask(connection, frames[:2])
        with watching(url, "door") as watcher:
            told(watcher)
            watcher.send(message)
            assert ending(watcher) == (
                Close.BAD_FRAME,
                "who watches has nothing to send; close the connection to leave",
            )
        answers += ask(connection, frames[2:])
    np.testing.assert_array_equal(scores(answers), solo(frames))


def test_no_more_watch_than_the_limit() -> None:
    with running(detector(), settings(limits=Limits(watchers=2))) as url:
        with watching(url, "a") as one, watching(url, "b") as two:
            told(one)
            told(two)
            with watching(url, "a") as three:
                assert ending(three) == (Close.TOO_MANY, "2 connections watch, the limit; try again later")
        assert eventually(lambda: _greeted(url))


def _greeted(url: str) -> bool:
    with watching(url, "a") as watcher:
        return "watch" in next(drained(watcher), {})


def test_stopping_lets_those_who_watch_go_after_the_last_answer() -> None:
    frames = frames_of(12)
    with ExitStack() as server:
        url = server.enter_context(running(detector(), settings()))
        with raw(url, "door") as connection, watching(url, "door") as watcher, watching(url, "other") as idle:
            for one in (connection, watcher, idle):
                told(one)
            connection.send(write_message(frames))
            told(connection)
            stopping = threading.Thread(target=server.close)
            stopping.start()
            assert len(take(watcher, 12)) == 12
            for one in (watcher, idle):
                assert ending(one) == (Close.STOPPING, "the server is stopping; connect again later")
            stopping.join()


def test_streams_that_are_forgotten_leave_and_their_watchers_wait() -> None:
    with running(detector(), settings(limits=Limits(forget_seconds=0.2))) as url, watching(url, "door") as watcher:
        told(watcher)
        with raw(url, "door") as connection:
            told(connection)
            answers = ask(connection, frames_of(2))
        assert take(watcher, 2) == answers
        assert eventually(lambda: get(f"{url}/v1/streams").json() == [])
        with raw(url, "door") as connection:
            told(connection)
            assert ask(connection, frames_of(2)) == answers
            with watching(url, "door") as later:
                told(later)
                assert take(later, 2) == answers
        assert take(watcher, 2) == answers


@pytest.mark.slow
def test_who_takes_nothing_is_let_go_and_nobody_else_waits() -> None:
    frames = frames_of(4000)
    limits = Limits(frames_per_second=1e6, idle_seconds=2.0, answers=4)
    key = base64.b64encode(b"0123456789abcdef").decode()
    with running(detector(), settings(limits=limits)) as url, raw(url, "door") as connection, socket.socket() as deaf:
        told(connection)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        deaf.sendall(
            f"GET /v1/watch/door HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert eventually(lambda: "coadtr_watchers 1.0" in get(f"{url}/metrics").text)
        answers = []
        for index in range(0, len(frames), 16):
            connection.send(write_message(frames[index : index + 16]))
            answers += take(connection, 16)
        assert eventually(lambda: 'coadtr_rejected_total{reason="idle"} 1.0' in get(f"{url}/metrics").text)
        assert "coadtr_watchers 0.0" in get(f"{url}/metrics").text
    np.testing.assert_allclose(scores(answers), solo(frames), atol=1e-6)


def waiting(watcher: Watcher) -> list[Any]:
    """Take what waits for a watcher."""

    async def all_of_it() -> list[Any]:
        found = []
        while True:
            try:
                found.append(await asyncio.wait_for(watcher.next(), 0.05))
            except TimeoutError:
                return found

    return asyncio.get_event_loop().run_until_complete(all_of_it())


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Have an event loop."""
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield made
    asyncio.set_event_loop(None)
    made.close()


def watcher_of(loop: asyncio.AbstractEventLoop, *first: str, pictures: bool = True) -> Watcher:
    """Make a watcher."""

    async def make() -> Watcher:
        return Watcher(list(first), pictures=pictures)

    return loop.run_until_complete(make())


def test_of_pictures_that_wait_only_the_newest_is_shown(loop: asyncio.AbstractEventLoop) -> None:
    watcher = watcher_of(loop, "a")
    for index in range(5):
        watcher.show(bytes([index]))
        watcher.tell(str(index))
    assert waiting(watcher) == ["a", "0", "1", "2", "3", "4", b"\4"]


def test_no_more_texts_wait_than_the_limit(loop: asyncio.AbstractEventLoop) -> None:
    watcher = watcher_of(loop, *"abc")
    for index in range(WAITING):
        watcher.tell(str(index))
    assert len(waiting(watcher)) == WAITING + 3
    for index in range(WAITING + 4):
        watcher.tell(str(index))
    watcher.show(b"picture")
    (closing,) = [item for item in waiting(watcher) if not isinstance(item, bytes)]
    assert closing == Closing(Close.IDLE, "256 texts were not taken; read them faster")


def test_nothing_is_told_after_the_end(loop: asyncio.AbstractEventLoop) -> None:
    watcher, over = watcher_of(loop), Closing(Close.NORMAL, "over")
    for index in range(WAITING):
        watcher.tell(str(index))
    watcher.tell(over)  # the end has always room
    watcher.tell("late")
    assert waiting(watcher)[WAITING:] == [over]


def test_texts_from_many_threads_all_come(loop: asyncio.AbstractEventLoop) -> None:
    watcher = watcher_of(loop)
    found: list[Any] = []

    async def listen() -> None:
        while len(found) < 8 * 200:
            found.append(await watcher.next())

    def speak(name: int) -> None:
        for index in range(200):
            watcher.tell(f"{name}-{index}")
            if index % 20 == 0:
                time.sleep(0.002)

    threads = [threading.Thread(target=speak, args=(name,)) for name in range(8)]
    watcher._most = 10_000
    for thread in threads:
        thread.start()
    loop.run_until_complete(asyncio.wait_for(listen(), 20))
    for thread in threads:
        thread.join()
    for name in range(8):
        assert [text for text in found if text.startswith(f"{name}-")] == [f"{name}-{index}" for index in range(200)]


def test_a_watcher_whose_loop_is_gone_disturbs_nobody() -> None:
    made = asyncio.new_event_loop()
    watcher = watcher_of(made)
    assert made.run_until_complete(_wait_a_little(watcher)) is None
    made.close()
    watcher.tell("nobody hears this")
    watcher.show(b"nor sees that")
    assert list(watcher._items) == ["nobody hears this"]


async def _wait_a_little(watcher: Watcher) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watcher.next(), 0.01)


def test_the_board_keeps_ends_for_a_while_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(answers=2)
    board.answer("first", text_of(0))
    for index in range(40):
        board.end(f"stream-{index}", end_text(0, []))
    board.end("first", end_text(1, []))
    assert len(board._shown) == 16
    assert list(board._shown)[-1] == "first"
    board.answer("on", text_of(4))
    assert (board.has("on"), board.has("first"), board.has("nobody")) == (True, False, False)
    board.forget("first")
    board.sweep(100.0, spared=())
    assert len(board._shown) == 17
    monkeypatch.setattr(board_module, "_ENDED_SECONDS", -1.0)
    board.sweep(100.0, spared=())
    assert list(board._shown) == ["on"]
    board.sweep(-1.0, spared={"on"})
    assert board.has("on")
    board.sweep(-1.0, spared=())
    assert board.streams() == []


def test_what_the_board_lists() -> None:
    board = Board(answers=0)
    board.answer("a", text_of(6))
    board.picture("b", 0.5, JPEG)
    board.live("c", {"lag": 0.5})
    board.end("d", end_text(0, []))
    assert board.streams() == [
        {"name": "a", "frames": 7, "time": 1.2, "live": False},
        {"name": "b", "frames": 0, "time": None, "live": True},
        {"name": "c", "frames": 0, "time": None, "live": True},
    ]
    with pytest.raises(ValueError, match="Out of range float"):
        board.live("c", {"lag": float("nan")})


def test_files_come_with_what_browsers_are_to_allow_them() -> None:
    with running(detector(), settings()) as url:
        for path in ("/", "/client.js", "/index.html"):
            headers = get(url + path).headers
            assert headers["content-security-policy"] == (
                "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self' ws: wss:; "
                "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
            )
            assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
            again = get(url + path, headers={"If-None-Match": headers["etag"]})
            assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")


def test_a_service_is_served_beside_a_program() -> None:
    chosen = ServerSettings(port=0)
    with bind(chosen) as listener:
        with served(open_service(detector(), chosen), listener) as url:
            assert get(f"{url}/healthz").json() == {"status": "ok"}
        assert listener.fileno() == -1
