"""What goes over a connection, version 1: binary frames one way, JSON texts the other.

A client opens ``/v1/streams/NAME``, and the server greets it. Each binary message of the client holds one frame or
several, D little-endian float32 values each; on a timed stream 8 bytes of float64 seconds stand before each. Each frame
is answered by one text, in order (:func:`answer_text`). What the server does not take is answered by
:func:`error_text`, and the connection is closed with a code of :class:`Close` and the reason.

``/v1/pictures/NAME`` takes pictures instead, each with its time (:func:`write_picture`), and ``/v1/watch/NAME`` sends
what the client of a stream is answered, and such pictures, to anybody.
"""

from __future__ import annotations

import enum
import json
import math
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coadtr.runtime import Event

__all__ = [
    "PROTOCOL",
    "Close",
    "Closing",
    "answer_text",
    "check_name",
    "end_text",
    "error_text",
    "is_end",
    "read_message",
    "read_picture",
    "seen_text",
    "write_message",
    "write_picture",
]

PROTOCOL: Final = 1

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_TIME: Final = struct.Struct("<d")
_REASON_BYTES: Final = 123  # what a close frame has room for (RFC 6455, section 5.5)


class Close(enum.IntEnum):
    """Why a connection is closed: the code in the close frame."""

    NORMAL = 1000  # the stream was ended by its client
    STOPPING = 1001  # the server stops; connect again later
    TOO_BIG = 1009  # a message is larger than the limit
    FAULT = 1011  # an error of the server's own
    BAD_FRAME = 4400  # a message or a frame that cannot be taken, or a wrong query
    UNAUTHORISED = 4401  # no token, or not the right one
    FORBIDDEN = 4403  # a web page of another host
    IDLE = 4408  # no frame, or an answer not taken, for too long
    IN_USE = 4409  # the stream has another connection
    TOO_MANY = 4429  # the server remembers as many streams as it may


@dataclass(frozen=True)
class Closing:
    """The end of a connection: the code and the reason, which the client gets, and the frame that brought it about."""

    code: Close
    reason: str
    frame: int | None = None

    @property
    def short(self) -> str:
        """The reason as far as a close frame has room for it."""
        return self.reason.encode()[:_REASON_BYTES].decode(errors="ignore")


def check_name(name: str) -> str:
    """Check the name of a stream: 1 to 64 letters, digits, ``_``, ``.`` and ``-``, the first one no ``.`` or ``-``.

    Raises:
        DataError: If it is none.

    Example:
        >>> check_name("door-2")
        'door-2'
        >>> check_name("../x")
        Traceback (most recent call last):
        coadtr.errors.DataError: '../x' cannot name a stream: use 1 to 64 letters, digits, _ . -
    """
    if not _NAME.fullmatch(name):
        shown = repr(name) if len(name) <= 64 else f"a name of {len(name)} characters"
        raise DataError(f"{shown} cannot name a stream: use 1 to 64 letters, digits, _ . -")
    return name


def _layout(channels: int, *, timed: bool) -> np.dtype[Any]:
    values = ("frame", "<f4", (channels,))
    return np.dtype([("time", "<f8"), values] if timed else [values])


def read_message(data: bytes, channels: int, *, timed: bool) -> tuple[NDArray[np.float32], list[float] | None]:
    """Read the frames of one binary message.

    Args:
        data: The message.
        channels: Values D of a frame.
        timed: Whether 8 bytes of float64 seconds stand before each frame.

    Returns:
        Frames ``(k, D)``, and their times in seconds if they are timed.

    Raises:
        DataError: If the message does not hold whole frames.

    Example:
        >>> frames, times = read_message(write_message([[1, 2], [3, 4]], times=[0.5, 0.7]), 2, timed=True)
        >>> frames.tolist(), times
        ([[1.0, 2.0], [3.0, 4.0]], [0.5, 0.7])
    """
    layout = _layout(channels, timed=timed)
    if not data or len(data) % layout.itemsize:
        parts = f"{'8 bytes of time and ' if timed else ''}{channels} float32 values"
        raise DataError(f"a message has {len(data)} bytes; a frame is {layout.itemsize} ({parts}), send whole frames")
    records = np.frombuffer(data, layout)
    frames = records["frame"].astype(np.float32)  # the machine's own byte order, and no longer a view of the message
    return frames, records["time"].tolist() if timed else None


def write_message(frames: NDArray[Any] | Sequence[Sequence[float]], *, times: Sequence[float] | None = None) -> bytes:
    """Write frames ``(k, D)`` as one binary message, with their times in seconds if the stream is timed.

    Example:
        >>> len(write_message([[1, 2, 3]])), len(write_message([[1, 2, 3]], times=[0.0]))
        (12, 20)
    """
    values = np.asarray(frames, dtype=np.float32)
    records = np.zeros(len(values), _layout(values.shape[1], timed=times is not None))
    records["frame"] = values
    if times is not None:
        records["time"] = times
    return records.tobytes()


def read_picture(data: bytes) -> tuple[float, bytes]:
    """Read a picture with its time: 8 bytes of little-endian float64 seconds, then an image file.

    Raises:
        DataError: If there is no picture in it, or the time is not a finite number.

    Example:
        >>> read_picture(write_picture(0.5, b"JPEG"))
        (0.5, b'JPEG')
    """
    if len(data) <= _TIME.size:
        raise DataError(f"a message has {len(data)} bytes; send 8 bytes of time and then a picture")
    time: float = _TIME.unpack_from(data)[0]
    if not math.isfinite(time):
        raise DataError(f"the time of a picture must be a finite number of seconds, got {time}")
    return time, data[_TIME.size :]


def write_picture(time: float, image: bytes) -> bytes:
    """Write a picture, an image file, as one binary message with its time in seconds."""
    return _TIME.pack(time) + image


def _event(event: Event) -> dict[str, Any]:
    return {"kind": event.kind, "class": event.class_name, "time": event.time, "score": round(float(event.score), 6)}


def answer_text(frame: int, time: float, scores: NDArray[np.float32], events: Sequence[Event]) -> str:
    """Write the answer to a frame.

    Args:
        frame: Its number in the stream, from 0.
        time: Its time in seconds.
        scores: Scores ``(C,)``; the text holds as many digits as tell one float32 from the next.
        events: Events that it brought.

    Example:
        >>> answer_text(7, 1.4, np.array([0.9, 0.1], dtype=np.float32), [])
        '{"frame":7,"time":1.4,"scores":[0.9,0.1],"events":[]}'
    """
    numbers = ",".join(map(str, scores))
    told = json.dumps([_event(event) for event in events], separators=(",", ":")) if events else "[]"
    return f'{{"frame":{frame},"time":{time!r},"scores":[{numbers}],"events":{told}}}'


def seen_text(pictures: int, seconds: float) -> str:
    """Write that a picture was looked at: how many there were on this connection, and the time that it took.

    Example:
        >>> seen_text(2, 0.0125)
        '{"seen":2,"ms":12.5}'
    """
    return f'{{"seen":{pictures},"ms":{1e3 * seconds:.4g}}}'


def error_text(reason: str, frame: int | None = None) -> str:
    """Write why a frame or a message was not taken; nothing after it in this connection is.

    Example:
        >>> error_text("not finite", 3)
        '{"error":"not finite","frame":3}'
    """
    return json.dumps({"error": reason, **({} if frame is None else {"frame": frame})}, separators=(",", ":"))


def end_text(frames: int, events: Sequence[Event]) -> str:
    """Write the last text of a stream that its client ended: how many frames it had, and the events that end with it.

    Example:
        >>> end_text(3, [])
        '{"end":3,"events":[]}'
    """
    return json.dumps({"end": frames, "events": [_event(event) for event in events]}, separators=(",", ":"))


def is_end(text: str) -> bool:
    """Whether a text of the client says that its stream has ended; it is ``{"end": true}``.

    Example:
        >>> is_end('{"end": true}'), is_end("{}"), is_end("[" * 5000)
        (True, False, False)
    """
    try:
        return len(text) <= 64 and json.loads(text) == {"end": True}
    except ValueError:
        return False
