"""A detector on a video that is going on: a camera, an address, or a file at its own speed; or on sound.

Needs the extra ``video``, or ``audio`` for sound. Names resolve on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coadtr.live.annotated import AnnotatedVideo
    from coadtr.live.hearing import Block, Ears
    from coadtr.live.json_lines import JsonLines
    from coadtr.live.page import PageView
    from coadtr.live.pipeline import LATE, Answer, LiveDetector, Sight, View
    from coadtr.live.source import LiveSource, Seen
    from coadtr.live.terminal import EventLines, TerminalView

__all__ = [
    "LATE",
    "AnnotatedVideo",
    "Answer",
    "Block",
    "Ears",
    "EventLines",
    "JsonLines",
    "LiveDetector",
    "LiveSource",
    "PageView",
    "Seen",
    "Sight",
    "TerminalView",
    "View",
]

_HOME = {
    "LATE": "pipeline",
    "AnnotatedVideo": "annotated",
    "Answer": "pipeline",
    "Block": "hearing",
    "Ears": "hearing",
    "EventLines": "terminal",
    "JsonLines": "json_lines",
    "LiveDetector": "pipeline",
    "LiveSource": "source",
    "PageView": "page",
    "Seen": "source",
    "Sight": "pipeline",
    "TerminalView": "terminal",
    "View": "pipeline",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"coadtr.live.{_HOME[name]}"), name)
    raise AttributeError(f"module 'coadtr.live' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
