"""Protocols: which frames an evaluation scores, by name and version, so that two numbers can be compared.

A detector answers every frame; leaving some out is the business of the metric. Each report states the
protocol and what became of every frame: scored, ignored (its label is the ignored class), or outside (the
protocol leaves it out).

On the THUMOS14 test set (213 videos, 225,222 frames at video rate / 6, window 64) that gives

============  ========  =======  =======
protocol      scored    ignored  outside
============  ========  =======  =======
``all``       221,588   3,634    0
``oadtr``     206,375   3,634    15,213
``lstr``      221,588   3,634    0
============  ========  =======  =======

Leaving out the warm-up and the tail alone would keep 209,886 frames; the published evaluators also skip the
3,511 of them whose label is "Ambiguous", which leaves the 206,375 frames that they score.

``lstr`` is what the evaluators of LSTR, TeSTra and MAT score when they run in batches: each frame from the first on,
background frames as negatives, and on THUMOS14 none labelled "Ambiguous". Where that is the ignored class it scores the
frames of ``all``, with one exception: a video with fewer frames than their working memory yields no window, and drops
out whole. THUMOS14 has no such test video (the shortest has 74 frames), so there the two agree to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError
from coadtr.evaluation.labels import frames_of_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "PROTOCOLS",
    "FrameCounts",
    "ScoringProtocol",
    "count_frames",
    "count_scored",
    "find_protocol",
    "scored_frames",
]


@dataclass(frozen=True, kw_only=True)
class ScoringProtocol:
    """Say which frames of a video are scored. A change of meaning is a new ``version``.

    Attributes:
        name: What users write.
        version: Counts up when the same name comes to score other frames.
        skips_warmup: Leave out the first N-1 frames, at which a window of N frames is not yet full.
        tail: How many frames to leave out at the end of each video.
        description: One line for reports.
        shortest: Leave out videos of fewer frames.
    """

    name: str
    version: int
    skips_warmup: bool
    tail: int
    description: str
    shortest: int = 0


_KNOWN = (
    ScoringProtocol(
        name="all",
        version=1,
        skips_warmup=False,
        tail=0,
        description="every frame but those labelled with the ignored class",
    ),
    ScoringProtocol(
        name="oadtr",
        version=1,
        skips_warmup=True,
        # 8 decoder steps ahead, and one more by the exclusive end of the published loop over windows.
        tail=9,
        description="as `all`, and neither the first N-1 nor the last 9 frames of each video",
    ),
    ScoringProtocol(
        name="lstr",
        version=1,
        skips_warmup=False,
        tail=0,
        # The published working memory: 8 seconds of 4 frames. The loop over windows starts with a full one.
        shortest=32,
        description="as `all`, and no frame of a video with fewer than 32 frames",
    ),
)

PROTOCOLS: dict[str, ScoringProtocol] = {protocol.name: protocol for protocol in _KNOWN}


@dataclass(frozen=True, kw_only=True)
class FrameCounts:
    """Count what became of frames; ``total == scored + ignored + outside``.

    Attributes:
        total: All frames.
        scored: Frames that enter the metrics.
        ignored: Frames whose label is the ignored class, wherever they lie in their video.
        outside: Other frames that the protocol leaves out.
    """

    total: int = 0
    scored: int = 0
    ignored: int = 0
    outside: int = 0

    def __add__(self, other: FrameCounts) -> FrameCounts:
        return FrameCounts(
            total=self.total + other.total,
            scored=self.scored + other.scored,
            ignored=self.ignored + other.ignored,
            outside=self.outside + other.outside,
        )


def find_protocol(protocol: str | ScoringProtocol) -> ScoringProtocol:
    """Return the protocol of that name; a protocol is returned as it is.

    Args:
        protocol: ``"all"``, ``"oadtr"``, ``"lstr"``, or a protocol of one's own.

    Raises:
        ConfigError: No protocol has this name.

    Example:
        >>> find_protocol("oadtr").tail
        9
    """
    if isinstance(protocol, ScoringProtocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol]


def scored_frames(
    protocol: str | ScoringProtocol, labels: NDArray[Any], *, window: int, ignored: int | None = None
) -> NDArray[np.bool_]:
    """Return which frames of one video are scored.

    Args:
        protocol: Name or protocol.
        labels: Labels of the whole video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        window: Frames N that one answer attends to; ``oadtr`` leaves the first N-1 frames out.
        ignored: Index of the class that is never scored, or None if there is none.

    Returns:
        Truth per frame ``(T,)``; all false for a video that is too short.

    Raises:
        ConfigError: The protocol is unknown, or ``window`` is below 1.

    Example:
        >>> scored_frames("all", np.array([0, 2, 1]), window=64, ignored=2).tolist()
        [True, False, True]
        >>> scored_frames("oadtr", np.zeros(20, dtype=int), window=8).nonzero()[0].tolist()
        [7, 8, 9, 10]
    """
    kept = _inside(find_protocol(protocol), labels.shape[0], window)
    if ignored is not None:
        kept &= ~frames_of_class(labels, ignored)
    return kept


def count_frames(
    protocol: str | ScoringProtocol, labels: NDArray[Any], *, window: int, ignored: int | None = None
) -> FrameCounts:
    """Count what becomes of the frames of one video; the counts of several videos add up with ``+``.

    Args:
        protocol: Name or protocol.
        labels: Labels of the whole video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        window: Frames N that one answer attends to.
        ignored: Index of the class that is never scored, or None if there is none.

    Returns:
        The counts.

    Raises:
        ConfigError: The protocol is unknown, or ``window`` is below 1.

    Example:
        >>> count_frames("oadtr", np.array([2] * 10 + [0] * 10), window=8, ignored=2)
        FrameCounts(total=20, scored=1, ignored=10, outside=9)
    """
    return count_scored(labels, scored_frames(protocol, labels, window=window, ignored=ignored), ignored=ignored)


def count_scored(labels: NDArray[Any], scored: NDArray[np.bool_], *, ignored: int | None = None) -> FrameCounts:
    """Count what became of the frames of one video, given which of them are scored.

    Args:
        labels: Labels of the whole video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        scored: Truth per frame ``(T,)``, from `scored_frames`.
        ignored: Index of the class that is never scored, or None if there is none.

    Returns:
        The counts.

    Example:
        >>> count_scored(np.array([2, 0, 1]), np.array([False, False, True]), ignored=2)
        FrameCounts(total=3, scored=1, ignored=1, outside=1)
    """
    total, counted = int(labels.shape[0]), int(scored.sum())
    dropped = 0 if ignored is None else int(frames_of_class(labels, ignored).sum())
    return FrameCounts(total=total, scored=counted, ignored=dropped, outside=total - counted - dropped)


def _inside(protocol: ScoringProtocol, frames: int, window: int) -> NDArray[np.bool_]:
    if window < 1:
        raise ConfigError(f"window is {window}; give the number of frames N >= 1 that one answer attends to")
    first = window - 1 if protocol.skips_warmup else 0
    if frames < protocol.shortest:
        return np.zeros(frames, dtype=np.bool_)
    index = np.arange(frames)
    return np.asarray((index >= first) & (index < frames - protocol.tail), dtype=np.bool_)
