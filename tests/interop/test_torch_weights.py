"""Weights from and to torch.nn: both sides answer alike, and what does not convert is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.interop import (
    attention_from_torch,
    attention_to_torch,
    block_from_torch,
    block_to_torch,
    encoder_from_torch,
    encoder_to_torch,
)
from coadtr.layers import (
    AttentionProjections,
    ContinualEncoder,
    EncoderBlock,
    LookAheadAttention,
    NystroemAttention,
    RetroactiveAttention,
    RetroactiveBlock,
    SingleOutputAttention,
    SingleOutputBlock,
)
from tests.interop.subjects import HEADS, WIDTH, WINDOW, frames, near

HIDDEN = 12
Module = Any


def randomised(module: Module) -> Module:
    """Give all weights, biases and norms values that cannot hide their own loss."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


def attention(**options: Any) -> nn.MultiheadAttention:
    built: nn.MultiheadAttention = randomised(nn.MultiheadAttention(WIDTH, HEADS, dtype=torch.float64, **options))
    return built.eval()


def layer(**options: Any) -> nn.TransformerEncoderLayer:
    settings: dict[str, Any] = {
        "dim_feedforward": HIDDEN,
        "batch_first": True,
        "dtype": torch.float64,
        "activation": "gelu",
    } | options
    built: nn.TransformerEncoderLayer = randomised(nn.TransformerEncoderLayer(WIDTH, HEADS, **settings))
    return built.eval()


def encoder(depth: int, **options: Any) -> nn.TransformerEncoder:
    built = nn.TransformerEncoder(layer(**options), depth, enable_nested_tensor=False)
    randomised(built)
    return built.eval()


def clip() -> Tensor:
    return frames(length=WINDOW).transpose(1, 2)


def newest(module: Module, x: Tensor) -> Tensor:
    """Answer of the last step over ``(B, T, E)``."""
    state = module.init_state(len(x))
    with torch.no_grad():
        for frame in x.unbind(1):
            answer, state = module.step(frame, state)
    result: Tensor = answer
    return result


def tensors(module: Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def assert_owns(made: Module, source: Module) -> None:
    """The tensors made are its own, of the source's type and device."""
    theirs = {tensor.untyped_storage().data_ptr() for tensor in tensors(source)}
    assert all(tensor.untyped_storage().data_ptr() not in theirs for tensor in tensors(made))
    kind = {(tensor.dtype, tensor.device) for tensor in source.parameters()}
    assert {(tensor.dtype, tensor.device) for tensor in made.parameters()} == kind
    assert made.training == source.training


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_answers_as_torch_does(bias: bool, batch_first: bool) -> None:
    theirs = attention(bias=bias, batch_first=batch_first, dropout=0.2)
    x = clip()
    theirs_x = x if batch_first else x.transpose(0, 1)
    expected = theirs(theirs_x, theirs_x, theirs_x, need_weights=False)[0]
    expected = expected if batch_first else expected.transpose(0, 1)
    ours = attention_from_torch(theirs, SingleOutputAttention, window=WINDOW)
    assert (ours.window, ours.in_bias, ours.out_bias, ours.dropout) == (WINDOW, bias, bias, 0.2)
    assert_owns(ours, theirs)
    near(newest(ours, x), expected[:, -1])
    near(attention_from_torch(theirs, RetroactiveAttention, window=WINDOW)(x), expected)
    back = attention_to_torch(ours)
    assert_owns(back, ours)
    assert (back.batch_first, back.dropout) == (True, 0.2)
    near(back(x, x, x, need_weights=False)[0], expected)
    assert [name for name, _ in back.named_parameters()] == [name for name, _ in theirs.named_parameters()]


@pytest.mark.parametrize(("in_bias", "out_bias"), [(True, False), (False, True)])
def test_a_single_bias_is_joined_by_one_of_zero(in_bias: bool, out_bias: bool) -> None:
    ours = randomised(AttentionProjections(WIDTH, HEADS, WINDOW, in_bias=in_bias, out_bias=out_bias)).double()
    theirs, x = attention_to_torch(ours), clip()
    near(theirs(x, x, x, need_weights=False)[0], ours.attend_clip(x))


@pytest.mark.parametrize("activation", ["gelu", "relu", nn.GELU(), nn.ReLU(), torch.relu, F.gelu])
@pytest.mark.parametrize("norm_first", [True, False])
def test_a_block_answers_as_torch_does(activation: Any, norm_first: bool) -> None:
    theirs, x = layer(activation=activation, norm_first=norm_first), clip()
    expected = theirs(x)
    ours = block_from_torch(theirs, SingleOutputBlock, window=WINDOW)
    assert_owns(ours, theirs)
    near(newest(ours, x), expected[:, -1])
    near(block_from_torch(theirs, RetroactiveBlock, window=WINDOW)(x), expected)
    near(block_from_torch(theirs, EncoderBlock, window=WINDOW).attend_clip(x), expected)
    back = block_to_torch(ours)
    assert_owns(back, ours)
    near(back(x), expected)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_encoder_steps_as_torch_does_on_the_clip(depth: int, norm_first: bool) -> None:
    theirs, x = encoder(depth, norm_first=norm_first, dropout=0.3), frames(length=4 * WINDOW).transpose(1, 2)
    ours = encoder_from_torch(theirs, window=WINDOW)
    assert_owns(ours, theirs)
    assert (ours.depth, ours.last.drop.p, ours.last.attention.dropout) == (depth, 0.3, 0.3)
    for seen in (1, WINDOW - 1, WINDOW, 2 * WINDOW, 4 * WINDOW):
        near(newest(ours, x[:, :seen]), theirs(x[:, max(0, seen - WINDOW) : seen])[:, -1])
    back = encoder_to_torch(ours)
    assert_owns(back, ours)
    near(back(x[:, :WINDOW]), theirs(x[:, :WINDOW]))
    assert [name for name, _ in back.named_parameters()] == [name for name, _ in theirs.named_parameters()]


def test_a_layer_without_biases_converts_as_one_with_biases_of_zero() -> None:
    theirs, x = layer(bias=False), clip()
    ours = block_from_torch(theirs, RetroactiveBlock, window=WINDOW)
    near(ours(x), theirs(x))
    near(block_to_torch(ours)(x), theirs(x))
    assert not ours.attention.in_bias


def test_dropout_rates_and_the_mode_are_kept() -> None:
    ours = SingleOutputBlock(SingleOutputAttention(WIDTH, HEADS, WINDOW, dropout=0.1), ff_dim=HIDDEN, dropout=0.3)
    theirs: Any = block_to_torch(ours)
    assert theirs.training
    assert (theirs.self_attn.dropout, theirs.dropout.p, theirs.dropout1.p, theirs.dropout2.p) == (0.1, 0.3, 0.3, 0.3)
    back = block_from_torch(theirs, SingleOutputBlock, window=WINDOW)
    assert (back.attention.dropout, back.drop.p, back.training) == (0.1, 0.3, True)


def changed(module: Module, name: str, value: Any) -> Module:
    changed = copy.deepcopy(module)
    setattr(changed, name, value)
    return changed


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: attention(kdim=6), "kdim=6 and vdim=8 differ from embed_dim=8.*without kdim and vdim"),
    (lambda: attention(vdim=6), "kdim=8 and vdim=6"),
    (lambda: attention(add_bias_kv=True), "add_bias_kv=True .*build with add_bias_kv=False"),
    (lambda: attention(add_zero_attn=True), "add_zero_attn=True"),
    (lambda: nn.Linear(2, 2), "attention_from_torch takes MultiheadAttention, got Linear"),
    (lambda: layer(layer_norm_eps=1e-6), "norm1 has eps=1e-06, coadtr's blocks have 1e-05: set its eps"),
    (lambda: changed(layer(), "norm2", nn.RMSNorm(WIDTH)), r"norm2 is RMSNorm.* have LayerNorm\(8\)"),
    (lambda: changed(layer(), "norm2", nn.LayerNorm(WIDTH, elementwise_affine=False)), "norm2 is LayerNorm"),
    (lambda: layer(activation=F.silu), "activation=silu computes neither gelu .exact. nor relu"),
    (lambda: layer(activation=nn.PReLU()), "activation=PReLU"),
    (lambda: layer(activation=nn.GELU(approximate="tanh")), "activation=GELU"),
    (lambda: changed(layer(), "dropout1", nn.Dropout(0.5)), r"dropout=\[0.1, 0.5\]"),
    (lambda: changed(layer(), "linear2", nn.Linear(HIDDEN, 9)), "maps 8 to 9 channels, the attention has 8"),
    (lambda: changed(encoder(2), "norm", nn.LayerNorm(WIDTH)), "norm=LayerNorm.*set norm=None before converting"),
    (lambda: changed(encoder(2), "layers", nn.ModuleList()), "without layers"),
    (lambda: changed(encoder(2), "layers", nn.ModuleList([nn.Identity()])), "TransformerEncoder.*got Identity"),
    (
        lambda: changed(encoder(2), "layers", nn.ModuleList([layer(), layer(norm_first=True)])),
        "layer 1 has norm_first=True, layer 0 has False.*convert the layers one by one",
    ),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[message[:24] for _, message in REFUSED])
def test_what_computes_something_else_is_refused(build: Callable[[], Any], message: str) -> None:
    theirs = build()
    convert: Callable[..., Any] = partial(attention_from_torch, kind=SingleOutputAttention)
    if isinstance(theirs, nn.TransformerEncoderLayer):
        convert = partial(block_from_torch, kind=SingleOutputBlock)
    elif isinstance(theirs, nn.TransformerEncoder):
        convert = encoder_from_torch
    with pytest.raises(ConfigError, match=message):
        convert(theirs, window=WINDOW)


def test_kinds_and_windows_are_checked() -> None:
    with pytest.raises(ConfigError, match="at least one frame, got 0"):
        attention_from_torch(attention(), SingleOutputAttention, window=0)
    with pytest.raises(ConfigError, match="does not say which frame asks"):
        attention_from_torch(attention(), LookAheadAttention, window=4)
    with pytest.raises(ConfigError, match="window must be a number of frames N, got None"):
        attention_from_torch(attention(), SingleOutputAttention, window=None)  # type: ignore[arg-type]
    wrong: Any = nn.TransformerEncoderLayer
    with pytest.raises(ConfigError, match="kind must be one of EncoderBlock, RetroactiveBlock, SingleOutputBlock"):
        block_from_torch(layer(), wrong, window=WINDOW)
    other: Any = NystroemAttention(WIDTH, HEADS, WINDOW, num_landmarks=3)
    with pytest.raises(ConfigError, match="attention_to_torch takes AttentionProjections, got NystroemAttention"):
        attention_to_torch(other)
    with pytest.raises(ConfigError, match="takes AttentionProjections, got NystroemAttention"):
        block_to_torch(EncoderBlock(other, ff_dim=HIDDEN))
    uneven = SingleOutputBlock(SingleOutputAttention(WIDTH, HEADS, WINDOW), ff_dim=HIDDEN)
    uneven.feed_forward_norm.eps = 1e-3
    with pytest.raises(ConfigError, match=r"feed_forward_norm has eps=0\.001"):
        block_to_torch(uneven)
    with pytest.raises(ConfigError, match="encoder_to_torch takes ContinualEncoder, got SingleOutputBlock"):
        encoder_to_torch(uneven)  # type: ignore[arg-type]


def test_half_precision_stays() -> None:
    ours = ContinualEncoder(2, WIDTH, HEADS, WINDOW, ff_dim=HIDDEN).bfloat16()
    theirs = encoder_to_torch(ours)
    assert_owns(theirs, ours)
    assert_owns(encoder_from_torch(theirs, window=WINDOW), theirs)
