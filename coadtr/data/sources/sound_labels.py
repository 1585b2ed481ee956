"""Segments of a recording of sound as labels of its features, which belong to a time by a stated rule.

Feature t of a front end of rate r and duration d (window or patch, seconds) is computed from the sound between
``t / r`` and ``t / r + d``, and stands for ``1 / r`` seconds of it:

============  =================================  ==========================================================
frame time    what feature t stands for          who wants it
============  =================================  ==========================================================
complete      ``t/r + d - 1/r`` to ``t/r + d``   who asks what is heard *now*, when the feature is known
centre        the same around ``t/r + d/2``      who compares with labels made for the middle of a window
============  =================================  ==========================================================

Which segments cover that time is decided by a label rule, as for video.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coadtr.data.sources.label_rules import frame_labels
from coadtr.data.storage.schema import listing
from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from coadtr.audio import LogMel
    from coadtr.data.sources.label_rules import Segment

__all__ = ["FRAME_TIMES", "frame_offset", "sound_labels"]

FRAME_TIMES: Final = ("complete", "centre")


def frame_offset(front_end: LogMel, frame_time: str) -> float:
    """Return the seconds at which the time that feature 0 stands for begins.

    Args:
        front_end: The front end.
        frame_time: One of `FRAME_TIMES`.

    Raises:
        ConfigError: If there is no such rule.

    Example:
        >>> from coadtr.audio import log_mel_preset
        >>> vggish = log_mel_preset("vggish")  # windows of 25 ms, 10 ms apart
        >>> [round(frame_offset(vggish, frame_time), 6) for frame_time in FRAME_TIMES]
        [0.015, 0.0075]
    """
    if frame_time not in FRAME_TIMES:
        raise ConfigError(f"frame_time={frame_time!r}: use one of {listing(FRAME_TIMES)}")
    beyond = front_end.feature_s - 1 / front_end.feature_rate_hz
    return beyond if frame_time == "complete" else beyond / 2


def sound_labels(
    segments: Sequence[Segment],
    *,
    frames: int,
    front_end: LogMel,
    frame_time: str,
    classes: int,
    background: int | None,
    rule: str = "centre",
    overlap: str = "multi-hot",
    names: Sequence[str] | None = None,
) -> NDArray[np.uint8]:
    """Turn the segments of a recording into labels of its features.

    Args:
        segments: The segments, in seconds of the sound, in any order.
        frames: Number of features T.
        front_end: What made the features.
        frame_time: The time that a feature stands for, one of `FRAME_TIMES`.
        classes: Number of classes C.
        background: Class of the features in no segment; none leaves their rows zero.
        rule: Which features a segment covers, one of `coadtr.data.sources.label_rules.LABEL_RULES`.
        overlap: What a feature in several segments becomes, as `frame_labels` takes it.
        names: What messages call the segments; none for their times alone.

    Returns:
        ``(T, C)`` zeros and ones.

    Raises:
        DataError: If segments are wrong, or overlap where they may not.
        ConfigError: If a rule is unknown.

    Example:
        >>> from coadtr.audio import log_mel_preset
        >>> from coadtr.data.sources.label_rules import Segment
        >>> patches = log_mel_preset("vggish_patches", patch_hop=48)  # 0.975 s of sound each, 0.48 s apart
        >>> bark = Segment(0.7, 1.2, label=1)
        >>> labels = sound_labels(
        ...     [bark], frames=3, front_end=patches, frame_time="complete", classes=2, background=0
        ... )
        >>> labels.argmax(axis=1).tolist()  # known at 0.975, 1.455 and 1.935 s; each stands for the 0.48 s before
        [1, 0, 0]
    """
    return frame_labels(
        segments,
        frames=frames,
        rate_hz=front_end.feature_rate_hz,
        classes=classes,
        background=background,
        rule=rule,
        overlap=overlap,
        outside="cut",  # the end of the sound is the caller's business: the last feature ends before it
        names=names,
        offset_s=frame_offset(front_end, frame_time),
    )
