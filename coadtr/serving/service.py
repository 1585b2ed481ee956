"""A server without its sockets: what is opened once, before a port is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coadtr import __version__
from coadtr.errors import ConfigError
from coadtr.serving.engine import Engine
from coadtr.serving.hub import Hub
from coadtr.serving.metrics import Metrics
from coadtr.serving.protocol import PROTOCOL

if TYPE_CHECKING:
    from coadtr.runtime import OnlineDetector
    from coadtr.serving.engine import Known
    from coadtr.serving.settings import ServerSettings

__all__ = ["Service", "open_service"]


class Service:
    """The parts of a server, and what it tells of itself.

    Args:
        detector: Steps the streams.
        settings: The server's.
        engine: Takes the frames.
        metrics: What is counted.

    Attributes:
        settings: The server's.
        metrics: What is counted.
        engine: Takes the frames.
        hub: Where connections meet; None until :meth:`start`.
    """

    def __init__(self, detector: OnlineDetector, settings: ServerSettings, engine: Engine, metrics: Metrics) -> None:
        self.settings, self.metrics, self.engine = settings, metrics, engine
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
        self._hub = Hub(self.engine, self.settings, self.metrics)
        self._hub.start()

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
        """List the streams that the server remembers or that are open, JSON-ready."""
        known, lanes = dict(self.engine.known), dict(self.hub.lanes)
        return [
            {
                "name": name,
                "frames": known[name].frames if name in known else 0,
                "time": known[name].time if name in known else None,
                "connected": name in lanes and not lanes[name].left,
            }
            for name in sorted({*known, *lanes})
        ]

    def health(self) -> dict[str, Any]:
        """Tell how the server is: its ``status`` is ``ok``, ``degraded`` (nothing is kept) or ``stopping``."""
        failure = self.engine.failure
        status = "stopping" if self.hub.draining.is_set() else "ok" if failure is None else "degraded"
        return {"status": status, **({} if failure is None else {"reason": failure})}


def open_service(detector: OnlineDetector, settings: ServerSettings) -> Service:
    """Make a server of a detector, and restore what its folder for snapshots holds.

    Args:
        detector: A detector without streams.
        settings: The server's.

    Returns:
        The service, for `coadtr.serving.run`.

    Raises:
        ConfigError: If a message may not hold even one frame, or the folder for snapshots cannot be used.
        CheckpointError: If that folder holds something damaged, or the streams of another checkpoint.
        StorageError: If the first snapshot cannot be written.
    """
    least = 4 * detector.input_dim + 8
    if settings.limits.message_bytes < least:
        raise ConfigError(
            f"limits.message_bytes={settings.limits.message_bytes} is less than one frame of {detector.input_dim} "
            f"values; make it at least {least}"
        )
    metrics = Metrics()
    engine = Engine(detector, settings, metrics)
    try:
        engine.recover()
    except BaseException:
        engine.close()
        raise
    return Service(detector, settings, engine, metrics)
