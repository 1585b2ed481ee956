"""The addresses of a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from fastapi import Depends, FastAPI, HTTPException, Request, Response, WebSocket
from starlette.responses import JSONResponse
from starlette.staticfiles import StaticFiles

from coadtr import __version__
from coadtr.errors import DataError
from coadtr.serving.access import may_enter, page_allowed
from coadtr.serving.hub import RefusedError
from coadtr.serving.protocol import Close, check_name
from coadtr.serving.service import Service
from coadtr.serving.session import Session, close

__all__ = ["ASSETS", "create_app"]

ASSETS: Final = Path(__file__).parent / "assets"


def create_app(service: Service) -> FastAPI:
    """Make the application of a service.

    ``/v1/streams/{name}`` is the WebSocket of a stream; ``/healthz``, ``/metrics``, ``/v1/model`` and ``/v1/streams``
    answer GET; ``/`` has the files of the folder ``assets``.

    Args:
        service: The service. It begins to step with the application, and stops with it.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.hub.stop()

    app = FastAPI(
        title="coadtr", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    _add_pages(app, service)

    @app.websocket("/v1/streams/{name}")
    async def stream(websocket: WebSocket, name: str) -> None:
        await _serve(websocket, name, service)

    app.mount("/", StaticFiles(directory=ASSETS, html=True))
    return app


def _add_pages(app: FastAPI, service: Service) -> None:
    def entitled(request: Request) -> None:
        if not may_enter(service.settings.token, request.headers, request.query_params):
            raise HTTPException(401, "a token is needed: Authorization: Bearer ...", {"WWW-Authenticate": "Bearer"})

    enter = [Depends(entitled)]

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        health = service.health()
        return JSONResponse(health, 503 if health["status"] == "stopping" else 200)

    @app.get("/metrics", dependencies=enter)
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": service.metrics.content_type})

    @app.get("/v1/model", dependencies=enter)
    async def model() -> dict[str, Any]:
        return service.model()

    @app.get("/v1/streams", dependencies=enter)
    async def streams() -> list[dict[str, Any]]:
        return service.streams()


async def _serve(websocket: WebSocket, name: str, service: Service) -> None:
    """Let a connection in, or say why not."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    service.hub.sessions.add(task)
    try:
        if not await _admit(websocket, service):
            return
        try:
            check_name(name)
            timed, fresh, takeover = (_flag(websocket.query_params, flag) for flag in ("timed", "fresh", "takeover"))
            first = _count(websocket.query_params, "next")
            lane, known = await service.hub.attach(name, timed=timed, fresh=fresh, takeover=takeover)
        except DataError as error:
            raise RefusedError(Close.BAD_FRAME, str(error)) from error
        session = Session(
            websocket, lane, service.hub, service.settings.limits, service.metrics, channels=service.channels
        )
        await session.run(service.greeting(name, known, timed=timed), known, first)
    except RefusedError as refused:
        service.metrics.rejected.labels(refused.closing.code.name.lower()).inc()
        await close(websocket, refused.closing)
    finally:
        service.hub.sessions.discard(task)


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
    if not page_allowed(headers, settings.origins):
        raise RefusedError(Close.FORBIDDEN, "pages of another host may not connect; add theirs to origins")
    if not entitled:
        raise RefusedError(Close.UNAUTHORISED, "a token is needed: give it as ?token=...")
    return True


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "false")
    if value not in ("true", "false"):
        raise DataError(f"{name} must be true or false, got {value[:20]!r}")
    return value == "true"


def _count(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise DataError(f"{name} must be the number of a frame, got {value[:20]!r}")
    return int(value)
