"""One connection of a client that sends pictures: the server looks at them, and the features are its frames."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar

from coadtr.errors import CoadtrError
from coadtr.serving.protocol import Close, seen_text
from coadtr.serving.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from coadtr.serving.board import Board
    from coadtr.serving.connection import Connection
    from coadtr.serving.eyes import Moment, Viewer
    from coadtr.serving.hub import Hub
    from coadtr.serving.lane import Lane
    from coadtr.serving.metrics import Metrics
    from coadtr.serving.settings import Limits

__all__ = ["PictureSession"]

_log = logging.getLogger("coadtr.serving")
_T = TypeVar("_T")


class PictureSession(Session):
    """Read pictures, send answers, until one side ends it.

    Args:
        connection: The connection.
        lane: Its place in the hub.
        hub: Takes its frames.
        limits: What it may ask.
        metrics: What is counted.
        viewer: Looks at its pictures.
        board: Shows them to others.
        last: Time of the stream's last frame in seconds; None of a new one.
    """

    awaited = "picture"

    def __init__(
        self,
        connection: Connection,
        lane: Lane,
        hub: Hub,
        limits: Limits,
        metrics: Metrics,
        *,
        viewer: Viewer,
        board: Board,
        last: float | None,
    ) -> None:
        super().__init__(connection, lane, hub, limits, metrics, channels=0)
        self._viewer, self._board = viewer, board
        self._gaze = viewer.gaze(last)
        self._seen = 0

    async def _take(self, data: bytes) -> None:
        received = time.monotonic()
        await self._turn()
        seen = await self._look(self._gaze.see, data)
        self._metrics.pictures.inc()
        self._metrics.picture_seconds.observe(seen.seconds)
        self._board.picture(self._lane.stream, seen.time, seen.jpeg)
        await self._put_all(seen.features, received)
        self._seen += 1
        await self._say(seen_text(self._seen, seen.seconds))

    async def _complete(self) -> None:
        await self._put_all(await self._look(self._gaze.finish), time.monotonic())

    async def _put_all(self, features: list[Moment], received: float) -> None:
        for feature in features:
            await self._put(feature.values, feature.time, received)

    async def _look(self, function: Callable[..., _T], *arguments: Any) -> _T:
        try:
            return await self._viewer.call(function, *arguments)
        except CoadtrError as error:
            self._metrics.pictures_refused.inc()
            await self._refuse(str(error))
        except Exception:  # noqa: BLE001 - networks may raise anything, and other streams go on
            self._metrics.pictures_refused.inc()
            _log.exception("a picture of stream %s could not be looked at", self._lane.stream)
            await self._refuse("the server could not look at this picture; its log says why", Close.FAULT)
