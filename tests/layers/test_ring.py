"""Ring cache: frame p lies in slot p mod N, per row, and positions follow from the frames seen."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from coadtr.layers import init_ring, slot_positions, write_ring


def entry(*values: float) -> Tensor:
    """One key or value per row, of one head and one channel."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)


def test_a_fresh_ring_is_empty() -> None:
    ring = init_ring(2, 4, 8, 16, dtype=torch.bfloat16)
    assert ring.keys.shape == ring.values.shape == (2, 4, 8, 16)
    assert ring.keys.dtype == ring.values.dtype == torch.bfloat16
    assert ring.frames.dtype == torch.int64
    assert slot_positions(ring.frames, 8).eq(-1).all()


def test_the_oldest_frame_is_overwritten() -> None:
    ring = init_ring(1, 1, 3, 1)
    contents = []
    for p in range(5):
        ring = write_ring(ring, entry(p), entry(10 + p))
        contents.append((ring.keys.flatten().tolist(), ring.values.flatten().tolist()))
    assert contents == [
        ([0, 0, 0], [10, 0, 0]),
        ([0, 1, 0], [10, 11, 0]),
        ([0, 1, 2], [10, 11, 12]),
        ([3, 1, 2], [13, 11, 12]),
        ([3, 4, 2], [13, 14, 12]),
    ]
    assert ring.frames.tolist() == [5]


def test_rows_write_to_slots_of_their_own() -> None:
    ring = init_ring(2, 1, 3, 1)._replace(frames=torch.tensor([4, 0]))
    ring = write_ring(ring, entry(4, 100), entry(5, 200))
    assert ring.keys.flatten(1).tolist() == [[0, 4, 0], [100, 0, 0]]
    assert ring.values.flatten(1).tolist() == [[0, 5, 0], [200, 0, 0]]
    assert ring.frames.tolist() == [5, 1]


def test_writing_reuses_the_storage() -> None:
    ring = init_ring(1, 1, 3, 1)
    written = write_ring(ring, entry(1), entry(2))
    assert written.keys.data_ptr() == ring.keys.data_ptr()
    assert written.values.data_ptr() == ring.values.data_ptr()


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=4), st.integers(1, 9))
def test_positions_are_the_last_frames_each_in_its_slot(frames: list[int], window: int) -> None:
    positions = slot_positions(torch.tensor(frames), window).tolist()
    for seen, row in zip(frames, positions, strict=True):
        expected = [-1] * window
        for p in range(max(0, seen - window), seen):
            expected[p % window] = p
        assert row == expected
