"""Which videos run side by side, and which process runs them: decided before the first frame, by lengths alone.

What shares a batch may differ in the last bit of a score. Groups are therefore the same however many processes work
at them, and so are the scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["group_videos", "share_groups"]


def group_videos(frames: Sequence[int], batch_size: int) -> list[tuple[int, ...]]:
    """Put videos of like length into groups of ``batch_size``, so that few rows of a batch run empty.

    Args:
        frames: Number of frames of each video.
        batch_size: Videos side by side, at least 1; the last group may have fewer.

    Returns:
        Groups of indices into ``frames``, longest videos first; equal lengths in the order given.

    Raises:
        ConfigError: ``batch_size`` is below 1.

    Example:
        >>> group_videos([5, 90, 7, 80, 6], batch_size=2)
        [(1, 3), (2, 4), (0,)]
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; replay at least 1 video at a time")
    order = sorted(range(len(frames)), key=lambda index: -frames[index])
    return [tuple(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]


def share_groups(groups: Sequence[Sequence[int]], frames: Sequence[int], processes: int) -> list[list[int]]:
    """Give each process its groups: the longest first, each to the process that has the fewest steps so far.

    Args:
        groups: From `group_videos`.
        frames: Number of frames of each video.
        processes: Number of processes, at least 1.

    Returns:
        For each process the indices of its groups; empty for a process that there is no group for.

    Raises:
        ConfigError: ``processes`` is below 1.

    Example:
        >>> share_groups([(0,), (1,), (2,)], [9, 5, 4], processes=2)
        [[0], [1, 2]]
    """
    if processes < 1:
        raise ConfigError(f"processes is {processes}; share the videos out to at least 1")
    steps = [max(frames[index] for index in group) for group in groups]
    loads = [0] * processes
    shares: list[list[int]] = [[] for _ in range(processes)]
    for index in sorted(range(len(groups)), key=lambda index: -steps[index]):
        least = loads.index(min(loads))
        loads[least] += steps[index]
        shares[least].append(index)
    return shares
