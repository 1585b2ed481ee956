"""Rules from segments to frames: by hand, against a slow reference, and against THUMOS14's own labels."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from coadtr.data.sources.label_rules import LABEL_RULES, Segment, describe_rule, frame_labels, frame_span
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.mark.parametrize(
    ("rule", "rate", "span", "expected"),
    [
        ("oadtr", 5.0, (1.3, 2.3), (6, 12)),  # 6.5 .. 11.5, and 12 is the even neighbour
        ("oadtr", 5.0, (1.3, 2.5), (6, 12)),  # 12.5 goes to 12 as well
        ("oadtr", 5.0, (2.3, 4.6), (11, 23)),
        ("oadtr", 30 / 1.001 / 6, (10.0, 20.0), (49, 100)),
        ("oadtr", 30.0, (2.3, 2.6), (69, 78)),  # 2.3 * 30 is 68.99999999999999
        ("lstr", 4.0, (1.3, 2.3), (5, 10)),
        ("lstr", 4.0, (1.25, 2.5), (5, 10)),
        ("centre", 4.0, (1.3, 2.3), (5, 9)),
        ("centre", 4.0, (1.375, 2.375), (5, 9)),  # start is in, end is not
        ("centre", 1.0, (1.6, 2.4), (2, 2)),  # shorter than a frame, and no centre in it
    ],
)
def test_spans_by_hand(rule: str, rate: float, span: tuple[float, float], expected: tuple[int, int]) -> None:
    assert frame_span(*span, rate_hz=rate, rule=rule) == expected


@pytest.mark.parametrize("rate", [4.0, 5.0, 25 / 6, 30 / 1.001 / 6])
def test_centre_holds_frame_by_frame(rate: float) -> None:
    rng = np.random.default_rng(0)
    for start, length in rng.uniform(0, 20, (300, 2)):
        first, stop = frame_span(start, start + length, rate_hz=rate, rule="centre")
        slow = [i for i in range(250) if start <= (i + 0.5) / rate < start + length]
        assert list(range(first, stop)) == slow


def test_centre_is_the_fourth_of_six_video_frames() -> None:
    for frame in range(50):
        assert (frame + 0.5) / 5.0 == pytest.approx((frame * 6 + 3) / (6 * 5.0))


def test_overlaps() -> None:
    segments = [Segment(0.0, 2.0, 1), Segment(1.0, 3.0, 2), Segment(1.0, 2.0, 1)]

    def labels(overlap: str, background: int | None = 0) -> list[list[int]]:
        hot = frame_labels(
            segments, frames=4, rate_hz=1.0, classes=3, background=background, rule="centre", overlap=overlap
        )
        assert hot.dtype == np.uint8
        return [np.flatnonzero(row).tolist() for row in hot]

    assert labels("multi-hot") == [[1], [1, 2], [2], [0]]
    assert labels("first") == [[1], [1], [2], [0]]
    assert labels("last") == [[1], [1], [2], [0]]
    assert labels("first", background=None) == [[1], [1], [2], []]
    segments.reverse()
    assert labels("last") == [[1], [1], [2], [0]]
    segments[0] = segments[0]._replace(label=2)
    assert labels("first") == [[1], [2], [2], [0]]
    with pytest.raises(DataError, match="segment 1 to 3 s and segment 0 to 2 s overlap: correct one, or choose"):
        labels("error")


def test_segments_of_one_class_may_touch() -> None:
    segments = [Segment(0.0, 1.3, 1), Segment(1.2, 2.0, 1)]
    labels = frame_labels(segments, frames=4, rate_hz=2.0, classes=2, background=0, rule="centre", overlap="error")
    assert labels.argmax(axis=1).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (Segment(2.0, 2.0, 1), "row 2, segment 2 to 2 s: is empty, or ends before it begins"),
        (Segment(3.0, 2.0, 1), "is empty, or ends before it begins"),
        (Segment(-0.5, 2.0, 1), "segment -0.5 to 2 s: begins before the video"),
        (Segment(math.nan, 2.0, 1), "segment nan to 2 s: start and end must be numbers"),
        (Segment(1.0, math.inf, 1), "start and end must be numbers"),
        (Segment(1.0, 2.0, 3), r"class 3 is outside 0\.\.2"),
        (Segment(8.0, 11.2, 1), r"segment 8 to 11\.2 s: runs past the end of the video \(10\.00 s\)"),
    ],
)
def test_segments_that_are_wrong(segment: Segment, message: str) -> None:
    with pytest.raises(DataError, match=message):
        frame_labels([segment], frames=50, rate_hz=5.0, classes=3, background=0, rule="oadtr", names=["row 2"])


def test_all_wrong_segments_are_told_and_a_second_is_forgiven() -> None:
    def last(segments: list[Segment], outside: str = "error") -> int:
        labels = frame_labels(segments, frames=50, rate_hz=5.0, classes=3, background=0, rule="oadtr", outside=outside)
        return int(labels[-1].argmax())

    assert last([Segment(8.0, 10.9, 2)]) == 2
    with pytest.raises(DataError, match=r"segment 1 to 1 s.*segment 9 to 99 s.*outside=cut"):
        last([Segment(1.0, 1.0, 1), Segment(2.0, 3.0, 1), Segment(9.0, 99.0, 1)])
    assert last([Segment(9.0, 99.0, 1), Segment(98.0, 99.0, 2)], outside="cut") == 1


def test_options_that_are_wrong() -> None:
    with pytest.raises(ConfigError, match="rule='tsn': use one of 'oadtr', 'lstr', 'centre'"):
        describe_rule("tsn")
    with pytest.raises(ConfigError, match="rule='lstr' is for features at 4 Hz, not 5 Hz"):
        frame_span(0, 1, rate_hz=5.0, rule="lstr")
    for name, value in (("overlap", "both"), ("outside", "keep"), ("rate_hz", 0.0)):
        options = {"rate_hz": 5.0, "rule": "centre", name: value}
        with pytest.raises(ConfigError, match=f"{name}={value!r}"):
            frame_labels([], frames=3, classes=2, background=0, **options)  # type: ignore[arg-type]
    assert all(describe_rule(rule).startswith("a segment covers") for rule in LABEL_RULES)


class _Video(NamedTuple):
    labels: NDArray[np.int64]
    fps: float
    video_frames: int
    segments: list[Segment]


@pytest.fixture(scope="module")
def thumos(shared_data: Path) -> dict[str, _Video]:
    """THUMOS14: published frame labels beside the official segments, earliest first, Diving last.

    Each cliff dive is annotated as Diving as well, and labelled CliffDiving.
    """
    folder = shared_data / "thumos14_annotations"
    official = json.loads((folder / "official_segments.json").read_text())
    names = official["class_names"]
    videos = {}
    for subset in ("val", "test"):
        with np.load(folder / f"{subset}_perframe.npz") as file:
            labels = np.split(file["labels"].astype(np.int64), file["offsets"][1:-1])
            for name, own, fps, count in zip(
                file["names"], labels, file["video_fps"], file["video_num_frames"], strict=True
            ):
                segments = [Segment(start, end, names.index(label)) for label, start, end in official["segments"][name]]
                segments.sort(key=lambda segment: (names[segment.label] == "Diving", segment.start))
                # One video lacks its rate: with 30 its labels come out, with 24 and 25 they do not.
                videos[str(name)] = _Video(own, 30.0 if math.isnan(fps) else float(fps), int(count), segments)
    return videos


def test_oadtr_rule_against_the_labels_of_thumos14(thumos: dict[str, _Video]) -> None:
    """The rule gives all but 1.13 % of 428,585 published labels, and these differ at the edges of actions only.

    The published labels come from a clock of their own, see the next test; no rate that the files give brings it out.
    """
    differ = exact = frames = far = 0
    for video in thumos.values():
        hot = frame_labels(
            video.segments,
            frames=len(video.labels),
            rate_hz=video.fps / 6,
            classes=22,
            background=0,
            rule="oadtr",
            overlap="first",
            outside="cut",
        )
        assert (hot.sum(axis=1) == 1).all()
        wrong = np.flatnonzero(hot.argmax(axis=1) != video.labels)
        edges = np.array([bound * video.fps / 6 for segment in video.segments for bound in segment[:2]])
        far += sum(np.abs(edges - frame).min() > 3 for frame in wrong)
        differ, exact, frames = differ + len(wrong), exact + (not len(wrong)), frames + len(video.labels)
    assert (len(thumos), frames) == (413, 428_585)
    # The one that is more than 3 frames from any edge lies where cricket bowling is marked ambiguous, too.
    assert (differ, exact, far) == (4854, 20, 1)


def test_why_thumos14_labels_differ_from_the_rule(thumos: dict[str, _Video]) -> None:
    """Stretch time so that the video fills T - 0.5 frames, widen by a tenth: 0.1 % differ, and 258 videos are exact.

    A third of what remains is cricket, where bowling and shot overlap and one label had to be chosen. So the rule is
    right but for the clock: the labels fit T - 0.5 frames over the length of the video, not the video's rate over 6.
    """
    differ = exact = 0
    for video in thumos.values():
        frames = len(video.labels)
        seconds = (video.video_frames if video.video_frames > 0 else 6 * frames) / video.fps
        rate = (frames - 0.5) / seconds
        labels = np.zeros(frames, np.int64)
        for start, end, label in reversed(video.segments):
            labels[math.floor(start * rate + 0.1) : math.floor(end * rate + 0.9)] = label
        wrong = int((labels != video.labels).sum())
        differ, exact = differ + wrong, exact + (wrong == 0)
    assert (differ, exact) == (411, 258)


def test_segments_past_the_end_of_thumos14_videos(thumos: dict[str, _Video]) -> None:
    over = []
    for name, video in thumos.items():
        options = {"frames": len(video.labels), "rate_hz": video.fps / 6, "classes": 22, "background": 0}
        if max(segment.end for segment in video.segments) > len(video.labels) / (video.fps / 6) + 1:
            over.append(name)
            with pytest.raises(DataError, match="runs past the end of the video"):
                frame_labels(video.segments, rule="centre", **options)  # type: ignore[arg-type]
        else:
            assert frame_labels(video.segments, rule="centre", **options).any()  # type: ignore[arg-type]
    assert sorted(over) == [
        "video_test_0000270",
        "video_test_0000814",
        "video_test_0001081",
        "video_validation_0000364",
        "video_validation_0000856",
    ]
