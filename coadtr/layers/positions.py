"""Recycling positional encoding: position p of a stream uses embedding p mod P.

Source: Hedegaard et al., *Continual Transformers: Redundancy-Free Attention for Online Inference*, ICLR 2023, section
3.5. With P = N the encodings of a window are a rotation of one table; with P = 2N - 1 all offsets inside a window are
distinct.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr import cyclic
from coadtr.errors import ConfigError

__all__ = ["RecyclingPositionalEncoding", "cyclic_sinusoidal_table"]


def cyclic_sinusoidal_table(length: int, dim: int) -> Tensor:
    """Make the cyclic sinusoidal code of `coadtr.cyclic`, which describes it, as a tensor.

    Args:
        length: Positions P of one cycle.
        dim: Embedding width E, even.

    Returns:
        ``(P, E) float32``.

    Raises:
        ConfigError: If ``length`` is below 2 or ``dim`` is not even and positive.

    Example:
        >>> cyclic_sinusoidal_table(127, 32).shape
        torch.Size([127, 32])
    """
    return torch.from_numpy(cyclic.cyclic_sinusoidal_table(length, dim))


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
