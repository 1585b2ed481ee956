"""Post-norm decoder layers between tokens and a memory, as LSTR and its descendants stack them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from coadtr.layers.memory import MemoryAttention

__all__ = ["MemoryLayer", "MemoryStack"]


class MemoryLayer(nn.Module):
    """Post-norm decoder layer: self-attention, attention to a memory, feed-forward network with ReLU.

    Args:
        embed_dim: Embedding width E.
        num_heads: Heads H.
        ff_dim: Hidden width F of the feed-forward network.
        dropout: Dropout of the branches, in training only.
        attention_dropout: Dropout of the attention weights, in training only.

    Source: Vaswani et al., 2017, section 3.1, as Xu et al., NeurIPS 2021, sections 3.3 and 3.4 use it.

    Example:
        >>> import torch
        >>> layer, tokens, memory = MemoryLayer(8, 2, ff_dim=8), torch.randn(1, 3, 8), torch.randn(1, 5, 8)
        >>> layer(tokens, memory).shape
        torch.Size([1, 3, 8])
    """

    def __init__(
        self, embed_dim: int, num_heads: int, *, ff_dim: int, dropout: float = 0.0, attention_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.self_attention = MemoryAttention(embed_dim, num_heads, dropout=attention_dropout)
        self.cross_attention = MemoryAttention(embed_dim, num_heads, dropout=attention_dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(embed_dim, ff_dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(ff_dim, embed_dim)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(3))
        self.drop = nn.Dropout(dropout)

    def mix(self, tokens: Tensor, mask: Tensor | None = None, *, asking: int | None = None) -> Tensor:
        """Let the last ``asking`` tokens, all by default, of ``(B, n, E)`` attend all of them."""
        asked = tokens if asking is None else tokens[:, -asking:]
        allowed = tokens.new_ones(1, 1, 1, tokens.shape[1], dtype=torch.bool) if mask is None else mask
        allowed = allowed if asking is None else allowed[:, :, -asking:]
        mixed: Tensor = self.norms[0](asked + self.drop(self.self_attention.attend(asked, tokens, allowed)))
        return mixed

    def finish(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """Add what was attended in the memory, and apply the feed-forward network: ``(..., E)``."""
        x = self.norms[1](tokens + self.drop(attended))
        finished: Tensor = self.norms[2](x + self.drop(self.feed_forward(x)))
        return finished

    def forward(
        self,
        tokens: Tensor,
        memory: Tensor,
        self_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        *,
        asking: int | None = None,
    ) -> Tensor:
        """Update the last ``asking`` tokens, all by default, of ``(B, Q, E)`` from a memory ``(B, n, E)``.

        Args:
            tokens: ``(B, Q, E)``.
            memory: ``(B, n, E)``.
            self_mask: ``bool`` that broadcasts to ``(B, H, Q, Q)``; None allows all.
            memory_mask: ``bool`` that broadcasts to ``(B, H, Q, n)``; None allows all.
            asking: How many tokens ask.

        Returns:
            ``(B, asking, E)``.
        """
        x = self.mix(tokens, self_mask, asking=asking)
        allowed = memory.new_ones(1, 1, 1, memory.shape[1], dtype=torch.bool) if memory_mask is None else memory_mask
        if asking is not None and allowed.shape[2] > 1:
            allowed = allowed[:, :, -asking:]
        return self.finish(x, self.cross_attention.attend(x, memory, allowed))


class MemoryStack(nn.Module):
    """Decoder layers one on the other, and a layer norm.

    Args:
        depth: Layers L.
        embed_dim: Embedding width E.
        num_heads: Heads H.
        ff_dim: Hidden width F of the feed-forward networks.
        dropout: Dropout of the branches, in training only.
        attention_dropout: Dropout of the attention weights, in training only.

    Example:
        >>> import torch
        >>> stack, tokens, memory = MemoryStack(2, 8, 2, ff_dim=8), torch.randn(1, 3, 8), torch.randn(1, 5, 8)
        >>> newest = stack(tokens, memory, newest=True)
        >>> torch.allclose(newest, stack(tokens, memory)[:, -1:], atol=1e-6)
        True
    """

    def __init__(
        self,
        depth: int,
        embed_dim: int,
        num_heads: int,
        *,
        ff_dim: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MemoryLayer(embed_dim, num_heads, ff_dim=ff_dim, dropout=dropout, attention_dropout=attention_dropout)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim)

    def layer(self, index: int) -> MemoryLayer:
        """Return one layer."""
        return cast("MemoryLayer", self.layers[index])

    def after_mixing(self, mixed: Tensor, memory: Tensor) -> Tensor:
        """Run the stack on tokens ``(B, Q, E)`` that have been through the first self-attention: ``(B, Q, E)``."""
        first = self.layer(0)
        everything = memory.new_ones(1, 1, 1, memory.shape[1], dtype=torch.bool)
        x = first.finish(mixed, first.cross_attention.attend(mixed, memory, everything))
        for index in range(1, len(self.layers)):
            x = self.layer(index)(x, memory)
        normed: Tensor = self.norm(x)
        return normed

    def forward(
        self,
        tokens: Tensor,
        memory: Tensor,
        self_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        *,
        newest: bool = False,
    ) -> Tensor:
        """Run the stack on tokens ``(B, Q, E)`` and a memory ``(B, n, E)``.

        Args:
            tokens: ``(B, Q, E)``.
            memory: ``(B, n, E)``.
            self_mask: ``bool`` that broadcasts to ``(B, H, Q, Q)``; None allows all.
            memory_mask: ``bool`` that broadcasts to ``(B, H, Q, n)``; None allows all.
            newest: Answer for the last token alone, which is all that the last layer then works out.

        Returns:
            ``(B, Q, E)``, or ``(B, 1, E)``.
        """
        x = tokens
        for index in range(len(self.layers)):
            last = newest and index == len(self.layers) - 1
            x = self.layer(index)(x, memory, self_mask, memory_mask, asking=1 if last else None)
        normed: Tensor = self.norm(x)
        return normed
