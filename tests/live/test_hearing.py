"""Sound that is going on: the features and answers of the whole recording, each when it is complete."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coadtr.audio import LogMel, log_mel_preset, read_audio
from coadtr.errors import ConfigError, DataError
from coadtr.live import AnnotatedVideo, Block, Ears, LiveDetector, LiveSource, PageView, Sight, source
from coadtr.live.hearing import SoundReader, hears
from coadtr.live.pipeline import Totals
from coadtr.live.terminal import summary
from coadtr.live.told import Labels
from coadtr.runtime import OnlineDetector
from tests.audio.writing import chirp, write_sound, write_wav
from tests.live.looking import Notes, decoder
from tests.serving.leaky import LeakyStepper, solo

# Five bands at the rate of the detector.
FRONT_END = LogMel(rate_hz=8000, high_hz=4000.0, bands=5, window_s=0.2, hop_s=0.2)
PATCHES = LogMel(rate_hz=8000, high_hz=4000.0, bands=1, window_s=0.1, hop_s=0.1, patch_frames=5, patch_hop=2)
MICROPHONE = "microphone:lavfi:sine=frequency=440:sample_rate=8000:duration=1.1"


def heard(place: str, front_end: LogMel = FRONT_END, **options: Any) -> LiveDetector:
    """Put a live detector together."""
    sound = LiveSource(place, sound_hz=front_end.rate_hz, realtime=options.pop("realtime", False))
    return LiveDetector(sound, Ears(front_end), OnlineDetector(LeakyStepper()), decoder, **options)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("sound") / "speech.wav", chirp(2.3, 22050, channels=2), 22050)


@pytest.mark.parametrize("front_end", [FRONT_END, PATCHES])
def test_answers_are_those_of_the_detector_on_the_features_of_the_file(speech: Path, front_end: LogMel) -> None:
    notes = Notes()
    totals = heard(str(speech), front_end).run([notes])
    samples, _ = read_audio(speech, rate_hz=8000)
    scores = solo(front_end.features(samples))
    assert len(scores) >= 10
    np.testing.assert_allclose([answer.scores for answer in notes.answers], scores, atol=1e-5)
    np.testing.assert_allclose(
        [answer.time for answer in notes.answers], [front_end.complete_s(index) for index in range(len(scores))]
    )
    assert (totals.answers, totals.held, totals.skipped, totals.sound) == (len(scores), 0, 0, True)
    assert all(sight.frame is None for sight in notes.sights)
    assert totals.lag.typical() is None


def test_no_answer_before_its_sound_is_heard(speech: Path) -> None:
    notes = Notes()
    heard(str(speech)).run([notes])
    reached = 0.0
    for kind, moment in notes.order:
        if kind == "frame":
            reached = moment
        else:  # the block that completes it is shown right after it
            assert reached < moment <= reached + 0.0101
    assert reached == pytest.approx(2.3, abs=1e-3)


def test_at_its_own_speed_answers_come_with_their_sound(speech: Path) -> None:
    class Timed(Notes):
        def answer(self, answer: Any) -> None:
            super().answer(answer)
            moments.append(time.monotonic())

    notes, moments = Timed(), list[float]()
    short = LiveSource(str(speech), sound_hz=8000, max_seconds=1.2)
    begun = time.monotonic()
    totals = LiveDetector(short, Ears(FRONT_END), OnlineDetector(LeakyStepper()), decoder, late="wait").run([notes])
    assert [round(answer.time, 3) for answer in notes.answers] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.2]
    assert all(now - begun >= answer.time - 0.02 for now, answer in zip(moments, notes.answers, strict=True))
    assert totals.lag.typical() is not None


def test_the_sound_of_a_video_is_heard(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mkv", chirp(1.0, 8000), 8000, "pcm_s16le", late=0.5)
    notes = Notes()
    heard(str(path)).run([notes])
    assert len(notes.answers) == 7
    samples, _ = read_audio(path, rate_hz=8000)
    np.testing.assert_allclose(
        [answer.scores for answer in notes.answers], solo(FRONT_END.features(samples)), atol=1e-5
    )


def test_a_microphone_is_heard() -> None:
    notes = Notes()
    source = LiveSource(MICROPHONE, sound_hz=8000, realtime=False)
    assert (source.name, source.sound) == (MICROPHONE, True)
    heard(MICROPHONE).run([notes])
    assert [round(answer.time, 3) for answer in notes.answers] == [0.2, 0.4, 0.6, 0.8, 1.0]


def test_blocks_are_short_and_go_on_without_a_gap(speech: Path) -> None:
    with SoundReader(str(speech), 8000) as reader:
        blocks = [*reader]
    ends = np.cumsum([len(block.samples) for block in blocks]) / 8000
    np.testing.assert_allclose([block.time for block in blocks], ends)
    assert max(len(block.samples) for block in blocks) == 80
    samples, _ = read_audio(speech, rate_hz=8000)
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), samples)


class Connection:
    """A microphone that is lost after some blocks, or cannot be had."""

    plan: list[Any]

    def __init__(self, _: str, rate_hz: int) -> None:
        step = self.plan.pop(0)
        if isinstance(step, DataError):
            raise step
        self.seconds, self.rate_hz = step, rate_hz

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Block]:
        for index in range(round(10 * self.seconds)):
            yield Block((index + 1) / 10, np.full(self.rate_hz // 10, 0.1 * (index % 2), np.float32))
        raise DataError("microphone:0: cannot be read on (No such device)")


def test_a_lost_microphone_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "SoundReader", Connection)
    monkeypatch.setattr(source, "_FIRST_WAIT_S", 0.01)
    Connection.plan = [0.7, DataError("microphone:0: cannot be opened"), 0.5, DataError("gone"), DataError("gone")]
    mic = LiveSource("microphone:0", sound_hz=8000, reconnect_seconds=0.02)
    notes = Notes()
    with pytest.raises(DataError, match="gone"):
        LiveDetector(mic, Ears(FRONT_END), OnlineDetector(LeakyStepper()), decoder, late="wait").run([notes])
    times = [answer.time for answer in notes.answers]
    # Features begin anew: 0.1 s of the first part, and of the second, are lost.
    np.testing.assert_allclose(times[:3], [0.2, 0.4, 0.6])
    assert len(times) == 5
    assert times[3] >= 0.7 + 0.2 - 1e-6
    assert times[4] - times[3] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("place", "sound_hz", "told"),
    [
        ("microphone:0", None, "source=microphone:0 has no pictures"),
        ("camera:0", 8000, "source=camera:0 is not heard, and the checkpoint takes sound"),
        ("rtsp://me:secret@host/1", 8000, r"source=rtsp://\*\*\*@host/1 is not heard"),
    ],
)
def test_what_cannot_be_seen_or_heard(place: str, sound_hz: int | None, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        LiveSource(place, sound_hz=sound_hz)


def test_a_file_that_is_no_sound_is_told_before_anything_slow(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("no sound")
    with pytest.raises(DataError, match="cannot be opened"):
        LiveSource(str(path), sound_hz=8000).check()


@pytest.mark.parametrize(
    ("streams", "changes", "rate_hz", "told"),
    [
        ({"audio": 64, "rgb": 1280}, {}, 100.0, "takes 'audio', 'rgb', and 'rgb' is not made of sound"),
        ({"audio": 64, "noise": 64}, {}, 100.0, "takes 2 streams of sound"),
        ({"audio": 32}, {}, 100.0, "takes 32 channels of 'audio', and the front end on its record makes 64"),
        ({"audio": 64}, {}, 5.0, "takes 5 frames a second, and the front end on its record makes 100"),
        ({"audio": 64}, {"bands": "sixty"}, 100.0, "bands='sixty' on record is no number"),
        ({"audio": 64}, {"front_end": "wavelets"}, 100.0, "not of a log-mel front end"),
    ],
)
def test_checkpoints_that_cannot_be_heard(
    streams: dict[str, int], changes: dict[str, str], rate_hz: float, told: str
) -> None:
    record = log_mel_preset("telephone").describe() | changes
    described = SimpleNamespace(streams=streams, extractors={name: record for name in streams if name != "rgb"})
    with pytest.raises(ConfigError, match=told):
        Ears.of(described, rate_hz=rate_hz)


def test_a_checkpoint_says_whether_it_hears() -> None:
    record = log_mel_preset("telephone").describe()
    described = SimpleNamespace(streams={"audio": 64}, extractors={"audio": record, "rgb": {"backbone": "resnet50"}})
    assert hears(described.extractors, described.streams)
    assert not hears(described.extractors, {"rgb": 2048})
    assert Ears.of(described, rate_hz=100.0).front_end == log_mel_preset("telephone")


class Board:
    """A board on which no picture may be hung."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def answer(self, stream: str, text: str) -> None:
        raise AssertionError("there was none")

    def picture(self, stream: str, time: float, jpeg: bytes) -> None:
        raise AssertionError("sound has no picture")

    def live(self, stream: str, told: dict[str, Any]) -> None:
        self.told.append(told)

    def end(self, stream: str, text: str) -> None:
        self.told.append({"end": text})

    def watched(self, stream: str) -> bool:
        return True


def test_views_do_without_pictures(tmp_path: Path) -> None:
    board, sight = Board(), Sight(None, 0.5, late=False)
    page = PageView(board, "door", "microphone:0", Totals(sound=True))
    page.frame(sight)
    page.end(())
    assert board.told[0] == {"source": "microphone:0", "dropped": 0}
    assert len(board.told) == 2
    assert summary(Totals(frames=3, sound=True)).startswith("3 blocks, 0 answers")
    video = AnnotatedVideo(tmp_path / "a.mp4", Labels(("rest", "lift"), None, None))
    with pytest.raises(ConfigError, match="sound has no picture to write"):
        video.frame(sight)
    video.close()
    assert not list(tmp_path.iterdir())
