"""Layers and models that are used as a ``continual.CoModule``, and how to run one frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from coadtr.layers import (
    ContinualEncoder,
    LookAheadAttention,
    NystroemAttention,
    RecyclingPositionalEncoding,
    RetroactiveAttention,
    RetroactiveBlock,
    RetroactiveNystroemAttention,
    SingleOutputAttention,
    SingleOutputBlock,
    SingleOutputStack,
)
from coadtr.models import build_model, preset

WIDTH, HEADS, WINDOW, LOOK_AHEAD, LENGTH = 8, 2, 5, 1, 23


def _model(name: str) -> nn.Module:
    sizes = {"embed_dim": 12, "num_heads": HEADS, "ff_dim": 12, "window": WINDOW}
    return build_model(preset(name, input_dim=WIDTH, num_classes=3, **sizes))


# Each takes frames of WIDTH channels and answers one of them at a time.
ANSWERING: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: SingleOutputAttention(WIDTH, HEADS, WINDOW, in_bias=True),
    "block": lambda: SingleOutputBlock(SingleOutputAttention(WIDTH, HEADS, WINDOW), ff_dim=12),
    "encoder_1": lambda: ContinualEncoder(1, WIDTH, HEADS, WINDOW, ff_dim=12),
    "encoder_2": lambda: ContinualEncoder(2, WIDTH, HEADS, WINDOW, ff_dim=12),
    "encoder_3": lambda: ContinualEncoder(3, WIDTH, HEADS, WINDOW, ff_dim=12),
    "encoder_look_ahead": lambda: ContinualEncoder(2, WIDTH, HEADS, WINDOW, ff_dim=12, lookahead=LOOK_AHEAD),
    "look_ahead": lambda: LookAheadAttention(WIDTH, HEADS, WINDOW, lookahead=LOOK_AHEAD),
    "nystroem": lambda: NystroemAttention(WIDTH, HEADS, WINDOW, num_landmarks=3),
    "stack": lambda: SingleOutputStack(3, WIDTH, HEADS, WINDOW, ff_dim=12),
    "positions": lambda: RecyclingPositionalEncoding(7, WIDTH, kind="fixed"),
    "cooadtr_b1": lambda: _model("cooadtr_b1"),
    "cooadtr_b2": lambda: _model("cooadtr_b2"),
    "oadtr_b1": lambda: _model("oadtr_b1"),
}

# Each brings the window up to date.
RETROACTIVE: dict[str, Callable[[], nn.Module]] = {
    "retroactive_attention": lambda: RetroactiveAttention(WIDTH, HEADS, WINDOW),
    "retroactive_block": lambda: RetroactiveBlock(RetroactiveAttention(WIDTH, HEADS, WINDOW), ff_dim=12),
    "retroactive_nystroem": lambda: RetroactiveNystroemAttention(WIDTH, HEADS, WINDOW, num_landmarks=3),
}


def make(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Build a subject in evaluation mode; its weights follow from its name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(name))
        return ({**ANSWERING, **RETROACTIVE})[name]().to(dtype).eval()


def frames(streams: int = 2, length: int = LENGTH, *, seed: int = 0) -> Tensor:
    """Draw streams ``(B, C, T)``, as continual-inference has them."""
    return torch.randn(streams, WIDTH, length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def stepped(module: Any, x: Tensor) -> Tensor:
    """Stack what ``forward_step`` answers for ``(B, C, T)``, leaving out the steps without an answer."""
    with torch.no_grad():
        answers = [module.forward_step(frame) for frame in x.unbind(2)]
    return torch.stack([answer for answer in answers if answer is not None], 2)


def near(got: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)
