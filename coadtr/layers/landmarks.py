"""Landmarks of low-rank attention: how they are chosen, and the parameters that they leave behind."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from coadtr.errors import ConfigError, ShapeError
from coadtr.layers.projection import AttentionProjections, MultiHead, attention_weights

__all__ = ["LandmarkProjections", "cluster_means", "segment_means"]


def _require_sample(sample: Tensor, num_landmarks: int) -> None:
    if sample.dim() != 2:
        raise ShapeError(f"landmarks are chosen from tokens (n, E); got {tuple(sample.shape)}: flatten streams first")
    if not 1 <= num_landmarks <= len(sample):
        raise ConfigError(
            f"{num_landmarks} landmarks cannot be chosen from {len(sample)} tokens; give at least as many"
        )


def segment_means(sample: Tensor, num_landmarks: int) -> Tensor:
    """Cut a stretch of a stream into m segments, as even as can be, and take the mean of each.

    Fits one window; the segments of a long sample all come close to its mean, there :func:`cluster_means` serves.

    Args:
        sample: ``(n, E)`` tokens in time order.
        num_landmarks: Landmarks m, at most n.

    Returns:
        ``(m, E)``.

    Raises:
        ShapeError: If ``sample`` is not ``(n, E)``.
        ConfigError: If it holds fewer than m tokens.

    Source: Xiong et al., *Nystroemformer*, AAAI 2021, section 3.2.

    Example:
        >>> segment_means(torch.arange(5.0).view(5, 1), 2).flatten().tolist()
        [1.0, 3.5]
    """
    _require_sample(sample, num_landmarks)
    return torch.stack([segment.mean(0) for segment in sample.tensor_split(num_landmarks)])


def cluster_means(sample: Tensor, num_landmarks: int, *, iterations: int = 20) -> Tensor:
    """Choose the m means of a k-means clustering; the same sample always gives the same ones.

    Assumes nothing about time, but that the first means, tokens evenly spaced over the sample, differ.

    Args:
        sample: ``(n, E)`` tokens, such as those of some training videos.
        num_landmarks: Landmarks m, at most n.
        iterations: Rounds of Lloyd's algorithm.

    Returns:
        ``(m, E)``.

    Raises:
        ShapeError: If ``sample`` is not ``(n, E)``.
        ConfigError: If it holds fewer than m tokens.

    Source: Lloyd, *Least squares quantization in PCM*, 1982.

    Example:
        >>> cluster_means(torch.tensor([[0.0], [9.0], [1.0], [11.0]]), 2).flatten().sort().values.tolist()
        [0.5, 10.0]
    """
    _require_sample(sample, num_landmarks)
    spaced = torch.arange(num_landmarks, device=sample.device) * len(sample) // num_landmarks
    means = sample[spaced]
    for _ in range(iterations):
        nearest = torch.cdist(sample, means).argmin(1)
        counts = torch.bincount(nearest, minlength=num_landmarks).unsqueeze(1)
        sums = torch.zeros_like(means).index_add_(0, nearest, sample)
        means = torch.where(counts > 0, sums / counts.clamp(min=1), means)
    return means


class LandmarkProjections(MultiHead):
    """Projections of multi-head attention through m fixed landmarks per head.

    With ``q~_l`` and ``k~_l`` the query and key of landmark l, ``s`` a softmax over the last dimension, and K and V the
    keys and values of the window, attention of a query q is approximated by

    ::

        s(q K^T) V  ~  s(q K~^T) . pinv(s(Q~ K~^T)) . s(Q~ K^T) V

    The landmarks do not move, so what they do to a frame is linear: ``q K~^T`` and ``Q~ k`` are taken straight from the
    token, by ``H m`` rows of ``in_proj`` each, and no query or key is projected; the inverse is a constant, ``mixing``.
    A bias of the keys adds the same to all logits of a softmax, and is left out.

    :meth:`from_attention` makes the parameters out of a trained layer's. A fresh layer has random ones and mixes with
    the identity, what the inverse comes to where landmarks lie far apart. All can be trained on.

    Args:
        embed_dim: Embedding width E.
        num_heads: Heads H; E is a multiple of H.
        window: Frames N that a query attends, the newest included.
        num_landmarks: Landmarks m of each head.
        in_bias: Give the query and value projections a bias.
        out_bias: Give the output projection a bias.

    Raises:
        ConfigError: If the sizes do not fit each other.

    Source: Carreto Picon et al., *Continual Low-Rank Scaled Dot-product Attention*, arXiv 2412.03214, with fixed
    landmarks; Xiong et al., *Nystroemformer*, AAAI 2021, eq. 13. Drawing the landmarks into the projections is ours.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        window: int,
        *,
        num_landmarks: int,
        in_bias: bool = False,
        out_bias: bool = False,
    ) -> None:
        super().__init__(embed_dim, num_heads, window, in_bias=in_bias, out_bias=out_bias)
        if num_landmarks < 1:
            raise ConfigError(f"low-rank attention needs at least one landmark, got num_landmarks={num_landmarks}")
        self.num_landmarks = num_landmarks
        self.in_proj = nn.Linear(embed_dim, 2 * num_heads * num_landmarks + embed_dim, bias=in_bias)
        self.mixing = nn.Parameter(torch.eye(num_landmarks).repeat(num_heads, 1, 1))
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=out_bias)
        nn.init.xavier_uniform_(self.in_proj.weight)
        for bias in [self.in_proj.bias] * in_bias + [self.out_proj.bias] * out_bias:
            nn.init.zeros_(bias)

    @classmethod
    def from_attention(cls, attention: AttentionProjections, landmarks: Tensor, *, cutoff: float = 3e-2) -> Self:
        """Approximate a trained attention layer through the given landmarks.

        Args:
            attention: The exact layer; its weights are copied.
            landmarks: ``(m, E)`` tokens: :func:`cluster_means` or :func:`segment_means` of what the layer takes in.
            cutoff: Singular values of the landmarks' kernel below this share of the largest are left out of its
                inverse, which then magnifies rounding by ``1 + 1 / cutoff`` at most. What its rows lack to one is
                given to all landmarks alike, so that a mix still sums to one and a constant value passes unchanged.

        Returns:
            A layer of the same window, heads, biases, dtype and device; it has no dropout of attention weights.

        Raises:
            ConfigError: If the attention layer looks ahead, which this one does not, or has no softmax.
            ShapeError: If ``landmarks`` is not ``(m, E)``.
        """
        if getattr(attention, "delay", 0):
            raise ConfigError(
                f"{type(attention).__name__} answers {attention.delay} frames late; take one that does not"
            )
        if not attention.softmaxes:
            raise ConfigError(f"{type(attention).__name__} has no softmax to approximate; take a layer that has one")
        if landmarks.dim() != 2 or landmarks.shape[1] != attention.embed_dim:
            raise ShapeError(f"landmarks are tokens (m, {attention.embed_dim}); got {tuple(landmarks.shape)}")
        layer = cls(
            attention.embed_dim,
            attention.num_heads,
            attention.window,
            num_landmarks=len(landmarks),
            in_bias=attention.in_bias,
            out_bias=attention.out_bias,
        ).to(attention.in_proj.weight)
        with torch.no_grad():
            layer._draw_in(attention, landmarks.to(attention.in_proj.weight).double(), cutoff)
            layer.out_proj.load_state_dict(attention.out_proj.state_dict())
        return layer.train(attention.training)

    def _draw_in(self, attention: AttentionProjections, landmarks: Tensor, cutoff: float) -> None:
        """Set ``in_proj`` and ``mixing`` from landmark tokens ``(m, E) float64``."""
        parts = (3, self.num_heads, self.head_dim)
        q_weight, k_weight, v_weight = attention.in_proj.weight.double().unflatten(0, parts)
        scale = self.head_dim**-0.5
        queries = landmarks @ q_weight.transpose(1, 2) * scale
        keys = landmarks @ k_weight.transpose(1, 2)
        if self.in_bias:
            q_bias, _, v_bias = attention.in_proj.bias.double().unflatten(0, parts)
            queries = queries + q_bias.unsqueeze(1) * scale
            asked = (keys @ q_bias.unsqueeze(2)).flatten() * scale
            self.in_proj.bias.copy_(torch.cat([asked, torch.zeros_like(asked), v_bias.flatten()]))
        drawn = [keys @ q_weight * scale, queries @ k_weight, v_weight]
        self.in_proj.weight.copy_(torch.cat([part.flatten(0, 1) for part in drawn]))
        kernel = torch.softmax(queries @ keys.transpose(1, 2), -1)
        inverse = torch.linalg.pinv(kernel, rtol=cutoff)
        # Rows of the kernel sum to one, and so do those of its inverse, until singular values are left out of it.
        missing = 1 - inverse.sum(2, keepdim=True)
        self.mixing.copy_(inverse + missing / self.num_landmarks)

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project tokens ``(B, T, E)`` to what a frame asks with and what it leaves behind.

        Returns:
            Mix ``(B, H, T, m)``, the weight of each landmark in the frame's answer; logits ``(B, H, T, m)`` of the
            frame's key under each landmark's query; values ``(B, H, T, E/H)``.
        """
        heads, width = self.num_heads, self.num_heads * self.num_landmarks
        parts: tuple[Tensor, ...] = self.in_proj(tokens).split([width, width, self.embed_dim], -1)
        asked, logits, values = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
        return attention_weights(asked, None) @ self.mixing, logits, values

    def attend_clip(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let every token of a clip ask the landmarks, which attend every token of it.

        Args:
            clip: ``(B, n, E)``.
            mask: ``(B, n) bool``, false where a token does not exist; None if all do.

        Returns:
            ``(B, n, E)``; rows of tokens that do not exist have no meaning.
        """
        mix, logits, values = self.project(clip)
        weights = attention_weights(logits.transpose(2, 3), None if mask is None else mask[:, None, None])
        return self.merge(mix @ (weights @ values))

    def attend_from(self, query: Tensor, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let one token ask the landmarks, which attend the tokens of a clip.

        Args:
            query: ``(B, E)`` the token that asks; it is one of the clip's.
            clip: ``(B, n, E)``.
            mask: ``(B, n) bool``, false where a token does not exist; None if all do.

        Returns:
            ``(B, E)``.
        """
        mix, _, _ = self.project(query.unsqueeze(1))
        _, logits, values = self.project(clip)
        weights = attention_weights(logits.transpose(2, 3), None if mask is None else mask[:, None, None])
        return self.merge(mix @ weights @ values).squeeze(1)

    def extra_repr(self) -> str:
        """Show the sizes in the module's printed form."""
        return f"window={self.window}, heads={self.num_heads}, landmarks={self.num_landmarks}"
