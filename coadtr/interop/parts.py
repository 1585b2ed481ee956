"""What a transformer block consists of, whoever built it, and how weights pass from one builder's to the other's.

Blocks of torch.nn and of continual-inference hold the same seven parts in different places. They are listed once, as
:class:`BlockParts`, and checked and copied here for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeVar, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.layers import (
    Activation,
    AttentionProjections,
    ContinualEncoder,
    EncoderBlock,
    LookAheadAttention,
    RetroactiveAttention,
    RetroactiveBlock,
    SingleOutputAttention,
    SingleOutputBlock,
)

__all__ = [
    "Block",
    "BlockParts",
    "Description",
    "blocks_of",
    "build_attention",
    "build_block",
    "build_encoder",
    "copy_weights",
    "describe_ours",
    "like",
    "require_type",
]

A = TypeVar("A", bound=AttentionProjections)
M = TypeVar("M", bound=nn.Module)

Block = EncoderBlock[Any]
BlockT = TypeVar("BlockT", bound=Block)

ATTENTION_OF: dict[type[Block], type[AttentionProjections]] = {
    EncoderBlock: AttentionProjections,
    RetroactiveBlock: RetroactiveAttention,
    SingleOutputBlock: SingleOutputAttention,
}

EPS = nn.LayerNorm(1).eps

Activate = Callable[[Tensor], Tensor]

# Weight and bias of one affine map; a bias that is not there counts as zero.
Affine = tuple[Tensor, Tensor | None]


class BlockParts(NamedTuple):
    """Parts of another library's transformer block.

    Attributes:
        attention: Self-attention.
        attention_norm: Layer norm of the attention's branch or sum.
        hidden: First linear map of the feed-forward network.
        activation: Activation after it: a function or module.
        out: Second linear map.
        feed_forward_norm: Layer norm of the feed-forward network's branch or sum.
        dropout: Dropout of the branches.
        norm_first: Pre-norm instead of post-norm.
    """

    attention: nn.MultiheadAttention
    attention_norm: nn.LayerNorm
    hidden: nn.Linear
    activation: Activate
    out: nn.Linear
    feed_forward_norm: nn.LayerNorm
    dropout: float
    norm_first: bool


class Description(NamedTuple):
    """Sizes and options of a block, which all blocks of an encoder share."""

    embed_dim: int
    num_heads: int
    ff_dim: int
    activation: Activation
    norm_first: bool
    in_bias: bool
    out_bias: bool
    dropout: float
    attention_dropout: float


def _name_activation(activation: Activate) -> Activation:
    """Tell an activation by what it computes, whatever it is called.

    Raises:
        ConfigError: If it is neither GELU nor ReLU.
    """
    points = torch.linspace(-6, 6, 97, dtype=torch.float64)
    learns = isinstance(activation, nn.Module) and any(True for _ in activation.parameters())
    computed = None if learns else activation(points)
    for name in get_args(Activation):
        if computed is not None and torch.allclose(computed, getattr(F, name)(points), rtol=0, atol=1e-12):
            return cast("Activation", name)
    shown = getattr(activation, "__name__", None) or repr(activation)
    raise ConfigError(f"activation={shown} computes neither gelu (exact) nor relu; coadtr's blocks have one of these")


def _check_attention(attention: nn.MultiheadAttention) -> None:
    width = attention.embed_dim
    if attention.kdim != width or attention.vdim != width or attention.in_proj_weight is None:
        raise ConfigError(
            f"kdim={attention.kdim} and vdim={attention.vdim} differ from embed_dim={width}: coadtr's attention takes "
            "keys and values from the tokens that ask; project them to that width, and build without kdim and vdim"
        )
    if attention.bias_k is not None or attention.bias_v is not None:
        raise ConfigError("add_bias_kv=True adds a token that coadtr's attention has not: build with add_bias_kv=False")
    if attention.add_zero_attn:
        raise ConfigError("add_zero_attn=True adds a token that coadtr's attention has not: build with it false")


def _check_norm(norm: nn.Module, width: int, name: str) -> None:
    if not isinstance(norm, nn.LayerNorm) or not norm.elementwise_affine or norm.normalized_shape != (width,):
        raise ConfigError(f"{name} is {norm}: coadtr's blocks have LayerNorm({width}) with weights; build with that")
    if norm.eps != EPS:
        raise ConfigError(
            f"{name} has eps={norm.eps}, coadtr's blocks have {EPS}: set its eps to that before converting, and check "
            "that the answers stay near enough"
        )


def _describe(parts: BlockParts) -> Description:
    """Check that coadtr has a block of these parts, and tell its sizes and options.

    Raises:
        ConfigError: If it has none.
    """
    attention, width = parts.attention, parts.attention.embed_dim
    _check_attention(attention)
    _check_norm(parts.attention_norm, width, "norm1")
    _check_norm(parts.feed_forward_norm, width, "norm2")
    if (parts.hidden.in_features, parts.out.out_features) != (width, width):
        raise ConfigError(
            f"the feed-forward network maps {parts.hidden.in_features} to {parts.out.out_features} channels, "
            f"the attention has {width}: build both with one width"
        )
    return Description(
        width,
        attention.num_heads,
        parts.hidden.out_features,
        _name_activation(parts.activation),
        parts.norm_first,
        attention.in_proj_bias is not None,
        attention.out_proj.bias is not None,
        parts.dropout,
        attention.dropout,
    )


def describe_ours(block: Block) -> Description:
    """Tell the sizes and options of a block of coadtr.

    Raises:
        ConfigError: If it is not a block of multi-head attention, or has an eps that its class does not give it.
    """
    require_type(block, EncoderBlock, "a conversion of blocks")
    attention = block.attention
    require_type(attention, AttentionProjections, "a conversion of blocks' attention")
    for norm, name in ((block.attention_norm, "attention_norm"), (block.feed_forward_norm, "feed_forward_norm")):
        _check_norm(norm, attention.embed_dim, name)
    return Description(
        attention.embed_dim,
        attention.num_heads,
        cast("nn.Linear", block.feed_forward[0]).out_features,
        _name_activation(cast("Activate", block.feed_forward[1])),
        block.norm_first,
        attention.in_bias,
        attention.out_bias,
        block.drop.p,
        attention.dropout,
    )


def require_type(module: object, kind: Any, what: str) -> None:
    """Check the type of what a conversion is given.

    Raises:
        ConfigError: If it is of another type, or weighs by another kernel than the softmax.
    """
    if not isinstance(module, kind):
        raise ConfigError(
            f"{what} takes {kind.__name__}, got {type(module).__name__}; docs/interop.md lists what converts"
        )
    if not getattr(module, "softmaxes", True):
        raise ConfigError(f"{what} takes softmax attention, got {type(module).__name__}, whose weights mean another")


def like(module: M, source: nn.Module) -> M:
    """Give a module the dtype, device and mode of another."""
    first = next(tensor for tensor in chain(source.parameters(), source.buffers()) if tensor.is_floating_point())
    return module.to(first.device, first.dtype).train(source.training)


def _affines(module: nn.Module | BlockParts) -> Iterator[Affine]:
    """List the affine maps of an attention layer or block, in one order for all builders."""
    if isinstance(module, BlockParts):
        yield from _affines(module.attention)
        parts: Iterable[nn.Module] = (module.attention_norm, module.hidden, module.out, module.feed_forward_norm)
    elif isinstance(module, EncoderBlock):
        yield from _affines(module.attention)
        hidden, out = module.feed_forward[0], module.feed_forward[3]
        parts = (module.attention_norm, hidden, out, module.feed_forward_norm)
    elif isinstance(module, nn.MultiheadAttention):
        yield module.in_proj_weight, module.in_proj_bias
        parts = (module.out_proj,)
    else:
        parts = (cast("AttentionProjections", module).in_proj, cast("AttentionProjections", module).out_proj)
    for part in parts:
        yield cast("Tensor", part.weight), cast("Tensor | None", part.bias)


@torch.no_grad()
def copy_weights(source: nn.Module | BlockParts, target: nn.Module | BlockParts) -> None:
    """Copy the weights of an attention layer or block into one of another builder; a missing bias becomes zero."""
    for (weight, bias), (to_weight, to_bias) in zip(_affines(source), _affines(target), strict=True):
        to_weight.copy_(weight)
        if to_bias is not None and bias is not None:
            to_bias.copy_(bias)
        elif to_bias is not None:
            to_bias.zero_()


def build_attention(attention: nn.MultiheadAttention, window: int, kind: type[A], **options: Any) -> A:
    """Make an attention layer of torch's, or of a class derived from it.

    Raises:
        ConfigError: If coadtr has no such layer.
    """
    _check_attention(attention)
    if issubclass(kind, LookAheadAttention) and "lookahead" not in options:
        raise ConfigError(
            "torch's attention does not say which frame asks: take SingleOutputAttention or RetroactiveAttention, and "
            "load its state dict into a LookAheadAttention"
        )
    if not isinstance(window, int):
        raise ConfigError(
            f"the window must be a number of frames N, got {window!r}: pass it, or build with sequence_len=N"
        )
    layer = kind(
        attention.embed_dim,
        attention.num_heads,
        window,
        in_bias=attention.in_proj_bias is not None,
        out_bias=attention.out_proj.bias is not None,
        dropout=attention.dropout,
        **options,
    )
    layer = like(layer, attention)
    copy_weights(attention, layer)
    return layer


def build_block(parts: BlockParts, window: int, kind: type[BlockT]) -> BlockT:
    """Make a block of another builder's parts.

    Raises:
        ConfigError: If coadtr has no such block.
    """
    found = _describe(parts)
    if kind not in ATTENTION_OF:
        raise ConfigError(f"kind must be one of {', '.join(k.__name__ for k in ATTENTION_OF)}; got {kind.__name__}")
    attention = build_attention(parts.attention, window, ATTENTION_OF[kind])
    block = kind(
        attention,
        ff_dim=found.ff_dim,
        activation=found.activation,
        norm_first=found.norm_first,
        dropout=found.dropout,
    )
    block = like(block, parts.attention)
    copy_weights(parts, block)
    return block


def build_encoder(layers: Sequence[BlockParts], window: int) -> ContinualEncoder:
    """Make an encoder of the parts of its blocks, which have the same sizes and options.

    Raises:
        ConfigError: If coadtr has no such encoder.
    """
    if not layers:
        raise ConfigError("an encoder without layers cannot be converted: build it with at least one")
    first, *others = map(_describe, layers)
    for number, other in enumerate(others, 1):
        for name, wanted, got in zip(Description._fields, first, other, strict=True):
            if wanted != got:
                raise ConfigError(
                    f"layer {number} has {name}={got!r}, layer 0 has {wanted!r}: the blocks of a ContinualEncoder are "
                    "alike; convert the layers one by one"
                )
    encoder = ContinualEncoder(len(layers), window=window, **first._asdict())
    encoder = like(encoder, layers[0].attention)
    for parts, block in zip(layers, blocks_of(encoder), strict=True):
        copy_weights(parts, block)
    return encoder


def blocks_of(encoder: ContinualEncoder) -> list[Block]:
    """List the blocks of an encoder, first to last."""
    blocks = [encoder.first, *encoder.middle, encoder.last]
    return [cast("Block", block) for block in blocks if block is not None]
