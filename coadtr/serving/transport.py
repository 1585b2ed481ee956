"""The two protocols of uvicorn that a server speaks, with what a public port needs beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from coadtr.serving.connection import ABORT

if TYPE_CHECKING:
    import asyncio

    from websockets.http11 import Request

__all__ = ["HttpProtocol", "WebSocketProtocol"]

_CLOSE_SECONDS: Final = 2.0  # for a peer to answer that the connection is closed


class HttpProtocol(H11Protocol):
    """HTTP that does not wait forever for a request: a connection that says nothing holds a file descriptor."""

    handshake_seconds = 10.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Set the time until a request has to be there."""
        super().connection_made(transport)
        self._expiry = self.loop.call_later(self.handshake_seconds, self._expire)

    def _expire(self) -> None:
        # Once it is a WebSocket, the transport has another protocol.
        if self.cycle is None and self.transport.get_protocol() is self:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        self._expiry.cancel()
        super().connection_lost(exc)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSockets whose application may drop a connection that takes nothing any more."""

    def handle_connect(self, event: Request) -> None:
        """Begin, with a way to drop the connection, and little patience at its end."""
        self.close_timeout = _CLOSE_SECONDS
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)  # there is none if the handshake failed
        if scope is not None:
            scope["extensions"][ABORT] = self.transport.abort
