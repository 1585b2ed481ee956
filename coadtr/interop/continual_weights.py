"""Weights from and to the attention layers, encoder layers and encoders of continual-inference.

A conversion copies, as those of torch do (:mod:`coadtr.interop.torch_weights`). It goes by what a module holds, not by
what was asked for: ``activation="gelu"`` builds ReLU there (``torch.nn.GELU()`` builds GELU), and converting a pre-norm
encoder of torch builds post-norm blocks. Streams' memory is not converted.
"""

from __future__ import annotations

from typing import Any, cast

import continual as co
import torch.nn.functional as F
from continual.transformer import RetroactiveLambda
from torch import Tensor

from coadtr.errors import ConfigError
from coadtr.interop.parts import (
    Block,
    BlockParts,
    Description,
    blocks_of,
    build_attention,
    build_block,
    build_encoder,
    copy_weights,
    describe_ours,
    like,
    require_type,
)
from coadtr.layers import (
    AttentionProjections,
    ContinualEncoder,
    LookAheadAttention,
    RetroactiveAttention,
    RetroactiveBlock,
    SingleOutputAttention,
    SingleOutputBlock,
)

__all__ = [
    "attention_from_continual",
    "attention_to_continual",
    "block_from_continual",
    "block_to_continual",
    "encoder_from_continual",
    "encoder_to_continual",
]


def attention_from_continual(attention: Any) -> SingleOutputAttention | RetroactiveAttention | LookAheadAttention:
    """Make an attention layer with the weights of continual-inference's.

    Args:
        attention: ``continual.SingleOutputMultiheadAttention`` or ``continual.RetroactiveMultiheadAttention``.

    Returns:
        ``SingleOutputAttention`` (``LookAheadAttention`` where ``query_index`` asks for an older frame than the
        newest) or ``RetroactiveAttention``, with a window of ``sequence_len`` frames.

    Raises:
        ConfigError: If it is another module, or has kdim, vdim, add_bias_kv or add_zero_attn.

    Example:
        >>> import continual
        >>> theirs = continual.SingleOutputMultiheadAttention(8, 2, sequence_len=4)
        >>> attention_from_continual(theirs)
        SingleOutputAttention(
          window=4, heads=2
          (in_proj): Linear(in_features=8, out_features=24, bias=True)
          (out_proj): Linear(in_features=8, out_features=8, bias=True)
        )
    """
    if isinstance(attention, co.RetroactiveMultiheadAttention):
        return build_attention(attention, attention.sequence_len, RetroactiveAttention)
    require_type(attention, co.SingleOutputMultiheadAttention, "attention_from_continual")
    if attention.delay:
        return build_attention(attention, attention.sequence_len, LookAheadAttention, lookahead=attention.delay)
    return build_attention(attention, attention.sequence_len, SingleOutputAttention)


def attention_to_continual(attention: AttentionProjections) -> Any:
    """Make continual-inference's attention layer with the weights of an attention layer.

    Args:
        attention: ``SingleOutputAttention``, ``LookAheadAttention`` or ``RetroactiveAttention``.

    Returns:
        ``continual.SingleOutputMultiheadAttention`` or ``continual.RetroactiveMultiheadAttention``, which take
        ``(B, E, T)`` and return no attention weights; with biases if either projection has one.

    Raises:
        ConfigError: If it is another kind of layer.

    Example:
        >>> from coadtr.layers import RetroactiveAttention
        >>> type(attention_to_continual(RetroactiveAttention(8, 2, window=4))).__name__
        'RetroactiveMultiheadAttention'
    """
    options: dict[str, Any] = {}
    kind = co.SingleOutputMultiheadAttention
    if isinstance(attention, RetroactiveAttention):
        kind = co.RetroactiveMultiheadAttention
    elif isinstance(attention, LookAheadAttention):
        options["query_index"] = -1 - attention.lookahead
    else:
        require_type(attention, SingleOutputAttention, "attention_to_continual")
    theirs = kind(
        attention.embed_dim,
        attention.num_heads,
        dropout=attention.dropout,
        bias=attention.in_bias or attention.out_bias,
        batch_first=True,
        embed_dim_second=True,
        forward_returns_attn_mask=False,
        sequence_len=attention.window,
        **options,
    )
    like(theirs, attention)
    copy_weights(attention, theirs)
    return theirs


def _parts(layer: Any) -> BlockParts:
    """Find the parts of a layer that a ``continual.TransformerEncoderLayerFactory`` built."""
    try:
        attention = layer[0].self_attn
        if isinstance(layer[1], RetroactiveLambda):
            branches = layer[1].fn
            norm1, network, norm2 = branches.norm1, branches._ff_block.fn, branches.norm2
        else:
            norm1, network, norm2 = layer[1].norm1.fn, layer[1]._ff_block[1], layer[1].norm2.fn
        activation = getattr(network.activation, "fn", network.activation)
        hidden, out, rates = network.linear1, network.linear2, {network.dropout.p, network.dropout2.p}
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{type(layer).__name__} is not what continual.TransformerEncoderLayerFactory builds ({error}); "
            "pass a layer of that factory"
        ) from error
    if len(rates) > 1:
        raise ConfigError(f"dropout={sorted(rates)}: coadtr's blocks have one rate for all branches; set them alike")
    if getattr(attention, "query_index", -1) not in (-1, attention.sequence_len - 1):
        raise ConfigError(
            f"query_index={attention.query_index}: that layer adds the newest frame to the answer for an older one; "
            "build it with query_index=-1"
        )
    return BlockParts(attention, norm1, hidden, activation, out, norm2, rates.pop(), norm_first=False)


def block_from_continual(layer: Any) -> SingleOutputBlock | RetroactiveBlock:
    """Make a block with the weights of continual-inference's encoder layer.

    Args:
        layer: What ``continual.SingleOutputTransformerEncoderLayer`` or ``RetroactiveTransformerEncoderLayer`` made,
            or one of the layers of a ``continual.TransformerEncoder``.

    Returns:
        The block, post-norm. (In training, dropout falls on the attention's branch too, as in torch; theirs leaves it
        out there.)

    Raises:
        ConfigError: If coadtr has no such block: another activation than exact GELU or ReLU, another eps than 1e-5,
            or a ``query_index`` other than the newest.

    Example:
        >>> import continual
        >>> theirs = continual.SingleOutputTransformerEncoderLayer(8, 2, 16, sequence_len=4)
        >>> type(block_from_continual(theirs)).__name__
        'SingleOutputBlock'
    """
    parts = _parts(layer.fn if isinstance(layer, RetroactiveLambda) else layer)
    window = cast("int", parts.attention.sequence_len)
    if isinstance(parts.attention, co.RetroactiveMultiheadAttention):
        return build_block(parts, window, RetroactiveBlock)
    return build_block(parts, window, SingleOutputBlock)


def _gelu(x: Tensor) -> Tensor:
    """Apply GELU: continual-inference takes Python functions, and torch's own is none."""
    return F.gelu(x)


def _options(block: Block) -> tuple[Description, dict[str, Any]]:
    """Tell what continual-inference's layer is built with, as its constructors name it."""
    found = describe_ours(block)
    if found.norm_first:
        raise ConfigError(
            "norm_first=True: continual-inference has post-norm layers only; drive the layer by as_comodule instead"
        )
    return found, {
        "d_model": found.embed_dim,
        "nhead": found.num_heads,
        "dim_feedforward": found.ff_dim,
        "dropout": found.dropout,
        "activation": _gelu if found.activation == "gelu" else F.relu,
        "sequence_len": block.attention.window,
    }


def _fill(block: Block, layer: Any) -> None:
    parts = _parts(layer)
    parts.attention.dropout = block.attention.dropout
    copy_weights(block, parts)


def block_to_continual(block: SingleOutputBlock | RetroactiveBlock) -> Any:
    """Make continual-inference's encoder layer with the weights of a block.

    Args:
        block: A post-norm block.

    Returns:
        What ``continual.SingleOutputTransformerEncoderLayer`` or ``RetroactiveTransformerEncoderLayer`` makes, with
        biases of zero where the block has none.

    Raises:
        ConfigError: If the block is pre-norm, or of another kind.

    Example:
        >>> import torch
        >>> from coadtr.layers import SingleOutputAttention, SingleOutputBlock
        >>> theirs = block_to_continual(SingleOutputBlock(SingleOutputAttention(8, 2, window=4), ff_dim=16))
        >>> theirs.forward_steps(torch.randn(1, 8, 6)).shape
        torch.Size([1, 8, 3])
    """
    retroactive = isinstance(block, RetroactiveBlock)
    if not retroactive:
        require_type(block, SingleOutputBlock, "block_to_continual")
    _, options = _options(block)
    kind = co.RetroactiveTransformerEncoderLayer if retroactive else co.SingleOutputTransformerEncoderLayer
    theirs = kind(**options)
    like(theirs, block)
    _fill(block, theirs)
    return theirs


def encoder_from_continual(encoder: Any) -> ContinualEncoder:
    """Make an encoder with the weights of ``continual.TransformerEncoder``.

    Args:
        encoder: Their encoder, of one layer or two (they build no more), without a final norm.

    Returns:
        The encoder. It equals the clip of theirs at every frame; the step of theirs does so at one layer, and at two
        in the first N - 1 frames that it answers (the residual rows then fall out of step).

    Raises:
        ConfigError: If it is another module, there is a final norm, the layers differ, or one is refused by
            :func:`block_from_continual`.

    Example:
        >>> import continual, torch
        >>> factory = continual.TransformerEncoderLayerFactory(8, 2, 16, sequence_len=4, activation=torch.nn.GELU())
        >>> encoder_from_continual(continual.TransformerEncoder(factory, num_layers=2)).depth
        2
    """
    require_type(encoder, co.TransformerEncoder, "encoder_from_continual")
    if (norm := getattr(encoder, "norm", None)) is not None:
        raise ConfigError(
            f"norm={norm.fn}: a ContinualEncoder ends with its last block; build the encoder without norm, and apply "
            "it to the answers"
        )
    layers = list(encoder.layers)
    if len(layers) not in (1, 3):  # the third takes an axis off
        raise ConfigError(
            f"the encoder holds {len(layers)} modules, where 1 or 2 layers make 1 or 3: leave them as built"
        )
    parts = [_parts(layer) for layer in (layers if len(layers) == 1 else [layers[0], layers[1].fn])]
    return build_encoder(parts, cast("int", parts[0].attention.sequence_len))


def encoder_to_continual(encoder: ContinualEncoder) -> Any:
    """Make a ``continual.TransformerEncoder`` with the weights of an encoder.

    Args:
        encoder: A post-norm encoder of depth one or two, without look-ahead.

    Returns:
        Their encoder, with biases of zero where the blocks have none.

    Raises:
        ConfigError: If the encoder is deeper, pre-norm, or looks ahead.

    Example:
        >>> import torch
        >>> from coadtr.layers import ContinualEncoder
        >>> theirs = encoder_to_continual(ContinualEncoder(2, 8, 2, window=4, ff_dim=16))
        >>> theirs.forward_steps(torch.randn(1, 8, 4)).shape
        torch.Size([1, 8, 1])
    """
    require_type(encoder, ContinualEncoder, "encoder_to_continual")
    blocks = blocks_of(encoder)
    if len(blocks) > 2:
        raise ConfigError(f"depth={len(blocks)}: continual-inference builds 1 or 2 layers; use as_comodule instead")
    if encoder.lookahead:
        raise ConfigError(
            f"lookahead={encoder.lookahead}: continual-inference's encoders answer for the newest frame; "
            "use as_comodule instead"
        )
    theirs = co.TransformerEncoder(co.TransformerEncoderLayerFactory(**_options(blocks[0])[1]), num_layers=len(blocks))
    like(theirs, encoder)
    layers = list(theirs.layers)
    for block, layer in zip(blocks, layers if len(blocks) == 1 else [layers[0], layers[1].fn], strict=True):
        _fill(block, layer)
    return theirs
