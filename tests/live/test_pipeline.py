"""From frames to answers: the same as step by step, each as soon as it can be, and never behind for long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coadtr.errors import ConfigError, DataError
from coadtr.live import LiveSource, Seen
from coadtr.live.lag import Lag
from coadtr.runtime import GapPolicy, OnlineDetector
from coadtr.video import Picture
from tests.live.looking import Grey, Notes, decoder, expected, live
from tests.serving.leaky import LeakyStepper, solo
from tests.video.writing import write_video


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("live") / "film.mp4", frames=75, rate=30)


class Parts(LiveSource):
    """A camera whose frames are given, with the connections that they come by."""

    def __init__(self, *parts: tuple[float, int]) -> None:
        super().__init__("rtsp://camera/1")
        self._parts = parts

    def frames(self) -> Any:
        for part, (offset, frames) in enumerate(self._parts):
            for index in range(frames):
                grey = np.full((16, 16, 3), (37 * index + 50 * part) % 256, np.uint8)
                yield Seen(Picture(index / 10, grey), part, offset, Lag(1e12))  # an origin that makes nothing late


def test_answers_are_those_of_the_detector_on_the_features(film: Path) -> None:
    notes, session = Notes(), live(LiveSource(str(film), realtime=False))
    totals = session.run([notes])
    scores = expected(film)
    np.testing.assert_array_equal([answer.scores for answer in notes.answers], scores)
    np.testing.assert_allclose([answer.time for answer in notes.answers], np.arange(len(scores)) / 5)
    assert (totals.frames, totals.answers, totals.held, totals.skipped) == (75, len(scores), 0, 0)
    assert totals.lag.typical() is None


def test_events_are_those_of_the_decoder(film: Path) -> None:
    notes = Notes()
    totals = live(LiveSource(str(film), realtime=False)).run([notes])
    plain = decoder()
    told = [tuple(plain.push(row, index / 5)) for index, row in enumerate(expected(film))]
    assert [answer.events for answer in notes.answers] == told
    assert notes.last == tuple(plain.finish())
    assert any(told)
    assert totals.events == sum(map(len, told)) + len(notes.last)


def test_a_frame_is_shown_after_what_is_known_before_it(film: Path) -> None:
    notes = Notes()
    live(LiveSource(str(film), realtime=False)).run([notes])
    shown = -1.0
    for kind, moment in notes.order[:-1]:
        if kind == "frame":
            shown = moment
        else:  # the chunk's frame is at its middle, so the next frame or the one after it completes it
            assert moment + 0.1 - 1 / 30 - 2e-3 <= shown <= moment + 0.1 + 1 / 30
    assert [moment for kind, moment in notes.order if kind == "frame"] == sorted(sight.time for sight in notes.sights)
    assert len(notes.sights) == 75


def test_at_its_own_speed_answers_are_the_same(film: Path) -> None:
    notes = Notes()
    totals = live(LiveSource(str(film)), late="wait").run([notes])
    np.testing.assert_array_equal([answer.scores for answer in notes.answers], expected(film))
    typical = totals.lag.typical()
    assert typical is not None
    assert typical.median >= 0.0
    assert all(not answer.held and answer.look_seconds > 0 for answer in notes.answers)


class Delayed(Lag):
    """Say that what lies between two moments of the video came far too late."""

    def behind(self, time: float, now: float) -> float:
        return 9.0 if 0.65 <= time < 1.45 else 0.25


class Camera(LiveSource):
    """A camera whose frames are given, with how late they are."""

    def __init__(self, frames: int = 30) -> None:
        super().__init__("rtsp://camera/1")
        self._frames = frames

    def frames(self) -> Any:
        lag = Delayed()
        for index in range(self._frames):
            yield Seen(Picture(index / 10, np.full((16, 16, 3), 37 * index % 256, np.uint8)), 0, 0.0, lag)


def features_of(camera: Camera) -> np.ndarray[Any, Any]:
    """Make all features of a camera, late or not."""
    stream = Grey().stream()
    found = [feature for seen in camera.frames() for feature in stream.push(seen.frame)]
    return np.stack([feature.values for feature in (*found, *stream.finish())])


def test_when_late_the_last_feature_is_held() -> None:
    eyes, notes, features = Grey(), Notes(), features_of(Camera())
    totals = live(Camera(), eyes).run([notes])
    # A chunk's frame is at its middle, k / 5 + 0.1: those of 0.7 to 1.3 are late.
    late = [3, 4, 5, 6]
    assert [answer.frame for answer in notes.answers if answer.held] == late
    features[late] = features[2]
    np.testing.assert_array_equal([answer.scores for answer in notes.answers], solo(features))
    assert (totals.held, totals.skipped, totals.answers) == (4, 0, 15)
    assert eyes.looks == 11
    assert [answer.look_seconds == 0.0 for answer in notes.answers] == [answer.held for answer in notes.answers]
    np.testing.assert_allclose([sight.time for sight in notes.sights if sight.late], np.arange(7, 15) / 10)
    assert totals.lag.typical() == pytest.approx((0.25, 9.0))


def test_when_late_features_are_left_out_or_waited_for() -> None:
    notes, patient, features = Notes(), Notes(), features_of(Camera())
    totals = live(Camera(), late="skip").run([notes])
    kept = np.delete(features, [3, 4, 5, 6], axis=0)
    np.testing.assert_array_equal([answer.scores for answer in notes.answers], solo(kept))
    assert (totals.held, totals.skipped, totals.answers) == (0, 4, 11)
    assert [answer.frame for answer in notes.answers] == list(range(11))
    slow = live(Camera(), late="wait").run([patient])
    assert (slow.held, slow.skipped) == (0, 0)
    np.testing.assert_array_equal([answer.scores for answer in patient.answers], solo(features))


def test_a_stream_that_begins_late_is_answered_as_soon_as_it_is_not() -> None:
    class Late(Camera):
        def frames(self) -> Any:
            return (seen for seen in super().frames() if seen.frame.time >= 0.7)

    notes = Notes()
    totals = live(Late()).run([notes])
    assert totals.skipped > 0  # there is nothing to hold yet
    assert not any(answer.held for answer in notes.answers)


def test_after_a_lost_connection_chunks_begin_anew() -> None:
    notes = Notes()
    detector = OnlineDetector(LeakyStepper(), gaps=GapPolicy(reset_after=5.0))
    live(Parts((0.0, 20), (60.0, 20)), detector=detector).run([notes])
    times = [answer.time for answer in notes.answers]
    np.testing.assert_allclose(times, [*np.arange(10) / 5, *(60 + np.arange(10) / 5)])
    fresh = Notes()
    live(Parts((0.0, 0), (0.0, 20))).run([fresh])
    np.testing.assert_array_equal(
        [answer.scores for answer in notes.answers[10:]], [answer.scores for answer in fresh.answers]
    )


def test_what_reading_raises_is_raised_after_what_was_read(film: Path, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", frames=75)
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(whole.read_bytes()[: int(0.6 * whole.stat().st_size)])
    notes = Notes()
    with pytest.raises(DataError, match="is cut short"):
        live(LiveSource(str(broken), realtime=False)).run([notes])
    assert len(notes.answers) > 3
    assert notes.last is None


def test_a_view_that_fails_ends_it(film: Path) -> None:
    class Full(Notes):
        def frame(self, _: Any) -> None:
            raise DataError("the disk is full")

    source = LiveSource(str(film))
    with pytest.raises(DataError, match="the disk is full"):
        live(source).run([Full()])
    assert list(source.frames()) == []  # it was stopped, and its thread with it


def test_it_stops_in_the_middle(film: Path) -> None:
    source = LiveSource(str(film), realtime=False)

    class Impatient(Notes):
        def answer(self, answer: Any) -> None:
            super().answer(answer)
            source.stop()

    notes = Impatient()
    totals = live(source).run([notes])
    assert notes.last is not None
    assert 1 <= totals.answers <= len(expected(film))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"late": "never"}, "late='never': use one of hold, skip, wait"),
        ({"max_lag": 0.0}, "max_lag=0.0: give seconds above 0"),
        ({"max_lag": float("nan")}, "max_lag=nan: give seconds above 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        live(LiveSource("a.mp4"), **options)
