"""Clients that are wrong, slow, large or mean, and one beside them that must not notice."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import numpy as np
import pytest

from coadtr.serving import Answer, Limits, ServerSettings, StreamClient, running
from coadtr.serving.protocol import write_picture
from tests.serving.leaky import CHANNELS, detector, frames_of, solo
from tests.serving.seeing import ColourEyes, encode, picture_of
from tests.serving.talking import get, raw, told

KEY = base64.b64encode(b"0123456789abcdef").decode()
UPGRADE = (
    "GET /v1/{stream} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LIMITS = Limits(idle_seconds=0.4, handshake_seconds=0.3, message_bytes=2000, streams=40)


@contextmanager
def undisturbed(limits: Limits = LIMITS) -> Iterator[tuple[str, int]]:
    """Run a server whose one good stream must be answered as it is alone, whatever the block does to the server."""
    frames = frames_of(2000)
    answers: list[Answer] = []
    stop = threading.Event()
    with running(detector(), ServerSettings(port=0, limits=limits), ColourEyes()) as url:

        def push() -> None:
            with StreamClient(url, "good") as client:
                while not stop.is_set() or len(answers) < 20:
                    answers.append(client.push(frames[len(answers)]))
                    time.sleep(0.005)

        good = threading.Thread(target=push)
        good.start()
        try:
            yield url, int(url.rpartition(":")[2])
        finally:
            stop.set()
            good.join()
        assert get(f"{url}/healthz").json() == {"status": "ok"}
    assert [answer.frame for answer in answers] == list(range(len(answers)))
    found = np.array([answer.scores for answer in answers])
    np.testing.assert_allclose(found, solo(frames[: len(answers)]), atol=1e-6)


def frame(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """Write a WebSocket frame, a wrong one too."""
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size)
    if not masked:
        return bytes([first]) + length + payload
    mask = os.urandom(4)
    return bytes([first, length[0] | 0x80]) + length[1:] + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


@contextmanager
def bare(port: int, stream: str = "", kind: str = "streams") -> Iterator[socket.socket]:
    """Open a TCP connection; upgrade it if a stream is named."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        if stream:
            connection.sendall(UPGRADE.format(stream=f"{kind}/{stream}").encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 101")
        yield connection


def closed(connection: socket.socket) -> bool:
    """Whether the server ends a connection before the time-out of its socket."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


def send_on(connection: socket.socket, data: bytes) -> None:
    """Send the same again and again, until that fails."""
    while True:
        connection.sendall(data)


WHOLE = frames_of(1).tobytes()
WRONG = {
    "not masked": frame(2, WHOLE, masked=False),
    "reserved bits": frame(2, WHOLE, reserved=5),
    "unknown opcode": frame(11, b"?"),
    "continuation of nothing": frame(0, WHOLE),
    "a frame inside a message": frame(2, WHOLE, fin=False) + frame(2, WHOLE),
    "text that is not UTF-8": frame(1, b"\xff\xfe"),
    "a long ping": frame(9, b"x" * 126),
    "a ping in pieces": frame(9, b"x", fin=False),
    "a close of one byte": frame(8, b"x"),
    "a close with a wrong code": frame(8, struct.pack(">H", 999)),
    "a huge length": b"\x82\xff" + struct.pack(">Q", 2**62) + b"abcd",
    "pieces beyond the limit": frame(2, b"x" * 1000, fin=False) + frame(0, b"x" * 1001),
    "half a frame of values": frame(2, WHOLE[:7]),
    "not finite": frame(2, struct.pack("<5f", *[float("inf")] * CHANNELS)),
    "JSON": frame(1, b'{"scores": [1]}'),
    "nested JSON": frame(1, b"[" * 1900),
    "another protocol": b"GET / HTTP/1.1\r\n\r\n",
}


def test_what_breaks_the_protocol_ends_its_own_connection() -> None:
    with undisturbed() as (_, port), contextlib.ExitStack() as stack:
        connections = [stack.enter_context(bare(port, f"wrong-{index}")) for index in range(len(WRONG))]
        for connection, data in zip(connections, WRONG.values(), strict=True):
            connection.sendall(data)
        for connection in connections:
            assert closed(connection)


@pytest.mark.parametrize("kind", ["watch", "pictures"])
def test_what_breaks_the_protocol_ends_its_own_connection_of_any_kind(kind: str) -> None:
    rng = np.random.default_rng(4)
    picture = frame(2, write_picture(0.0, encode(picture_of(0))))
    wrong = [*WRONG.values(), picture[:-9] + b"123456789", *(frame(2, rng.bytes(300)) for _ in range(8))]
    with undisturbed() as (_, port), contextlib.ExitStack() as stack:
        for index in range(0, len(wrong), 8):  # no more pictures than the limit says
            parts = wrong[index : index + 8]
            names = [f"wrong-{index + place}" for place in range(len(parts))]
            connections = [stack.enter_context(bare(port, name, kind)) for name in names]
            for connection, data in zip(connections, parts, strict=True):
                connection.sendall(picture + data if kind == "pictures" else data)
            for connection in connections:
                connection.shutdown(socket.SHUT_WR)
                assert closed(connection)


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_end_their_own_connection(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with undisturbed() as (_, port):
        for index in range(25):
            with bare(port, f"random-{index}" if index % 2 else "") as connection:
                with contextlib.suppress(OSError):
                    connection.sendall(rng.bytes(int(rng.integers(1, 3000))))
                    if index % 3 == 0:
                        connection.shutdown(socket.SHUT_WR)
                # What happens to be the beginning of something is waited for, though not for long.
                assert closed(connection)


def test_messages_changed_at_random_are_answered_or_refused() -> None:
    rng = np.random.default_rng(9)
    with undisturbed() as (_, port):
        for index in range(24):
            data = bytearray(frame(2, WHOLE) * 2 + frame(8, struct.pack(">H", 1000)))
            for _ in range(int(rng.integers(1, 4))):
                data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
            with bare(port, f"changed-{index % 12}") as connection:
                with contextlib.suppress(OSError):
                    connection.sendall(data)
                assert closed(connection)


def test_connections_that_say_nothing_or_half_of_it_are_dropped() -> None:
    with undisturbed() as (_, port), contextlib.ExitStack() as stack:
        said = [b"", b"G", b"GET / HTTP/1.1\r\nHost: he", UPGRADE.format(stream="streams/x").encode()[:-2]]
        silent = [stack.enter_context(bare(port)) for _ in range(20)]
        for index, connection in enumerate(silent):
            connection.sendall(said[index % 4])
        halves = [stack.enter_context(bare(port, f"half-{index}")) for index in range(8)]
        for connection in halves:
            connection.sendall(frame(2, WHOLE)[:9])
        for connection in (*silent, *halves):
            assert closed(connection)


def test_a_message_that_comes_byte_by_byte_is_not_waited_for() -> None:
    with undisturbed() as (_, port), bare(port, "slow") as connection:
        data = frame(2, b"x" * 1500)
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            for index in range(len(data)):
                connection.sendall(data[index : index + 1])
                time.sleep(0.01)
        assert closed(connection)
        assert time.monotonic() - begun < 10


@pytest.mark.slow
def test_a_client_that_takes_no_answers_is_dropped() -> None:
    with undisturbed(replace(LIMITS, frames_per_second=1e6)) as (url, port):
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.settimeout(20)
            deaf.connect(("127.0.0.1", port))
            deaf.sendall(UPGRADE.format(stream="streams/deaf").encode())
            flood = frame(2, frames_of(20).tobytes()) * 50
            with pytest.raises(ConnectionError):  # the server takes no more, and then ends it
                send_on(deaf, flood)
        text = get(f"{url}/metrics").text
        assert 'coadtr_rejected_total{reason="idle"} 1.0' in text
        with raw(url, "after") as other:
            assert told(other)["frames"] == 0


def test_a_client_that_never_waits_is_held_back() -> None:
    with undisturbed() as (url, port), bare(port, "flood") as connection:
        connection.settimeout(1)
        begun = time.monotonic()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        with pytest.raises(TimeoutError):  # the server reads no more
            send_on(connection, frame(2, frames_of(20).tobytes()) * 50)
        streams = get(f"{url}/v1/streams").json()
        taken = next(stream["frames"] for stream in streams if stream["name"] == "flood")
        assert 0 < taken <= LIMITS.frames_per_second * (1 + time.monotonic() - begun) + 1


def test_many_that_come_and_go_leave_nothing_behind() -> None:
    with undisturbed() as (url, port):
        for index in range(120):
            with bare(port, f"brief-{index}") as connection:
                if index % 2:
                    connection.sendall(frame(2, WHOLE[: index % 20]))
        limit = time.monotonic() + 10
        while time.monotonic() < limit:
            streams = get(f"{url}/v1/streams").json()
            if [stream["name"] for stream in streams] == ["good"]:
                break
            time.sleep(0.05)
        assert [stream["name"] for stream in streams] == ["good"]


def test_wrong_requests_get_wrong_answers_alone() -> None:
    with undisturbed() as (url, _), httpx.Client(base_url=url, trust_env=False) as client:
        for kind in ("streams", "watch", "pictures"):
            assert client.get(f"/v1/{kind}/door").status_code == 404
        assert client.get("/../../etc/passwd").status_code == 404
        assert client.get("/%2e%2e/settings.py").status_code == 404
        assert client.post("/healthz", content=b"x" * 100_000).status_code == 405
        assert client.get("/healthz", headers={"X": "y" * 2_000_000}).status_code in (400, 431)
        assert client.get("/openapi.json").status_code == 404
        assert client.get("/docs").status_code == 404
