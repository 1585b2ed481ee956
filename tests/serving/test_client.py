"""The client: what a user calls, and what it does when a connection or a server goes away."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from coadtr.errors import DataError, ShapeError
from coadtr.runtime import EventDecoder
from coadtr.serving import Answer, Limits, ServerSettings, StreamClient, StreamError, running
from coadtr.serving.protocol import Close
from tests.serving.leaky import CHANNELS, CLASSES, RATE, detector, frames_of, solo
from tests.serving.talking import raw, told

TOKEN = "s3cret"  # noqa: S105 - of a test


class Relay:
    """Stand between clients and a server, and cut all connections on demand: a network that fails."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        self.swallow = False  # what the server says is lost, until the next connection
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.swallow = False
            far = socket.create_connection(("127.0.0.1", self._target))
            self._ends += [near, far]
            for source, sink, answers in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pump, args=(source, sink, answers), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                if not (answers and self.swallow):
                    sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def cut(self) -> None:
        """Break all connections without a word."""
        for end in self._ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                end.close()
        self._ends = []

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()
        self.cut()


@contextmanager
def relayed(url: str) -> Iterator[Relay]:
    """Relay to a server."""
    relay = Relay(int(url.rpartition(":")[2]))
    try:
        yield relay
    finally:
        relay.close()


def settings(port: int = 0, **changes: object) -> ServerSettings:
    """Make the settings of a server."""
    return ServerSettings(port=port, **changes)  # type: ignore[arg-type]


def require_solo(answers: list[Answer], frames: np.ndarray) -> None:
    """Answers are those of the stream on its own, none twice and none left out."""
    assert [answer.frame for answer in answers] == list(range(len(frames)))
    np.testing.assert_array_equal([answer.scores for answer in answers], solo(frames))


def test_pushes_are_answered_one_by_one_or_many_at_a_time() -> None:
    frames = frames_of(60)
    with running(detector(), settings()) as url, StreamClient(url, "door") as client:
        assert client.hello.class_names == CLASSES
        assert (client.hello.channels, client.hello.rate_hz, client.hello.frames) == (CHANNELS, RATE, 0)
        assert client.hello.streams == {"rgb": 3, "flow": 2}
        answers = [client.push(frame) for frame in frames[:5]]
        answers += client.push_many(frames[5:])
        assert client.push_many(frames[:0]) == []
        ended = client.end()
        again = client.push(frames[0])
    require_solo(answers, frames)
    assert [answer.time for answer in answers] == [number / RATE for number in range(60)]
    decoder = EventDecoder(CLASSES, 0, RATE)
    for answer in answers:
        found = [(event.kind, event.class_name, event.time) for event in answer.events]
        assert found == [event[:3] for event in decoder.push(answer.scores, answer.time)]
    assert [event[:3] for event in ended] == [event[:3] for event in decoder.finish()]
    assert again.frame == 0


def test_a_timed_stream_takes_times() -> None:
    frames = frames_of(4)
    with running(detector(), settings()) as url, StreamClient(url, "door", timed=True) as client:
        answers = [client.push(frames[0], time=3.5), *client.push_many(frames[1:], times=[3.7, 3.9, 4.1])]
        with pytest.raises(DataError, match="timed=True: give a time for each frame"):
            client.push(frames[0])
        with pytest.raises(DataError, match="timed=True: give a time for each frame"):
            client.push_many(frames, times=[5.0])
    assert [answer.time for answer in answers] == [3.5, 3.7, 3.9, 4.1]
    require_solo(answers, frames)


def test_what_cannot_be_sent_is_refused_before_it_is() -> None:
    with running(detector(), settings()) as url, StreamClient(url, "door") as client:
        with pytest.raises(ShapeError, match=r"the frame is \(4,\); give \(D,\) with D = 5"):
            client.push([1, 2, 3, 4])
        with pytest.raises(ShapeError, match=r"frames are \(2, 4\); give \(T, D\) with D = 5"):
            client.push_many([[1, 2, 3, 4]] * 2)
        with pytest.raises(DataError, match="timed=False: give no times"):
            client.push([1] * 5, time=2.0)
        assert client.push([1] * 5).frame == 0
    for address in ("localhost:8000", "ftp://here", "", "ws://"):
        with pytest.raises(DataError, match=r"is no server; give an address such as ws://127.0.0.1:8000"):
            StreamClient(address, "door")
    with pytest.raises(DataError, match="'a b' cannot name a stream"):
        StreamClient("ws://127.0.0.1:1", "a b")


def test_a_frame_that_is_refused_raises_and_the_stream_goes_on() -> None:
    frames = frames_of(8)
    bad = frames.copy()
    bad[4, 2] = np.nan
    with running(detector(), settings()) as url, StreamClient(url, "door") as client:
        answers = client.push_many(frames[:2])
        with pytest.raises(StreamError, match="frame 4 is not finite in channel 2; replace the value") as caught:
            client.push_many(bad[2:])
        assert (caught.value.code, caught.value.frame) == (Close.BAD_FRAME, 4)
        rest = client.push_many(frames[4:])
        assert [answer.frame for answer in rest] == [4, 5, 6, 7]
        np.testing.assert_array_equal([answer.scores for answer in answers + rest], solo(frames)[[0, 1, 4, 5, 6, 7]])


def test_a_connection_that_breaks_is_opened_again_and_nothing_counts_twice() -> None:
    frames = frames_of(40)
    rng = np.random.default_rng(1)
    with running(detector(), settings()) as url, relayed(url) as relay, StreamClient(relay.url, "door") as client:
        answers: list[Answer] = []
        stop = threading.Event()

        def disturb() -> None:
            while not stop.wait(0.05 + 0.15 * rng.random()):
                relay.swallow = rng.random() < 0.5
                time.sleep(0.01)
                relay.cut()

        disturber = threading.Thread(target=disturb)
        disturber.start()
        while len(answers) < len(frames):
            count = int(rng.integers(1, 9))
            answers += client.push_many(frames[len(answers) : len(answers) + count])
        stop.set()
        disturber.join()
    require_solo(answers, frames)


def test_an_answer_that_was_lost_is_sent_again() -> None:
    frames = frames_of(6)
    with (
        running(detector(), settings()) as url,
        relayed(url) as relay,
        StreamClient(relay.url, "door", answer_seconds=0.3) as client,
    ):
        answers = client.push_many(frames[:3])
        relay.swallow = True
        answers += client.push_many(frames[3:])
    require_solo(answers, frames)


def test_a_server_that_is_started_again_goes_on(tmp_path: Path) -> None:
    frames = frames_of(30)
    with ExitStack() as client_stack:
        with running(detector(), settings(snapshots=tmp_path)) as url:
            port = int(url.rpartition(":")[2])
            client = client_stack.enter_context(StreamClient(url, "door"))
            answers = client.push_many(frames[:10])
        pushed: list[Answer] = []
        waiting = threading.Thread(target=lambda: pushed.extend(client.push_many(frames[10:])))
        waiting.start()  # the server is away
        time.sleep(0.2)
        with running(detector(), settings(port, snapshots=tmp_path)):
            waiting.join()
            client.close()
    require_solo(answers + pushed, frames)


def test_a_server_that_forgot_the_stream_is_told_of() -> None:
    frames = frames_of(6)
    with running(detector(), settings()) as url:
        port = int(url.rpartition(":")[2])
        client, other = StreamClient(url, "door"), StreamClient(url, "yard", restart_lost=True)
        client.push_many(frames)
        other.push_many(frames)
    with running(detector(), settings(port)):
        with pytest.raises(
            StreamError, match="has 0 frames of stream door, and answered 6 of this client's; begin anew"
        ):
            client.push(frames[0])
        require_solo(other.push_many(frames), frames)
        client.close()
        other.close()


def test_a_stream_is_one_clients_at_a_time() -> None:
    frames = frames_of(3)
    with running(detector(), settings()) as url, StreamClient(url, "door") as client:
        client.push(frames[0])
        with pytest.raises(StreamError, match="stream door has another connection") as caught:
            StreamClient(url, "door")
        assert caught.value.code == Close.IN_USE
        with raw(url, "door", "takeover=true") as thief:
            assert told(thief)["frames"] == 1
            with pytest.raises(StreamError, match="another connection has taken stream door over"):
                client.push(frames[1])


def test_fresh_begins_anew_once() -> None:
    frames = frames_of(4)
    with running(detector(), settings()) as url, relayed(url) as relay:
        with StreamClient(url, "door") as client:
            client.push_many(frames)
        with StreamClient(relay.url, "door", fresh=True) as client:
            answers = client.push_many(frames[:2])
            relay.cut()
            answers += client.push_many(frames[2:])
        require_solo(answers, frames)


def test_a_wrong_token_is_told_and_a_right_one_enters() -> None:
    with running(detector(), settings(token=TOKEN)) as url:
        for token in (None, "wrong"):
            with pytest.raises(StreamError, match=r"wants a token, or another one \(status 401\)") as caught:
                StreamClient(url, "door", token)
            assert caught.value.code == 401
        with StreamClient(url, "door", TOKEN) as client:
            assert client.push(frames_of(1)[0]).frame == 0
        with pytest.raises(StreamError, match=r"is no server of coadtr \(status 40\d\)"):
            StreamClient(f"{url}/elsewhere", "door", TOKEN)


def test_a_limit_that_is_reached_is_told() -> None:
    with running(detector(), settings(limits=Limits(streams=1))) as url, StreamClient(url, "door"):
        with pytest.raises(StreamError, match="the server has 1 streams, its limit") as caught:
            StreamClient(url, "yard")
        assert caught.value.code == Close.TOO_MANY


def test_a_server_that_is_not_there_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(StreamError, match=rf"ws://127.0.0.1:{port} cannot be reached \(.*[Rr]efused") as caught:
        StreamClient(f"http://127.0.0.1:{port}", "door", patience_seconds=0.3)
    assert caught.value.code is None
    assert time.monotonic() - begun < 5
