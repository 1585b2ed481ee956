"""The parameters and the arithmetic that all attention layers share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.errors import ConfigError, ShapeError

__all__ = ["AttentionProjections", "MultiHead", "attention_weights", "require_frame", "require_sequence"]


def require_frame(x: Tensor, width: int, streams: int, what: str) -> None:
    """Check that ``x`` is one frame for each stream of a state, ``(streams, width)``.

    Raises:
        ShapeError: If it is not.
    """
    if x.shape != (streams, width):
        raise ShapeError(
            f"{what} takes one frame per stream, (B, {width}); got {tuple(x.shape)} with a state of B={streams} streams"
        )


def require_sequence(
    x: Tensor, width: int, what: str, *, longest: int | None = None, streams: int | None = None
) -> None:
    """Check that ``x`` is a sequence per stream, ``(B, T, width)`` with T from 1 to ``longest`` and B as given.

    Raises:
        ShapeError: If it is not.
    """
    if x.dim() != 3 or x.shape[2] != width or x.shape[1] < 1:
        raise ShapeError(f"{what} takes a sequence per stream, (B, T >= 1, {width}); got {tuple(x.shape)}")
    if streams is not None and x.shape[0] != streams:
        raise ShapeError(
            f"{what} takes a sequence per stream; got {tuple(x.shape)} with a state of B={streams} streams"
        )
    if longest is not None and x.shape[1] > longest:
        raise ShapeError(f"{what}: a clip holds at most the window's {longest} frames, got {x.shape[1]}")


def attention_weights(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last dimension, with the maximum taken off first, leaving masked keys out.

    Half-precision logits are exponentiated and summed in float32.

    Args:
        logits: ``(..., keys)``.
        mask: Broadcastable to ``logits``, true where the key may be attended; each query needs one such key.

    Returns:
        ``(..., keys)``, rows summing to one.
    """
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf)
    if logits.dtype in (torch.float16, torch.bfloat16):
        return torch.softmax(logits, -1, dtype=torch.float32).to(logits.dtype)
    return torch.softmax(logits, -1)


class MultiHead(nn.Module):
    """Sizes that all multi-head attention layers share, and what their output projection does.

    A derived layer makes ``out_proj``, after its other projections, so that weights are drawn in their order.

    Args:
        embed_dim: Embedding width E.
        num_heads: Heads H; E is a multiple of H.
        window: Frames N attended.
        in_bias: Whether the projections of tokens have a bias.
        out_bias: Whether the output projection has one.
        dropout: Dropout of the attention weights, in training only.

    Raises:
        ConfigError: If the sizes do not fit each other.
    """

    out_proj: nn.Linear
    softmaxes = True  # false where `weigh` is another kernel: such weights mean something else to a softmax

    def __init__(
        self, embed_dim: int, num_heads: int, window: int, *, in_bias: bool, out_bias: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ConfigError(f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}")
        if window < 1:
            raise ConfigError(f"the window must hold at least one frame, got {window}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.window = window
        self.in_bias = in_bias
        self.out_bias = out_bias
        self.dropout = dropout

    def drop(self, weights: Tensor) -> Tensor:
        """Apply dropout to attention weights while training."""
        return F.dropout(weights, self.dropout, self.training) if self.dropout else weights

    def weigh(self, queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        """Make attention weights ``(..., q, n)`` of queries ``(..., q, E/H)``, scaled, and keys ``(..., n, E/H)``.

        A derived layer may weigh by another kernel than the softmax.
        """
        return attention_weights(queries @ keys.transpose(-2, -1), mask)

    def merge(self, heads: Tensor) -> Tensor:
        """Join heads ``(B, H, T, E/H)`` and project them to outputs ``(B, T, E)``."""
        joined: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))
        return joined

    def fold(self, values: Tensor) -> Tensor:
        """Apply each head's part of the output projection to its values: ``(B, H, ..., E/H)`` to ``(B, H, ..., E)``."""
        weight = self.out_proj.weight.unflatten(1, (self.num_heads, self.head_dim))
        return torch.einsum("bh...d,ehd->bh...e", values, weight)


class AttentionProjections(MultiHead):
    """Query, key, value and output projections of multi-head attention, with full attention over a clip.

    Args:
        embed_dim: Embedding width E.
        num_heads: Heads H; E is a multiple of H.
        window: Frames N that a query attends, the newest included.
        in_bias: Give the query, key and value projections a bias.
        out_bias: Give the output projection a bias.
        dropout: Dropout of the attention weights, in training only.

    Raises:
        ConfigError: If the sizes do not fit each other.

    Source: Vaswani et al., *Attention Is All You Need*, 2017, section 3.2.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        window: int,
        *,
        in_bias: bool = False,
        out_bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(embed_dim, num_heads, window, in_bias=in_bias, out_bias=out_bias, dropout=dropout)
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim, bias=in_bias)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=out_bias)
        nn.init.xavier_uniform_(self.in_proj.weight)
        for bias in [self.in_proj.bias] * in_bias + [self.out_proj.bias] * out_bias:
            nn.init.zeros_(bias)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project tokens ``(B, ..., E)`` to scaled queries, keys and values, each ``(B, H, ..., E/H)``."""
        q, k, v = self.in_proj(x).unflatten(-1, (3, self.num_heads, self.head_dim)).unbind(-3)
        if x.dim() == 3:
            q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        return q * self.head_dim**-0.5, k, v

    def attend_clip(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let every token of a clip attend every token of it.

        Args:
            clip: ``(B, n, E)``.
            mask: ``(B, n) bool``, false where a token does not exist; None if all do.

        Returns:
            ``(B, n, E)``; rows of tokens that do not exist have no meaning.
        """
        q, k, v = self.project(clip)
        weights = self.weigh(q, k, None if mask is None else mask[:, None, None])
        return self.merge(self.drop(weights) @ v)

    def attend_from(self, query: Tensor, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let one token attend the tokens of a clip (paper, eq. 7).

        Args:
            query: ``(B, E)`` the token that asks; it is one of the clip's.
            clip: ``(B, n, E)``.
            mask: ``(B, n) bool``, false where a token does not exist; None if all do.

        Returns:
            ``(B, E)``.
        """
        if self.absorbs(clip.shape[1]):
            return self._attend_absorbed(query, clip, mask)
        split = self.embed_dim
        q_weight, kv_weight = self.in_proj.weight.tensor_split([split])
        q_bias, kv_bias = self.in_proj.bias.tensor_split([split]) if self.in_bias else (None, None)
        q = F.linear(query, q_weight, q_bias)
        k, v = F.linear(clip, kv_weight, kv_bias).chunk(2, dim=-1)
        q = q.unflatten(-1, (self.num_heads, 1, self.head_dim)) * self.head_dim**-0.5
        k, v = (part.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for part in (k, v))
        weights = self.weigh(q, k, None if mask is None else mask[:, None, None])
        return self.merge(self.drop(weights) @ v).squeeze(1)

    def absorbs(self, tokens: int) -> bool:
        """Tell whether one query over so many tokens is cheaper without projecting their keys and values.

        Projecting costs ``2 n E^2 + 2 n E`` multiply-accumulates, absorbing ``2 E^2 + 2 n H E``.
        """
        return (tokens - 1) * self.embed_dim > tokens * (self.num_heads - 1)

    def _attend_absorbed(self, query: Tensor, clip: Tensor, mask: Tensor | None) -> Tensor:
        """Attend without projecting the clip: ``q . (W_k y) = (W_k^T q) . y`` and ``sum p W_v y = W_v (sum p y)``.

        A key bias adds the same to all logits of a query, and leaves the softmax.
        """
        weight = self.in_proj.weight.unflatten(0, (3, self.num_heads, self.head_dim))
        bias = self.in_proj.bias.unflatten(0, (3, self.num_heads, self.head_dim)) if self.in_bias else None
        q = F.linear(query, weight[0].flatten(0, 1), None if bias is None else bias[0].flatten())
        q = q.unflatten(-1, (self.num_heads, self.head_dim)).transpose(0, 1) * self.head_dim**-0.5
        asked = (q @ weight[1]).permute(1, 2, 0)
        weights = attention_weights((clip @ asked).transpose(1, 2), None if mask is None else mask[:, None])
        weights = self.drop(weights)
        v = (weights @ clip).transpose(0, 1) @ weight[2].transpose(1, 2)
        if bias is not None:
            v = v + bias[2].unsqueeze(1) * weights.sum(-1).transpose(0, 1).unsqueeze(-1)
        out: Tensor = self.out_proj(v.transpose(0, 1).flatten(1))
        return out

    def extra_repr(self) -> str:
        """Show the sizes in the module's printed form."""
        return f"window={self.window}, heads={self.num_heads}"
