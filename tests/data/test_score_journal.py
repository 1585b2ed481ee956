"""What a killed replay leaves is taken up when it is for the same answers, and removed when it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from coadtr.data import ScoreJournal, VideoScores
from coadtr.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ("rest", "lift")


def _video(name: str) -> VideoScores:
    frames = len(name)
    return VideoScores(name, np.full((frames, 2), 0.5), np.zeros(frames, np.int64), np.ones(frames, np.bool_), 5.0)


def _journal(folder: Path, identity: str = "one") -> ScoreJournal:
    return ScoreJournal(folder / "scores.h5", class_names=CLASSES, identity=identity)


def test_what_was_answered_is_there_for_the_next_run(tmp_path: Path) -> None:
    first = _journal(tmp_path)
    first.open()
    first.add(_video("a/b".replace("/", "_")))
    first.close()
    second = _journal(tmp_path)
    second.open()
    assert "a_b" in second
    assert "other" not in second
    assert [video.name for video in second.read_all(["a_b"])] == ["a_b"]
    second.discard()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_other_answers_start_anew(tmp_path: Path) -> None:
    first = _journal(tmp_path)
    first.open()
    first.add(_video("a"))
    first.close()
    other = _journal(tmp_path, identity="two")
    other.open()
    assert "a" not in other
    other.close()


def test_a_process_of_a_dead_replay_cannot_put_in_its_answers(tmp_path: Path) -> None:
    old, new = _journal(tmp_path), _journal(tmp_path, identity="two")
    assert old.open() == 0
    old.add(_video("a"))
    old.close()
    assert new.open() == 1
    old.add(_video("a"))
    assert "a" not in new
    new.close()


def test_one_process_tells_the_others_that_it_gave_up(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.open()
    assert not _journal(tmp_path).failed
    journal.give_up()
    assert _journal(tmp_path).failed
    journal.close()
    again = _journal(tmp_path)
    again.open()
    assert not again.failed
    again.close()


def test_a_damaged_part_is_answered_again(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.open()
    journal.add(_video("a"))
    (part,) = journal.folder.glob("*.h5")
    part.write_bytes(part.read_bytes()[:100])
    (journal.folder / ".half.part").write_text("half")
    journal.close()
    again = _journal(tmp_path)
    again.open()
    assert "a" not in again
    assert not (again.folder / ".half.part").exists()
    again.add(_video("a"))
    assert "a" in again
    again.close()


def test_two_replays_do_not_share_a_folder(tmp_path: Path) -> None:
    first = _journal(tmp_path)
    first.open()
    second = _journal(tmp_path)
    with pytest.raises(DataError, match="another replay is writing it"):
        second.open()
    second.close()
    assert first.folder.is_dir()
    first.close()


def test_a_video_that_no_process_answered_is_named(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.open()
    with pytest.raises(DataError, match=r"video .gone.: .*all processes must write to the same folder"):
        list(journal.read_all(["gone"]))
    journal.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        _journal(tmp_path / "file").open()
