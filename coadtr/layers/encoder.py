"""Encoder blocks and their stack, as steps and as whole sequences.

A block is attention and a two-layer feed-forward network, each with a residual connection and a layer norm: after the
sum (post-norm, as CoOadTR publishes it) or before the branch (pre-norm, as OadTR has it).
"""

from __future__ import annotations

from typing import Any, Generic, Literal, NamedTuple, TypeVar, cast

from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.layers.attention import RetroactiveAttention, RetroactiveState, SingleOutputAttention
from coadtr.layers.landmarks import LandmarkProjections
from coadtr.layers.nystroem import NystroemAttention, NystroemState
from coadtr.layers.projection import AttentionProjections, require_frame, require_sequence
from coadtr.layers.ring import RingState, write_slot, write_slots
from coadtr.layers.state import reset_rows

__all__ = [
    "Activation",
    "EncoderBlock",
    "RetroactiveBlock",
    "RetroactiveBlockState",
    "SingleOutputBlock",
    "SingleOutputState",
]

A = TypeVar("A", bound=AttentionProjections | LandmarkProjections)

SingleOutputState = RingState | NystroemState

Activation = Literal["gelu", "relu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}


class EncoderBlock(nn.Module, Generic[A]):
    """Residual wiring around one attention layer and one feed-forward network.

    ::

        post-norm   y = LN(x + A(x))    z = LN(y + F(y))
        pre-norm    y = x + A(LN(x))    z = y + F(LN(y))

    Args:
        attention: The attention layer A.
        ff_dim: Hidden width of the feed-forward network F.
        activation: ``"gelu"`` or ``"relu"``.
        norm_first: Pre-norm instead of post-norm.
        dropout: Dropout of the branches, in training only.

    Raises:
        ConfigError: If the activation is unknown or ``ff_dim`` is below one.
    """

    def __init__(
        self,
        attention: A,
        *,
        ff_dim: int,
        activation: Activation = "gelu",
        norm_first: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ConfigError(f"activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}")
        if ff_dim < 1:
            raise ConfigError(f"ff_dim must be at least 1, got {ff_dim}")
        width = attention.embed_dim
        self.attention = attention
        self.norm_first = norm_first
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, ff_dim),
            ACTIVATIONS[activation](),
            nn.Dropout(dropout),
            nn.Linear(ff_dim, width),
        )
        self.feed_forward_norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)

    def enter(self, x: Tensor) -> Tensor:
        """Make the attention's input from the block's."""
        entered: Tensor = self.attention_norm(x) if self.norm_first else x
        return entered

    def leave(self, x: Tensor, attended: Tensor) -> Tensor:
        """Make the block's output from its input and the attention's output."""
        y = x + self.drop(attended)
        if self.norm_first:
            z: Tensor = y + self.drop(self.feed_forward(self.feed_forward_norm(y)))
        else:
            y = self.attention_norm(y)
            z = self.feed_forward_norm(y + self.drop(self.feed_forward(y)))
        return z

    def attend_clip(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Bring all tokens of a clip up to date: every token attends every token.

        Args:
            clip: ``(B, n, E)`` in any order.
            mask: ``(B, n) bool``, false where a token does not exist; None if all do.

        Returns:
            ``(B, n, E)``; rows of tokens that do not exist have no meaning.
        """
        return self.leave(clip, self.attention.attend_clip(self.enter(clip), mask))

    def answer(self, newest: Tensor, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Answer for the newest token of a clip, which alone asks.

        Args:
            newest: ``(B, E)``, the clip's newest token.
            clip: ``(B, n, E)`` in any order.
            mask: ``(B, n) bool``, false where a token does not exist; None if all do.

        Returns:
            ``(B, E)``.
        """
        return self.leave(newest, self.attention.attend_from(self.enter(newest), self.enter(clip), mask))


class SingleOutputBlock(EncoderBlock[SingleOutputAttention | NystroemAttention]):
    """Encoder block that answers for the newest frame, one frame in and one answer out.

    The attention is any that answers for the newest frame: :class:`SingleOutputAttention`, the softmax-free kind of
    it, or :class:`NystroemAttention`. The block's state is the attention's.

    Source: Hedegaard et al., ICLR 2023, section 3.6.

    Example:
        >>> import torch
        >>> block = SingleOutputBlock(SingleOutputAttention(8, 2, window=4), ff_dim=8)
        >>> y, state = block.step(torch.randn(1, 8), block.init_state(1))
        >>> y.shape
        torch.Size([1, 8])
    """

    def init_state(self, batch_size: int = 1) -> SingleOutputState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        return self.attention.init_state(batch_size)

    def reset_rows(self, state: SingleOutputState, rows: Tensor) -> SingleOutputState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def step(self, frame: Tensor, state: SingleOutputState) -> tuple[Tensor, SingleOutputState]:
        """Take in one frame ``(B, E)`` and answer for it ``(B, E)``; the state's storage is reused."""
        require_frame(frame, self.attention.embed_dim, state.frames.shape[0], "SingleOutputBlock.step")
        attended, state = self.attention.step(self.enter(frame), cast("Any", state))
        return self.leave(frame, attended), state

    def steps(self, frames: Tensor, state: SingleOutputState) -> tuple[Tensor, SingleOutputState]:
        """Take in k frames of each stream at once, ``(B, k, E)``, and answer for each: equal to k single steps."""
        require_sequence(frames, self.attention.embed_dim, "SingleOutputBlock.steps", streams=state.frames.shape[0])
        attended, state = self.attention.steps(self.enter(frames), cast("Any", state))
        return self.leave(frames, attended), state

    def forward(self, frames: Tensor) -> Tensor:
        """Answer for all frames of whole streams, ``(B, T, E)``, under the band mask 0 <= t - s < N."""
        return self.leave(frames, self.attention(self.enter(frames)))


class RetroactiveBlockState(NamedTuple):
    """What a retroactive block remembers, in slot order.

    Attributes:
        tokens: ``(B, N, E)``, the block's last N inputs, for the residual connection.
        attention: State of the attention layer.
    """

    tokens: Tensor
    attention: RetroactiveState


class RetroactiveBlock(EncoderBlock[RetroactiveAttention]):
    """Encoder block that brings the outputs of the whole window up to date at each step.

    Source: Hedegaard et al., ICLR 2023, section 3.6. (The published residual rows fall out of step with the attention
    once their ring wraps; here both are written to the same slot.)

    Example:
        >>> import torch
        >>> block = RetroactiveBlock(RetroactiveAttention(8, 2, window=4), ff_dim=8)
        >>> window, state = block.step(torch.randn(1, 8), block.init_state(1))
        >>> window.shape, block.attention.positions(state.attention).tolist()
        (torch.Size([1, 4, 8]), [[0, -1, -1, -1]])
    """

    def init_state(self, batch_size: int = 1) -> RetroactiveBlockState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        attention = self.attention.init_state(batch_size)
        shape = (batch_size, self.attention.window, self.attention.embed_dim)
        return RetroactiveBlockState(attention.keys.new_zeros(shape), attention)

    def reset_rows(self, state: RetroactiveBlockState, rows: Tensor) -> RetroactiveBlockState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def step(self, frame: Tensor, state: RetroactiveBlockState) -> tuple[Tensor, RetroactiveBlockState]:
        """Take in one frame of each stream and bring the window up to date.

        Args:
            frame: ``(B, E)``.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, N, E)`` outputs in slot order, and the state after the frame. Rows of slots that were never written
            have no meaning.
        """
        require_frame(frame, self.attention.embed_dim, state.tokens.shape[0], "RetroactiveBlock.step")
        slot = state.attention.frames % self.attention.window
        write_slot(state.tokens, frame, slot)
        attended, attention = self.attention.step(self.enter(frame), state.attention)
        return self.leave(state.tokens, attended), RetroactiveBlockState(state.tokens, attention)

    def advance(self, frames: Tensor, state: RetroactiveBlockState) -> RetroactiveBlockState:
        """Take in k frames of each stream, ``(B, k, E)``, without outputs: the state after k steps."""
        require_sequence(frames, self.attention.embed_dim, "RetroactiveBlock.advance", streams=state.tokens.shape[0])
        write_slots(state.tokens, frames, state.attention.frames)
        return RetroactiveBlockState(state.tokens, self.attention.advance(self.enter(frames), state.attention))

    def forward(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run whole clips of at most N frames, ``(B, n, E)``, every frame attending every frame."""
        return self.leave(clip, self.attention(self.enter(clip), mask))
