"""What shows a live stream: lines, a video, a terminal, the board of a server."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from coadtr.errors import ConfigError, DataError, StorageError
from coadtr.live import AnnotatedVideo, Answer, EventLines, JsonLines, LiveSource, PageView, Sight, TerminalView
from coadtr.live.overlay import annotate
from coadtr.live.pipeline import Totals
from coadtr.live.told import Action, Labels
from coadtr.runtime import Event
from coadtr.video import Picture
from tests.live.looking import Notes, live
from tests.serving.leaky import CLASSES
from tests.video.writing import write_video

LABELS = Labels(CLASSES, 0, None)
SCORES = np.array([0.125, 0.75, 0.125], np.float32)
START, END = Event("start", "lift", 1.0, 0.75), Event("end", "lift", 2.5, 0.25)


def answer(frame: int = 3, scores: Any = SCORES, events: tuple[Event, ...] = (START,)) -> Answer:
    return Answer(frame, frame / 5, scores, events, 0.25, 0.03, 0.001, held=False)


def sight(moment: float, grey: int = 200, size: tuple[int, int] = (48, 64)) -> Sight:
    return Sight(Picture(moment, np.full((*size, 3), grey, np.uint8)), moment, late=False)


def test_lines_tell_all(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mp4", frames=40)
    notes, lines = Notes(), JsonLines(tmp_path / "out.jsonl", CLASSES)
    live(LiveSource(str(path), realtime=False)).run([notes, lines])
    lines.close()
    *rows, last = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(len(notes.answers)))
    for row, one in zip(rows, notes.answers, strict=True):
        assert list(row["scores"]) == list(CLASSES)
        np.testing.assert_allclose(list(row["scores"].values()), one.scores, atol=1e-6)
        assert [event["class"] for event in row["events"]] == [event.class_name for event in one.events]
        assert not row["held"]
    assert last["end"] == len(rows)


def test_each_line_is_there_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, printed = JsonLines(tmp_path / "out.jsonl", CLASSES), JsonLines("-", CLASSES)
    for lines in (file, printed):
        lines.answer(answer())
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["events"] == [{"kind": "start", "class": "lift", "time": 1.0, "score": 0.75}]
    assert json.loads(capsys.readouterr().out) == row
    for lines in (file, printed):
        lines.close()
    for wrong in (tmp_path / "no" / "such" / "folder.jsonl", tmp_path):
        with pytest.raises(StorageError, match="cannot be written: name a file in a folder that is there"):
            JsonLines(wrong, CLASSES)


def test_what_is_there_stays_until_there_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("the last stream\n")
    lines = JsonLines(tmp_path / "out.jsonl", CLASSES)
    assert (tmp_path / "out.jsonl").read_text() == "the last stream\n"
    lines.answer(answer())
    lines.close()
    assert json.loads((tmp_path / "out.jsonl").read_text())["frame"] == 3


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov", "out.avi"])
def test_a_video_has_every_frame_with_what_was_known(tmp_path: Path, name: str) -> None:
    view = AnnotatedVideo(tmp_path / name, LABELS)
    for index in range(10):
        view.frame(sight(index / 10))
    view.answer(answer(scores=np.array([0.0, 1.0, 0.0], np.float32)))
    for index in range(10, 20):
        view.frame(sight(index / 10))
    assert not (tmp_path / name).exists()
    view.end((END,))
    view.close()
    with av.open(str(tmp_path / name)) as container:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert len(frames) == 20
    if name != "out.avi":  # which has no times
        np.testing.assert_allclose([moment for moment, _ in frames], np.arange(20) / 10, atol=2e-3)
    above, bar = [picture[:30].mean() for _, picture in frames], [picture[-14:].mean() for _, picture in frames]
    np.testing.assert_allclose(above, 200, atol=4)
    assert max(bar) < 150
    # From the answer on the bar says something else, and its upper edge is a band in yellow.
    edge = [picture[-14].astype(float)[8:56].mean(axis=0) for _, picture in frames]
    assert all(abs(red - blue) < 20 for red, _, blue in edge[:10])
    assert all(red - blue > 60 for red, _, blue in edge[10:])


def test_a_video_that_fails_is_not_there(tmp_path: Path) -> None:
    view = AnnotatedVideo(tmp_path / "out.mp4", LABELS)
    view.frame(sight(0.0))
    view.close()
    assert list(tmp_path.iterdir()) == []
    empty = AnnotatedVideo(tmp_path / "out.mp4", LABELS)
    with pytest.raises(DataError, match=r"out\.mp4: is not written, because the stream had no frame"):
        empty.end(())
    empty.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"out\.txt: the ending says what is written; use one of \.mp4, \.mkv"):
        AnnotatedVideo(tmp_path / "out.txt", LABELS)


def test_a_picture_of_odd_or_changing_size_is_written(tmp_path: Path) -> None:
    view = AnnotatedVideo(tmp_path / "out.mp4", LABELS)
    view.frame(sight(0.0, size=(49, 65)))
    view.frame(sight(0.1, size=(90, 31)))
    view.frame(sight(0.1))  # two frames at one time
    view.end(())
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [(frame.height, frame.width) for frame in container.decode(video=0)] == [(48, 64)] * 3


def test_words_go_on_a_picture_and_leave_it_alone() -> None:
    rgb = np.full((240, 320, 3), 90, np.uint8)
    quiet, loud = (annotate(rgb, Action("lift", 0.9, background), 1.0, ()) for background in (True, False))
    assert (rgb == 90).all()
    np.testing.assert_array_equal(quiet[:200], rgb[:200])
    assert (quiet != loud).any()
    assert annotate(rgb, None, 0.0, ("lift",) * 40).shape == rgb.shape  # more words than there is room


def test_the_terminal_shows_what_is_going_on() -> None:
    written = io.StringIO()
    totals = Totals(answers=4)
    console = Console(file=written, force_terminal=True, width=100, _environ={"TERM": "xterm"})
    view = TerminalView("camera:0", LABELS, totals, console)
    view.frame(sight(1.5))
    view.answer(answer())
    view.end((END,))
    view.close()
    text = written.getvalue()
    for words in ("camera:0", "1.50 s", "lift  75 %", "no action", "start", "end", "4 answers"):
        assert words in text


def test_a_log_gets_a_line_for_each_event() -> None:
    written = io.StringIO()
    view = EventLines(Console(file=written, width=100), "camera:0: 4 answers a second")
    view.frame(sight(0.0))
    view.answer(answer(events=()))
    view.answer(answer())
    view.end((END,))
    view.close()
    first, *lines = written.getvalue().splitlines()
    assert first == "watching camera:0: 4 answers a second"
    assert lines == ["     1.00 s  start  lift  0.75", "     2.50 s  end    lift  0.25"]


class Wall:
    """A board that keeps what is hung on it."""

    def __init__(self) -> None:
        self.texts: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        self.pictures: list[float] = []
        self.looked_at = True

    def answer(self, stream: str, text: str) -> None:
        assert stream == "door"
        self.texts.append(json.loads(text))

    def picture(self, stream: str, time: float, jpeg: bytes) -> None:
        assert Image.open(io.BytesIO(jpeg)).size == (64, 48)
        self.pictures.append(time)

    def live(self, stream: str, told: dict[str, Any]) -> None:
        self.told.append(told)

    def end(self, stream: str, text: str) -> None:
        self.texts.append(json.loads(text))

    def watched(self, stream: str) -> bool:
        return self.looked_at


def test_the_board_has_answers_pictures_and_lag() -> None:
    wall = Wall()
    view = PageView(wall, "door", "camera:0", Totals(held=2, skipped=1))
    view.answer(answer(frame=0))
    view.frame(sight(0.2))
    view.frame(sight(0.21))  # too soon after the one before
    wall.looked_at = False
    view.end((END,))
    view.close()
    first, last = wall.texts
    assert first["scores"] == SCORES.tolist()
    assert first["events"][0]["class"] == "lift"
    assert last["end"] == 1
    assert wall.pictures == [0.2]
    first_told, *told = wall.told
    assert first_told == {"source": "camera:0", "dropped": 0}  # before any answer: the name is taken
    assert told == [{"source": "camera:0", "lag": 0.25, "feature_ms": 30.0, "step_ms": 1.0, "dropped": 3}]
    hidden = PageView(wall, "door", "camera:0", Totals())
    hidden.frame(sight(0.3))
    hidden.frame(Sight(sight(0.4).frame, 0.4, late=True))
    assert wall.pictures == [0.2]
