"""A server without its sockets: what is opened once, before a port is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coadtr import __version__
from coadtr.errors import ConfigError
from coadtr.serving.board import Board
from coadtr.serving.engine import Engine
from coadtr.serving.eyes import Viewer
from coadtr.serving.hub import Hub
from coadtr.serving.metrics import Metrics
from coadtr.serving.protocol import PROTOCOL

if TYPE_CHECKING:
    from coadtr.runtime import OnlineDetector
    from coadtr.serving.eyes import Eyes
    from coadtr.serving.known import Known
    from coadtr.serving.settings import ServerSettings

__all__ = ["Service", "open_service"]


class Service:
    """The parts of a server, and what it tells of itself.

    Args:
        detector: Steps the streams.
        settings: The server's.
        engine: Takes the frames.
        metrics: What is counted.
        viewer: Looks at pictures; None if the server takes none.

    Attributes:
        settings: The server's.
        metrics: What is counted.
        engine: Takes the frames.
        viewer: Looks at pictures; None if the server takes none.
        board: Shows streams to those who watch. A program may show streams of its own there, beside those of clients.
        hub: Where connections meet; there is none until :meth:`start`.
    """

    def __init__(
        self,
        detector: OnlineDetector,
        settings: ServerSettings,
        engine: Engine,
        metrics: Metrics,
        viewer: Viewer | None = None,
    ) -> None:
        self.settings, self.metrics, self.engine, self.viewer = settings, metrics, engine, viewer
        self.board = Board(settings.limits.answers)
        for name, known in engine.known.items():  # what a restart has brought back
            for text in known.answers:
                self.board.answer(name, text)
        self._detector = detector
        self._hub: Hub | None = None

    @property
    def hub(self) -> Hub:
        """Where connections meet, once the server runs."""
        if self._hub is None:
            raise ConfigError("the server is not running: start it by `run`, or by `running` in a thread")
        return self._hub

    @property
    def channels(self) -> int:
        """Values D of a frame."""
        return self._detector.input_dim

    def start(self) -> None:
        """Begin to step, on the event loop that runs."""
        self._hub = Hub(self.engine, self.settings, self.metrics, self.board)
        self._hub.start()

    async def stop(self) -> None:
        """Answer what was received, keep it, and let all connections go."""
        await self.hub.stop()
        if self.viewer is not None:
            self.viewer.close()

    def hurry(self) -> None:
        """Stop without waiting for clients any more."""
        self.hub.hurry()

    def model(self) -> dict[str, Any]:
        """Describe the model, JSON-ready: what a client must send, and what the answers mean."""
        told, limits = self._detector.description, self.settings.limits
        return {
            "server": f"coadtr {__version__}",
            "protocol": PROTOCOL,
            "classes": list(told.class_names),
            "background": told.background,
            "ignored": told.ignored,
            "streams": [{"name": name, "channels": channels} for name, channels in told.streams.items()],
            "channels": told.input_dim,
            "rate_hz": told.rate_hz,
            "head": told.head,
            "precision": told.precision,
            "extractors": told.extractors,
            "source": told.source,
            "pictures": None if self.viewer is None else self.viewer.told,
            "limits": {
                "message_bytes": limits.message_bytes,
                "frames_per_second": limits.frames_per_second,
                "waiting": limits.waiting,
                "idle_seconds": limits.idle_seconds,
            },
        }

    def greeting(self, stream: str, known: Known | None, *, timed: bool) -> dict[str, Any]:
        """Write the first message of a connection: the model, and where its stream stands."""
        frames, moment = (0, None) if known is None else (known.frames, known.time)
        answers = 0 if known is None else len(known.answers)
        place = {"stream": stream, "frames": frames, "time": moment, "timed": timed, "kept_from": frames - answers}
        return {"hello": "coadtr", **place, **self.model()}

    def streams(self) -> list[dict[str, Any]]:
        """List the streams that the server remembers, that are open or that are shown, JSON-ready."""
        known, lanes = dict(self.engine.known), dict(self.hub.lanes)
        shown = {row["name"]: row for row in self.board.streams()}
        rows = []
        for name in sorted({*known, *lanes, *shown}):
            ours = name in known or name in lanes  # else the program itself feeds it
            at = known.get(name)
            frames, time = (0, None) if at is None else (at.frames, at.time)
            if not ours:
                frames, time = shown[name]["frames"], shown[name]["time"]
            connected = not ours or (name in lanes and not lanes[name].left)
            live = {"live": True} if name in shown and shown[name]["live"] else {}
            rows.append({"name": name, "frames": frames, "time": time, "connected": connected, **live})
        return rows

    def health(self) -> dict[str, Any]:
        """Tell how the server is: its ``status`` is ``ok``, ``degraded`` (something is not kept) or ``stopping``."""
        failure = self.engine.failure
        status = "stopping" if self.hub.draining.is_set() else "ok" if failure is None else "degraded"
        return {"status": status, **({} if failure is None else {"reason": failure})}


def open_service(detector: OnlineDetector, settings: ServerSettings, eyes: Eyes | None = None) -> Service:
    """Make a server of a detector, and restore what its folder for snapshots holds.

    Args:
        detector: A detector without streams.
        settings: The server's.
        eyes: Make features of pictures, such as :class:`coadtr.video.Eyes`; without them the server takes none.

    Returns:
        The service, for `coadtr.serving.run`.

    Raises:
        ConfigError: If a message may not hold even one frame, or the folder for snapshots cannot be used.
        CheckpointError: If that folder holds something damaged, or the streams of another checkpoint.
        StorageError: If the first snapshot cannot be written.
        MissingExtraError: If there are eyes, and Pillow is not installed.
    """
    least = 4 * detector.input_dim + 8
    if settings.limits.message_bytes < least:
        raise ConfigError(
            f"limits.message_bytes={settings.limits.message_bytes} is less than one frame of {detector.input_dim} "
            f"values; make it at least {least}"
        )
    viewer = None if eyes is None else Viewer(eyes, settings.limits.pictures)
    metrics = Metrics()
    engine = Engine(detector, settings, metrics)
    try:
        engine.recover()
    except BaseException:
        engine.close()
        raise
    return Service(detector, settings, engine, metrics, viewer)
