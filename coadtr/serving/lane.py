"""The frames of one connection on their way to a step, and the answers on their way back."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from coadtr.serving.protocol import Closing

if TYPE_CHECKING:
    from collections.abc import Callable

    from coadtr.serving.known import Frame

__all__ = ["Answer", "Lane"]

Answer: TypeAlias = tuple[str, float] | Closing
"""A text to send, with the time at which its frame was received; or the end of the connection."""


class Lane:
    """What lies between one connection and the steps: bounded, because what lies here is what a client can pile up.

    Args:
        stream: Name of the stream.
        timed: Whether its frames bring their times.
        most: Frames that may be received and not answered.

    Attributes:
        stream: Name of the stream.
        timed: Whether its frames bring their times.
        waiting: Frames that wait for a step.
        stepping: Whether a frame is in a step.
        answers: What is to be sent, in order.
        ended: Why the server ends the connection, once it does.
        quiet: Whether the connection reads no more, and has sent all answers, because the server stops.
        left: Whether the connection is gone; then frames are still taken, and nobody hears of it.
    """

    def __init__(self, stream: str, *, timed: bool, most: int) -> None:
        self.stream, self.timed = stream, timed
        self.waiting: deque[Frame] = deque()
        self.stepping = False
        self.answers: asyncio.Queue[Answer] = asyncio.Queue()
        self.ended: Closing | None = None
        self.quiet = False
        self.left = False
        self._most, self._unanswered = most, 0
        self._stirred = asyncio.Event()

    @property
    def settled(self) -> bool:
        """Whether no frame waits or is being stepped."""
        return not self.waiting and not self.stepping

    async def put(self, frame: Frame) -> bool:
        """Let a frame wait for a step, as soon as there is room; false if none is taken any more."""
        await self.until(lambda: self.ended is not None or self._unanswered < self._most)
        if self.ended is not None:
            return False
        self.waiting.append(frame)
        self._unanswered += 1
        return True

    def deliver(self, answer: Answer) -> None:
        """Hand over the outcome of a step; a refusal is the last one, and what waits behind it is dropped."""
        self.stepping = False
        if isinstance(answer, Closing):
            self.end(answer)
        elif self.ended is None:
            self.answers.put_nowait(answer)
        self.stir()

    def end(self, closing: Closing) -> None:
        """Take no more frames, because the server ends the connection."""
        if self.ended is None:
            self.ended = closing
            self.answers.put_nowait(closing)
        self.waiting.clear()
        self.stir()

    def sent(self) -> None:
        """Note that an answer is on its way."""
        self._unanswered -= 1
        self.stir()

    async def answered(self) -> None:
        """Wait until every frame that was received is answered, or the server ends the connection."""
        await self.until(lambda: self._unanswered == 0 or self.ended is not None)

    async def released(self) -> None:
        """Wait until the connection is quiet or gone."""
        await self.until(lambda: self.quiet or self.left)

    def stir(self) -> None:
        """Have all that wait look again."""
        before, self._stirred = self._stirred, asyncio.Event()
        before.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        while not holds():
            await self._stirred.wait()
