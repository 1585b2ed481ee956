"""Where all connections meet: their frames go into one step after the other, a frame of each stream at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from coadtr.errors import CoadtrError
from coadtr.serving.lane import Lane
from coadtr.serving.protocol import Close, Closing

if TYPE_CHECKING:
    from collections.abc import Callable

    from coadtr.serving.board import Board
    from coadtr.serving.engine import Engine
    from coadtr.serving.known import Frame, Known
    from coadtr.serving.metrics import Metrics
    from coadtr.serving.settings import ServerSettings

__all__ = ["Hub", "RefusedError"]

_log = logging.getLogger("coadtr.serving")
_T = TypeVar("_T")
_GRACE_SECONDS = 0.5  # the end of a stream's last connection may be on its way when the next one asks for it
_STOPPING = Closing(Close.STOPPING, "the server is stopping; connect again later")
_OURS = "stream {} is fed by the server's own program; take another name"
_CLOSE_SECONDS = 4.0  # for all connections to close; one of them has two


class RefusedError(Exception):
    """A connection cannot be had; the closing says why."""

    def __init__(self, code: Close, reason: str) -> None:
        super().__init__(reason)
        self.closing = Closing(code, reason)


class Hub:
    """Bring connections and engine together, on one event loop.

    The engine works on one thread of its own, so that sockets are read and answered while a step runs. What comes in
    meanwhile goes into the next step. Snapshots are written on another thread.

    Args:
        engine: Takes the frames.
        settings: The server's.
        metrics: What is counted.
        board: Where all that clients are answered is shown to those who watch.

    Attributes:
        lanes: The open streams by name, and those of connections that are gone whose last frames are being taken.
        draining: Set when the server is told to stop: no new connection, and nothing more is read.
        sessions: The tasks that serve connections.
    """

    def __init__(self, engine: Engine, settings: ServerSettings, metrics: Metrics, board: Board) -> None:
        self.lanes: dict[str, Lane] = {}
        self.draining = asyncio.Event()
        self.sessions: set[asyncio.Task[Any]] = set()
        self._engine, self._settings, self._metrics, self._board = engine, settings, metrics, board
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="coadtr-step")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="coadtr-keep")
        self._wake = asyncio.Event()
        self._dropping: set[str] = set()
        self._left = asyncio.Event()
        self._hurried = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to step."""
        self._tasks = [asyncio.create_task(self._step_forever()), asyncio.create_task(self._keep_forever())]

    async def attach(self, stream: str, *, timed: bool, fresh: bool, takeover: bool) -> tuple[Lane, Known | None]:
        """Open a stream for a connection.

        Args:
            stream: Its name.
            timed: Whether its frames bring their times.
            fresh: Whether it begins anew, whatever the server knows of it.
            takeover: Whether another connection that has it is closed; else this one is refused.

        Returns:
            The lane for its frames, and what is known of the stream; None of a new one.

        Raises:
            RefusedError: If the stream cannot be had.
        """
        if self._board.reserved(stream):
            raise RefusedError(Close.IN_USE, _OURS.format(stream))
        await self._vacate(stream, takeover=takeover)
        if self.draining.is_set():
            raise RefusedError(_STOPPING.code, _STOPPING.reason)
        known = self._engine.known.get(stream)
        if known is None and stream not in self.lanes and self._board.has(stream):
            raise RefusedError(Close.IN_USE, _OURS.format(stream))
        taken = {*self._engine.known, *self.lanes}
        if known is None and len(taken) >= (most := self._settings.limits.streams):
            raise RefusedError(Close.TOO_MANY, f"the server has {most} streams, its limit; end one, or try again later")
        if known is not None and not fresh and known.timed != timed:
            raise RefusedError(Close.BAD_FRAME, f"stream {stream} began with timed={str(known.timed).lower()}; say so")
        # It has its place from here on, whatever is awaited.
        lane = self.lanes[stream] = Lane(stream, timed=timed, most=self._settings.limits.waiting)
        self._metrics.connections.inc()
        if known is not None and fresh:
            await self.call(self._engine.drop, [stream])
            self._board.forget(stream)
            known = None
        return lane, known

    async def _vacate(self, stream: str, *, takeover: bool) -> None:
        """Wait until no connection has a stream, and what was received of it is taken."""
        deadline = time.monotonic() + _GRACE_SECONDS
        while (lane := self.lanes.get(stream)) is not None or stream in self._dropping:
            patience = None
            if lane is not None and not lane.left:
                if takeover:
                    lane.end(Closing(Close.IN_USE, f"another connection has taken stream {stream} over"))
                elif (patience := deadline - time.monotonic()) <= 0:
                    raise RefusedError(
                        Close.IN_USE, f"stream {stream} has another connection; close that one, or say takeover=true"
                    )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._left.wait()

    def detach(self, lane: Lane) -> None:
        """Note that a connection is gone. What was received of it is still taken, then another may have the stream."""
        if lane.left:
            return
        lane.left = True
        self._metrics.connections.dec()
        if (known := self._engine.known.get(lane.stream)) is not None:
            known.used = time.monotonic()
        self._clear(lane)

    async def put(self, lane: Lane, frame: Frame) -> bool:
        """Let a frame wait for a step; false if the lane takes none any more."""
        taken = await lane.put(frame)
        self._wake.set()
        return taken

    async def end(self, stream: str) -> str:
        """End a stream whose frames are all answered, and return the text that says so."""
        text = await self.call(self._engine.end, stream)
        self._board.end(stream, text)
        return text

    async def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Run a function on the engine's thread, between two steps."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)

    async def stop(self) -> None:
        """Answer what was received, keep it, and let all connections go. A second call waits for nothing."""
        if self.draining.is_set():
            return
        self.draining.set()
        await self._rest()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._writer.shutdown)  # with the snapshot that is being written
        try:
            await self.call(self._engine.snapshot)
        finally:
            await self.call(self._engine.close)
            self._worker.shutdown()
            for lane in self.lanes.values():
                lane.end(_STOPPING)
            self._board.close(_STOPPING)
        if self.sessions:
            await asyncio.wait(self.sessions, timeout=_CLOSE_SECONDS)

    def hurry(self) -> None:
        """Wait for no client any more, if this is to stop; what was stepped is kept all the same."""
        self._hurried.set()

    async def _rest(self) -> None:
        """Wait until all that was received is answered, within bounds."""
        resting = asyncio.gather(*(lane.released() for lane in self.lanes.values()))
        hurried = asyncio.create_task(self._hurried.wait())
        seconds = self._settings.shutdown_seconds
        done, _ = await asyncio.wait((resting, hurried), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            _log.warning("some frames were not answered in shutdown_seconds=%g", seconds)
        for task in (resting, hurried):
            task.cancel()
        await asyncio.gather(resting, hurried, return_exceptions=True)

    async def _step_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if any(not lane.waiting for lane in self.lanes.values()):
                await asyncio.sleep(self._settings.gather_seconds)
            # Again until nothing waits: what comes meanwhile sets `_wake` too, and costs one look more.
            while ready := [lane for lane in self.lanes.values() if lane.waiting]:
                await self._step(ready)

    async def _step(self, ready: list[Lane]) -> None:
        frames = [lane.waiting.popleft() for lane in ready]
        for lane in ready:
            lane.stepping = True
        self._metrics.waiting.set(sum(len(lane.waiting) for lane in ready))
        try:
            outcomes = await self.call(self._engine.take, frames)
        except Exception as error:  # noqa: BLE001 - a fault of ours ends these connections, and no others
            _log.exception("a step failed")
            outcomes = [error] * len(frames)
        for lane, frame, outcome in zip(ready, frames, outcomes, strict=True):
            if isinstance(outcome, str):
                self._board.answer(lane.stream, outcome)
                lane.deliver((outcome, frame.received))
            else:
                lane.deliver(self._refusal(lane.stream, outcome))
            self._clear(lane)

    def _refusal(self, stream: str, error: Exception) -> Closing:
        known = self._engine.known.get(stream)
        number = 0 if known is None else known.frames
        if isinstance(error, CoadtrError):
            return Closing(Close.BAD_FRAME, str(error), number)
        return Closing(Close.FAULT, "the server could not step this frame; its log says why", number)

    def _clear(self, lane: Lane) -> None:
        if lane.left and lane.settled and self.lanes.get(lane.stream) is lane:
            del self.lanes[lane.stream]
            if lane.stream not in self._engine.known:  # only pictures came of it
                self._board.forget(lane.stream)
            lane.stir()
            self._announce()

    def _announce(self) -> None:
        before, self._left = self._left, asyncio.Event()
        before.set()

    async def _keep_forever(self) -> None:
        """Write snapshots in their time, and forget streams that nobody comes back to, whatever goes wrong."""
        limits, period = self._settings.limits, self._settings.snapshot_seconds
        next_snapshot = time.monotonic() + period
        fault: str | None = None
        while True:
            await asyncio.sleep(min(1.0, period, limits.forget_seconds))
            try:
                await self._forget_old()
                if time.monotonic() >= next_snapshot or self._engine.due:
                    await self._keep()
                    next_snapshot = time.monotonic() + period
            except Exception as error:  # noqa: BLE001 - else nothing would be kept from here on, and nobody told
                _log.exception("snapshots and old streams could not be seen to; the next round tries again")
                fault = f"snapshots and old streams could not be seen to ({type(error).__name__}: {error})"
                self._engine.failure = fault
            else:
                if fault is not None and self._engine.failure == fault:
                    self._engine.failure = fault = None

    async def _forget_old(self) -> None:
        now, known, forget_seconds = time.monotonic(), self._engine.known, self._settings.limits.forget_seconds
        old = [name for name in list(known) if now - known[name].used > forget_seconds]
        await self._drop([name for name in old if name not in self.lanes])
        self._board.sweep(forget_seconds, spared={*known, *self.lanes})

    async def _keep(self) -> None:
        write = await self.call(self._engine.capture)
        if write is not None:
            await asyncio.get_running_loop().run_in_executor(self._writer, write)

    async def _drop(self, streams: list[str]) -> None:
        if not streams:
            return
        self._dropping.update(streams)  # a connection that asks for one of them waits, and begins anew
        try:
            await self.call(self._engine.drop, streams)
            for stream in streams:
                self._board.forget(stream)
        finally:
            self._dropping.clear()
            self._announce()
