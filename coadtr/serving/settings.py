"""The settings of a server, checked before it opens a port."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path

from coadtr.errors import ConfigError
from coadtr.runtime import EventSettings

__all__ = ["Limits", "ServerSettings"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one client may ask of the server, so that the others do not feel it.

    Attributes:
        streams: Streams that the server remembers, connected or not.
        message_bytes: Bytes of one message.
        frames_per_second: Frames a second of one stream, taken over a second; a faster client is slowed down.
        waiting: Frames of one stream that were received and are not answered; then nothing more is read of it.
        answers: Answers of one stream that are kept, to be sent again to a client that lost its connection.
        idle_seconds: How long a connection may bring no frame, or take no answer, before it is closed.
        handshake_seconds: How long a connection may take to say what it wants.
        forget_seconds: How long a stream without a connection is remembered.
        watchers: Connections that watch streams.
        pictures: Streams at a time whose client sends pictures, each of which the server has to look at.

    Raises:
        ConfigError: If a value is out of range.

    Example:
        >>> Limits(streams=0)
        Traceback (most recent call last):
        coadtr.errors.ConfigError: streams must be at least 1, got 0
    """

    streams: int = 256
    message_bytes: int = 1 << 20
    frames_per_second: float = 100.0
    waiting: int = 16
    answers: int = 64
    idle_seconds: float = 60.0
    handshake_seconds: float = 10.0
    forget_seconds: float = 3600.0
    watchers: int = 256
    pictures: int = 16

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name in ("streams", "message_bytes", "waiting"):
            _check_least(name, getattr(self, name), 1)
        for name in ("answers", "watchers", "pictures"):
            _check_least(name, getattr(self, name), 0)
        for name in ("frames_per_second", "idle_seconds", "handshake_seconds", "forget_seconds"):
            _check_positive(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Say where a server listens, who may use it, and what it keeps.

    Attributes:
        host: Address that it listens on; the default is reached from this machine alone.
        port: Port; 0 for any that is free.
        token: What clients have to bring as a bearer token; None lets everyone in.
        origins: Web pages of other hosts whose scripts may connect, such as ``https://example.org``.
        gather_seconds: How long a step waits for the frames of other streams.
        snapshots: Folder that keeps the streams over a restart; None keeps nothing.
        snapshot_seconds: Seconds from one snapshot to the next; between them a journal holds the frames.
        fsync: Whether each answer waits until the disk has its frame: then a loss of power loses nothing either.
        shutdown_seconds: How long the server may take to answer what it has received when it is told to stop.
        events: How scores become events.
        limits: What one client may ask.

    Raises:
        ConfigError: If a value is out of range.

    Example:
        >>> ServerSettings(port=70000)
        Traceback (most recent call last):
        coadtr.errors.ConfigError: port must be from 0 to 65535, got 70000
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    origins: tuple[str, ...] = ()
    gather_seconds: float = 0.002
    snapshots: Path | None = None
    snapshot_seconds: float = 30.0
    fsync: bool = False
    shutdown_seconds: float = 10.0
    events: EventSettings = field(default_factory=EventSettings)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port must be from 0 to 65535, got {self.port}")
        if not self.host:
            raise ConfigError("host must be an address such as 127.0.0.1 or 0.0.0.0, got nothing")
        # A header holds no other characters, so no client could ever bring such a token.
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise ConfigError("token must be printable ASCII characters, at least one; choose another")
        if not 0 <= self.gather_seconds <= 1:
            raise ConfigError(f"gather_seconds must be from 0 to 1, got {self.gather_seconds}")
        for name in ("snapshot_seconds", "shutdown_seconds"):
            _check_positive(name, getattr(self, name))
        if wrong := [origin for origin in self.origins if "://" not in origin]:
            raise ConfigError(f"origins must be like https://example.org, got {wrong[0]!r}")

    def __repr__(self) -> str:
        """Show all but the token, so that no log holds it."""
        shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.name != "token")
        return f"ServerSettings({', '.join(shown)})"


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} must be at least {least}, got {value}")


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} must be a finite number above 0, got {value}")
