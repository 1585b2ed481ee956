"""A server of live streams: frames in over WebSockets, scores and events out, all streams batched into one step.

Needs the extra ``serve``. `ServerSettings` and `open_service` make a server, `run` runs it, or `served` beside what a
program does, and `StreamClient` talks to one. Names resolve on first use (PEP 562), so a client needs ``websockets``
alone.

Example:
    >>> from coadtr.serving import Limits, ServerSettings
    >>> ServerSettings(port=0, limits=Limits(streams=8)).limits.idle_seconds
    60.0
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coadtr.serving.answers import Answer, Hello, StreamError
    from coadtr.serving.board import Board
    from coadtr.serving.client import StreamClient
    from coadtr.serving.eyes import Eyes
    from coadtr.serving.native import NativeStepper
    from coadtr.serving.server import bind, run, running, served
    from coadtr.serving.service import Service, open_service
    from coadtr.serving.settings import Limits, ServerSettings

__all__ = [
    "Answer",
    "Board",
    "Eyes",
    "Hello",
    "Limits",
    "NativeStepper",
    "ServerSettings",
    "Service",
    "StreamClient",
    "StreamError",
    "bind",
    "open_service",
    "run",
    "running",
    "served",
]

_HOME = {
    "Answer": "answers",
    "Board": "board",
    "Eyes": "eyes",
    "Hello": "answers",
    "Limits": "settings",
    "NativeStepper": "native",
    "ServerSettings": "settings",
    "Service": "service",
    "StreamClient": "client",
    "StreamError": "answers",
    "bind": "server",
    "open_service": "service",
    "run": "server",
    "running": "server",
    "served": "server",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"coadtr.serving.{_HOME[name]}"), name)
    raise AttributeError(f"module 'coadtr.serving' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
