"""Connections are let in, or told why not, and go on to what they have come for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from starlette.responses import JSONResponse

from coadtr.errors import DataError
from coadtr.serving.access import FOREIGN, host_allowed, may_enter, page_allowed
from coadtr.serving.connection import Connection
from coadtr.serving.hub import RefusedError
from coadtr.serving.pictures import PictureSession
from coadtr.serving.protocol import Close, check_name
from coadtr.serving.session import Session
from coadtr.serving.watching import watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.websockets import WebSocket

    from coadtr.serving.service import Service

__all__ = ["Purpose", "feed", "look", "observe", "serve"]

Purpose: TypeAlias = Callable[[Connection, str, "Mapping[str, str]", "Service"], Awaitable[None]]
"""What a connection has come for; it takes the name of the stream, and the query."""


async def serve(websocket: WebSocket, name: str, service: Service, purpose: Purpose) -> None:
    """Let a connection in and serve it to its end, or say why not.

    Args:
        websocket: The connection, before its handshake.
        name: Of the stream that it has come for.
        service: The service.
        purpose: What it has come for.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    service.hub.sessions.add(task)
    connection = Connection(websocket, service.settings.limits.idle_seconds)
    try:
        if await _admit(websocket, service):
            try:
                check_name(name)
            except DataError as error:
                raise RefusedError(Close.BAD_FRAME, str(error)) from error
            await purpose(connection, name, websocket.query_params, service)
    except RefusedError as refused:
        service.metrics.rejected.labels(refused.closing.code.name.lower()).inc()
        await connection.close(refused.closing)
    finally:
        service.hub.sessions.discard(task)


async def feed(connection: Connection, name: str, query: Mapping[str, str], service: Service) -> None:
    """Take the frames of a stream.

    Raises:
        RefusedError: If the stream cannot be had, or the query is wrong.
    """
    timed, fresh, takeover = (_flag(query, flag) for flag in ("timed", "fresh", "takeover"))
    first = _count(query, "next")
    lane, known = await service.hub.attach(name, timed=timed, fresh=fresh, takeover=takeover)
    session = Session(
        connection, lane, service.hub, service.settings.limits, service.metrics, channels=service.channels
    )
    await session.run(service.greeting(name, known, timed=timed), known, first)


async def look(connection: Connection, name: str, query: Mapping[str, str], service: Service) -> None:
    """Take the pictures of a stream.

    Raises:
        RefusedError: If the stream cannot be had, the query is wrong, or the server takes no pictures.
    """
    viewer = service.viewer
    if viewer is None:
        raise RefusedError(
            Close.BAD_FRAME, "this server takes no pictures: start it by `coadtr serve ... pictures=true`"
        )
    fresh, takeover = (_flag(query, flag) for flag in ("fresh", "takeover"))
    with viewer.looking(name):
        lane, known = await service.hub.attach(name, timed=True, fresh=fresh, takeover=takeover)
        session = PictureSession(
            connection,
            lane,
            service.hub,
            service.settings.limits,
            service.metrics,
            viewer=viewer,
            board=service.board,
            last=None if known is None else known.time,
        )
        await session.run(service.greeting(name, known, timed=True), known, None)


async def observe(connection: Connection, name: str, query: Mapping[str, str], service: Service) -> None:
    """Show a stream.

    Raises:
        RefusedError: If there are too many who watch, the query is wrong, or the server is stopping.
    """
    pictures, most = _flag(query, "pictures"), service.settings.limits.watchers
    if service.hub.draining.is_set():
        raise RefusedError(Close.STOPPING, "the server is stopping; connect again later")
    if service.board.watchers >= most:
        raise RefusedError(Close.TOO_MANY, f"{most} connections watch, the limit; try again later")
    with service.board.watching(name, pictures=pictures) as watcher:
        await watch(connection, watcher, service.metrics, {"hello": "coadtr", "watch": name, **service.model()})


async def _admit(websocket: WebSocket, service: Service) -> bool:
    """Accept a connection with the token, from a page that may connect.

    A browser does not tell its page why a handshake failed. So it gets a connection, and a close code.
    """
    headers, settings = websocket.headers, service.settings
    entitled = may_enter(settings.token, headers, websocket.query_params)
    if not entitled and "origin" not in headers:
        service.metrics.rejected.labels(Close.UNAUTHORISED.name.lower()).inc()
        body = {"detail": "a token is needed: Authorization: Bearer ..."}
        await websocket.send_denial_response(JSONResponse(body, 401, {"WWW-Authenticate": "Bearer"}))
        return False
    await websocket.accept()
    if not host_allowed(headers, settings):
        raise RefusedError(Close.FORBIDDEN, FOREIGN)
    if not page_allowed(headers, settings.origins):
        raise RefusedError(Close.FORBIDDEN, "pages of another host may not connect; add theirs to origins")
    if not entitled:
        raise RefusedError(Close.UNAUTHORISED, "a token is needed: give it as ?token=...")
    return True


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "false")
    if value not in ("true", "false"):
        raise RefusedError(Close.BAD_FRAME, f"{name} must be true or false, got {value[:20]!r}")
    return value == "true"


def _count(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise RefusedError(Close.BAD_FRAME, f"{name} must be the number of a frame, got {value[:20]!r}")
    return int(value)
