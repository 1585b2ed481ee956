"""Recurrences whose state is not multiplied by a matrix: exact as steps, and at once over whole sequences by a scan."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.layers.precision import computes_like
from coadtr.layers.projection import require_frame, require_sequence

__all__ = ["AverageBank", "GatedRecurrence", "scan"]

# Time constants, in frames, of the fastest and the slowest channel of a new gated recurrence.
FASTEST, SLOWEST = 1.5, 60.0


def scan(keep: Tensor, drive: Tensor, start: Tensor) -> Tensor:
    """Compute ``h[t] = keep[t] h[t-1] + drive[t]`` for all t at once.

    In blocks of about sqrt(T) frames: all blocks run side by side from zero, then what is carried from block to block
    is added, so that T frames take about 2 sqrt(T) steps one after the other. Decays are multiplied with each other
    and nothing is divided by one, so that decays near zero do no harm.

    Args:
        keep: ``(B, T, R)`` in [0, 1], or ``(1, 1, R)`` if it is the same at all frames.
        drive: ``(B, T, R)``.
        start: ``(B, R)``, h before the first frame.

    Returns:
        ``(B, T, R)``.

    Source: Blelloch, *Prefix Sums and Their Applications*, CMU-CS-90-190, 1990, section 1.4 (first-order recurrences);
    for networks: Martin and Cundy, *Parallelizing Linear Recurrent Neural Nets Over Sequence Length*, ICLR 2018.

    Example:
        >>> scan(torch.full((1, 1, 1), 0.5), torch.ones(1, 3, 1), torch.zeros(1, 1)).flatten().tolist()
        [1.0, 1.5, 1.75]
    """
    frames = drive.shape[1]
    size = math.isqrt(frames - 1) + 1
    blocks = -(-frames // size)
    # Cut up at once: the gradient of a slice would be as large as what it is cut from.
    drives = _in_blocks(drive, blocks, size).unbind(2)
    keeps = [keep] * size if keep.shape[1] == 1 else _in_blocks(keep, blocks, size).unbind(2)
    inside, decay = [drives[0]], [keeps[0]]
    for kept, driven in zip(keeps[1:], drives[1:], strict=True):
        inside.append(torch.addcmul(driven, kept, inside[-1]))
        decay.append(decay[-1] * kept)
    lasts = decay[-1].expand(len(drive), blocks, -1).unbind(1)
    carried = [start]
    for last, kept in zip(inside[-1].unbind(1)[:-1], lasts[:-1], strict=True):
        carried.append(torch.addcmul(last, kept, carried[-1]))
    whole = torch.addcmul(torch.stack(inside, 2), torch.stack(decay, 2), torch.stack(carried, 1).unsqueeze(2))
    return whole.flatten(1, 2)[:, :frames]


def _in_blocks(x: Tensor, blocks: int, size: int) -> Tensor:
    cut: Tensor = F.pad(x, (0, 0, 0, blocks * size - x.shape[1])).unflatten(1, (blocks, size))
    return cut


def _wide(like: Tensor) -> torch.dtype:
    """Return the dtype of a running sum: in half precision, small updates of it would round away."""
    return torch.promote_types(like.dtype, torch.float32)


class GatedRecurrence(nn.Module):
    """Remember each channel for as long as a gate of the current frame says.

    ::

        z[t] = sigmoid(Wz x[t] + bz)
        h[t] = (1 - z[t]) h[t-1] + z[t] (Wu x[t] + bu)
        y[t] = Wo (h[t] * silu(Wg x[t] + bg)) + bo

    The gate does not look at h: so all frames of a sequence are one scan, and a step costs 4 E R multiply-accumulates
    (a GRU of the same widths: 3 R (E + R)). A step is sequence-exact; an answer depends on the whole past. The state is
    kept in float32 at least.

    Args:
        embed_dim: Width E of a frame.
        width: Channels R that are remembered. Their gates start out with time constants from 1.5 to 60 frames.
        dropout: Dropout of what is remembered, in training only.

    Raises:
        ConfigError: If ``width`` is below one.

    Source: minGRU (Feng et al., *Were RNNs All We Needed?*, 2024, section 3.1), with the output gate of De et al.,
    *Griffin*, 2024, section 2.3.

    Example:
        >>> layer = GatedRecurrence(8, 4)
        >>> y, state = layer.step(torch.randn(2, 8), layer.init_state(2))
        >>> y.shape, state.shape
        (torch.Size([2, 8]), torch.Size([2, 4]))
    """

    def __init__(self, embed_dim: int, width: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if width < 1:
            raise ConfigError(f"width must be at least 1, got {width}")
        self.embed_dim = embed_dim
        self.value = nn.Linear(embed_dim, width)
        self.gate = nn.Linear(embed_dim, width)
        self.out_gate = nn.Linear(embed_dim, width)
        self.out = nn.Linear(width, embed_dim)
        self.drop = nn.Dropout(dropout)
        nn.init.normal_(self.gate.weight, std=0.5 * embed_dim**-0.5)
        with torch.no_grad():
            self.gate.bias.copy_(_rates(FASTEST, SLOWEST, width))

    def init_state(self, batch_size: int = 1) -> Tensor:
        """Return the state of ``batch_size`` streams that have seen no frame: zeros ``(B, R)``."""
        weight = computes_like(self.value)
        return weight.new_zeros(batch_size, self.value.out_features, dtype=_wide(weight))

    def step(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Take in one frame of each stream, ``(B, E)``, and answer for it, ``(B, E)``; the state is not written to.

        Raises:
            ShapeError: If ``frame`` is not ``(B, E)``.
        """
        require_frame(frame, self.embed_dim, state.shape[0], "GatedRecurrence.step")
        keep, drive = self._enter(frame, state)
        state = keep * state + drive
        return self._leave(state, frame), state

    def steps(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Take in k frames of each stream at once, ``(B, k, E)``, and answer for each: equal to k single steps.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, E)``.
        """
        require_sequence(frames, self.embed_dim, "GatedRecurrence.steps", streams=state.shape[0])
        hidden = scan(*self._enter(frames, state), state)
        return self._leave(hidden, frames), hidden[:, -1]

    def forward(self, frames: Tensor) -> Tensor:
        """Answer for all frames of whole streams, ``(B, T, E)``, equal to T steps from a fresh state."""
        return self.steps(frames, self.init_state(len(frames)))[0]

    def _enter(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        gate = self.gate(x).to(state.dtype)
        # As a sigmoid of its own: one less a number near one would lose what tells slow channels apart.
        return torch.sigmoid(-gate), torch.sigmoid(gate) * self.value(x).to(state.dtype)

    def _leave(self, hidden: Tensor, x: Tensor) -> Tensor:
        answer: Tensor = self.out(self.drop(hidden.to(x.dtype) * F.silu(self.out_gate(x))))
        return answer


class AverageBank(nn.Module):
    """Answer from exponential averages of the past over several horizons at once.

    ::

        u[t]    = silu(Wu x[t] + bu)                              S channels
        a[t, k] = (1 - z_k) a[t-1, k] + z_k u[t]                  K averages of each channel
        y[t]    = Wo [u[t], a[t, 1] / c[t, 1], ..., a[t, K] / c[t, K]] + bo        c[t, k] = 1 - (1 - z_k)^(t + 1)

    Each channel has K rates z of its own, which are learnt; they start out at horizons 1 / z spread geometrically from
    ``shortest`` to ``longest`` frames. The divisor c makes averages over the frames seen of those over endless time. A
    step costs (K + 2) E S multiply-accumulates. It is sequence-exact; an answer depends on the whole past. The state is
    kept in float32 at least.

    Args:
        embed_dim: Width E of a frame.
        width: Channels S.
        horizons: Averages K of each channel.
        shortest: Frames of the shortest horizon, above 1.
        longest: Frames of the longest.
        dropout: Dropout of channels and averages, in training only.

    Raises:
        ConfigError: If a size is below one, or the horizons do not rise from above 1.

    Source: leaky integrators with several time constants (Mozer, *Induction of Multiscale Temporal Structure*, NIPS
    1991); the correction for the start is that of Kingma and Ba, *Adam*, ICLR 2015, section 3.

    Example:
        >>> layer = AverageBank(8, 4)
        >>> averages, seen = layer.init_state(2)
        >>> y, (averages, seen) = layer.step(torch.randn(2, 8), (averages, seen))
        >>> y.shape, averages.shape, seen.tolist()
        (torch.Size([2, 8]), torch.Size([2, 16]), [1, 1])
    """

    def __init__(
        self,
        embed_dim: int,
        width: int,
        *,
        horizons: int = 4,
        shortest: float = 4.0,
        longest: float = 256.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(width, horizons) < 1:
            raise ConfigError(f"width and horizons must be at least 1, got {width} and {horizons}")
        if not 1 < shortest <= longest < math.inf:
            raise ConfigError(f"horizons must rise from above 1 frame, got shortest={shortest} and longest={longest}")
        self.embed_dim, self.horizons = embed_dim, horizons
        self.value = nn.Linear(embed_dim, width)
        self.out = nn.Linear(width * (horizons + 1), embed_dim)
        self.drop = nn.Dropout(dropout)
        self.rate = nn.Parameter(_rates(shortest, longest, horizons).repeat_interleave(width))

    def init_state(self, batch_size: int = 1) -> tuple[Tensor, Tensor]:
        """Return averages, zeros ``(B, K S)``, and frames seen ``(B,) int64`` of streams that have seen no frame."""
        weight = computes_like(self.value)
        averages = weight.new_zeros(batch_size, self.horizons * self.value.out_features, dtype=_wide(weight))
        return averages, torch.zeros(batch_size, dtype=torch.int64, device=weight.device)

    def step(self, frame: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Take in one frame of each stream, ``(B, E)``, and answer for it, ``(B, E)``; the state is not written to.

        Raises:
            ShapeError: If ``frame`` is not ``(B, E)``.
        """
        averages, seen = state
        require_frame(frame, self.embed_dim, averages.shape[0], "AverageBank.step")
        value = F.silu(self.value(frame))
        rate = self.rate.to(averages.dtype)
        drive = torch.sigmoid(rate) * value.repeat(1, self.horizons).to(averages.dtype)
        averages, seen = torch.sigmoid(-rate) * averages + drive, seen + 1
        return self._leave(value, averages, seen), (averages, seen)

    def steps(self, frames: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Take in k frames of each stream at once, ``(B, k, E)``, and answer for each: equal to k single steps.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, E)``.
        """
        averages, seen = state
        require_sequence(frames, self.embed_dim, "AverageBank.steps", streams=averages.shape[0])
        value = F.silu(self.value(frames))
        rate = self.rate.to(averages.dtype)
        drive = torch.sigmoid(rate) * value.repeat(1, 1, self.horizons).to(averages.dtype)
        averages = scan(torch.sigmoid(-rate).view(1, 1, -1), drive, averages)
        counted = seen.unsqueeze(1) + torch.arange(1, frames.shape[1] + 1, device=frames.device)
        return self._leave(value, averages, counted), (averages[:, -1], seen + frames.shape[1])

    def forward(self, frames: Tensor) -> Tensor:
        """Answer for all frames of whole streams, ``(B, T, E)``, equal to T steps from a fresh state."""
        return self.steps(frames, self.init_state(len(frames)))[0]

    def _leave(self, value: Tensor, averages: Tensor, seen: Tensor) -> Tensor:
        # log(1 - z) times the frames seen; expm1 keeps what a slow average has after its first frames.
        weighed = -torch.expm1(seen.to(averages.dtype).unsqueeze(-1) * F.logsigmoid(-self.rate.to(averages.dtype)))
        answer: Tensor = self.out(self.drop(torch.cat([value, (averages / weighed).to(value.dtype)], -1)))
        return answer


def _rates(shortest: float, longest: float, count: int) -> Tensor:
    """Return logits of rates one over the horizons, which are spread geometrically."""
    horizons = torch.linspace(math.log(shortest), math.log(longest), count).exp()
    return -torch.log(horizons - 1)
