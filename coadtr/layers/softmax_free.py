"""Softmax-free continual attention: a Gaussian of the distance between query and key, and nothing that normalises."""

from __future__ import annotations

import torch
from torch import Tensor

from coadtr.layers.attention import SingleOutputAttention

__all__ = ["SoftmaxFreeAttention"]


class SoftmaxFreeAttention(SingleOutputAttention):
    """Multi-head attention of the newest frame over the last N frames, weighed by a Gaussian kernel.

    ::

        step      x[t] -> q, k, v ;  k, v into the ring ;  sum over the ring of exp(-|q - k|^2 / 2 d) v -> y[t]
        forward   all t at once under the band mask 0 <= t - s < N

    with d = E/H, the width of a head. The weights do not sum to one: a key adds what it adds whatever the others are,
    and while fewer than N frames were seen the sum has fewer terms. ``step`` is sequence-exact: T steps from a fresh
    state equal ``forward`` on the T (finite) frames.

    A weight lies between 0 and 1 at any scale of its inputs, so that nothing overflows. The squared distance is taken
    as ``|q|^2 - 2 q k + |k|^2``, in float32 at least, and kept from rounding below zero. Cost of a step:
    4 E^2 + 2 N E multiply-accumulates, as with a softmax, and 2 N E multiplications more, which are not counted
    among the products: N E scale the keys that are kept, N E make their norms.

    Source: *DeepCoT*, arXiv 2511.17693, for which the authors' code (Atamarado/deepcot, ``gaussian_attention.py``) has
    this kernel; Lu et al., *SOFT: Softmax-free Transformer with Linear Complexity*, NeurIPS 2021, which shares one
    projection between queries and keys and approximates the kernel by landmarks; here both stay apart and exact.

    Example:
        >>> import torch
        >>> layer = SoftmaxFreeAttention(8, 2, window=4)
        >>> frames = torch.randn(1, 10, 8)
        >>> state, answers = layer.init_state(1), []
        >>> with torch.no_grad():
        ...     for t in range(10):
        ...         y, state = layer.step(frames[:, t], state)
        ...         answers.append(y)
        ...     torch.allclose(torch.stack(answers, 1), layer(frames), atol=1e-5)
        True
    """

    softmaxes = False

    def weigh(self, queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        """Make weights ``(..., q, n)`` of queries ``(..., q, E/H)``, scaled, and keys ``(..., n, E/H)``."""
        half = queries.dtype in (torch.float16, torch.bfloat16)
        q, k = (part.float() if half else part for part in (queries, keys))
        k = k * self.head_dim**-0.5
        # Queries come scaled by d^-1/2, so that half the squared distance is what the kernel asks for.
        norms = q.square().sum(-1, keepdim=True) + k.square().sum(-1).unsqueeze(-2)
        weights = torch.exp((q @ k.transpose(-2, -1) - norms / 2).clamp(max=0))
        return (weights if mask is None else weights.masked_fill(~mask, 0)).to(queries.dtype)

    def absorbs(self, tokens: int) -> bool:  # noqa: ARG002
        """Tell that keys are always projected: their norms are asked for, not their products alone."""
        return False
