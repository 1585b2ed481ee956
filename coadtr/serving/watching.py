"""One connection that watches a stream: it is told what the stream's client is told, and says nothing itself."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NoReturn

from coadtr.serving.connection import OverError
from coadtr.serving.protocol import Close, Closing

if TYPE_CHECKING:
    from coadtr.serving.board import Watcher
    from coadtr.serving.connection import Connection
    from coadtr.serving.metrics import Metrics

__all__ = ["watch"]


async def watch(connection: Connection, watcher: Watcher, metrics: Metrics, greeting: dict[str, Any]) -> None:
    """Greet, tell, close.

    Args:
        connection: The connection.
        watcher: What is to be told.
        metrics: What is counted.
        greeting: What the client is told first.
    """
    closing: Closing | None = Closing(Close.FAULT, "the server had an error; its log says which")
    metrics.watchers.inc()
    try:
        await connection.send(json.dumps(greeting, separators=(",", ":")))
        await _converse(connection, watcher)
    except OverError as over:
        closing = over.closing
    finally:
        metrics.watchers.dec()
        if closing is not None:
            if closing.code not in (Close.NORMAL, Close.STOPPING):
                metrics.rejected.labels(closing.code.name.lower()).inc()
            await connection.close(closing)


async def _converse(connection: Connection, watcher: Watcher) -> None:
    """Tell until one of the two sides ends it.

    Raises:
        OverError: When that is so.
    """
    tasks = asyncio.create_task(_listen(connection)), asyncio.create_task(_tell(connection, watcher))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(connection: Connection) -> NoReturn:
    await connection.receive()
    raise OverError(Closing(Close.BAD_FRAME, "who watches has nothing to send; close the connection to leave"))


async def _tell(connection: Connection, watcher: Watcher) -> NoReturn:
    while True:
        item = await watcher.next()
        if isinstance(item, Closing):
            raise OverError(item)
        await connection.send(item)
