"""The encoder stack as a clip model, and the windows it runs on. (Its steps: tests/laws.)"""

from __future__ import annotations

import pytest
import torch

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers import (
    ContinualEncoder,
    RetroactiveBlockState,
    RingState,
    answer_windows,
    clone_state,
    state_tensors,
)
from coadtr.layers.stack import WINDOWS_AT_ONCE

WIDTH, HEADS, WINDOW = 8, 2, 5

every_depth = pytest.mark.parametrize("depth", [1, 2, 3, 4])


def encoder(depth: int) -> ContinualEncoder:
    return ContinualEncoder(depth, WIDTH, HEADS, WINDOW, ff_dim=12).double().eval()


@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("length", [1, 4, 9])
@pytest.mark.parametrize("seen", [0, 1, 4])
def test_windows_end_at_each_frame_and_reach_into_the_past(window: int, length: int, seen: int) -> None:
    past, sequence = torch.randn(2, window - 1, 3), torch.randn(2, length, 3)
    exists = torch.arange(window - 1, 0, -1) <= seen
    windows = answer_windows(lambda clip, _: clip.flatten(1), sequence, window, (past, exists.expand(2, -1)))
    masks = answer_windows(lambda _, mask: mask.float(), sequence, window, (past, exists.expand(2, -1)))
    whole = torch.cat([past, sequence], 1)
    begun = torch.cat([exists, torch.ones(length, dtype=torch.bool)])
    for t in range(length):
        assert torch.equal(windows[:, t], whole[:, t : t + window].flatten(1))
        assert torch.equal(masks[:, t].bool(), begun[t : t + window].expand(2, -1))


@pytest.mark.parametrize("streams", [1, 3, WINDOWS_AT_ONCE + 1])
@pytest.mark.parametrize("length", [1, WINDOWS_AT_ONCE, WINDOWS_AT_ONCE + 1])
def test_windows_are_answered_in_order_whatever_runs_at_once(streams: int, length: int) -> None:
    sequence = torch.randn(streams, length, 2, dtype=torch.float64)
    answers = answer_windows(lambda clip, mask: (clip * mask.unsqueeze(2)).sum(1), sequence, 3)
    expected = torch.stack([sequence[:, max(0, t - 2) : t + 1].sum(1) for t in range(length)], 1)
    torch.testing.assert_close(answers, expected, atol=1e-12, rtol=0)


@every_depth
def test_a_clip_is_answered_like_the_last_frame_of_a_stream(depth: int) -> None:
    stack = encoder(depth)
    frames = torch.randn(2, 12, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        answers = stack(frames)
        for t in range(12):
            clip = frames[:, max(0, t + 1 - WINDOW) : t + 1]
            torch.testing.assert_close(stack.answer_clip(clip), answers[:, t], atol=1e-12, rtol=0)


@every_depth
def test_a_masked_clip_is_answered_like_a_short_one(depth: int) -> None:
    stack = encoder(depth)
    clip = torch.randn(2, WINDOW, WIDTH, dtype=torch.float64)
    mask = torch.tensor([[False, False, True, True, True]] * 2)
    with torch.no_grad():
        short = stack.answer_clip(clip[:, 2:])
        torch.testing.assert_close(stack.answer_clip(clip, mask), short, atol=1e-12, rtol=0)


@every_depth
def test_the_state_is_that_of_the_first_block(depth: int) -> None:
    stack = encoder(depth)
    state = stack.init_state(3)
    assert isinstance(state, RingState if depth == 1 else RetroactiveBlockState)
    assert len(stack.middle) == max(0, depth - 2)
    assert stack.frames_seen(state).tolist() == [0, 0, 0]
    _, state = stack.step(torch.zeros(3, WIDTH, dtype=torch.float64), state)
    assert stack.frames_seen(stack.reset_rows(state, torch.tensor([False, True, False]))).tolist() == [1, 0, 1]


def test_an_encoder_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one block, got depth=0"):
        encoder(0)


@every_depth
@pytest.mark.parametrize("shape", [(2, WIDTH), (2, 3, WIDTH + 1), (2, 0, WIDTH)])
def test_a_sequence_of_another_shape_is_refused(depth: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"ContinualEncoder\.forward takes a sequence per stream"):
        encoder(depth)(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("width", [WIDTH - 1, WIDTH + 1])
def test_a_frame_of_another_width_is_refused_and_the_state_stays(norm_first: bool, width: int) -> None:
    stack = ContinualEncoder(2, WIDTH, HEADS, WINDOW, ff_dim=12, norm_first=norm_first)
    state = stack.init_state(2)
    before = clone_state(state)
    with pytest.raises(ShapeError, match=rf"takes one frame per stream, \(B, 8\); got \(2, {width}\)"):
        stack.step(torch.ones(2, width), state)
    for leaf, kept in zip(state_tensors(state), state_tensors(before), strict=True):
        assert torch.equal(leaf, kept)


@pytest.mark.parametrize(("streams", "rows"), [(3, 1), (1, 3)])
def test_a_state_of_other_streams_is_refused(streams: int, rows: int) -> None:
    stack = encoder(1)
    with pytest.raises(ShapeError):
        stack.step(torch.zeros(streams, WIDTH, dtype=torch.float64), stack.init_state(rows))


def test_a_clip_longer_than_the_window_is_refused() -> None:
    with pytest.raises(ShapeError):
        encoder(1).answer_clip(torch.zeros(1, WINDOW + 1, WIDTH, dtype=torch.float64))


def test_a_window_without_frames_is_refused_by_its_own_name() -> None:
    with pytest.raises(ConfigError, match="the window must hold at least one frame, got 0"):
        ContinualEncoder(1, WIDTH, HEADS, 0, ff_dim=12)
