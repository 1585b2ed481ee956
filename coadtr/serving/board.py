"""Who watches what: the last of each stream, for those who come, and the next of it, for those who are there."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from coadtr.serving.protocol import Close, Closing, check_name, write_picture

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

__all__ = ["WAITING", "Board", "Watcher"]

WAITING: Final = 256
"""Texts that may wait for one watcher."""

Item: TypeAlias = str | bytes | Closing
"""What a watcher is sent: a text, a picture with its time, or the end of the connection."""

_OVER: Final = Closing(Close.NORMAL, "the stream has ended")
_ENDED_SECONDS: Final = 60.0  # for which the end of a stream can still be seen
_ENDED_MOST: Final = 16


class Watcher:
    """What waits to be sent to one connection that watches: bounded, because nobody waits for it.

    Args:
        first: What it is sent first.
        pictures: Whether it is shown pictures.

    Attributes:
        pictures: Whether it is shown pictures.
    """

    def __init__(self, first: Sequence[Item], *, pictures: bool) -> None:
        self.pictures = pictures
        self._items = deque(first)
        self._most = len(first) + WAITING
        self._picture: bytes | None = None
        self._lock = Lock()
        self._asleep = False
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def tell(self, item: str | Closing) -> None:
        """Let a text wait, or the end of the connection; what comes after the end is dropped. For any thread."""
        with self._lock:
            if self._items and isinstance(self._items[-1], Closing):
                return
            if isinstance(item, str) and len(self._items) >= self._most:
                self._items.clear()
                self._picture = None
                item = Closing(Close.IDLE, f"{WAITING} texts were not taken; read them faster")
            self._items.append(item)
            self._wake()

    def show(self, picture: bytes) -> None:
        """Let a picture wait, in place of one that does. For any thread."""
        with self._lock:
            self._picture = picture
            self._wake()

    async def next(self) -> Item:
        """Wait for what is to be sent next: a text, or where none waits, a picture."""
        while True:
            with self._lock:
                if self._items:
                    return self._items.popleft()
                if self._picture is not None:
                    picture, self._picture = self._picture, None
                    return picture
                self._asleep = True
                self._woken.clear()
            await self._woken.wait()

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the connection with it
                self._loop.call_soon_threadsafe(self._woken.set)


@dataclass(eq=False)
class _Shown:
    """What is known of a stream that can be watched."""

    answers: deque[str]
    last: str | None = None
    live: str | None = None
    picture: bytes | None = None
    ended: str | None = None
    heard: float = field(default_factory=monotonic)

    def first(self, *, pictures: bool) -> list[Item]:
        """Return what a watcher is sent who comes now."""
        over = None if self.ended is None else _OVER
        last = (self.live, self.picture if pictures else None, self.ended, over)
        return [*self.answers, *(item for item in last if item is not None)]


class Board:
    """Show streams to all who watch them. Any thread may hang something up, and none waits for a watcher.

    A watcher may come before its stream. When a stream ends, its watchers are told, and its last answers, picture and
    end stay for a minute; a stream that begins anew under its name takes its place.

    Args:
        answers: How many of the last answers of a stream are kept for those who come later.

    Example:
        >>> board = Board(answers=2)
        >>> for frame in range(3):
        ...     board.answer("door", f'{{"frame":{frame},"time":{frame / 5},"scores":[1.0],"events":[]}}')
        >>> board.streams()
        [{'name': 'door', 'frames': 3, 'time': 0.4, 'live': False}]
        >>> board.watched("door")
        False
    """

    def __init__(self, answers: int) -> None:
        self._kept = answers
        self._lock = Lock()
        self._shown: dict[str, _Shown] = {}
        self._watchers: dict[str, set[Watcher]] = {}
        self._reserved: set[str] = set()

    def reserve(self, stream: str) -> None:
        """Keep a name for a stream of the program itself, so that no client can open one of it.

        Raises:
            DataError: If it is no name of a stream.

        Example:
            >>> board = Board(answers=2)
            >>> board.reserve("yard")
            >>> board.reserved("yard"), board.has("yard")
            (True, False)
        """
        self._reserved.add(check_name(stream))

    def reserved(self, stream: str) -> bool:
        """Whether a name is kept for a stream of the program itself."""
        return stream in self._reserved

    def answer(self, stream: str, text: str) -> None:
        """Show an answer.

        Args:
            stream: Name of the stream.
            text: The answer as its client gets it: see :func:`coadtr.serving.protocol.answer_text`.
        """
        with self._lock:
            shown = self._of(stream)
            shown.last = text
            shown.answers.append(text)
            self._tell(stream, text)

    def picture(self, stream: str, time: float, jpeg: bytes) -> None:
        """Show a picture, as a JPEG file; `time` is its own, in seconds of the stream."""
        message = write_picture(time, jpeg)
        with self._lock:
            self._of(stream).picture = message
            for watcher in self._watchers.get(stream, ()):
                if watcher.pictures:
                    watcher.show(message)

    def live(self, stream: str, told: dict[str, Any]) -> None:
        """Show how a stream does, JSON-ready: its ``source``, ``lag`` in seconds, and so on."""
        text = json.dumps({"live": told}, separators=(",", ":"), allow_nan=False)
        with self._lock:
            self._of(stream).live = text
            self._tell(stream, text)

    def end(self, stream: str, text: str) -> None:
        """Show that a stream has ended, and let its watchers go.

        Args:
            stream: Name of the stream.
            text: The end as its client gets it: see :func:`coadtr.serving.protocol.end_text`.
        """
        with self._lock:
            self._of(stream).ended = text
            self._shown[stream] = self._shown.pop(stream)  # last in the order: the oldest end goes first
            self._tell(stream, text)
            self._tell(stream, _OVER)
            ended = [name for name, one in self._shown.items() if one.ended is not None]
            for name in ended[:-_ENDED_MOST]:
                del self._shown[name]

    def watched(self, stream: str) -> bool:
        """Whether somebody watches the pictures of a stream, so that encoding one is worth while."""
        with self._lock:
            return any(watcher.pictures for watcher in self._watchers.get(stream, ()))

    def has(self, stream: str) -> bool:
        """Whether a stream is shown that has not ended."""
        with self._lock:
            shown = self._shown.get(stream)
            return shown is not None and shown.ended is None

    def streams(self) -> list[dict[str, Any]]:
        """List the streams that are shown and have not ended, JSON-ready; ``live``: with pictures."""
        with self._lock:
            going_on = {name: shown for name, shown in self._shown.items() if shown.ended is None}
        rows = []
        for name, shown in going_on.items():
            told = {} if shown.last is None else json.loads(shown.last)
            live = shown.picture is not None or shown.live is not None
            rows.append({"name": name, "frames": told.get("frame", -1) + 1, "time": told.get("time"), "live": live})
        return rows

    def forget(self, stream: str) -> None:
        """Keep nothing of a stream; those who watch it wait for what comes next. An end stays for its time."""
        with self._lock:
            shown = self._shown.get(stream)
            if shown is not None and shown.ended is None:
                del self._shown[stream]

    def sweep(self, forget_seconds: float, spared: Container[str]) -> None:
        """Forget ends that are old, and streams of which nothing was heard for long, but for some."""
        now = monotonic()
        with self._lock:
            for name, shown in list(self._shown.items()):
                most = forget_seconds if shown.ended is None else _ENDED_SECONDS
                if now - shown.heard > most and not (shown.ended is None and name in spared):
                    del self._shown[name]

    @property
    def watchers(self) -> int:
        """How many watch."""
        with self._lock:
            return sum(map(len, self._watchers.values()))

    @contextlib.contextmanager
    def watching(self, stream: str, *, pictures: bool) -> Iterator[Watcher]:
        """Watch a stream, on the event loop that runs.

        Args:
            stream: Its name; it may begin later.
            pictures: Whether to be shown pictures too.

        Yields:
            What is to be sent.
        """
        with self._lock:  # so that nothing comes twice, and nothing is left out
            shown = self._shown.get(stream)
            watcher = Watcher([] if shown is None else shown.first(pictures=pictures), pictures=pictures)
            self._watchers.setdefault(stream, set()).add(watcher)
        try:
            yield watcher
        finally:
            with self._lock:
                self._watchers[stream].discard(watcher)
                if not self._watchers[stream]:
                    del self._watchers[stream]

    def close(self, closing: Closing) -> None:
        """Let all watchers go."""
        with self._lock:
            for stream in self._watchers:
                self._tell(stream, closing)

    def _of(self, stream: str) -> _Shown:
        shown = self._shown.get(stream)
        if shown is None or shown.ended is not None:
            shown = self._shown[stream] = _Shown(deque(maxlen=self._kept))
        shown.heard = monotonic()
        return shown

    def _tell(self, stream: str, item: str | Closing) -> None:
        for watcher in self._watchers.get(stream, ()):
            watcher.tell(item)
