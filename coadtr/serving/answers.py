"""What a client is told, as objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import CoadtrError
from coadtr.runtime import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Answer", "Hello", "StreamError", "read_events"]


class StreamError(CoadtrError, RuntimeError):
    """The server does not take a frame or the stream, or cannot be reached for too long.

    Attributes:
        code: Close code of the connection, or status of the handshake; None if there was neither.
        frame: Number of the frame that it does not take, if it is about one.
    """

    def __init__(self, message: str, *, code: int | None = None, frame: int | None = None) -> None:
        super().__init__(message)
        self.code, self.frame = code, frame


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer to a frame.

    Attributes:
        frame: Its number in the stream, from 0.
        time: Its time in seconds: as it was sent, or its number divided by the rate.
        scores: Scores ``(C,)`` from 0 to 1.
        events: The starts and ends of actions that it tells.

    Example:
        >>> Answer.read({"frame": 3, "time": 0.6, "scores": [0.9, 0.1], "events": []}).scores
        array([0.9, 0.1], dtype=float32)
    """

    frame: int
    time: float
    scores: NDArray[np.float32]
    events: tuple[Event, ...]

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Answer:
        """Read an answer of the server."""
        scores = np.array(told["scores"], np.float32)
        return cls(told["frame"], told["time"], scores, read_events(told))


@dataclass(frozen=True)
class Hello:
    """What the server says first.

    Attributes:
        class_names: The C class names, in the order of the scores.
        channels: Values D of a frame.
        streams: Name and channels of each feature stream, in the order in which they are joined to a frame.
        rate_hz: Frames a second that the model was trained on.
        frames: Frames that the stream had taken.
        kept_from: Number of the first frame whose answer the server can send again.
        waiting: Frames that may be sent ahead of their answers.
        told: All of it, as it came.
    """

    class_names: tuple[str, ...]
    channels: int
    streams: dict[str, int]
    rate_hz: float
    frames: int
    kept_from: int
    waiting: int
    told: dict[str, Any]

    @classmethod
    def read(cls, told: dict[str, Any]) -> Hello:
        """Read the first message of the server."""
        return cls(
            class_names=tuple(told["classes"]),
            channels=told["channels"],
            streams={entry["name"]: entry["channels"] for entry in told["streams"]},
            rate_hz=told["rate_hz"],
            frames=told["frames"],
            kept_from=told["kept_from"],
            waiting=told["limits"]["waiting"],
            told=told,
        )


def read_events(told: Mapping[str, Any]) -> tuple[Event, ...]:
    """Read the events of an answer, or of the end of a stream.

    Example:
        >>> read_events({"events": [{"kind": "end", "class": "lift", "time": 2.0, "score": 0.25}]})
        (Event(kind='end', class_name='lift', time=2.0, score=0.25),)
    """
    return tuple(Event(event["kind"], event["class"], event["time"], event["score"]) for event in told["events"])
