"""Rules that turn segments in seconds into one label a frame.

The rule decides the score: a detector that is scored against labels made by another rule loses points at the edges of
every action. So the rule has a name, is stored with the data, and is printed with every report. No rule gives the
published labels of THUMOS14 exactly: ``oadtr`` differs from them in 1.13 % of 428,585 frames, all but one at the edges
of actions (`tests/data/test_label_rules.py`); who compares with published numbers scores on the published labels.

=========  ======================  ========================  ==================================================
rule       first frame             frame after the last      where it comes from
=========  ======================  ========================  ==================================================
oadtr      floor(start * rate)     round(end * rate)         OadTR's THUMOS14 frames: video rate / 6
lstr       floor(start * 24 / 6)   ceil(end * 24 / 6)        LSTR's targets: 24 fps video, chunks of 6 frames
centre     ceil(start * rate - ½)  ceil(end * rate - ½)      this project: frames whose middle is in the segment
=========  ======================  ========================  ==================================================
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from coadtr.data.sources.rate_options import check_rate
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coadtr.data.sources.segments import TableSegment

__all__ = ["LABEL_RULES", "OUTSIDE", "OVERLAPS", "Segment", "check_ends", "describe_rule", "frame_labels", "frame_span"]

LABEL_RULES: Final = ("oadtr", "lstr", "centre")
OVERLAPS: Final = ("multi-hot", "first", "last", "error")
OUTSIDE: Final = ("error", "cut")

_DESCRIPTIONS: Final = {
    "oadtr": "a segment covers frames floor(start * rate) to round(end * rate) - 1 at the rate of the features",
    "lstr": "a segment covers frames floor(start * 4) to ceil(end * 4) - 1: video at 24 fps, chunks of 6 frames",
    "centre": "a segment covers the frames whose centre (i + 0.5) / rate lies in [start, end)",
}
_LSTR_RATE_HZ: Final = 4.0

# Lengths of videos and ends of segments come from different tools: what runs over by less is cut.
_RUN_OVER_SECONDS: Final = 1.0


class Segment(NamedTuple):
    """One action in a video.

    Attributes:
        start: Seconds from the start of the video at which it begins.
        end: Seconds at which it is over.
        label: Index of its class.

    Example:
        >>> Segment(1.5, 4.0, label=2).end
        4.0
    """

    start: float
    end: float
    label: int


def describe_rule(rule: str) -> str:
    """Return what a rule does, in one sentence without a full stop.

    Args:
        rule: One of `LABEL_RULES`.

    Raises:
        ConfigError: If there is no such rule.

    Example:
        >>> describe_rule("centre")
        'a segment covers the frames whose centre (i + 0.5) / rate lies in [start, end)'
    """
    if rule not in _DESCRIPTIONS:
        raise ConfigError(f"rule={rule!r}: use one of {listing(LABEL_RULES)}")
    return _DESCRIPTIONS[rule]


def frame_span(start: float, end: float, *, rate_hz: float, rule: str) -> tuple[int, int]:
    """Return the first frame of a segment and the frame after its last.

    Frame i covers the time from ``i / rate_hz`` to ``(i + 1) / rate_hz``. ``round`` takes halves to the even number,
    as Python does. A boundary within a millionth of a frame of a whole or half one counts as that, since seconds
    with few decimals are not exact in binary. A segment that is shorter than a frame may cover none.

    Args:
        start: Seconds at which the segment begins.
        end: Seconds at which it is over.
        rate_hz: Frames a second.
        rule: One of `LABEL_RULES`.

    Returns:
        First frame, and frame after the last.

    Raises:
        ConfigError: If there is no such rule, the rate is none, or ``lstr`` meets another rate than 4 Hz.

    Example:
        >>> [frame_span(1.3, 2.3, rate_hz=4.0, rule=rule) for rule in LABEL_RULES]
        [(5, 9), (5, 10), (5, 9)]
    """
    describe_rule(rule)
    check_rate("rate_hz", rate_hz)
    # 2.3 * 30 is 68.99999999999999 and means frame 69.
    first, last = round(start * rate_hz, 6), round(end * rate_hz, 6)
    if rule == "oadtr":
        return math.floor(first), round(last)
    if rule == "lstr":
        if not math.isclose(rate_hz, _LSTR_RATE_HZ, rel_tol=1e-3):
            raise ConfigError(f"rule='lstr' is for features at 4 Hz, not {rate_hz:g} Hz: use 'oadtr' or 'centre'")
        return math.floor(first), math.ceil(last)
    return math.ceil(first - 0.5), math.ceil(last - 0.5)


def frame_labels(
    segments: Sequence[Segment],
    *,
    frames: int,
    rate_hz: float,
    classes: int,
    background: int | None,
    rule: str,
    overlap: str = "multi-hot",
    outside: str = "error",
    names: Sequence[str] | None = None,
    offset_s: float = 0.0,
) -> NDArray[np.uint8]:
    """Turn the segments of one video into labels of its frames.

    A segment may run over the end of the video by at most a second, and is cut there. Nothing else is repaired.

    Args:
        segments: The segments, in seconds, in any order.
        frames: Number of frames T of the video.
        rate_hz: Frames a second.
        classes: Number of classes C.
        background: Class of the frames in no segment; none leaves their rows zero.
        rule: Which frames a segment covers, one of `LABEL_RULES`.
        overlap: What a frame in several segments becomes: ``multi-hot`` gives it all their classes, ``first`` or
            ``last`` that of the segment listed first or last, ``error`` refuses the video.
        outside: What is done about segments that run further over the end: ``error`` refuses the video, ``cut``
            drops what is outside. THUMOS14 has five videos with such segments.
        names: What messages call the segments, such as their rows in a table; none for their times alone.
        offset_s: Seconds at which frame 0 begins, on the clock of the segments.

    Returns:
        ``(T, C)`` zeros and ones.

    Raises:
        DataError: If segments are empty, negative, not numbers, past the end of the video, of unknown classes, or
            overlap where they may not. All of them are named; the caller adds the video.
        ConfigError: If rule or overlap is unknown, or a number out of range.

    Example:
        >>> cut, mix = Segment(0.0, 1.0, label=1), Segment(0.5, 2.0, label=2)
        >>> labels = frame_labels([cut, mix], frames=5, rate_hz=2.0, classes=3, background=0, rule="centre")
        >>> labels.tolist()
        [[0, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 1], [1, 0, 0]]
    """
    for option, value, known in (("overlap", overlap, OVERLAPS), ("outside", outside, OUTSIDE)):
        if value not in known:
            raise ConfigError(f"{option}={value!r}: use one of {listing(known)}")
    check_rate("rate_hz", rate_hz)
    limit = offset_s + frames / rate_hz + _RUN_OVER_SECONDS if outside == "error" else math.inf
    told = [_told(segment, name) for segment, name in zip(segments, names or [""] * len(segments), strict=True)]
    faults = [
        f"{name}: {fault}"
        for segment, name in zip(segments, told, strict=True)
        if (fault := _segment_fault(segment, limit, classes))
    ]
    if faults:
        raise DataError("; ".join(faults))
    labels = np.zeros((frames, classes), np.uint8)
    owner = np.full(frames, -1)
    for index, segment in enumerate(segments):
        first, stop = frame_span(segment.start - offset_s, segment.end - offset_s, rate_hz=rate_hz, rule=rule)
        span = slice(max(0, first), max(0, min(stop, frames)))
        if overlap == "error":
            _refuse_overlap(segments, told, owner[span], index)
        if overlap == "last":
            labels[span] = 0
        free = owner[span] < 0 if overlap == "first" else np.ones(len(owner[span]), bool)
        labels[span, segment.label] |= free.astype(np.uint8)
        owner[span][free] = index
    if background is not None:
        labels[owner < 0, background] = 1
    return labels


def check_ends(segments: Sequence[TableSegment], seconds: float, *, outside: str) -> None:
    """Raise `DataError` that names the segments which run past the end of a recording of known length.

    They may run over it by at most a second, as lengths and segments come from different tools, but not begin there.

    Args:
        segments: Segments of a table.
        seconds: Length of the recording.
        outside: ``error``, or ``cut`` to let them pass.

    Example:
        >>> check_ends([], 3.5, outside="error")
    """
    if outside == "error":
        faults = [
            f"{segment.where}: ends at {segment.end:g} s"
            if segment.start < seconds
            else f"{segment.where}: begins at {segment.start:g} s"
            for segment in segments
            if segment.end > seconds + _RUN_OVER_SECONDS or segment.start >= seconds
        ]
        if faults:
            raise DataError(
                f"{'; '.join(faults)}; the recording ends at {seconds:.2f} s: check file and unit, or say outside=cut"
            )


def _told(segment: Segment, name: str) -> str:
    return f"{name + ', ' if name else ''}segment {segment.start:g} to {segment.end:g} s"


def _segment_fault(segment: Segment, limit: float, classes: int) -> str | None:
    """Return what is wrong with a segment that may end at ``limit`` seconds, or none."""
    start, end, label = segment
    if not (math.isfinite(start) and math.isfinite(end)):
        return "start and end must be numbers of seconds: correct it or leave it out"
    if start < 0:
        return "begins before the video: correct the start"
    if end <= start:
        return "is empty, or ends before it begins: correct it or leave it out"
    if not 0 <= label < classes:
        return f"class {label} is outside 0..{classes - 1}: correct the label or list the class"
    if end > limit:
        seconds = limit - _RUN_OVER_SECONDS
        return (
            f"runs past the end of the video ({seconds:.2f} s): "
            "check rate, unit and video, or say outside=cut to drop what is outside"
        )
    return None


def _refuse_overlap(segments: Sequence[Segment], told: Sequence[str], owners: NDArray[np.int64], index: int) -> None:
    taken = owners[owners >= 0]
    # Two segments of one class may touch in a frame: its label is the same either way.
    others = [int(other) for other in np.unique(taken) if segments[other].label != segments[index].label]
    if others:
        raise DataError(
            f"{told[others[0]]} and {told[index]} overlap: correct one, or choose overlap=multi-hot, first or last"
        )
