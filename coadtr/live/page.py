"""A live stream on the page of a server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from coadtr.serving.images import write_jpeg
from coadtr.serving.protocol import answer_text, end_text

if TYPE_CHECKING:
    from coadtr.live.pipeline import Answer, Sight, Totals
    from coadtr.runtime import Event

__all__ = ["Board", "PageView"]

_WIDTH: Final = 640
_PICTURE_S: Final = 1 / 12


class Board(Protocol):
    """Where a server hangs what is to be watched."""

    def answer(self, stream: str, text: str) -> None:
        """Show an answer."""
        ...

    def picture(self, stream: str, time: float, jpeg: bytes) -> None:
        """Show a picture."""
        ...

    def live(self, stream: str, told: dict[str, Any]) -> None:
        """Show how late the stream is."""
        ...

    def end(self, stream: str, text: str) -> None:
        """Show that the stream has ended."""
        ...

    def watched(self, stream: str) -> bool:
        """Say whether anyone watches."""
        ...


class PageView:
    """Hang a live stream on the board of a server.

    Pictures are encoded while somebody watches, at most 12 a second, and not while the stream is late.

    Args:
        board: The server's.
        stream: Name of the stream.
        source: The source, as it is shown.
        totals: Counts of the stream.
    """

    def __init__(self, board: Board, stream: str, source: str, totals: Totals) -> None:
        self._board, self._stream, self._source, self._totals = board, stream, source, totals
        # At once, so that the stream is in the list before its first answer.
        board.live(stream, {"source": source, "dropped": 0})
        self._next = 0.0
        self._answers = 0

    def answer(self, answer: Answer) -> None:
        """Hang up an answer, and how late it was."""
        self._answers = answer.frame + 1
        self._board.answer(self._stream, answer_text(answer.frame, answer.time, answer.scores, list(answer.events)))
        told = {
            "source": self._source,
            "lag": answer.lag,
            "feature_ms": 1e3 * answer.look_seconds,
            "step_ms": 1e3 * answer.step_seconds,
            "dropped": self._totals.held + self._totals.skipped,
        }
        self._board.live(self._stream, told)

    def frame(self, sight: Sight) -> None:
        """Hang up a picture, if it is time for one."""
        now = time.monotonic()
        if sight.frame is None or sight.late or now < self._next or not self._board.watched(self._stream):
            return
        self._next = now + _PICTURE_S
        self._board.picture(self._stream, sight.time, write_jpeg(sight.frame.rgb, _WIDTH))

    def end(self, events: tuple[Event, ...]) -> None:
        """Tell that the stream has ended."""
        self._board.end(self._stream, end_text(self._answers, list(events)))

    def close(self) -> None:
        """The board belongs to the server."""
