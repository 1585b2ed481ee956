"""Which videos run side by side, and where: every video once, the same groups for any number of processes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coadtr.errors import ConfigError
from coadtr.evaluation import group_videos, share_groups

lengths = st.lists(st.integers(1, 10_000), min_size=1, max_size=40)


@given(lengths, st.integers(1, 9), st.integers(1, 9))
def test_every_video_runs_once(frames: list[int], batch_size: int, processes: int) -> None:
    groups = group_videos(frames, batch_size)
    assert sorted(index for group in groups for index in group) == list(range(len(frames)))
    assert all(len(group) == batch_size for group in groups[:-1])
    shares = share_groups(groups, frames, processes)
    assert len(shares) == processes
    assert sorted(index for share in shares for index in share) == list(range(len(groups)))


@given(lengths, st.integers(1, 9))
def test_rows_of_a_group_are_of_like_length(frames: list[int], batch_size: int) -> None:
    groups = group_videos(frames, batch_size)
    for earlier, later in pairwise(groups):
        assert min(frames[index] for index in earlier) >= max(frames[index] for index in later)


@given(lengths, st.integers(1, 9))
def test_no_process_has_more_than_its_share_and_one_group(frames: list[int], processes: int) -> None:
    groups = group_videos(frames, 1)
    loads = [sum(frames[groups[index][0]] for index in share) for share in share_groups(groups, frames, processes)]
    assert max(loads) <= sum(frames) / processes + max(frames)


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size is 0"):
        group_videos([3], 0)
    with pytest.raises(ConfigError, match="processes is 0"):
        share_groups([(0,)], [3], 0)
