"""Continual low-rank (Nystroem) attention: the window is seen through m fixed landmarks, which do not depend on it.

A frame leaves its value behind and one logit per landmark, not a key; a query is m numbers. The single-output layer
answers for the newest frame; the retroactive one brings the outputs of the whole window up to date.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from coadtr.layers.landmarks import LandmarkProjections
from coadtr.layers.projection import attention_weights, require_frame, require_sequence
from coadtr.layers.ring import read_past, slot_positions, slots_written, write_slot, write_slots
from coadtr.layers.state import reset_rows

__all__ = ["NystroemAttention", "NystroemState", "RetroactiveNystroemAttention", "RetroactiveNystroemState"]

BLOCK_ELEMENTS = 1 << 24  # of landmark weights held at once by a pass over a sequence: 64 MiB in float32


class NystroemState(NamedTuple):
    """What low-rank attention remembers of the last N frames, in slot order.

    Attributes:
        logits: ``(B, H, m, N)``, each frame's key under each landmark's query.
        values: ``(B, H, N, E/H)``.
        frames: ``(B,) int64``, frames seen by each stream.
    """

    logits: Tensor
    values: Tensor
    frames: Tensor


class NystroemAttention(LandmarkProjections):
    """Low-rank attention of the newest frame over the last N frames.

    ::

        step      x[t] -> mix, logits, value ;  the last two into the ring ;  (mix . softmax(logits)) . values -> y[t]
        forward   all t at once, each softmax over the frames 0 <= t - s < N

    ``step`` is sequence-exact: T steps from a fresh state equal ``forward`` on the T frames, which is the formula of
    :class:`LandmarkProjections` with K and V of the last N frames (of those seen, while they are fewer). That
    approximates :class:`SingleOutputAttention`, and equals it when the landmarks are the tokens of a full window. The
    published step keeps running sums of exponentials and takes old terms off, which drifts; here the logits are cached,
    and each softmax is taken afresh, with its own maximum.

    Cost of a step: 2 E^2 + 2 m H E + m^2 H + N (E + m H) multiply-accumulates, against 4 E^2 + 2 N E of the exact
    layer: less where m is well below the head width E/H, half at the best. It takes m exponentials for each of the
    exact layer's.

    Source: Carreto Picon et al., arXiv 2412.03214, continual single-output attention with fixed landmarks.

    Example:
        >>> import torch
        >>> from coadtr.layers import SingleOutputAttention, cluster_means
        >>> exact = SingleOutputAttention(8, 2, window=4)
        >>> layer = NystroemAttention.from_attention(exact, cluster_means(torch.randn(100, 8), 3))
        >>> frames = torch.randn(1, 10, 8)
        >>> state, answers = layer.init_state(1), []
        >>> with torch.no_grad():
        ...     for t in range(10):
        ...         y, state = layer.step(frames[:, t], state)
        ...         answers.append(y)
        ...     torch.allclose(torch.stack(answers, 1), layer(frames), atol=1e-5)
        True
    """

    def init_state(self, batch_size: int = 1) -> NystroemState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        zeros = self.mixing.new_zeros
        return NystroemState(
            zeros(batch_size, self.num_heads, self.num_landmarks, self.window),
            zeros(batch_size, self.num_heads, self.window, self.head_dim),
            zeros(batch_size, dtype=torch.int64),
        )

    def reset_rows(self, state: NystroemState, rows: Tensor) -> NystroemState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def step(self, frame: Tensor, state: NystroemState) -> tuple[Tensor, NystroemState]:
        """Take in one frame of each stream and answer for it.

        Args:
            frame: ``(B, E)``.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, E)`` and the state after the frame.

        Raises:
            ShapeError: If ``frame`` is not ``(B, E)``.
        """
        require_frame(frame, self.embed_dim, state.frames.shape[0], "NystroemAttention.step")
        mix, logits, value = self.project(frame.unsqueeze(1))
        slot = state.frames % self.window
        write_slot(state.logits.permute(0, 3, 1, 2), logits.squeeze(2), slot)
        write_slot(state.values.transpose(1, 2), value.squeeze(2), slot)
        state = state._replace(frames=state.frames + 1)
        seen = slots_written(state.frames, self.window)
        weights = mix @ attention_weights(state.logits, seen[:, None, None])
        return self.merge(weights @ state.values).squeeze(1), state

    def forward(self, frames: Tensor) -> Tensor:
        """Answer for all frames of whole streams.

        Args:
            frames: ``(B, T, E)``.

        Returns:
            ``(B, T, E)``, equal to T steps from a fresh state.

        Raises:
            ShapeError: If ``frames`` is not ``(B, T, E)``.
        """
        require_sequence(frames, self.embed_dim, "NystroemAttention.forward")
        mix, logits, values = self.project(frames)
        past = self.window - 1
        exists = F.pad(torch.ones(1, frames.shape[1], dtype=torch.bool, device=frames.device), (past, 0))
        return self._attend_band(mix, F.pad(logits, (0, 0, past, 0)), F.pad(values, (0, 0, past, 0)), exists)

    def steps(self, frames: Tensor, state: NystroemState) -> tuple[Tensor, NystroemState]:
        """Take in k frames of each stream at once and answer for each: equal to k single steps.

        Args:
            frames: ``(B, k, E)`` for any k >= 1.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, k, E)`` and the state after the frames.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, E)``.
        """
        require_sequence(frames, self.embed_dim, "NystroemAttention.steps", streams=state.frames.shape[0])
        mix, logits, values = self.project(frames)
        past_logits, exists = read_past(state.logits.transpose(2, 3), state.frames)
        past_values, _ = read_past(state.values, state.frames)
        exists = F.pad(exists, (0, frames.shape[1]), value=True)
        answers = self._attend_band(
            mix, torch.cat([past_logits, logits], 2), torch.cat([past_values, values], 2), exists
        )
        write_slots(state.logits.permute(0, 3, 1, 2), logits.transpose(1, 2), state.frames)
        write_slots(state.values.transpose(1, 2), values.transpose(1, 2), state.frames)
        return answers, state._replace(frames=state.frames + frames.shape[1])

    def _attend_band(self, mix: Tensor, logits: Tensor, values: Tensor, exists: Tensor) -> Tensor:
        """Attend under the band mask, in blocks of queries.

        Every query has a softmax of its own per landmark: ``m N`` weights, of which a block holds a bounded number.

        Args:
            mix: ``(B, H, T, m)``.
            logits: ``(B, H, N - 1 + T, m)``: of the N - 1 frames before the first query, then of the queries' frames.
            values: ``(B, H, N - 1 + T, E/H)``.
            exists: ``(B or 1, N - 1 + T) bool``, false where a stream had not begun.

        Returns:
            ``(B, T, E)``.
        """
        past, length = self.window - 1, mix.shape[2]
        # A block of at most N queries sees fewer than 2 N frames.
        block = min(self.window, max(1, BLOCK_ELEMENTS // (2 * self.window * mix[:, :, 0].numel())))
        logits, heads = logits.transpose(2, 3), []
        for start in range(0, length, block):
            stop = min(start + block, length)
            reach = slice(start, past + stop)
            query = torch.arange(stop - start, device=mix.device).unsqueeze(1)
            key = torch.arange(past + stop - start, device=mix.device).unsqueeze(0)
            mask = (key >= query) & (key <= query + past) & exists[:, None, reach]
            weights = attention_weights(logits[:, :, None, :, reach], mask[:, None, :, None])
            weights = (mix[:, :, start:stop, None] @ weights).squeeze(3)
            heads.append(weights @ values[:, :, reach])
        return self.merge(torch.cat(heads, 2))


class RetroactiveNystroemState(NamedTuple):
    """What retroactive low-rank attention remembers of the last N frames, in slot order.

    Attributes:
        mixes: ``(B, N, H, m)``, the weight of each landmark in each frame's answer.
        logits: ``(B, H, m, N)``, each frame's key under each landmark's query.
        values: ``(B, H, N, E/H)``; ``(B, H, N, E)`` where the output projection is folded into them.
        frames: ``(B,) int64``, frames seen by each stream.
    """

    mixes: Tensor
    logits: Tensor
    values: Tensor
    frames: Tensor


class RetroactiveNystroemAttention(LandmarkProjections):
    """Low-rank attention that brings the outputs of all N frames of the window up to date at each step.

    ::

        step      x[t] -> mix, logits, value into the rings ;  softmax(logits) . values -> m summaries of the window ;
                  mixes . summaries -> y[t-N+1 .. t]
        forward   the same over a clip of at most N frames

    ``step`` is window-exact: its outputs equal ``forward`` on the last N frames (on those seen, while they are fewer).
    A frame's mix does not depend on the window, so it is taken once. Nothing is taken off a running sum.

    Cost of a step, with the output projection folded into the values: 2 E^2 + 2 m H E + m^2 H + 2 m N H E
    multiply-accumulates, against N^2 H E + 4 E^2 + 2 N E of :class:`RetroactiveAttention`: less where 2 m < N.

    Source: Carreto Picon et al., arXiv 2412.03214, continual retroactive attention with fixed landmarks.

    Example:
        >>> import torch
        >>> layer = RetroactiveNystroemAttention(8, 2, window=4, num_landmarks=3)
        >>> frames = torch.randn(1, 6, 8)
        >>> state = layer.init_state(1)
        >>> with torch.no_grad():
        ...     for t in range(6):
        ...         window, state = layer.step(frames[:, t], state)
        ...     order = layer.positions(state).argsort(1)[0]
        ...     torch.allclose(window[:, order], layer(frames[:, 2:]), atol=1e-6)
        True
    """

    @property
    def folds(self) -> bool:
        """Whether the output projection is folded into the cached values.

        The N outputs then cost ``E^2 + 2 m N H E`` multiply-accumulates, not ``2 m N E + N E^2``.
        """
        return 2 * self.num_landmarks * self.window * (self.num_heads - 1) < (self.window - 1) * self.embed_dim

    def init_state(self, batch_size: int = 1) -> RetroactiveNystroemState:
        """Return the state of ``batch_size`` streams that have seen no frame."""
        zeros = self.mixing.new_zeros
        return RetroactiveNystroemState(
            zeros(batch_size, self.window, self.num_heads, self.num_landmarks),
            zeros(batch_size, self.num_heads, self.num_landmarks, self.window),
            zeros(batch_size, self.num_heads, self.window, self.embed_dim if self.folds else self.head_dim),
            zeros(batch_size, dtype=torch.int64),
        )

    def reset_rows(self, state: RetroactiveNystroemState, rows: Tensor) -> RetroactiveNystroemState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def positions(self, state: RetroactiveNystroemState) -> Tensor:
        """Tell which frame each row of the last outputs belongs to: ``(B, N) int64``, -1 where there is none yet."""
        return slot_positions(state.frames, self.window)

    def step(self, frame: Tensor, state: RetroactiveNystroemState) -> tuple[Tensor, RetroactiveNystroemState]:
        """Take in one frame of each stream and bring the outputs of the window up to date.

        Args:
            frame: ``(B, E)``.
            state: State of B streams; its storage is reused.

        Returns:
            ``(B, N, E)`` outputs in slot order, and the state after the frame. :meth:`positions` tells which frame each
            row belongs to; rows of slots that were never written have no meaning.

        Raises:
            ShapeError: If ``frame`` is not ``(B, E)``.
        """
        require_frame(frame, self.embed_dim, state.frames.shape[0], "RetroactiveNystroemAttention.step")
        mix, logits, value = self.project(frame.unsqueeze(1))
        value = self.fold(value) if self.folds else value
        slot = state.frames % self.window
        write_slot(state.mixes, mix.squeeze(2), slot)
        write_slot(state.logits.permute(0, 3, 1, 2), logits.squeeze(2), slot)
        write_slot(state.values.transpose(1, 2), value.squeeze(2), slot)
        state = state._replace(frames=state.frames + 1)
        seen = slots_written(state.frames, self.window)
        summaries = attention_weights(state.logits, seen[:, None, None]) @ state.values
        if not self.folds:
            return self.merge(state.mixes.transpose(1, 2) @ summaries), state
        outputs = state.mixes.flatten(2) @ summaries.flatten(1, 2)
        return (outputs + self.out_proj.bias if self.out_bias else outputs), state

    def forward(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend over clips: every frame to every frame.

        Args:
            clip: ``(B, n, E)`` with n at most N.
            mask: ``(B, n) bool``, false where a frame does not exist; None if all do.

        Returns:
            ``(B, n, E)``; rows of frames that do not exist have no meaning.

        Raises:
            ShapeError: If ``clip`` is not ``(B, n <= N, E)``.
        """
        require_sequence(clip, self.embed_dim, "RetroactiveNystroemAttention.forward", longest=self.window)
        return self.attend_clip(clip, mask)
