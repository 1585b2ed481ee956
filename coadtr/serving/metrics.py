"""What a server counts of itself, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Count frames, steps and refusals of one server, in a registry of its own.

    Attributes:
        step_seconds: Time of a batched step, with events and journal.
        step_streams: Streams in one step.
        waiting_seconds: How long a frame lay before its step began.
        answer_seconds: Time from the receipt of a frame to the sending of its answer.
        frames: Frames answered.
        rejected: Connections closed or refused by the server, by the name of the close code.
        connections: Open streams.
        streams: Streams that are remembered, connected or not.
        waiting: Frames that wait for a step.
        watchers: Connections that watch.
        pictures: Pictures looked at.
        picture_seconds: Time of one picture: decoding, and the features that it completes.
        pictures_refused: Pictures that were none, or could not be looked at.
        snapshot_seconds: Time of the writing of a snapshot, beside which steps go on.
        snapshot_failures: Snapshots and journal entries that the disk refused.
        journal_bytes: Bytes of the journal.

    Example:
        >>> metrics = Metrics()
        >>> metrics.frames.inc(3)
        >>> "coadtr_frames_total 3.0" in metrics.text().decode()
        True
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.step_seconds = Histogram(
            "coadtr_step_seconds", "Time of a batched step", buckets=_SECONDS, registry=registry
        )
        self.step_streams = Histogram("coadtr_step_streams", "Streams in one step", buckets=_SIZES, registry=registry)
        self.waiting_seconds = Histogram(
            "coadtr_waiting_seconds", "Time that a frame waits for its step", buckets=_SECONDS, registry=registry
        )
        self.answer_seconds = Histogram(
            "coadtr_answer_seconds",
            "Time from the receipt of a frame to its answer",
            buckets=_SECONDS,
            registry=registry,
        )
        self.frames = Counter("coadtr_frames", "Frames answered", registry=registry)
        self.rejected = Counter(
            "coadtr_rejected", "Connections that the server refused or closed", ["reason"], registry=registry
        )
        self.connections = Gauge("coadtr_connections", "Streams that are connected", registry=registry)
        self.streams = Gauge("coadtr_streams", "Streams that are remembered", registry=registry)
        self.waiting = Gauge("coadtr_frames_waiting", "Frames that wait for a step", registry=registry)
        self.watchers = Gauge("coadtr_watchers", "Connections that watch streams", registry=registry)
        self.pictures = Counter("coadtr_pictures", "Pictures looked at", registry=registry)
        self.picture_seconds = Histogram(
            "coadtr_picture_seconds",
            "Time of one picture: decoding, and the features that it completes",
            buckets=_SECONDS,
            registry=registry,
        )
        self.pictures_refused = Counter(
            "coadtr_pictures_refused", "Pictures that were none, or could not be looked at", registry=registry
        )
        self.snapshot_seconds = Histogram(
            "coadtr_snapshot_seconds",
            "Time of the writing of a snapshot",
            buckets=_SECONDS,
            registry=registry,
        )
        self.snapshot_failures = Counter(
            "coadtr_snapshot_failures", "Writes of snapshot or journal that the disk refused", registry=registry
        )
        self.journal_bytes = Gauge("coadtr_journal_bytes", "Bytes of the journal", registry=registry)

    def text(self) -> bytes:
        """Write all of it in the text format of Prometheus."""
        return generate_latest(self._registry)
