"""Weights from and to continual-inference 1.2.4: both run side by side, wherever theirs is right."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import continual as co
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.interop import (
    as_comodule,
    attention_from_continual,
    attention_to_continual,
    block_from_continual,
    block_to_continual,
    encoder_from_continual,
    encoder_to_continual,
)
from coadtr.layers import (
    AttentionProjections,
    ContinualEncoder,
    EncoderBlock,
    LookAheadAttention,
    RetroactiveAttention,
    RetroactiveBlock,
    SingleOutputAttention,
    SingleOutputBlock,
)
from tests.interop.subjects import HEADS, LENGTH, WIDTH, WINDOW, frames, near, stepped
from tests.interop.test_torch_weights import assert_owns, randomised

HIDDEN = 12
Module = Any


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x)


def their_attention(kind: type, **options: Any) -> Module:
    layout = {"batch_first": True, "embed_dim_second": True, "forward_returns_attn_mask": False}
    built = kind(WIDTH, HEADS, sequence_len=WINDOW, dtype=torch.float64, **layout, **options)
    return randomised(built).eval()


def their_encoder(depth: int, activation: Any = gelu, **options: Any) -> Module:
    settings = {"dim_feedforward": HIDDEN, "sequence_len": WINDOW, "dtype": torch.float64, "dropout": 0.2} | options
    factory = co.TransformerEncoderLayerFactory(WIDTH, HEADS, activation=activation, **settings)
    return randomised(co.TransformerEncoder(factory, num_layers=depth)).eval()


def windows(ours: Module, x: Tensor) -> Tensor:
    """Answers ``(B, E, T, N)`` of a retroactive layer's forward over the clip that ends at each full window's frame."""
    rows = x.transpose(1, 2)
    with torch.no_grad():
        clips = [ours(rows[:, t + 1 - WINDOW : t + 1]).transpose(1, 2) for t in range(WINDOW - 1, x.shape[2])]
    return torch.stack(clips, 2)


@pytest.mark.parametrize("bias", [True, False])
def test_single_output_attention_runs_side_by_side(bias: bool) -> None:
    theirs, x = their_attention(co.SingleOutputMultiheadAttention, bias=bias, dropout=0.2), frames()
    ours = attention_from_continual(theirs)
    assert isinstance(ours, SingleOutputAttention)
    assert (ours.window, ours.in_bias, ours.dropout) == (WINDOW, bias, 0.2)
    assert_owns(ours, theirs)
    back = attention_to_continual(ours)
    assert_owns(back, ours)
    expected = stepped(theirs, x)
    near(stepped(as_comodule(ours, first_frames="silent"), x), expected, 1e-9)
    near(stepped(back, x), expected)
    near(back.forward(x[:, :, :WINDOW])[:, :, -1], expected[:, :, 0])


def test_an_older_query_is_look_ahead() -> None:
    theirs, x = their_attention(co.SingleOutputMultiheadAttention, query_index=-3), frames()
    ours = attention_from_continual(theirs)
    assert isinstance(ours, LookAheadAttention)
    assert ours.lookahead == 2
    expected = stepped(theirs, x)
    near(stepped(as_comodule(ours, first_frames="silent"), x), expected, 1e-9)
    near(stepped(attention_to_continual(ours), x), expected)


@pytest.mark.parametrize("bias", [True, False])
def test_retroactive_attention_runs_side_by_side(bias: bool) -> None:
    theirs, x = their_attention(co.RetroactiveMultiheadAttention, bias=bias), frames() / 4  # small logits: see below
    ours = attention_from_continual(theirs)
    assert isinstance(ours, RetroactiveAttention)
    assert_owns(ours, theirs)
    back = attention_to_continual(ours)
    assert_owns(back, ours)
    expected = stepped(theirs, x)
    assert expected.shape == (2, WIDTH, LENGTH - WINDOW + 1, WINDOW)
    near(stepped(as_comodule(ours, first_frames="silent"), x), expected, 1e-9)
    near(stepped(back, x), expected, 1e-9)
    steps = as_comodule(ours, first_frames="silent").forward_steps(x)
    assert steps is not None
    near(steps, expected, 1e-9)
    near(as_comodule(ours).forward(x[:, :, :WINDOW]), theirs.forward(x[:, :, :WINDOW]))


def test_retroactive_attention_follows_the_clip_where_theirs_does_not() -> None:
    # Theirs keeps running sums of raw exponentials and takes old terms off: a large logit leaves an error behind when
    # its frame leaves the window, so the two are not compared here.
    theirs, x = their_attention(co.RetroactiveMultiheadAttention, bias=False), frames()
    x[:, :, 8] *= 4
    ours = attention_from_continual(theirs)
    expected = windows(ours, x)
    near(stepped(as_comodule(ours, first_frames="silent"), x), expected, 1e-9)
    worst = (stepped(theirs, x) - expected).abs().nan_to_num(nan=math.inf).max()
    assert worst > 1e-3


@pytest.mark.parametrize("activation", [gelu, F.relu, nn.GELU(), nn.ReLU()])
def test_one_layer_runs_side_by_side(activation: Any) -> None:
    theirs, x = their_encoder(1, activation), frames()
    ours = encoder_from_continual(theirs)
    assert_owns(ours, theirs)
    assert (ours.depth, ours.last.drop.p, ours.last.attention.dropout) == (1, 0.2, 0.2)
    expected = stepped(theirs, x)
    near(stepped(as_comodule(ours, first_frames="silent"), x), expected, 1e-9)
    back = encoder_to_continual(ours)
    assert_owns(back, ours)
    near(stepped(back, x), expected, 1e-9)
    block = block_from_continual(theirs.layers[0])
    assert isinstance(block, SingleOutputBlock)
    near(stepped(as_comodule(block, first_frames="silent"), x), expected, 1e-9)
    near(stepped(block_to_continual(block), x), expected, 1e-9)


def test_two_layers_agree_until_their_residual_wraps() -> None:
    # Their N residual rows are indexed modulo N - 1. From frame 2N - 1 on the rows no longer belong to the attention's,
    # so only the first N - 1 answers are compared; ours goes on as the clip, theirs does not.
    theirs, x = their_encoder(2), frames() / 4
    ours = encoder_from_continual(theirs)
    assert_owns(ours, theirs)
    got, published = stepped(as_comodule(ours, first_frames="silent"), x), stepped(theirs, x)
    right = WINDOW - 1
    near(got[:, :, :right], published[:, :, :right], 1e-9)
    theirs.clean_state()
    clips = [theirs.forward(x[:, :, t + 1 - WINDOW : t + 1])[:, :, -1] for t in range(WINDOW - 1, LENGTH)]
    near(got, torch.stack(clips, 2), 1e-9)
    assert ((published - got).abs().amax(dim=(0, 1))[right:] > 1e-3).all()
    back = encoder_to_continual(ours)
    assert_owns(back, ours)
    near(stepped(back, x), published, 1e-9)


def test_both_layers_of_a_pair_convert_alone() -> None:
    theirs, x = their_encoder(2), frames() / 4
    first, second = (block_from_continual(layer) for layer in list(theirs.layers)[:2])
    assert isinstance(first, RetroactiveBlock)
    assert isinstance(second, SingleOutputBlock)
    near(windows(first, x)[:, :, 0], theirs.layers[0].forward(x[:, :, :WINDOW]), 1e-9)
    back = block_to_continual(first)
    near(stepped(back, x)[:, :, 0], windows(first, x)[:, :, 0], 1e-9)
    near(second(x[:, :, :WINDOW].transpose(1, 2))[:, -1], theirs.layers[1].forward(x[:, :, :WINDOW])[:, :, -1], 1e-9)


def test_a_retroactive_block_feeds_their_next_layer() -> None:
    theirs, x = their_encoder(2), frames() / 4
    first = as_comodule(block_from_continual(theirs.layers[0]), first_frames="silent")
    net = co.Sequential(first, *list(theirs.layers)[1:]).eval()
    ours = as_comodule(encoder_from_continual(theirs), first_frames="silent")
    assert net.delay == WINDOW - 1
    near(stepped(net, x), stepped(ours, x), 1e-9)


# Their conversion of a torch encoder calls `state_dict` in a way that torch deprecates.
@pytest.mark.filterwarnings("ignore:Positional args are being deprecated:FutureWarning")
def test_what_is_asked_for_is_not_what_they_build() -> None:
    assert isinstance(encoder_from_continual(their_encoder(1, "gelu")).last.feed_forward[1], nn.ReLU)
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, norm_first=True, activation=cast("Any", nn.GELU()), dtype=torch.float64, batch_first=True
    )
    pre_norm = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    built = encoder_from_continual(co.TransformerEncoder.build_from(pre_norm, WINDOW))
    assert not built.last.norm_first
    assert isinstance(built.last.feed_forward[1], nn.GELU)


def test_missing_biases_become_zero() -> None:
    ours = randomised(ContinualEncoder(2, WIDTH, HEADS, WINDOW, ff_dim=HIDDEN, activation="relu")).double().eval()
    theirs, x = encoder_to_continual(ours), frames(length=2 * WINDOW - 2) / 4
    near(stepped(theirs, x), stepped(as_comodule(ours, first_frames="silent"), x), 1e-9)


def single(**options: Any) -> Module:
    return co.SingleOutputTransformerEncoderLayer(WIDTH, HEADS, HIDDEN, sequence_len=WINDOW, **options)


def uneven_dropout() -> Module:
    layer = single()
    layer[1]._ff_block[1].dropout2.p = 0.5
    return layer


def longer(encoder: Module) -> Module:
    encoder.layers.append(co.Identity())
    return encoder


def block(**options: Any) -> SingleOutputBlock:
    return SingleOutputBlock(SingleOutputAttention(WIDTH, HEADS, WINDOW), ff_dim=HIDDEN, **options)


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: attention_from_continual(their_attention(co.SingleOutputMultiheadAttention, kdim=6)),
        "kdim=6 and vdim=8 differ from embed_dim=8",
    ),
    (
        lambda: attention_from_continual(their_attention(co.RetroactiveMultiheadAttention, add_bias_kv=True)),
        "add_bias_kv=True",
    ),
    (
        lambda: attention_from_continual(their_attention(co.RetroactiveMultiheadAttention, add_zero_attn=True)),
        "add_zero_attn=True",
    ),
    (lambda: attention_from_continual(nn.Linear(2, 2)), "takes SingleOutputMultiheadAttention, got Linear"),
    (
        lambda: attention_to_continual(AttentionProjections(WIDTH, HEADS, WINDOW)),
        "attention_to_continual takes SingleOutputAttention, got AttentionProjections",
    ),
    (lambda: block_from_continual(nn.Linear(2, 2)), "Linear is not what .*LayerFactory builds.*pass a layer of that"),
    (lambda: block_from_continual(single(activation=F.silu)), "activation=silu computes neither"),
    (lambda: block_from_continual(single(layer_norm_eps=1e-3)), "norm1 has eps=0.001"),
    (lambda: block_from_continual(single(query_index=-2)), "query_index=-2.*build it with query_index=-1"),
    (lambda: block_from_continual(uneven_dropout()), r"dropout=\[0.1, 0.5\]"),
    (lambda: block_to_continual(block(norm_first=True)), "norm_first=True.*by as_comodule instead"),
    (
        lambda: block_to_continual(
            cast("Any", EncoderBlock(AttentionProjections(WIDTH, HEADS, WINDOW), ff_dim=HIDDEN))
        ),
        "block_to_continual takes SingleOutputBlock, got EncoderBlock",
    ),
    (lambda: encoder_from_continual(single()), "encoder_from_continual takes TransformerEncoder, got Sequential"),
    (
        lambda: encoder_from_continual(
            co.TransformerEncoder(
                co.TransformerEncoderLayerFactory(WIDTH, HEADS, HIDDEN, sequence_len=WINDOW), 1, nn.LayerNorm(WIDTH)
            )
        ),
        "norm=LayerNorm.*build the encoder without norm",
    ),
    (lambda: encoder_from_continual(longer(their_encoder(2))), "holds 4 modules, where 1 or 2 layers make 1 or 3"),
    (
        lambda: encoder_to_continual(ContinualEncoder(3, WIDTH, HEADS, WINDOW, ff_dim=HIDDEN)),
        "depth=3: continual-inference builds 1 or 2 layers; use as_comodule",
    ),
    (
        lambda: encoder_to_continual(ContinualEncoder(2, WIDTH, HEADS, WINDOW, ff_dim=HIDDEN, lookahead=2)),
        "lookahead=2.*use as_comodule",
    ),
    (
        lambda: encoder_to_continual(ContinualEncoder(1, WIDTH, HEADS, WINDOW, ff_dim=HIDDEN, norm_first=True)),
        "norm_first=True",
    ),
]


@pytest.mark.parametrize(("convert", "message"), REFUSED, ids=[message[:24] for _, message in REFUSED])
def test_what_computes_something_else_is_refused(convert: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        convert()
