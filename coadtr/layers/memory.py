"""Attention to a long memory through learned queries.

Learned queries do not depend on the stream. So what a frame of the memory contributes is worked out once, when it
arrives: its product with each query, and its value. What is left for a step are weighted sums.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from coadtr.errors import ShapeError
from coadtr.layers.projection import MultiHead, attention_weights

__all__ = ["MemoryAttention", "causal_mask", "sinusoidal_table"]


def sinusoidal_table(length: int, dim: int) -> Tensor:
    """Make the sinusoidal code: sines in the even channels, cosines in the odd ones, of wavelengths up to 10,000 turns.

    Args:
        length: Positions P.
        dim: Embedding width E.

    Returns:
        ``(P, E) float32``.

    Source: Vaswani et al., *Attention Is All You Need*, 2017, section 3.5.

    Example:
        >>> sinusoidal_table(3, 4)[0].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """
    rates = torch.exp(torch.arange(0, dim, 2).float() * (-math.log(10000.0) / dim))
    angles = torch.arange(length).float().unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :dim]


def causal_mask(exists: Tensor) -> Tensor:
    """Let each token of a clip attend itself and those before it that exist.

    Args:
        exists: ``(B, n) bool``.

    Returns:
        ``(B, 1, n, n) bool``; tokens that do not exist attend themselves, so that no row is empty.

    Example:
        >>> import torch
        >>> causal_mask(torch.tensor([[False, True, True]])).int().tolist()
        [[[[1, 0, 0], [0, 1, 0], [0, 1, 1]]]]
    """
    size = exists.shape[1]
    seen = torch.ones(size, size, dtype=torch.bool, device=exists.device).tril()
    itself = torch.eye(size, dtype=torch.bool, device=exists.device)
    return ((seen & exists.unsqueeze(1)) | itself).unsqueeze(1)


def weights_or_zeros(logits: Tensor, mask: Tensor) -> Tensor:
    """Weigh by softmax the keys that may be attended; where none may be, all weights are zero."""
    some = mask.any(-1, keepdim=True)
    return attention_weights(logits, mask | ~some).masked_fill(~mask, 0)


class MemoryAttention(MultiHead):
    """Multi-head attention from some tokens to others, all projections with biases; learned queries may ask beforehand.

    ::

        attend              queries, memory ->  softmax(q . k) v                      any queries
        ask                 queries ->  q                                             once, for learned queries
        offer               frames of the memory, q ->  q . k and v                   once a frame
        recall              softmax(q . k + shares) (v + shares)                      at each step

    A key is W_k (z + p) + b for a frame z at position p: the share of the frame is offered once, the share of position
    and bias, which depends on the age of the frame alone, is added when it is recalled. ``attend`` and ``recall`` give
    the same. A memory without a frame answers zero, before the output projection. Queries, and keys with values, are
    projected by a linear layer each: they come from other tokens.

    Args:
        embed_dim: Embedding width E.
        num_heads: Heads H; E is a multiple of H.
        dropout: Dropout of the attention weights, in training only.

    Raises:
        ConfigError: If the sizes do not fit each other.
        ShapeError: When called, if queries, frames, positions or a memory are not ``(B, n, E)``.

    Source: Xu et al., NeurIPS 2021, section 3.6 (the product and the value of a frame are kept as it ages).

    Example:
        >>> import torch
        >>> layer, queries, frames = MemoryAttention(8, 2), torch.randn(1, 3, 8), torch.randn(1, 5, 8)
        >>> exists = torch.ones(1, 5, dtype=torch.bool)
        >>> q = layer.ask(queries)
        >>> recalled = layer.recall(*layer.offer(frames, q), *layer.shares(torch.zeros(1, 5, 8), q), exists)
        >>> torch.allclose(recalled, layer.attend(queries, frames, exists[:, None, None]), atol=1e-6)
        True
    """

    def __init__(self, embed_dim: int, num_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__(embed_dim, num_heads, 1, in_bias=True, out_bias=True, dropout=dropout)
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.kv_proj = nn.Linear(embed_dim, 2 * embed_dim, bias=False)
        self.kv_bias = nn.Parameter(torch.zeros(2 * embed_dim))  # apart: a frame is offered without it
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        # Drawn as one matrix, as `torch.nn.MultiheadAttention` draws them: its bound is that of 3 E outputs.
        drawn = nn.init.xavier_uniform_(torch.empty(3 * embed_dim, embed_dim))
        with torch.no_grad():
            self.q_proj.weight.copy_(drawn[:embed_dim])
            self.kv_proj.weight.copy_(drawn[embed_dim:])
        for projection in (self.q_proj, self.out_proj):
            nn.init.zeros_(projection.bias)

    def _project(self, layer: nn.Module, tokens: Tensor) -> Tensor:
        if tokens.dim() != 3 or tokens.shape[2] != self.embed_dim:
            raise ShapeError(f"MemoryAttention takes tokens (B, n, {self.embed_dim}); got {tuple(tokens.shape)}")
        projected: Tensor = layer(tokens)
        return projected

    def _split(self, x: Tensor) -> Tensor:
        """Split ``(B, n, E)`` into ``(B, H, n, E/H)``."""
        heads: Tensor = x.unflatten(-1, (self.num_heads, self.head_dim))
        return heads.transpose(1, 2)

    def _keys_and_values(self, tokens: Tensor, *, bias: bool) -> tuple[Tensor, Tensor]:
        projected = self._project(self.kv_proj, tokens)
        k, v = (projected + self.kv_bias if bias else projected).chunk(2, dim=-1)
        return self._split(k), self._split(v)

    def ask(self, queries: Tensor) -> Tensor:
        """Project tokens ``(B, Q, E)`` to scaled queries ``(B, H, Q, E/H)``."""
        asked: Tensor = self._split(self._project(self.q_proj, queries)) * self.head_dim**-0.5
        return asked

    def offer(self, frames: Tensor, q: Tensor, *, bias: bool = False) -> tuple[Tensor, Tensor]:
        """Work out what frames contribute, whatever their age.

        Args:
            frames: ``(B, n, E)``.
            q: ``(B or 1, H, Q, E/H)`` of `ask`.
            bias: Add the biases, where no shares are added later.

        Returns:
            Products with the queries ``(B, H, n, Q)``, and values ``(B, H, n, E/H)``.
        """
        k, v = self._keys_and_values(frames, bias=bias)
        return k @ q.transpose(2, 3), v

    def shares(self, positions: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Work out what positions ``(1, n, E)`` and biases add to products and values, shaped as those of `offer`."""
        return self.offer(positions, q, bias=True)

    def recall(
        self, products: Tensor, values: Tensor, product_shares: Tensor, value_shares: Tensor, exists: Tensor
    ) -> Tensor:
        """Let the queries attend frames by what these have offered.

        Args:
            products: ``(..., H, n, Q)``.
            values: ``(..., H, n, E/H)``.
            product_shares: ``(..., H, n, Q)`` or what broadcasts to it, as the next one.
            value_shares: ``(..., H, n, E/H)``.
            exists: ``(..., n) bool``.

        Returns:
            ``(..., Q, E)``.
        """
        logits = (products + product_shares).transpose(-1, -2)
        weights = weights_or_zeros(logits, exists.unsqueeze(-2).unsqueeze(-2))
        return self.join(self.drop(weights) @ (values + value_shares))

    def join(self, heads: Tensor) -> Tensor:
        """Join heads ``(..., H, Q, E/H)`` and project them to ``(..., Q, E)``."""
        joined: Tensor = self.out_proj(heads.transpose(-2, -3).flatten(-2))
        return joined

    def attend(self, queries: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Let tokens ``(B, Q, E)`` attend a memory ``(B, n, E)`` where ``mask``, true, allows it.

        Args:
            queries: ``(B, Q, E)``.
            memory: ``(B, n, E)``.
            mask: ``bool`` that broadcasts to ``(B, H, Q, n)``.

        Returns:
            ``(B, Q, E)``.
        """
        k, v = self._keys_and_values(memory, bias=True)
        weights = weights_or_zeros(self.ask(queries) @ k.transpose(2, 3), mask)
        return self.join(self.drop(weights) @ v)
