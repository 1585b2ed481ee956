"""Run a service: on the main thread until a signal, or on a thread of its own for a while."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import uvicorn

from coadtr.errors import ConfigError
from coadtr.serving.app import create_app
from coadtr.serving.transport import HttpProtocol, WebSocketProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from coadtr.runtime import OnlineDetector
    from coadtr.serving.eyes import Eyes
    from coadtr.serving.service import Service
    from coadtr.serving.settings import ServerSettings

__all__ = ["address", "bind", "run", "running", "served"]

_BACKLOG = 512
_SEND_BYTES = 1 << 16
_PING_SECONDS = 20.0
_LOOK_SECONDS = 0.1  # from one look whether a second signal has come to the next


def bind(settings: ServerSettings) -> socket.socket:
    """Take the port, before anything slow is done.

    Raises:
        ConfigError: If it is taken, or the host has no such address.

    Example:
        >>> from coadtr.serving import ServerSettings
        >>> with bind(ServerSettings(port=0)) as listener:
        ...     listener.getsockname()[0]
        '127.0.0.1'
    """
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"host={host} is no address of this machine ({error.strerror}); try 127.0.0.1") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Of each connection: what lies here was sent and not taken. Answers are small, and few should wait.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        listener.bind(place)
        # From here on the port is ours, also against a server that has bound it and does not listen yet.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"port={port} on {host} cannot be had ({error.strerror}); choose another, or port=0 for any that is free"
        ) from error
    return listener


def address(listener: socket.socket) -> str:
    """Write where a listener is reached.

    Example:
        >>> from coadtr.serving import ServerSettings
        >>> with bind(ServerSettings(port=0)) as listener:
        ...     address(listener).startswith("http://127.0.0.1:")
        True
    """
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """A server that answers what it has received before it closes connections."""

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], object]) -> None:
        super().__init__(config)
        self._service, self._started = service, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell."""
        await super().startup(sockets)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, let all streams come to rest, then close."""
        for server in self.servers:
            server.close()
        stopping = asyncio.create_task(self._service.stop())
        while not (await asyncio.wait((stopping,), timeout=_LOOK_SECONDS))[0]:
            if self.force_exit:
                self._hurry()
        await stopping
        await super().shutdown(sockets)
        if self.force_exit:  # then uvicorn leaves the application as it is
            await self.lifespan.shutdown()

    def _hurry(self) -> None:
        self._service.hurry()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Stop at the first signal, at once at the second. To be told to stop is no error of a server."""
        self.force_exit = self.should_exit
        self.should_exit = True


def _server(service: Service, started: Callable[[], object]) -> _Server:
    limits = service.settings.limits

    class Http(HttpProtocol):
        handshake_seconds = limits.handshake_seconds

    config = uvicorn.Config(
        create_app(service),
        http=Http,
        ws=WebSocketProtocol,
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="error",  # a client that sends nonsense is counted, and not worth a line
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws_max_size=limits.message_bytes,
        # Features do not get smaller, and a small message that unpacks to a large one is an attack.
        ws_per_message_deflate=False,
        ws_ping_interval=_PING_SECONDS,
        # Who takes longer may be slowed down by us, and then the answer to the ping is behind the frames.
        ws_ping_timeout=None,
        timeout_graceful_shutdown=5,
    )
    return _Server(config, service, started)


def run(service: Service, listener: socket.socket, *, started: Callable[[], object] = lambda: None) -> None:
    """Serve until SIGTERM or Ctrl-C; then answer what was received, keep the streams, and return.

    Args:
        service: What `open_service` has made.
        listener: What `bind` has made; closed at the end.
        started: Called as soon as connections are taken.
    """
    with listener:
        _server(service, started).run([listener])


@contextlib.contextmanager
def served(service: Service, listener: socket.socket) -> Iterator[str]:
    """Serve on a thread of this process, beside what the block does.

    Args:
        service: What `open_service` has made.
        listener: What `bind` has made; closed at the end.

    Yields:
        The server's address, such as ``http://127.0.0.1:8000``.

    Raises:
        ConfigError: If the server does not start.
    """
    started = threading.Event()
    server = _server(service, started.set)
    thread = threading.Thread(target=server.run, args=([listener],), name="coadtr-serve", daemon=True)
    with listener:
        thread.start()
        try:
            while not started.wait(0.05) and thread.is_alive():
                time.sleep(0)
            if not started.is_set():
                raise ConfigError("the server did not start; its log says why")
            yield address(listener)
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def running(detector: OnlineDetector, settings: ServerSettings, eyes: Eyes | None = None) -> Iterator[str]:
    """Serve on a thread of this process, for tests and notebooks.

    Args:
        detector: A detector without streams.
        settings: The server's; ``port=0`` takes any that is free.
        eyes: Make features of pictures, if the server is to take them.

    Yields:
        The server's address, such as ``http://127.0.0.1:8000``.
    """
    from coadtr.serving.service import open_service  # noqa: PLC0415

    with bind(settings) as listener, served(open_service(detector, settings, eyes), listener) as url:
        yield url
