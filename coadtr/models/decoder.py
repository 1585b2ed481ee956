"""OadTR's decoder: learned queries that anticipate the next frames from the encoded window."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.layers import attention_weights

__all__ = ["AnticipationDecoder"]


class CrossAttention(nn.Module):
    """Multi-head attention from one sequence to another, all projections with biases.

    Args:
        embed_dim: Embedding width E.
        num_heads: Heads H.
        dropout: Dropout of the attention weights.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key = nn.Linear(embed_dim, embed_dim)
        self.value = nn.Linear(embed_dim, embed_dim)
        self.out = nn.Linear(embed_dim, embed_dim)

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """Attend ``(B, Q, E)`` to ``(B, n, E)``; ``mask`` broadcasts to ``(B, H, Q, n)``."""
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query(queries), self.key(memory), self.value(memory))
        )
        weights = attention_weights(q @ k.transpose(2, 3) * q.shape[-1] ** -0.5, mask)
        attended = F.dropout(weights, self.dropout, self.training) @ v
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


class DecoderLayer(nn.Module):
    """Post-norm decoder layer: causal self-attention, cross-attention, feed-forward.

    Args:
        embed_dim: Embedding width E; also the hidden width of the feed-forward network.
        num_heads: Heads H.
        dropout: Dropout of branches and attention weights.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = CrossAttention(embed_dim, num_heads, dropout)
        self.cross_attention = CrossAttention(embed_dim, num_heads, dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(embed_dim, embed_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(embed_dim, embed_dim)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(3))
        self.drop = nn.Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor, causal: Tensor, mask: Tensor | None) -> Tensor:
        """Update queries ``(B, Q, E)`` from the encoded tokens ``(B, n, E)``."""
        x = self.norms[0](queries + self.drop(self.self_attention(queries, queries, causal)))
        x = self.norms[1](x + self.drop(self.cross_attention(x, memory, mask)))
        updated: Tensor = self.norms[2](x + self.drop(self.feed_forward(x)))
        return updated


class AnticipationDecoder(nn.Module):
    """Decode Q learned queries into features and logits of the next Q frames.

    Args:
        embed_dim: Embedding width E.
        num_heads: Heads H.
        depth: Layers.
        queries: Anticipated frames Q.
        num_classes: Classes C.
        dropout: Dropout of branches and attention weights.

    Source: Wang et al., ICCV 2021, section 3.3. (The published model owns decoder positions and does not use them.)

    Example:
        >>> import torch
        >>> decoded, logits = AnticipationDecoder(8, 2, depth=1, queries=4, num_classes=3)(torch.randn(2, 6, 8))
        >>> decoded.shape, logits.shape
        (torch.Size([2, 4, 8]), torch.Size([2, 4, 3]))
    """

    def __init__(
        self, embed_dim: int, num_heads: int, *, depth: int, queries: int, num_classes: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(1, queries, embed_dim))
        self.layers = nn.ModuleList(DecoderLayer(embed_dim, num_heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim)
        self.classifier = nn.Linear(embed_dim, num_classes)

    def forward(self, encoded: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Anticipate from encoded tokens.

        Args:
            encoded: ``(B, n, E)``.
            mask: ``(B, n) bool``, false where a token does not exist; None if all do.

        Returns:
            Decoded features ``(B, Q, E)`` and logits ``(B, Q, C)``.
        """
        count = self.queries.shape[1]
        causal = torch.ones(count, count, dtype=torch.bool, device=encoded.device).tril()
        x = self.queries.expand(encoded.shape[0], -1, -1)
        for layer in self.layers:
            x = layer(x, encoded, causal, None if mask is None else mask[:, None, None])
        x = self.norm(x)
        return x, self.classifier(x)
