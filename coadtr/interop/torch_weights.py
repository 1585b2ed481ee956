"""Weights from and to the attention layers, encoder layers and encoders of torch.nn.

A conversion copies: the converted module owns its tensors, in the dtype, on the device and in the mode (training or
evaluation) of the one that it was made of. What computes the same converts, though it be written differently: a missing
bias is a bias of zero, and ``batch_first`` changes no weight (coadtr's layers are batch first). The rest is refused.
"""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

from coadtr.errors import ConfigError
from coadtr.interop.parts import (
    Block,
    BlockParts,
    blocks_of,
    build_attention,
    build_block,
    build_encoder,
    copy_weights,
    describe_ours,
    like,
    require_type,
)
from coadtr.layers import AttentionProjections, ContinualEncoder

__all__ = [
    "attention_from_torch",
    "attention_to_torch",
    "block_from_torch",
    "block_to_torch",
    "encoder_from_torch",
    "encoder_to_torch",
]

A = TypeVar("A", bound=AttentionProjections)
BlockT = TypeVar("BlockT", bound=Block)


def attention_from_torch(attention: nn.MultiheadAttention, kind: type[A], *, window: int) -> A:
    """Make a continual attention layer with the weights of ``torch.nn.MultiheadAttention``.

    Args:
        attention: Self-attention: keys and values of the embedding's width.
        kind: Layer to make: ``SingleOutputAttention``, ``RetroactiveAttention`` or ``AttentionProjections``.
        window: Frames N attended, which torch's layer leaves to its input.

    Returns:
        The layer. At each step it answers as torch's layer does over the last N frames.

    Raises:
        ConfigError: If the layer has kdim, vdim, add_bias_kv or add_zero_attn, or ``window`` is below one.

    Example:
        >>> import torch
        >>> from coadtr.layers import RetroactiveAttention
        >>> theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        >>> ours = attention_from_torch(theirs, RetroactiveAttention, window=4)
        >>> clip = torch.randn(1, 4, 8)
        >>> torch.allclose(ours(clip), theirs(clip, clip, clip)[0], atol=1e-6)
        True
    """
    require_type(attention, nn.MultiheadAttention, "attention_from_torch")
    return build_attention(attention, window, kind)


def attention_to_torch(attention: AttentionProjections) -> nn.MultiheadAttention:
    """Make a ``torch.nn.MultiheadAttention`` (batch first) with the weights of an attention layer.

    Args:
        attention: The layer; its window is not known to torch's.

    Returns:
        Torch's layer, with biases if either projection has one. Which frames ask is up to its caller: a look-ahead is
        not part of it.

    Raises:
        ConfigError: If it is another kind of layer.

    Example:
        >>> from coadtr.layers import SingleOutputAttention
        >>> attention_to_torch(SingleOutputAttention(8, 2, window=4)).in_proj_weight.shape
        torch.Size([24, 8])
    """
    require_type(attention, AttentionProjections, "attention_to_torch")
    theirs = nn.MultiheadAttention(
        attention.embed_dim,
        attention.num_heads,
        dropout=attention.dropout,
        bias=attention.in_bias or attention.out_bias,
        batch_first=True,
    )
    like(theirs, attention)
    copy_weights(attention, theirs)
    return theirs


def _parts(layer: Any) -> BlockParts:
    require_type(layer, nn.TransformerEncoderLayer, "a conversion of torch.nn.TransformerEncoder")
    rates = {layer.dropout.p, layer.dropout1.p, layer.dropout2.p}
    if len(rates) > 1:
        raise ConfigError(f"dropout={sorted(rates)}: coadtr's blocks have one rate for all branches; set them alike")
    return BlockParts(
        layer.self_attn,
        layer.norm1,
        layer.linear1,
        layer.activation,
        layer.linear2,
        layer.norm2,
        layer.dropout.p,
        layer.norm_first,
    )


def block_from_torch(layer: nn.TransformerEncoderLayer, kind: type[BlockT], *, window: int) -> BlockT:
    """Make a continual block with the weights of ``torch.nn.TransformerEncoderLayer``.

    Args:
        layer: Torch's layer, post-norm or pre-norm.
        kind: Block to make: ``SingleOutputBlock``, ``RetroactiveBlock`` or ``EncoderBlock``.
        window: Frames N attended.

    Returns:
        The block. At each step it answers as torch's layer does over the last N frames.

    Raises:
        ConfigError: If coadtr has no such block: another activation than exact GELU or ReLU, another eps than 1e-5,
            dropout rates that differ, or attention as :func:`attention_from_torch` refuses it.

    Example:
        >>> import torch
        >>> from coadtr.layers import RetroactiveBlock
        >>> theirs = torch.nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True).eval()
        >>> clip = torch.randn(1, 4, 8)
        >>> torch.allclose(block_from_torch(theirs, RetroactiveBlock, window=4)(clip), theirs(clip), atol=1e-5)
        True
    """
    return build_block(_parts(layer), window, kind)


def block_to_torch(block: Block) -> nn.TransformerEncoderLayer:
    """Make a ``torch.nn.TransformerEncoderLayer`` (batch first) with the weights of a block.

    Args:
        block: The block; its window is not known to torch's.

    Returns:
        Torch's layer, with biases of zero where the block has none.

    Raises:
        ConfigError: If it is no block of multi-head attention.

    Example:
        >>> from coadtr.layers import SingleOutputAttention, SingleOutputBlock
        >>> block_to_torch(SingleOutputBlock(SingleOutputAttention(8, 2, window=4), ff_dim=16)).linear1.out_features
        16
    """
    found = describe_ours(block)
    theirs = nn.TransformerEncoderLayer(
        found.embed_dim,
        found.num_heads,
        found.ff_dim,
        dropout=found.dropout,
        activation=found.activation,
        batch_first=True,
        norm_first=found.norm_first,
    )
    theirs.self_attn.dropout = found.attention_dropout
    like(theirs, block)
    copy_weights(block, _parts(theirs))
    return theirs


def encoder_from_torch(encoder: nn.TransformerEncoder, *, window: int) -> ContinualEncoder:
    """Make a continual encoder with the weights of ``torch.nn.TransformerEncoder``, of any depth.

    Args:
        encoder: Torch's encoder, its layers alike, without a final norm.
        window: Frames N attended.

    Returns:
        The encoder. At each step it answers as torch's does for the last of the last N frames.

    Raises:
        ConfigError: If there is a final norm, the layers differ, or one is refused by :func:`block_from_torch`.

    Example:
        >>> import torch
        >>> layer = torch.nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True)
        >>> theirs = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
        >>> clip = torch.randn(1, 4, 8)
        >>> ours = encoder_from_torch(theirs, window=4)
        >>> torch.allclose(ours.answer_clip(clip), theirs(clip)[:, -1], atol=1e-5)
        True
    """
    require_type(encoder, nn.TransformerEncoder, "encoder_from_torch")
    if encoder.norm is not None:
        raise ConfigError(
            f"norm={encoder.norm}: a ContinualEncoder ends with its last block; set norm=None before converting, and "
            "apply the norm to the answers"
        )
    return build_encoder([_parts(layer) for layer in encoder.layers], window)


def encoder_to_torch(encoder: ContinualEncoder) -> nn.TransformerEncoder:
    """Make a ``torch.nn.TransformerEncoder`` (batch first, without a final norm) with the weights of an encoder.

    Args:
        encoder: The encoder; its window is not known to torch's.

    Returns:
        Torch's encoder: on the last N frames, its row k before the last is the step's answer, k the look-ahead.

    Raises:
        ConfigError: If it is no ContinualEncoder.

    Example:
        >>> from coadtr.layers import ContinualEncoder
        >>> len(encoder_to_torch(ContinualEncoder(3, 8, 2, window=4, ff_dim=16)).layers)
        3
    """
    require_type(encoder, ContinualEncoder, "encoder_to_torch")
    layers = [block_to_torch(block) for block in blocks_of(encoder)]
    theirs = nn.TransformerEncoder(layers[0], len(layers), enable_nested_tensor=False)
    theirs.layers = nn.ModuleList(layers)
    return theirs.train(encoder.training)
