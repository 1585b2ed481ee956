"""What all kinds of connections have in common: they send, they receive, and they come to an end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from starlette.websockets import WebSocketDisconnect

from coadtr.serving.protocol import Close, Closing

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

__all__ = ["ABORT", "Connection", "OverError"]

# In the extensions of a connection's scope: drops it, whatever its peer has yet to take.
ABORT: Final = "coadtr.abort"

_CLOSE_SECONDS: Final = 2.0
# What sending and receiving raise once the peer is gone. Starlette's errors of a wrong order are RuntimeErrors.
_GONE: Final = (WebSocketDisconnect, RuntimeError, OSError)


class OverError(Exception):
    """A connection has come to its end: how to close it, or None if the client is gone."""

    def __init__(self, closing: Closing | None) -> None:
        super().__init__()
        self.closing = closing


class Connection:
    """Send, receive and close, with bounded patience.

    Args:
        websocket: The connection, accepted.
        idle_seconds: How long the client may take to say something, or to take something.
    """

    def __init__(self, websocket: WebSocket, idle_seconds: float) -> None:
        self._websocket, self._idle = websocket, idle_seconds

    async def send(self, message: str | bytes) -> None:
        """Send a message as soon as there is room for it.

        Raises:
            OverError: If the client is gone, or takes nothing.
        """
        websocket = self._websocket
        try:
            async with asyncio.timeout(self._idle):
                await (websocket.send_text(message) if isinstance(message, str) else websocket.send_bytes(message))
        except TimeoutError:
            raise OverError(Closing(Close.IDLE, f"answers were not taken in {self._idle:g} s")) from None
        except _GONE:
            raise OverError(None) from None

    async def receive(self, awaited: str | None = None) -> str | bytes:
        """Receive a message.

        Args:
            awaited: What has to come in time, in words; if None, the client may be silent for as long as it likes.

        Raises:
            OverError: If the client is gone, or silent for too long.
        """
        try:
            async with asyncio.timeout(None if awaited is None else self._idle):
                message = await self._websocket.receive()
        except TimeoutError:
            raise OverError(Closing(Close.IDLE, f"no {awaited} came in {self._idle:g} s")) from None
        except _GONE:
            raise OverError(None) from None
        if message["type"] == "websocket.disconnect":
            raise OverError(None)
        data: bytes | None = message.get("bytes")
        return data if data is not None else message.get("text") or ""

    async def close(self, closing: Closing) -> None:
        """Close it, and drop it if its peer does not take even that."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._websocket.close(closing.code, closing.short)
        except TimeoutError:
            if abort := self._websocket.scope.get("extensions", {}).get(ABORT):
                abort()
        except _GONE:
            pass
