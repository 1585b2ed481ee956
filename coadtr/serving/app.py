"""The addresses of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi import Depends, FastAPI, HTTPException, Request, Response, WebSocket
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.staticfiles import StaticFiles

from coadtr import __version__
from coadtr.serving.access import FOREIGN, host_allowed, may_enter
from coadtr.serving.admission import feed, look, observe, serve
from coadtr.serving.service import Service

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from coadtr.serving.settings import ServerSettings

__all__ = ["ASSETS", "create_app"]

ASSETS: Final = Path(__file__).parent / "assets"


_HEADERS: Final = {
    # Scripts and styles of this server alone, and none that stand in a page.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # an address may hold the token
    "Cache-Control": "no-cache",  # asked again each time, so that pages and server are of the same version
}


class _Assets(StaticFiles):
    """Files for browsers, with what browsers are to allow them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


class _OwnNames:
    """Answer requests under names of this server alone; WebSockets are told when they are let in."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and scope["path"] != "/healthz"
            and not host_allowed(Headers(scope=scope), self._settings)
        ):
            await JSONResponse({"detail": FOREIGN}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def create_app(service: Service) -> FastAPI:
    """Make the application of a service.

    ``/v1/streams/{name}`` is the WebSocket of a stream, ``/v1/pictures/{name}`` that of one whose client sends
    pictures, and ``/v1/watch/{name}`` watches one; ``/healthz``, ``/metrics``, ``/v1/model`` and ``/v1/streams`` answer
    GET; ``/`` has the files of the folder ``assets``.

    Args:
        service: The service. It begins to step with the application, and stops with it.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="coadtr", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_middleware(_OwnNames, settings=service.settings)
    _add_pages(app, service)
    _add_streams(app, service)
    app.mount("/", _Assets(directory=ASSETS, html=True))
    return app


def _add_streams(app: FastAPI, service: Service) -> None:
    @app.websocket("/v1/streams/{name}")
    async def stream(websocket: WebSocket, name: str) -> None:
        await serve(websocket, name, service, feed)

    @app.websocket("/v1/pictures/{name}")
    async def pictures(websocket: WebSocket, name: str) -> None:
        await serve(websocket, name, service, look)

    @app.websocket("/v1/watch/{name}")
    async def watch(websocket: WebSocket, name: str) -> None:
        await serve(websocket, name, service, observe)


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
