"""Recycling positional encoding: position p of a stream uses embedding p mod P.

Source: Hedegaard et al., *Continual Transformers: Redundancy-Free Attention for Online Inference*, ICLR 2023, section
3.5. With P = N the encodings of a window are a rotation of one table; with P = 2N - 1 all offsets inside a window are
distinct.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.errors import ConfigError

__all__ = ["RecyclingPositionalEncoding", "cyclic_sinusoidal_table"]


def cyclic_sinusoidal_table(length: int, dim: int) -> Tensor:
    """Make the cyclic sinusoidal code, in which the last position is as near to the first as to the one before it.

    Channel i is a sine (even i) or cosine (odd i) of a triangle wave over the position, with a period that grows with i
    and, in the upper half of the channels, a phase that turns with i. The table is smoothed over five cyclically
    adjacent positions, and the mean over positions is taken off.

    Args:
        length: Positions P of one cycle.
        dim: Embedding width E, even.

    Returns:
        ``(P, E) float32``.

    Raises:
        ConfigError: If ``length`` is below 2 or ``dim`` is not even and positive.

    Source: Ma et al., *Learning to Iteratively Solve Routing Problems with Dual-Aspect Collaborative Transformer*,
    NeurIPS 2021 (arXiv 2110.02544), section 4.1 and the reference implementation, whose rounding is kept.

    Example:
        >>> cyclic_sinusoidal_table(127, 32).shape
        torch.Size([127, 32])
    """
    if length < 2 or dim < 2 or dim % 2:
        raise ConfigError(
            f"a cyclic sinusoidal code needs length >= 2 and an even dim >= 2, got length={length}, dim={dim}"
        )
    half = dim // 2
    shortest = length ** (1 / half)
    # Periods are whole positions, spread evenly and cut off, not rounded: published tables were made so.
    periods = [int(shortest + (length - shortest) * k / (half - 1)) if half > 1 else int(shortest) for k in range(half)]
    periods[-1] = length if half > 1 else periods[-1]
    columns = []
    for channel in range(dim):
        group = channel // 3 * 3 + 1
        period = periods[group] if group < half else periods[-1]
        phase = 0.0 if channel <= half else -2 * math.pi * (channel - half) / half
        span = math.ceil(length / period) * period
        # The published grid has steps of 0.01 positions and is sampled at P evenly spaced, cut-off indices.
        grid = math.ceil(span / 0.01 - 1e-9)
        index = torch.tensor([p * grid // length for p in range(length)], dtype=torch.float64)
        triangle = ((index * 0.01) % (2 * period) - period).abs()
        angle = 2 * math.pi / period * triangle + phase
        columns.append(angle.cos() if channel % 2 else angle.sin())
    table = torch.stack(columns, dim=1).to(torch.float32)
    smooth = torch.stack([table.roll(shift, dims=0) for shift in (2, 1, 0, -1, -2)]).mean(0)
    return smooth - table.mean(0)


class RecyclingPositionalEncoding(nn.Module):
    """Add the embedding of position p mod P to the frame with index p.

    The frame index is an argument, so the module remembers nothing: a running stream cannot be shifted by another call.

    Args:
        length: Embeddings P, at least the window N.
        embed_dim: Embedding width E.
        kind: ``"learned"`` (a trained table) or ``"fixed"`` (:func:`cyclic_sinusoidal_table`).

    Raises:
        ConfigError: If ``kind`` is unknown or the sizes are out of range.

    Source: Hedegaard et al., ICLR 2023, section 3.5, eq. 12-13.

    Example:
        >>> import torch
        >>> encode = RecyclingPositionalEncoding(5, 4, kind="fixed")
        >>> x = torch.zeros(1, 4)
        >>> torch.equal(encode(x, torch.tensor([2])), encode(x, torch.tensor([7])))
        True
    """

    def __init__(self, length: int, embed_dim: int, *, kind: Literal["learned", "fixed"] = "learned") -> None:
        super().__init__()
        if length < 1:
            raise ConfigError(f"a recycling encoding needs at least one embedding, got length={length}")
        self.length = length
        self.table: Tensor
        if kind == "learned":
            self.table = nn.Parameter(torch.randn(length, embed_dim))
        elif kind == "fixed":
            self.register_buffer("table", cyclic_sinusoidal_table(length, embed_dim))
        else:
            raise ConfigError(f"positions must be 'learned' or 'fixed', got {kind!r}")

    def forward(self, x: Tensor, frame_index: Tensor) -> Tensor:
        """Add position embeddings.

        Args:
            x: ``(..., E)`` tokens.
            frame_index: ``(...) int64`` index of each token's frame in its stream.

        Returns:
            ``(..., E)``.
        """
        return x + F.embedding(frame_index % self.length, self.table)
