"""Stacks of single-output blocks: any depth at the cost of one new frame per layer and step."""

from __future__ import annotations

from typing import Literal, NamedTuple, cast, get_args

from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.layers.attention import SingleOutputAttention
from coadtr.layers.encoder import Activation, SingleOutputBlock, SingleOutputState
from coadtr.layers.nystroem import NystroemAttention
from coadtr.layers.projection import require_frame, require_sequence
from coadtr.layers.softmax_free import SoftmaxFreeAttention
from coadtr.layers.state import reset_rows

__all__ = ["SingleOutputStack", "StackAttention", "StackState"]

StackAttention = Literal["softmax", "soft", "nystroem"]
ATTENTIONS = {"softmax": SingleOutputAttention, "soft": SoftmaxFreeAttention}


class StackState(NamedTuple):
    """What a stack of single-output blocks remembers.

    Attributes:
        blocks: What each block's attention remembers of its last N inputs, the first block first.
    """

    blocks: tuple[SingleOutputState, ...]


def _check_attention(attention: str, num_landmarks: int, dropout: float) -> None:
    if attention not in get_args(StackAttention):
        raise ConfigError(f"attention must be one of {', '.join(get_args(StackAttention))}, got {attention!r}")
    if attention != "nystroem" and num_landmarks:
        raise ConfigError(f"{attention} attention has no landmarks, got num_landmarks={num_landmarks}: leave it at 0")
    if attention == "nystroem" and dropout:
        raise ConfigError(f"low-rank attention drops no weights, got attention_dropout={dropout}: set it to 0")


class SingleOutputStack(nn.Module):
    """Sequence-exact encoder of any depth: each block's newest output enters the next block's ring.

    ::

        step      x[t] -> block 1 -> y1[t] -> block 2 -> y2[t] -> ... -> yL[t]
                  each block attends the last N outputs of the one below, as they were given
        forward   all t at once, each block under the band mask 0 <= t - s < N

    ``step`` is sequence-exact: T steps from a fresh state equal ``forward`` on T (finite) frames. An output is never
    brought up to date, so an answer looks back further than N frames, over those that were given before it:
    :attr:`receptive_field` is L(N - 1) + 1. (:class:`ContinualEncoder` brings the window up to date, and looks back N
    frames at any depth.) Cost of a step: L (4 E^2 + 2 N E + 2 E F) multiply-accumulates with feed-forward width F, for
    low-rank attention what :class:`NystroemAttention` states in place of 4 E^2 + 2 N E.

    Args:
        depth: Blocks L.
        embed_dim: Embedding width E.
        num_heads: Heads H.
        window: Frames N that each block attends.
        ff_dim: Hidden width F of the feed-forward networks.
        activation: ``"gelu"`` or ``"relu"``.
        norm_first: Pre-norm instead of post-norm.
        in_bias: Bias of the query, key and value projections.
        out_bias: Bias of the output projections.
        dropout: Dropout of the branches, in training only.
        attention_dropout: Dropout of the attention weights, in training only; low-rank attention has none.
        attention: ``"softmax"`` (:class:`SingleOutputAttention`), ``"soft"`` (:class:`SoftmaxFreeAttention`) or
            ``"nystroem"`` (:class:`NystroemAttention`).
        num_landmarks: Landmarks m of each head, of low-rank attention only.

    Raises:
        ConfigError: If a size is out of range, or an option does not suit the attention.

    Source: the stacking of *DeepCoT*, arXiv 2511.17693.

    Example:
        >>> import torch
        >>> stack = SingleOutputStack(3, 8, 2, window=4, ff_dim=8)
        >>> frames = torch.randn(1, 12, 8)
        >>> state = stack.init_state(1)
        >>> with torch.no_grad():
        ...     for t in range(12):
        ...         y, state = stack.step(frames[:, t], state)
        ...     stack.receptive_field, torch.allclose(y, stack(frames[:, 2:])[:, -1], atol=1e-5)
        (10, True)
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
        attention: StackAttention = "softmax",
        num_landmarks: int = 0,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ConfigError(f"a stack has at least one block, got depth={depth}")
        _check_attention(attention, num_landmarks, attention_dropout)
        self.depth = depth
        self.embed_dim = embed_dim
        self.window = window

        def layer() -> SingleOutputAttention | NystroemAttention:
            biases = {"in_bias": in_bias, "out_bias": out_bias}
            if attention == "nystroem":
                return NystroemAttention(embed_dim, num_heads, window, num_landmarks=num_landmarks, **biases)
            return ATTENTIONS[attention](embed_dim, num_heads, window, dropout=attention_dropout, **biases)

        def block() -> SingleOutputBlock:
            return SingleOutputBlock(
                layer(), ff_dim=ff_dim, activation=activation, norm_first=norm_first, dropout=dropout
            )

        self.blocks = nn.ModuleList(block() for _ in range(depth))

    @property
    def receptive_field(self) -> int:
        """Frames that one answer depends on, L(N - 1) + 1."""
        return self.depth * (self.window - 1) + 1

    def _blocks(self) -> list[SingleOutputBlock]:
        return [cast("SingleOutputBlock", block) for block in self.blocks]

    def init_state(self, batch_size: int = 1) -> StackState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        return StackState(tuple(block.init_state(batch_size) for block in self._blocks()))

    def reset_rows(self, state: StackState, rows: Tensor) -> StackState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    @staticmethod
    def frames_seen(state: StackState) -> Tensor:
        """Tell how many frames each stream has seen, ``(B,) int64``: the index of its next frame."""
        return state.blocks[0].frames

    def step(self, frame: Tensor, state: StackState) -> tuple[Tensor, StackState]:
        """Take in one frame of each stream and answer for it.

        Args:
            frame: ``(B, E)``.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, E)`` and the state after the frame.

        Raises:
            ShapeError: If ``frame`` is not ``(B, E)``.
        """
        require_frame(frame, self.embed_dim, self.frames_seen(state).shape[0], "SingleOutputStack.step")
        x, rings = frame, []
        for block, ring in zip(self._blocks(), state.blocks, strict=True):
            x, after = block.step(x, ring)
            rings.append(after)
        return x, StackState(tuple(rings))

    def steps(self, frames: Tensor, state: StackState) -> tuple[Tensor, StackState]:
        """Take in k frames of each stream at once and answer for each: equal to k single steps.

        Args:
            frames: ``(B, k, E)`` for any k >= 1.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, k, E)`` and the state after the frames.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, E)``.
        """
        streams = self.frames_seen(state).shape[0]
        require_sequence(frames, self.embed_dim, "SingleOutputStack.steps", streams=streams)
        x, rings = frames, []
        for block, ring in zip(self._blocks(), state.blocks, strict=True):
            x, after = block.steps(x, ring)
            rings.append(after)
        return x, StackState(tuple(rings))

    def forward(self, frames: Tensor) -> Tensor:
        """Answer for all frames of whole streams.

        Args:
            frames: ``(B, T, E)``.

        Returns:
            ``(B, T, E)``, equal to T steps from a fresh state.

        Raises:
            ShapeError: If ``frames`` is not ``(B, T, E)``.
        """
        require_sequence(frames, self.embed_dim, "SingleOutputStack.forward")
        x = frames
        for block in self._blocks():
            x = block(x)
        return x
