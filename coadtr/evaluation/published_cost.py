"""Multiply-accumulates of one prediction, counted as the literature counts them.

Published tables were made with ptflops, which sees some operations and not others. To be compared with them a figure
must leave out the same ones, so this is a second column beside the executed count of :mod:`coadtr.evaluation.cost`,
never a replacement for it. What is counted:

CoOadTR (one step)
    Every linear layer with its bias; single-output attention ``2 N E + 2 E``; retroactive attention
    ``7 N E + 2 N H - 3 E``, at the bias of an output projection even where there is none. In a stack, the last block
    projects queries, keys and values of all N tokens, and its feed-forward network is not seen by the counter.
OadTR (one clip)
    Linear and convolution layers of all tokens, linear biases once a call; one operation a value for each layer norm
    and each GELU of the encoder; no attention products and no softmax. The head without decoder runs on all N tokens,
    and the unused classifier that the published b1 and b2 own counts once.

Source: ptflops 0.7.0 and the counters of continual-transformers; the table of Hedegaard et al., ICLR 2023, Tables 1
and 2.
"""

from __future__ import annotations

from coadtr.errors import ConfigError
from coadtr.models import CoOadTRConfig, ModelConfig, OadTRConfig, OnlineModel, TransformerConfig

__all__ = ["published_clip_macs", "published_macs", "published_macs_by_block", "published_parameters"]


def published_macs(config: ModelConfig) -> int:
    """Count the multiply-accumulates of one prediction by the published convention.

    Args:
        config: Settings of the model.

    Returns:
        Multiply-accumulates: of one step for CoOadTR, of one clip of N frames for OadTR.

    Raises:
        ConfigError: If nothing was published for such a model (CoOadTR with more than two blocks).

    Example:
        >>> from coadtr.models import preset
        >>> round(published_macs(preset("cooadtr_b1", input_dim=4096, num_classes=22)) / 1e6, 2)
        10.65
    """
    return sum(published_macs_by_block(config).values())


def published_macs_by_block(config: ModelConfig) -> dict[str, int]:
    """Count the multiply-accumulates of one prediction by the published convention, by block.

    The blocks are those of `coadtr.evaluation.macs_by_block`, with what only this convention counts: norms, and an
    unused classifier. A block that runs and is not seen counts 0.

    Args:
        config: Settings of the model.

    Returns:
        Multiply-accumulates by name of the block, in order; together they are `published_macs`.

    Raises:
        ConfigError: If nothing was published for such a model (CoOadTR with more than two blocks).

    Example:
        >>> from coadtr.models import preset
        >>> blocks = published_macs_by_block(preset("cooadtr_b2", input_dim=4096, num_classes=22))
        >>> blocks["encoder 2 attention"], blocks["encoder 2 feed-forward"]
        (202509312, 0)
    """
    match config:
        case CoOadTRConfig(depth=1 | 2):
            return _cooadtr(config)
        case OadTRConfig():
            return _oadtr(config)
    size = f" of depth {config.depth}" if isinstance(config, TransformerConfig) else ""
    raise ConfigError(f"no published way to count {config.kind}{size}: use the executed count instead")


def published_parameters(model: OnlineModel) -> int:
    """Count parameters as the literature does: with tables that are not trained and weights that nothing uses.

    Args:
        model: The model.

    Returns:
        Its parameters, and for CoOadTR those of a fixed position table; for OadTR-b1 and -b2 those of the class token
        and the classifier, for OadTR those of the decoder positions, which the published models own without use.

    Example:
        >>> from coadtr.models import build_model, preset
        >>> published_parameters(build_model(preset("cooadtr_b1", input_dim=3072, num_classes=22)))
        9598998
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    match model.config:
        case CoOadTRConfig(positions="fixed") as config:
            return total + config.cycle * config.embed_dim
        case OadTRConfig(decoder=False) as config:
            return total + config.embed_dim + _linear(config.embed_dim, config.num_classes)
        case OadTRConfig() as config:
            return total + config.decoder_queries * config.embed_dim
    return total


def published_clip_macs(config: ModelConfig) -> int:
    """Count the multiply-accumulates of a clip through CoOadTR, as its authors count its regular mode.

    Their counter multiplies the values that enter a layer by the last length of what leaves it, and the continual
    linear layers have time last: the embedding counts as ``D N N`` and not as ``D N E``, the feed-forward network and
    the head of the one token that is left as their inputs alone. Attention counts ``2 N E + 2 E`` of the newest token,
    ``2 N N E + 2 N E`` of all.

    Args:
        config: Settings of a CoOadTR of one or two blocks.

    Returns:
        Multiply-accumulates of a clip of N frames.

    Raises:
        ConfigError: If nothing was published for such a model.

    Source: continual-transformers, ``examples/CoViT.py`` and ``flops`` of its attention; ptflops 0.7.0.

    Example:
        >>> from coadtr.models import preset
        >>> published_clip_macs(preset("cotransformer_b1", input_dim=128, num_classes=10))
        15198459
    """
    if not isinstance(config, CoOadTRConfig) or config.depth > 2:
        raise ConfigError(f"no published way to count a clip of {config.kind}: use the executed count instead")
    width, hidden, window = config.embed_dim, config.ff_dim, config.window
    projections = window * _linear(width, 3 * width, bias=config.in_bias)
    inputs = config.input_dim * window * window + window
    last = projections + 2 * window * width + 2 * width + _linear(width, width) + (width + 1) + (hidden + 1)
    head = width + 1
    if config.depth == 1:
        return inputs + last + head
    attention = projections + 2 * window * window * width + 2 * window * width + window * _linear(width, width)
    feed_forward = window * (_linear(width, hidden) + _linear(hidden, width))
    return inputs + attention + feed_forward + last + head


def _linear(inputs: int, outputs: int, tokens: int = 1, *, bias: bool = True) -> int:
    return tokens * (inputs + bias) * outputs


def _cooadtr(config: CoOadTRConfig) -> dict[str, int]:
    width, hidden, window, heads = config.embed_dim, config.ff_dim, config.window, config.num_heads
    projections = _linear(width, 3 * width, bias=config.in_bias)
    out = _linear(width, width)
    feed_forward = _linear(width, hidden) + _linear(hidden, width)
    single = 2 * window * width + 2 * width
    inputs = {"inputs": _linear(config.input_dim, width)}
    head = {"head": _linear(width, config.num_classes)}
    if config.depth == 1:
        block = {"encoder 1 attention": projections + single + out, "encoder 1 feed-forward": feed_forward}
        return inputs | block | head
    retroactive = 7 * window * width + 2 * window * heads - 3 * width
    blocks = {
        "encoder 1 attention": projections + retroactive + window * out,
        "encoder 1 feed-forward": window * feed_forward,
        "encoder 2 attention": window * projections + single + out,
        "encoder 2 feed-forward": 0,
    }
    return inputs | blocks | head


def _oadtr(config: OadTRConfig) -> dict[str, int]:
    width, hidden, window, classes = config.embed_dim, config.ff_dim, config.window, config.num_classes
    tokens = window + config.decoder
    found = {"inputs": window * config.input_dim * width + width}
    for number in range(1, config.depth + 1):
        found |= {
            # qkv without, output projection with bias
            f"encoder {number} attention": 4 * tokens * width * width + width,
            # with one operation a value for the GELU
            f"encoder {number} feed-forward": 2 * tokens * width * hidden + hidden + width + tokens * hidden,
            f"encoder {number} norms": 2 * tokens * width,
        }
    found["norm"] = tokens * width
    if not config.decoder:
        return found | {"head": window * width * classes + classes, "unused classifier": _linear(width, classes)}
    queries = config.decoder_queries
    for number in range(1, config.decoder_depth + 1):
        found |= {
            f"decoder {number} self-attention": 4 * queries * width * width + 4 * width,
            # q and out of the queries, k and v of all tokens
            f"decoder {number} cross-attention": 2 * (queries + tokens) * width * width + 4 * width,
            f"decoder {number} feed-forward": 2 * _linear(width, width, queries),
            f"decoder {number} norms": 3 * queries * width,
        }
    found |= {"decoder norm": queries * width, "decoder classifier": queries * width * classes + classes}
    return found | {"head": 2 * width * classes + classes}
