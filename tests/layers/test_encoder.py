"""Encoder blocks: parity with torch's encoder layer, wiring and refusals. (Their steps: tests/laws.)"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from coadtr.errors import ConfigError
from coadtr.layers import (
    Activation,
    AttentionProjections,
    EncoderBlock,
    RetroactiveAttention,
    RetroactiveBlock,
    SingleOutputAttention,
    SingleOutputBlock,
)

WIDTH, HEADS, HIDDEN, WINDOW = 12, 3, 20, 6

NAMES = {
    "self_attn.in_proj_weight": "attention.in_proj.weight",
    "self_attn.in_proj_bias": "attention.in_proj.bias",
    "self_attn.out_proj.weight": "attention.out_proj.weight",
    "self_attn.out_proj.bias": "attention.out_proj.bias",
} | {
    f"{theirs}.{part}": f"{ours}.{part}"
    for theirs, ours in {
        "linear1": "feed_forward.0",
        "linear2": "feed_forward.3",
        "norm1": "attention_norm",
        "norm2": "feed_forward_norm",
    }.items()
    for part in ("weight", "bias")
}

every_wiring = pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
every_activation = pytest.mark.parametrize("activation", ["gelu", "relu"])


def pair(norm_first: bool, activation: Activation) -> tuple[EncoderBlock[AttentionProjections], nn.Module]:
    """Our block and torch's layer with the same random weights."""
    attention = AttentionProjections(WIDTH, HEADS, WINDOW, in_bias=True, out_bias=True)
    block = EncoderBlock(attention, ff_dim=HIDDEN, norm_first=norm_first, activation=activation).double()
    theirs = nn.TransformerEncoderLayer(
        WIDTH,
        HEADS,
        HIDDEN,
        dropout=0.0,
        activation=activation,
        batch_first=True,
        norm_first=norm_first,
        dtype=torch.float64,
    )
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_()
    block.load_state_dict({NAMES[name]: weight for name, weight in theirs.state_dict().items()})
    return block, theirs  # in training mode without dropout: torch then takes its plain path


@every_wiring
@every_activation
def test_a_block_is_torchs_encoder_layer(norm_first: bool, activation: Activation) -> None:
    block, theirs = pair(norm_first, activation)
    clip = torch.randn(3, WINDOW, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(block.attend_clip(clip), theirs(clip), atol=1e-11, rtol=0)


@every_wiring
@every_activation
def test_a_masked_block_is_torchs_encoder_layer_where_tokens_exist(norm_first: bool, activation: Activation) -> None:
    block, theirs = pair(norm_first, activation)
    clip = torch.randn(2, WINDOW, WIDTH, dtype=torch.float64)
    mask = torch.tensor([[False] * 4 + [True] * 2, [False, True] * 3])
    expected = theirs(clip, src_key_padding_mask=~mask)
    torch.testing.assert_close(block.attend_clip(clip, mask)[mask], expected[mask], atol=1e-11, rtol=0)


@every_wiring
def test_absent_tokens_have_no_influence(norm_first: bool) -> None:
    block, _ = pair(norm_first, "gelu")
    clip = torch.randn(2, WINDOW, WIDTH, dtype=torch.float64)
    mask = torch.tensor([[False, False, True, True, True, True]] * 2)
    other = torch.where(mask.unsqueeze(2), clip, torch.full_like(clip, 1e3))
    short = block.attend_clip(clip[:, 2:])
    torch.testing.assert_close(block.attend_clip(clip, mask)[:, 2:], short, atol=1e-12, rtol=0)
    torch.testing.assert_close(block.attend_clip(other, mask)[:, 2:], short, atol=1e-12, rtol=0)
    answer = block.answer(clip[:, -1], other, mask)
    torch.testing.assert_close(answer, short[:, -1], atol=1e-12, rtol=0)


@every_wiring
def test_the_order_of_a_clip_does_not_matter(norm_first: bool) -> None:
    block, _ = pair(norm_first, "relu")
    clip = torch.randn(1, WINDOW, WIDTH, dtype=torch.float64)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    torch.testing.assert_close(block.attend_clip(clip[:, order]), block.attend_clip(clip)[:, order], atol=1e-12, rtol=0)


@every_wiring
def test_both_kinds_of_block_agree_on_the_newest_frame(norm_first: bool) -> None:
    """On the same weights, the last row of the retroactive block is the single-output block's answer."""
    single = SingleOutputBlock(SingleOutputAttention(WIDTH, HEADS, WINDOW), ff_dim=HIDDEN, norm_first=norm_first)
    retroactive = RetroactiveBlock(RetroactiveAttention(WIDTH, HEADS, WINDOW), ff_dim=HIDDEN, norm_first=norm_first)
    retroactive.load_state_dict(single.state_dict())
    frames = torch.randn(2, 3 * WINDOW, WIDTH)
    state, others = single.init_state(2), retroactive.init_state(2)
    with torch.no_grad():
        for t, frame in enumerate(frames.unbind(1)):
            answer, state = single.step(frame, state)
            window, others = retroactive.step(frame, others)
            torch.testing.assert_close(window[:, t % WINDOW], answer, atol=1e-5, rtol=0)


def test_dropout_is_for_training_only() -> None:
    block = EncoderBlock(AttentionProjections(WIDTH, HEADS, WINDOW), ff_dim=HIDDEN, dropout=0.5)
    clip = torch.randn(1, WINDOW, WIDTH)
    assert not torch.equal(block.attend_clip(clip), block.attend_clip(clip))
    block.eval()
    assert torch.equal(block.attend_clip(clip), block.attend_clip(clip))


def test_an_unknown_activation_is_refused() -> None:
    unknown: Any = "swish"
    with pytest.raises(ConfigError, match=r"activation must be one of \['gelu', 'relu'\], got 'swish'"):
        EncoderBlock(AttentionProjections(WIDTH, HEADS, WINDOW), ff_dim=HIDDEN, activation=unknown)


def test_an_empty_feed_forward_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="ff_dim must be at least 1, got 0"):
        EncoderBlock(AttentionProjections(WIDTH, HEADS, WINDOW), ff_dim=0)
