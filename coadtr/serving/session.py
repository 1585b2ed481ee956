"""One connection of a client that sends frames, from its greeting to its end."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

from coadtr.errors import DataError
from coadtr.serving.connection import OverError
from coadtr.serving.known import Frame
from coadtr.serving.pace import Pace
from coadtr.serving.protocol import Close, Closing, error_text, is_end, read_message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from coadtr.serving.connection import Connection
    from coadtr.serving.hub import Hub
    from coadtr.serving.known import Known
    from coadtr.serving.lane import Lane
    from coadtr.serving.metrics import Metrics
    from coadtr.serving.settings import Limits

__all__ = ["Session"]

_EVICT_SECONDS = 1.0


class Session:
    """Read frames, send answers, until one side ends it.

    Args:
        connection: The connection.
        lane: Its place in the hub.
        hub: Takes its frames.
        limits: What it may ask.
        metrics: What is counted.
        channels: Values D of a frame.
    """

    awaited = "frame"  # what a client sends, in words

    def __init__(
        self, connection: Connection, lane: Lane, hub: Hub, limits: Limits, metrics: Metrics, *, channels: int
    ) -> None:
        self._connection, self._lane, self._hub = connection, lane, hub
        self._limits, self._metrics, self._channels = limits, metrics, channels
        self._pace = Pace(limits.frames_per_second, now=time.monotonic())
        self._between = False  # messages, when reading may stop at once
        self._gone = False  # the client, and what it sent before may still be read
        self._ahead: deque[str | bytes] = deque()  # what was read of it then, up to the end of its stream

    async def run(self, greeting: dict[str, Any], known: Known | None, first: int | None) -> None:
        """Greet, converse, close.

        Args:
            greeting: What the client is told first.
            known: What is known of the stream.
            first: Number of the first frame whose answer the client lacks; None if it lacks none.
        """
        closing: Closing | None = Closing(Close.FAULT, "the server had an error; its log says which")
        try:
            await self._say(json.dumps(greeting, separators=(",", ":")))
            for text in known.answers_since(first) if known is not None and first is not None else []:
                await self._say(text)
            await self._converse()
        except OverError as over:
            closing = over.closing
        finally:
            # First of all: another connection may wait for the stream.
            self._hub.detach(self._lane)
            if closing is not None:
                if closing.code not in (Close.NORMAL, Close.STOPPING):
                    self._metrics.rejected.labels(closing.code.name.lower()).inc()
                await self._connection.close(closing)

    async def _converse(self) -> NoReturn:
        """Read and write until one of the two has come to an end.

        Raises:
            OverError: When that is so.
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
            raise OverError(self._lane.ended)
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
            OverError: If the client is gone, or no more is taken of it.
        """
        while not self._hub.draining.is_set():
            self._between = True
            message = self._ahead.popleft() if self._ahead else await self._connection.receive(self.awaited)
            self._between = False
            if isinstance(message, bytes):
                await self._take(message)
            else:
                await self._control(message)

    async def _take(self, data: bytes) -> None:
        received = time.monotonic()
        try:
            frames, times = read_message(data, self._channels, timed=self._lane.timed)
        except DataError as error:
            await self._refuse(str(error))
        for index, values in enumerate(frames):
            await self._turn()
            await self._put(values, None if times is None else times[index], received)

    async def _turn(self) -> None:
        """Wait until the next frame may be taken.

        Raises:
            OverError: If the client is gone, and comes back for what is not taken, or never.
        """
        if self._gone and not self._ahead:
            await self._read_ahead()
        if (wait := self._pace.wait(now=time.monotonic())) > 0:
            await asyncio.sleep(wait)

    async def _read_ahead(self) -> None:
        """Read all that a client sent before it left. If it ended its stream, that is taken too, else it is not.

        Raises:
            OverError: If it did not.
        """
        ended = False
        while not ended:
            message = await self._connection.receive(self.awaited)
            self._ahead.append(message)
            ended = isinstance(message, str) and is_end(message)

    async def _put(self, values: NDArray[np.float32], moment: float | None, received: float) -> None:
        if not await self._hub.put(self._lane, Frame(self._lane.stream, values, moment, received)):
            await asyncio.Event().wait()  # the server ends the connection, and this task with it

    async def _control(self, text: str) -> None:
        if not is_end(text):
            await self._refuse(f'a text is no {self.awaited}; send binary messages, or {{"end": true}}')
        await self._complete()
        await self._lane.answered()
        await self._say(await self._hub.end(self._lane.stream))
        raise OverError(Closing(Close.NORMAL, "the stream has ended"))

    async def _complete(self) -> None:
        """Put the frames that the end of the stream brings."""

    async def _refuse(self, reason: str, code: Close = Close.BAD_FRAME) -> NoReturn:
        """Answer what came before, then say why this cannot be taken."""
        await self._lane.answered()
        await self._say(error_text(reason))
        raise OverError(Closing(code, reason))

    async def _say(self, text: str) -> None:
        """Send a text, unless the client is gone: reading tells when all is read that it sent before.

        Raises:
            OverError: If it takes nothing.
        """
        if self._gone:
            return
        try:
            await self._connection.send(text)
        except OverError as over:
            if over.closing is not None:
                raise
            self._gone = True

    async def _write(self) -> NoReturn:
        """Send answers until the server ends the connection.

        Raises:
            OverError: Then, or if the client takes no answers.
        """
        while True:
            answer = await self._lane.answers.get()
            if isinstance(answer, Closing):
                if answer.frame is not None:
                    await self._say(error_text(answer.reason, answer.frame))
                raise OverError(answer)
            text, received = answer
            await self._say(text)
            self._metrics.answer_seconds.observe(time.monotonic() - received)
            self._lane.sent()
