"""Segments that come to no frame, and classes without any, are told."""

from __future__ import annotations

from coadtr.data.sources.coverage import Coverage
from coadtr.data.sources.label_rules import Segment

NAMES = ("background", "cut", "mix")


def test_segments_and_classes_without_frames_are_told() -> None:
    coverage = Coverage(NAMES, rule="centre", unneeded=(0,))
    coverage.add("salad", [Segment(1.0, 2.0, 1), Segment(2.0, 2.1, 2)], rate_hz=4.0, names=["row 2", "row 3"])
    coverage.add("soup", [Segment(3.0, 3.1, 2)], rate_hz=4.0)
    assert coverage.warnings() == [
        "2 of 3 segments are shorter than a frame and cover none (rule centre): row 3, video 'salad', 2 to 2.1 s, "
        "'mix'; video 'soup', 3 to 3.1 s, 'mix': use features at a higher rate, or another rule",
        "no frame has the class 'mix': it cannot be learnt, leave it out or add segments of it",
    ]


def test_frames_that_begin_later_leave_times_as_they_are() -> None:
    coverage = Coverage(NAMES[:2], rule="centre", unneeded=(0,))
    segments = [Segment(0.0, 0.25, 1), Segment(0.0, 0.4, 1), Segment(0.5, 0.6, 1), Segment(0.5, 0.9, 1)]
    coverage.add("salad", segments, rate_hz=4.0, offset_s=0.25)
    # Frame 0 is from 0.25 to 0.5 s.
    assert coverage.warnings() == [
        "1 of 4 segments are shorter than a frame and cover none (rule centre): video 'salad', 0.5 to 0.6 s, 'cut': "
        "use features at a higher rate, or another rule",
        "1 of 4 segments are over before the first frame begins and cover none: video 'salad', 0 to 0.25 s, 'cut': "
        "use features that are made of less time",
    ]


def test_long_lists_are_cut_and_a_higher_rate_helps() -> None:
    segments = [Segment(float(second), second + 0.1, 1) for second in range(9)]
    coverage = Coverage(NAMES[:2], rule="centre", unneeded=(0,))
    coverage.add("salad", segments, rate_hz=4.0)
    assert coverage.warnings()[0].count("video 'salad'") == 5
    assert "; and 4 more: use features" in coverage.warnings()[0]
    coverage = Coverage(NAMES[:2], rule="centre", unneeded=(0,))
    coverage.add("salad", segments, rate_hz=30.0)
    assert coverage.warnings() == []
