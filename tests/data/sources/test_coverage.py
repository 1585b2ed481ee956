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


def test_long_lists_are_cut_and_a_higher_rate_helps() -> None:
    segments = [Segment(float(second), second + 0.1, 1) for second in range(9)]
    coverage = Coverage(NAMES[:2], rule="centre", unneeded=(0,))
    coverage.add("salad", segments, rate_hz=4.0)
    assert coverage.warnings()[0].count("video 'salad'") == 5
    assert "; and 4 more: use features" in coverage.warnings()[0]
    coverage = Coverage(NAMES[:2], rule="centre", unneeded=(0,))
    coverage.add("salad", segments, rate_hz=30.0)
    assert coverage.warnings() == []
