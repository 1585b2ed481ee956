"""Score files give back what was written; bad scores are refused and leave nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from coadtr.data import VideoScores, read_scores, write_scores
from coadtr.errors import DataError, SchemaError
from coadtr.evaluation.metrics import average_precision
from coadtr.scoring import probabilities

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLASSES = ("rest", "lift", "fall")


def _videos(*, multi_hot: bool = False) -> Iterator[VideoScores]:
    rng = np.random.default_rng(0)
    for name, frames, rate_hz in (("z", 5, 25 / 6), ("a", 9, None)):
        labels = rng.integers(0, 3, frames)
        target = np.eye(3, dtype=np.uint8)[labels] if multi_hot else labels
        ahead = None if rate_hz is None else rng.random((frames, 2, 3))
        yield VideoScores(name, rng.random((frames, 3)), target, rng.random(frames) > 0.5, rate_hz, ahead)


@pytest.mark.parametrize("multi_hot", [False, True])
def test_scores_come_back_in_order(tmp_path: Path, *, multi_hot: bool) -> None:
    path, about = tmp_path / "run" / "scores.h5", {"checkpoint": "b1", "seed": 3}
    assert write_scores(path, class_names=CLASSES, attributes=about, videos=_videos(multi_hot=multi_hot)) == path
    read = read_scores(path)
    assert (read.class_names, read.attributes) == (CLASSES, about)
    assert [video.name for video in read.videos] == ["z", "a"]
    for video, written in zip(read.videos, _videos(multi_hot=multi_hot), strict=True):
        np.testing.assert_array_equal(video.scores, written.scores)
        np.testing.assert_array_equal(video.labels, written.labels)
        np.testing.assert_array_equal(video.scored, written.scored)
        assert video.rate_hz == written.rate_hz
        np.testing.assert_array_equal(video.ahead, written.ahead)
        assert video.scores.dtype == np.dtype(np.float64)
        assert video.scored.dtype == np.dtype(bool)
        assert video.labels.dtype == (np.uint8 if multi_hot else np.int64)


def test_the_file_gives_the_average_precision_of_the_logits(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 2000)
    taken_for = np.where(rng.random(2000) < 0.2, rng.integers(0, 3, 2000), labels)
    surer = np.where(taken_for == labels, 24, 18)
    logits = rng.normal(0, 1, (2000, 3)) + surer[:, None] * np.eye(3)[taken_for]
    answers, known = probabilities(logits), np.ones(2000, dtype=bool)
    video = [VideoScores("v", answers, labels, known)]
    stored = read_scores(write_scores(tmp_path / "s.h5", class_names=CLASSES, attributes={}, videos=video)).videos[0]
    for index in range(3):
        wanted = average_precision(labels == index, answers[:, index])
        assert average_precision(stored.labels == index, stored.scores[:, index]) == wanted
        rounded = average_precision(labels == index, answers[:, index].astype(np.float32))
        assert rounded < wanted - 0.01, "the logits make no ties in float32: the test shows nothing"


GOOD: dict[str, Any] = {
    "name": "v",
    "scores": np.ones((4, 3)),
    "labels": np.array([0, 1, 2, 0]),
    "scored": np.ones(4, dtype=bool),
}
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "width": ({"scores": np.ones((4, 2))}, r"field 'scores': shape \(4, 2\): give \(T, 3\)"),
    "scalar": ({"scores": np.array(1.0)}, "field 'scores'"),
    "labels": ({"labels": np.array([0, 1])}, r"field 'labels': shape \(2,\)"),
    "label type": ({"labels": np.full(4, 0.5)}, "of float64"),
    "scored": ({"scored": np.ones(4, dtype=int)}, "field 'scored': shape .* of int64"),
    "rate": ({"rate_hz": 0.0}, "field 'rate_hz': 0.0: give frames a second above 0"),
    "ahead": ({"ahead": np.ones((4, 2, 2))}, r"field 'ahead': shape \(4, 2, 2\): give \(4, K, 3\)"),
    "NaN ahead": ({"ahead": np.full((4, 1, 3), np.nan)}, "field 'ahead': NaN at frame 0"),
    "NaN": ({"scores": np.full((4, 3), np.nan)}, "NaN at frame 0"),
    "name": ({"name": "../v"}, "cannot be stored"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_bad_scores_leave_nothing(tmp_path: Path, kind: str) -> None:
    change, message = FAULTS[kind]
    videos = [VideoScores(**GOOD), VideoScores(**{**GOOD, "name": "w", **change})]
    with pytest.raises(DataError, match=message):
        write_scores(tmp_path / "new" / "s.h5", class_names=CLASSES, attributes={}, videos=videos)
    assert list(tmp_path.iterdir()) == []


def test_replay_that_fails_keeps_the_old_scores(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "s.h5", class_names=CLASSES, attributes={}, videos=_videos())
    before = path.read_bytes()

    def broken() -> Iterator[VideoScores]:
        yield from _videos()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_scores(path, class_names=CLASSES, attributes={}, videos=broken())
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["s.h5"]


def test_files_that_are_no_scores(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_scores(tmp_path / "gone.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(SchemaError, match="is not an HDF5 file"):
        read_scores(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["format"] = "coadtr-features"
    with pytest.raises(SchemaError, match="coadtr-features"):
        read_scores(tmp_path / "other.h5")
    path = write_scores(tmp_path / "s.h5", class_names=CLASSES, attributes={}, videos=_videos())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="is damaged"):
        read_scores(path)
