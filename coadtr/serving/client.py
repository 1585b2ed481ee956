"""A client of one stream: push a frame, get its answer, whatever happens to the connection in between."""

from __future__ import annotations

import json
import time
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self
from urllib.parse import quote, urlencode, urlsplit

import numpy as np

from coadtr.errors import DataError, MissingExtraError, ShapeError
from coadtr.serving.answers import Answer, Hello, StreamError, read_events
from coadtr.serving.protocol import PROTOCOL, Close, check_name, write_message

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from numpy.typing import NDArray
    from websockets.sync.client import ClientConnection

    from coadtr.runtime import Event

__all__ = ["StreamClient"]

# What a second try does not mend.
_FINAL: Final = frozenset(Close) - {Close.STOPPING, Close.FAULT, Close.IDLE}
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0
_AHEAD: Final = 64
_CLOSE_SECONDS: Final = 2.0


class StreamClient:
    """Push frames to one stream of a server.

    A connection that breaks is opened again, and what was not answered is sent again. The server says which frames it
    has taken, so none counts twice and none is left out. One client serves one stream and one thread.

    Args:
        url: The server, such as ``ws://127.0.0.1:8000``; ``http`` and ``https`` will do.
        stream: Name of the stream.
        token: The server's token, if it wants one.
        timed: Whether each frame brings its time.
        fresh: Begin the stream anew, whatever the server knows of it.
        patience_seconds: How long to try to reach a server that is away.
        answer_seconds: How long to wait for an answer before the connection is taken to be broken.
        restart_lost: Go on with a new stream if the server has lost this one; else that is an error.

    Attributes:
        hello: What the server said when it was last connected.

    Raises:
        MissingExtraError: If websockets is not installed.
        DataError: If the address or the name of the stream cannot be one.
        StreamError: If the server cannot be reached or refuses the stream.

    Example:
        >>> from coadtr.runtime import Description, Leaf, OnlineDetector
        >>> from coadtr.serving import ServerSettings, running
        >>> class Counter:
        ...     description = Description(
        ...         class_names=("even", "odd"), background=None, ignored=None, streams={"imu": 3}, rate_hz=5.0,
        ...         head="softmax", state=(Leaf("count", np.zeros(1, np.float32)),), source={"weights_sha256": "-"},
        ...     )
        ...     def step(self, frames, state):
        ...         return np.concatenate([1 - state[0] % 2, state[0] % 2], axis=1) * 50, [state[0] + 1]
        >>> with running(OnlineDetector(Counter()), ServerSettings(port=0)) as url, StreamClient(url, "door") as client:
        ...     [client.push([0.1, 0.2, 0.3]).scores.argmax().item() for _ in range(3)]
        [0, 1, 0]
    """

    def __init__(
        self,
        url: str,
        stream: str,
        token: str | None = None,
        *,
        timed: bool = False,
        fresh: bool = False,
        patience_seconds: float = 60.0,
        answer_seconds: float = 30.0,
        restart_lost: bool = False,
    ) -> None:
        try:
            # Here, so that the rest of the package needs no websockets.
            from websockets.exceptions import ConnectionClosed, InvalidHandshake  # noqa: PLC0415
            from websockets.sync.client import connect  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError('a client needs websockets: run `pip install "coadtr[serve]"`') from error
        self._open, self._broken = connect, (ConnectionClosed, OSError)
        self._refused: type[Exception] = InvalidHandshake
        self._url, self._stream = _address(url), check_name(stream)
        self._token, self._timed, self._fresh = token, timed, fresh
        self._patience, self._answer_seconds, self._restart_lost = patience_seconds, answer_seconds, restart_lost
        self._connection: ClientConnection | None = None
        self._held = ExitStack()  # holds the connection
        self._ours = False  # the stream was connected to this client before
        self._number: int | None = None  # of the first frame without an answer; None if the server says
        self._unanswered: deque[bytes] = deque()
        self._sent = 0  # of them, on this connection
        self.hello: Hello
        self._reach()

    def push(self, frame: NDArray[Any] | Sequence[float], *, time: float | None = None) -> Answer:
        """Send the stream's next frame and return its answer.

        Args:
            frame: ``(D,)``.
            time: Its time in seconds, on a timed stream.

        Raises:
            ShapeError: If the frame is not D values.
            DataError: If its time is missing, or given where the stream has none.
            StreamError: If the server does not take it, or cannot be reached for too long.
        """
        values = np.asarray(frame, np.float32)
        if values.shape != (self.hello.channels,):
            raise ShapeError(f"the frame is {values.shape}; give (D,) with D = {self.hello.channels}")
        (answer,) = self.push_many(values[None], times=None if time is None else [time])
        return answer

    def push_many(
        self, frames: NDArray[Any] | Sequence[Sequence[float]], *, times: Sequence[float] | None = None
    ) -> list[Answer]:
        """Send the stream's next T frames, some ahead of their answers, and return the answers.

        Args:
            frames: ``(T, D)``.
            times: Their times in seconds, on a timed stream.

        Raises:
            ShapeError: If a frame is not D values.
            DataError: If times are missing, too few, or given where the stream has none.
            StreamError: As `push` does. Those before a frame that is not taken were taken, those after it were not.
        """
        values = np.asarray(frames, np.float32)
        if values.ndim != 2 or values.shape[1] != self.hello.channels:
            raise ShapeError(f"frames are {values.shape}; give (T, D) with D = {self.hello.channels}")
        if (times is not None) != self._timed or (times is not None and len(times) != len(values)):
            raise DataError(f"timed={self._timed}: give {'a time for each frame' if self._timed else 'no times'}")
        ahead, index = min(self.hello.waiting, _AHEAD), 0
        answers: list[Answer] = []
        try:
            while len(answers) < len(values):
                while len(self._unanswered) < ahead and index < len(values):
                    moments = None if times is None else times[index : index + 1]
                    self._unanswered.append(write_message(values[index : index + 1], times=moments))
                    index += 1
                answers.append(self._next_answer())
        except BaseException:
            # Whatever of it the server has taken, it says so when it greets the next connection.
            self._unanswered.clear()
            self._number = None
            self.close()
            raise
        return answers

    def end(self) -> tuple[Event, ...]:
        """End the stream: the server forgets it, and tells the actions that end with it.

        Raises:
            StreamError: If the server refuses the stream, or cannot be reached for too long.
        """
        self._number = None
        while True:
            connection = self._connection or self._reach()
            try:
                connection.send('{"end": true}')
                told = self._receive(connection)
            except self._broken as error:
                self._lost(error)
                continue
            self.close()
            return read_events(told)

    def close(self) -> None:
        """Close the connection. The server keeps the stream for a while; the next push goes on with it."""
        self._connection, self._sent = None, 0
        self._held.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def _next_answer(self) -> Answer:
        while True:
            connection = self._connection or self._reach()
            try:
                while self._sent < len(self._unanswered):
                    connection.send(self._unanswered[self._sent])
                    self._sent += 1
                answer = Answer.read(self._receive(connection))
            except self._broken as error:
                self._lost(error)
                continue
            self._unanswered.popleft()
            self._sent -= 1
            self._number = answer.frame + 1
            return answer

    def _receive(self, connection: ClientConnection) -> dict[str, Any]:
        """Receive a text; after an error wait for the close, which tells whether a second try would mend it."""
        told: dict[str, Any] = json.loads(connection.recv(self._answer_seconds))
        if "error" in told:
            try:
                while True:
                    connection.recv(self._answer_seconds)
            except self._broken as error:
                self._lost(error, told)
                raise
        return told

    def _lost(self, error: Exception, told: dict[str, Any] | None = None) -> None:
        """Note that the connection is gone; raise if another would not mend it."""
        self.close()
        received = getattr(error, "rcvd", None)
        if received is not None and received.code in _FINAL:
            reason, frame = (received.reason, None) if told is None else (told["error"], told.get("frame"))
            raise StreamError(f"{self._url}: {reason}", code=received.code, frame=frame) from error

    def _reach(self) -> ClientConnection:
        """Connect, again and again for a while."""
        begun, wait = time.monotonic(), _FIRST_WAIT
        while True:
            try:
                return self._connect()
            except (*self._broken, EOFError, self._refused) as error:
                self._check_refusal(error)
                if time.monotonic() + wait - begun > self._patience:
                    raise StreamError(f"{self._url} cannot be reached ({error})") from error
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _check_refusal(self, error: Exception) -> None:
        self._lost(error)
        response = getattr(error, "response", None)
        status = 500 if response is None else response.status_code
        if status < 500:
            what = "wants a token, or another one" if status == 401 else "is no server of coadtr"
            raise StreamError(f"{self._url} {what} (status {status})", code=status) from error

    def _connect(self) -> ClientConnection:
        query = {"timed": str(self._timed).lower()}
        if self._ours:  # the server may not know yet that we lost it
            query["takeover"] = "true"
        elif self._fresh:
            query["fresh"] = "true"
        if self._number is not None:
            query["next"] = str(self._number)
        opening = self._open(
            f"{self._url}/v1/streams/{quote(self._stream)}?{urlencode(query)}",
            additional_headers=None if self._token is None else {"Authorization": f"Bearer {self._token}"},
            compression=None,
            max_size=None,
            close_timeout=_CLOSE_SECONDS,
        )
        self._connection = connection = self._held.enter_context(opening)
        told = self._receive(connection)
        if told.get("protocol") != PROTOCOL:
            self._give_up(f"speaks protocol {told.get('protocol')!r}, this client {PROTOCOL}; use the same coadtr")
        self.hello, self._ours = Hello.read(told), True
        self._agree()
        return connection

    def _agree(self) -> None:
        """Find out which of the frames that have no answer the server has taken: those it answers again."""
        frames = self.hello.frames
        if self._number is not None:
            taken = frames - self._number
            if 0 <= taken <= len(self._unanswered) and (taken == 0 or self.hello.kept_from <= self._number):
                self._sent = taken
                return
            if not self._restart_lost:
                self._give_up(
                    f"has {frames} frames of stream {self._stream}, and answered {self._number} of this client's; "
                    "begin anew with fresh=True, or say restart_lost=True"
                )
        self._number, self._sent = frames, 0

    def _give_up(self, reason: str) -> NoReturn:
        self.close()
        raise StreamError(f"{self._url} {reason}")


def _address(url: str) -> str:
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.netloc:
        raise DataError(f"{url!r} is no server; give an address such as ws://127.0.0.1:8000")
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"
