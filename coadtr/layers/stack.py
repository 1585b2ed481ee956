"""Stacks of continual encoder blocks whose step equals the clip model on the last N frames."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.layers.attention import RetroactiveAttention, SingleOutputAttention
from coadtr.layers.encoder import (
    Activation,
    EncoderBlock,
    RetroactiveBlock,
    RetroactiveBlockState,
    SingleOutputBlock,
)
from coadtr.layers.lookahead import (
    LookAheadAttention,
    LookAheadBlock,
    LookAheadBlockState,
    require_lookahead,
    zero_until_due,
)
from coadtr.layers.projection import AttentionProjections, require_sequence
from coadtr.layers.ring import RingState, read_past, slots_written
from coadtr.layers.state import reset_rows

__all__ = ["ContinualEncoder", "EncoderState", "answer_windows"]

A = TypeVar("A", bound=AttentionProjections)
BlockT = TypeVar("BlockT", bound=nn.Module)

FullBlock = EncoderBlock[AttentionProjections]

# Windows run at once by `answer_windows`: enough to fill the cores, few enough to bound the memory.
WINDOWS_AT_ONCE = 64

EncoderState = RingState | RetroactiveBlockState | LookAheadBlockState


def answer_windows(
    answer_clip: Callable[[Tensor, Tensor], Tensor],
    sequence: Tensor,
    window: int,
    past: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Run a clip model on the window that ends at each frame of a sequence.

    Args:
        answer_clip: Maps clips ``(b, N, E)`` and their mask ``(b, N) bool`` to answers ``(b, C)``.
        sequence: ``(B, T, E)``.
        window: Frames N.
        past: The N - 1 frames before the sequence, ``(B, N - 1, E)``, and which of them exist, ``(B, N - 1) bool``;
            None at the start of the streams.

    Returns:
        ``(B, T, C)``.

    Example:
        >>> import torch
        >>> mean = lambda clip, mask: clip.sum(1) / mask.sum(1, keepdim=True)
        >>> answer_windows(mean, torch.tensor([[[2.0], [4.0], [6.0]]]), 2).flatten().tolist()
        [2.0, 3.0, 5.0]
    """
    streams, length = sequence.shape[:2]
    begun = torch.ones(streams, length, dtype=torch.bool, device=sequence.device)
    if past is None:
        padded, exists = F.pad(sequence, (0, 0, window - 1, 0)), F.pad(begun, (window - 1, 0))
    else:
        padded, exists = torch.cat([past[0], sequence], 1), torch.cat([past[1], begun], 1)
    windows, masks = padded.unfold(1, window, 1).transpose(2, 3), exists.unfold(1, window, 1)
    at_once = max(1, WINDOWS_AT_ONCE // max(1, streams))
    answers = []
    for start in range(0, length, at_once):
        span = slice(start, start + at_once)
        answered = answer_clip(windows[:, span].flatten(0, 1), masks[:, span].flatten(0, 1))
        answers.append(answered.unflatten(0, (streams, -1)))
    return torch.cat(answers, dim=1)


class ContinualEncoder(nn.Module):
    """Window-exact encoder of any depth that answers for the newest frame at each step, or for the k-th before it.

    ::

        depth 1     single-output
        depth 2     retroactive, single-output
        depth L     retroactive, L - 2 blocks of full attention over the updated window, single-output

    With a look-ahead of k frames the last block asks for the frame k before the newest, whose row of the window is as
    up to date as any other: the answer at step t is for frame t - k (:attr:`delay` k), and it is zeros in the first k
    steps of a stream, where no frame is due.

    Args:
        depth: Blocks L.
        embed_dim: Embedding width E.
        num_heads: Heads H.
        window: Frames N attended.
        ff_dim: Hidden width of the feed-forward networks.
        activation: ``"gelu"`` or ``"relu"``.
        norm_first: Pre-norm instead of post-norm.
        in_bias: Bias of the query, key and value projections.
        out_bias: Bias of the output projections.
        dropout: Dropout of the branches, in training only.
        attention_dropout: Dropout of the attention weights, in training only.
        lookahead: Frames k, from 0 to N - 1, that an answer waits for and sees beyond its own.

    Raises:
        ConfigError: If a size is out of range.

    Source: Hedegaard et al., ICLR 2023, section 3.6. Depths above two continue the published scheme.

    Example:
        >>> import torch
        >>> encoder = ContinualEncoder(2, 8, 2, window=4, ff_dim=8)
        >>> frames = torch.randn(1, 6, 8)
        >>> state = encoder.init_state(1)
        >>> with torch.no_grad():
        ...     for t in range(6):
        ...         y, state = encoder.step(frames[:, t], state)
        ...     torch.allclose(y, encoder.answer_clip(frames[:, 2:]), atol=1e-5)
        True
    """

    def __init__(
        self,
        depth: int,
        embed_dim: int,
        num_heads: int,
        window: int,
        *,
        ff_dim: int,
        activation: Activation = "gelu",
        norm_first: bool = False,
        in_bias: bool = False,
        out_bias: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        lookahead: int = 0,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ConfigError(f"an encoder has at least one block, got depth={depth}")
        require_lookahead(lookahead, window)
        self.depth = depth
        self.window = window
        self.lookahead = lookahead

        def attention(kind: Callable[..., A]) -> A:
            return kind(embed_dim, num_heads, window, in_bias=in_bias, out_bias=out_bias, dropout=attention_dropout)

        def wired(kind: Callable[..., BlockT], attention: AttentionProjections) -> BlockT:
            return kind(attention, ff_dim=ff_dim, activation=activation, norm_first=norm_first, dropout=dropout)

        self.first = wired(RetroactiveBlock, attention(RetroactiveAttention)) if depth > 1 else None
        self.middle = nn.ModuleList(wired(EncoderBlock, attention(AttentionProjections)) for _ in range(depth - 2))
        self.last: SingleOutputBlock | LookAheadBlock
        if depth == 1 and lookahead:
            self.last = wired(LookAheadBlock, attention(partial(LookAheadAttention, lookahead=lookahead)))
        else:
            self.last = wired(SingleOutputBlock, attention(SingleOutputAttention))

    @property
    def delay(self) -> int:
        """Steps k from a frame to its answer."""
        return self.lookahead

    def init_state(self, batch_size: int = 1) -> EncoderState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        return cast("EncoderState", (self.first or self.last).init_state(batch_size))

    def reset_rows(self, state: EncoderState, rows: Tensor) -> EncoderState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    @staticmethod
    def frames_seen(state: EncoderState) -> Tensor:
        """Tell how many frames each stream has seen, ``(B,) int64``: the index of its next frame."""
        if isinstance(state, RingState):
            return state.frames
        return state.attention.ring.frames if isinstance(state, LookAheadBlockState) else state.attention.frames

    def step(self, frame: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """Take in one frame of each stream and answer for it, or for the frame k before it.

        Args:
            frame: ``(B, E)``.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, E)``, zeros in the first k steps of a stream, and the state after the frame.

        Raises:
            ShapeError: If ``frame`` is not ``(B, E)``.
        """
        if self.first is None:
            return cast("tuple[Tensor, EncoderState]", self.last.step(frame, cast("Any", state)))
        window, new_state = self.first.step(frame, cast("RetroactiveBlockState", state))
        seen = slots_written(new_state.attention.frames, self.window)
        asked = new_state.attention.frames - 1 - self.lookahead
        for block in self.middle:
            window = cast("FullBlock", block).attend_clip(window, seen)
        index = (asked % self.window).view(-1, 1, 1).expand(-1, 1, window.shape[2])
        answer = self.last.answer(window.gather(1, index).squeeze(1), window, seen)
        return (zero_until_due(answer, asked) if self.lookahead else answer), new_state

    def steps(self, frames: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """Take in k frames of each stream at once and answer for each: equal to k single steps.

        Args:
            frames: ``(B, k, E)`` for any k >= 1.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, k, E)`` and the state after the frames.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, E)``.
        """
        if self.first is None:
            return cast("tuple[Tensor, EncoderState]", self.last.steps(frames, cast("Any", state)))
        memory = cast("RetroactiveBlockState", state)
        require_sequence(
            frames, self.last.attention.embed_dim, "ContinualEncoder.steps", streams=memory.attention.frames.shape[0]
        )
        past, exists = read_past(memory.tokens.unsqueeze(1), memory.attention.frames)
        answers = answer_windows(self.answer_clip, frames, self.window, (past.squeeze(1), exists))
        return answers, self.first.advance(frames, memory)

    def answer_clip(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Answer for the last frame of each clip, or for the frame k before it.

        Args:
            clip: ``(B, n, E)`` in time order, n at most N.
            mask: ``(B, n) bool``, false where a frame does not exist (the last one does); None if all do.

        Returns:
            ``(B, E)``, zeros where the clip does not reach k frames back.
        """
        require_sequence(clip, self.last.attention.embed_dim, "ContinualEncoder.answer_clip", longest=self.window)
        asked = clip.shape[1] - 1 - self.lookahead
        if asked < 0:
            return torch.zeros_like(clip[:, 0])
        if self.first is not None:
            clip = self.first(clip, mask)
        for block in self.middle:
            clip = cast("FullBlock", block).attend_clip(clip, mask)
        answer = self.last.answer(clip[:, asked], clip, mask)
        return answer if mask is None or not self.lookahead else answer.masked_fill(~mask[:, asked, None], 0)

    def forward(self, frames: Tensor) -> Tensor:
        """Answer for all frames of whole streams.

        Args:
            frames: ``(B, T, E)``.

        Returns:
            ``(B, T, E)``, equal to T steps from a fresh state. At depth one this is one pass under the band mask;
            deeper stacks run the clip that ends at each frame.

        Raises:
            ShapeError: If ``frames`` is not ``(B, T, E)``.
        """
        require_sequence(frames, self.last.attention.embed_dim, "ContinualEncoder.forward")
        if self.first is None:
            answers: Tensor = self.last(frames)
            return answers
        return answer_windows(self.answer_clip, frames, self.window)
