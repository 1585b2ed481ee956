"""One connection from its greeting to its end."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

from starlette.websockets import WebSocketDisconnect

from coadtr.errors import DataError
from coadtr.serving.engine import Frame
from coadtr.serving.pace import Pace
from coadtr.serving.protocol import Close, Closing, error_text, is_end, read_message

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

    from coadtr.serving.engine import Known
    from coadtr.serving.hub import Hub
    from coadtr.serving.lane import Lane
    from coadtr.serving.metrics import Metrics
    from coadtr.serving.settings import Limits

__all__ = ["ABORT", "Session", "close"]

# In the extensions of a connection's scope: drops it, whatever its peer has yet to take.
ABORT: Final = "coadtr.abort"

_CLOSE_SECONDS: Final = 2.0
_EVICT_SECONDS: Final = 1.0
# What sending and receiving raise once the peer is gone. Starlette's errors of a wrong order are RuntimeErrors.
_GONE: Final = (WebSocketDisconnect, RuntimeError, OSError)


class _OverError(Exception):
    """The connection has come to its end: how to close it, or None if the client is gone."""

    def __init__(self, closing: Closing | None) -> None:
        super().__init__()
        self.closing = closing


async def close(websocket: WebSocket, closing: Closing) -> None:
    """Close a connection, and drop it if its peer does not take even that."""
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await websocket.close(closing.code, closing.short)
    except TimeoutError:
        if abort := websocket.scope.get("extensions", {}).get(ABORT):
            abort()
    except _GONE:
        pass


class Session:
    """Read frames, send answers, until one side ends it.

    Args:
        websocket: The connection, accepted.
        lane: Its place in the hub.
        hub: Takes its frames.
        limits: What it may ask.
        metrics: What is counted.
        channels: Values D of a frame.
    """

    def __init__(
        self, websocket: WebSocket, lane: Lane, hub: Hub, limits: Limits, metrics: Metrics, *, channels: int
    ) -> None:
        self._websocket, self._lane, self._hub = websocket, lane, hub
        self._limits, self._metrics, self._channels = limits, metrics, channels
        self._pace = Pace(limits.frames_per_second, now=time.monotonic())
        self._between = False  # messages, when reading may stop at once

    async def run(self, greeting: dict[str, Any], known: Known | None, first: int | None) -> None:
        """Greet, converse, close.

        Args:
            greeting: What the client is told first.
            known: What is known of the stream.
            first: Number of the first frame whose answer the client lacks; None if it lacks none.
        """
        closing: Closing | None = Closing(Close.FAULT, "the server had an error; its log says which")
        try:
            await self._send(json.dumps(greeting, separators=(",", ":")))
            for text in known.answers_since(first) if known is not None and first is not None else []:
                await self._send(text)
            await self._converse()
        except _OverError as over:
            closing = over.closing
        finally:
            # First of all: another connection may wait for the stream.
            self._hub.detach(self._lane)
            if closing is not None:
                if closing.code not in (Close.NORMAL, Close.STOPPING):
                    self._metrics.rejected.labels(closing.code.name.lower()).inc()
                await close(self._websocket, closing)

    async def _converse(self) -> NoReturn:
        """Read and write until one of the two has come to an end.

        Raises:
            _OverError: When that is so.
        """
        reader, writer = asyncio.create_task(self._read()), asyncio.create_task(self._write())
        ended = asyncio.create_task(self._lane.until(lambda: self._lane.ended is not None))
        draining = asyncio.create_task(self._hub.draining.wait())
        finish = asyncio.create_task(self._finish(reader, draining))
        tasks = (reader, writer, ended, draining, finish)
        try:
            await asyncio.wait((writer, ended, finish), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():  # what was answered before is sent before, if the client takes it
                await asyncio.wait((writer,), timeout=_EVICT_SECONDS)
            if writer.done():
                writer.result()
            if self._lane.ended is None:
                finish.result()
            raise _OverError(self._lane.ended)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(self, reader: asyncio.Task[None], draining: asyncio.Task[Any]) -> None:
        """Let reading end; if it is because the server stops, say when all is answered."""
        await asyncio.wait((reader, draining), return_when=asyncio.FIRST_COMPLETED)
        if self._between:
            reader.cancel()
        await asyncio.wait((reader,))
        if not reader.cancelled():
            reader.result()
        await self._lane.answered()
        self._lane.quiet = True
        self._lane.stir()
        await asyncio.Event().wait()  # the hub ends the connection when all is kept

    async def _read(self) -> None:
        """Take messages until the server stops.

        Raises:
            _OverError: If the client is gone, or no more is taken of it.
        """
        while not self._hub.draining.is_set():
            self._between = True
            try:
                async with asyncio.timeout(self._limits.idle_seconds):
                    message = await self._websocket.receive()
            except TimeoutError:
                reason = f"no frame came in {self._limits.idle_seconds:g} s"
                raise _OverError(Closing(Close.IDLE, reason)) from None
            except _GONE:
                raise _OverError(None) from None
            self._between = False
            if message["type"] == "websocket.disconnect":
                raise _OverError(None)
            if (data := message.get("bytes")) is not None:
                await self._take(data)
            else:
                await self._control(message.get("text") or "")

    async def _take(self, data: bytes) -> None:
        received = time.monotonic()
        try:
            frames, times = read_message(data, self._channels, timed=self._lane.timed)
        except DataError as error:
            await self._refuse(str(error))
        for index, values in enumerate(frames):
            if (wait := self._pace.wait(now=time.monotonic())) > 0:
                await asyncio.sleep(wait)
            moment = None if times is None else times[index]
            if not await self._hub.put(self._lane, Frame(self._lane.stream, values, moment, received)):
                await asyncio.Event().wait()  # the server ends the connection, and this task with it

    async def _control(self, text: str) -> None:
        if not is_end(text):
            await self._refuse('a text is no frame; send binary messages, or {"end": true}')
        await self._lane.answered()
        await self._send(await self._hub.end(self._lane.stream))
        raise _OverError(Closing(Close.NORMAL, "the stream has ended"))

    async def _refuse(self, reason: str) -> NoReturn:
        """Answer what came before, then say why this cannot be taken."""
        await self._lane.answered()
        await self._send(error_text(reason))
        raise _OverError(Closing(Close.BAD_FRAME, reason))

    async def _write(self) -> NoReturn:
        """Send answers until the server ends the connection.

        Raises:
            _OverError: Then, or if the client is gone or takes no answers.
        """
        while True:
            answer = await self._lane.answers.get()
            if isinstance(answer, Closing):
                if answer.frame is not None:
                    await self._send(error_text(answer.reason, answer.frame))
                raise _OverError(answer)
            text, received = answer
            await self._send(text)
            self._metrics.answer_seconds.observe(time.monotonic() - received)
            self._lane.sent()

    async def _send(self, text: str) -> None:
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                await self._websocket.send_text(text)
        except TimeoutError:
            reason = f"answers were not taken in {self._limits.idle_seconds:g} s"
            raise _OverError(Closing(Close.IDLE, reason)) from None
        except _GONE:
            raise _OverError(None) from None
