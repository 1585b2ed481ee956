"""Talk to a server without any of the client's help."""

from __future__ import annotations

import contextlib
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from coadtr.serving import ServerSettings
from coadtr.serving.protocol import write_message

HTTPS = ssl.create_default_context()  # made once: it takes a second


@contextmanager
def raw(url: str, stream: str, query: str = "", **options: Any) -> Iterator[ClientConnection]:
    """Connect to a stream without any of the client's help; the greeting is not read."""
    place = f"{url.replace('http', 'ws')}/v1/streams/{stream}?{query}"
    with connect(place, compression=None, **options) as connection:
        yield connection


def told(connection: ClientConnection) -> dict[str, Any]:
    """Receive a text."""
    message: dict[str, Any] = json.loads(connection.recv(timeout=20))
    return message


def settings(**changes: Any) -> ServerSettings:
    """Make the settings of a server on any free port."""
    return ServerSettings(port=0, **changes)


def ask(connection: ClientConnection, frames: NDArray[Any], **times: Any) -> list[dict[str, Any]]:
    """Send frames, one a message, and receive their answers."""
    answers = []
    for index in range(len(frames)):
        moments = {name: values[index : index + 1] for name, values in times.items()}
        connection.send(write_message(frames[index : index + 1], **moments))
        answers.append(told(connection))
    return answers


def scores(answers: list[dict[str, Any]]) -> NDArray[Any]:
    """Stack the scores of answers."""
    return np.array([answer["scores"] for answer in answers], np.float32)


def ending(connection: ClientConnection) -> tuple[int, str]:
    """Read to the end of a connection: code and reason."""
    try:
        while True:
            connection.recv(timeout=20)
    except ConnectionClosed as closed:
        received = closed.rcvd
    assert received is not None
    return received.code, received.reason


def eventually(holds: Callable[[], bool]) -> bool:
    """Wait for something that another thread brings about."""
    limit = time.monotonic() + 10
    while not holds() and time.monotonic() < limit:
        time.sleep(0.01)
    return holds()


def get(place: str, **options: Any) -> httpx.Response:
    """Ask with GET."""
    return httpx.get(place, verify=HTTPS, trust_env=False, **options)


def send_behind(connection: ClientConnection, message: bytes | str) -> None:
    """Send something that the server may not wait for any more."""
    with contextlib.suppress(ConnectionClosed):
        connection.send(message)


def drained(connection: ClientConnection) -> Iterator[dict[str, Any]]:
    """Receive all answers that come before the end of a connection."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield told(connection)
