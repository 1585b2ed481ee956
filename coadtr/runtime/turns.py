"""A stream's turn: its next frame, what is done about the gap before it or values that are not finite, the step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import numpy as np

from coadtr.errors import ConfigError, DataError
from coadtr.runtime.frames import all_finite
from coadtr.runtime.memory import Block, Stream, gather

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coadtr.runtime.gaps import GapPolicy
    from coadtr.runtime.stepper import Stepper

__all__ = ["NON_FINITE", "NonFinite", "Rules", "Turn", "require_answer", "take"]

NonFinite: TypeAlias = Literal["reject", "mask"]
NON_FINITE: Final = ("reject", "mask")


class Turn(NamedTuple):
    """What a stream does next.

    Attributes:
        stream: The stream, its state as it is before the turn and its counts as they are after it.
        frame: The frame that is answered, ``(D,)``, finite.
        held: The frames that are fed before it: its last one, once for each that is missing.
    """

    stream: Stream
    frame: NDArray[np.float32]
    held: list[NDArray[np.float32]]


class Rules:
    """Decide what is fed when a frame comes.

    Args:
        gaps: What happens when frames are missing.
        non_finite: ``"reject"`` or ``"mask"``.
        rate_hz: Frames a second that should come.
        fresh: A stream that has seen no frame.

    Raises:
        ConfigError: If ``non_finite`` is neither.
    """

    def __init__(self, gaps: GapPolicy, non_finite: NonFinite, *, rate_hz: float, fresh: Stream) -> None:
        if non_finite not in NON_FINITE:
            raise ConfigError(f"non_finite must be one of {', '.join(NON_FINITE)}, got {non_finite!r}")
        self._gaps, self._rate, self._fresh = gaps, rate_hz, fresh
        self._masks = non_finite == "mask"
        self._keeps = self._masks or gaps.missing == "hold"  # a copy of the last frame

    def require_finite(self, frames: NDArray[np.float32], seen: int) -> None:
        """Refuse frames ``(T, D)``, or one ``(D,)``, that are not finite, unless they are to be masked.

        Args:
            frames: The frames.
            seen: Number of the first one, for the message.

        Raises:
            DataError: If a value is not finite.
        """
        if self._masks:
            return
        finite = np.isfinite(frames)
        if not finite.all():
            row, channel = (int(value) for value in np.argwhere(~np.atleast_2d(finite))[0])
            raise DataError(f"frame {seen + row} is not finite in channel {channel}; replace the value and push again")

    def turn(self, stream: Stream, frame: NDArray[np.float32], time: float | None) -> Turn:
        """Plan a stream's turn.

        Args:
            stream: What is known of it.
            frame: ``(D,)``, which `require_finite` has let through.
            time: Of the frame in seconds, None if it is not known.

        Raises:
            DataError: If the time is not a finite number, or went back.
        """
        held: list[NDArray[np.float32]] = []
        if time is not None:
            gap = self._gaps.gap(stream.time, time, rate_hz=self._rate)
            time = float(time)
            if gap.restarts:
                stream = stream._replace(
                    block=self._fresh.block, row=self._fresh.row, seen=0, last=None, restarts=stream.restarts + 1
                )
            elif stream.last is not None:
                held = [stream.last] * gap.held
            if gap.missing:
                stream = stream._replace(missing=stream.missing + gap.missing, held=stream.held + len(held))
        masked, last = stream.masked, None
        if self._keeps:
            finite = np.isfinite(frame)
            frame = last = np.where(finite, frame, np.float32(0) if stream.last is None else stream.last)
            masked += int(finite.size - np.count_nonzero(finite))
        block, row, seen, _, _, _, *rest = stream  # written out: `_replace` takes several times as long
        return Turn(Stream(block, row, seen + 1, time, last, masked, *rest), frame, held)


def take(stepper: Stepper, turns: Sequence[Turn]) -> list[tuple[NDArray[np.float32], Stream]]:
    """Take some streams' turns side by side, and change nothing that is known of them.

    Args:
        stepper: What steps.
        turns: One for each stream.

    Returns:
        For each the logits ``(C,)``, which may not be finite, and what is then known of it.
    """
    now = [turn.stream for turn in turns]
    for repeat in range(max((len(turn.held) for turn in turns), default=0)):
        holding = [index for index, turn in enumerate(turns) if len(turn.held) > repeat]
        fed = np.stack([turns[index].held[repeat] for index in holding])
        _, block = _step(stepper, [now[index] for index in holding], fed)
        for row, index in enumerate(holding):
            now[index] = now[index]._replace(block=block, row=row)
    if not turns:
        return []
    frames = turns[0].frame[None] if len(turns) == 1 else np.stack([turn.frame for turn in turns])
    logits, block = _step(stepper, now, frames)
    return [(logits[row], Stream(block, row, *stream[2:])) for row, stream in enumerate(now)]


def _step(stepper: Stepper, streams: list[Stream], frames: NDArray[np.float32]) -> tuple[NDArray[np.float32], Block]:
    logits, state = stepper.step(frames, gather(streams))
    return logits, Block(state, len(streams))


def require_answer(logits: NDArray[np.float32], number: int) -> None:
    """Refuse an answer that is not finite.

    Args:
        logits: ``(C,)``.
        number: Of the frame, for the message.

    Raises:
        DataError: If a logit is not finite.
    """
    if not all_finite(logits):
        raise DataError(f"the answer to frame {number} is not finite; are the features scaled as in training?")
