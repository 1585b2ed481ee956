"""Multiply-accumulates as executed, by formula: what the count of the dispatcher has to come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coadtr.errors import ConfigError
from coadtr.evaluation.cost.executed_memory import memory_macs
from coadtr.evaluation.cost.executed_recurrent import grab_macs, miniroad_macs, trn_macs
from coadtr.evaluation.cost.executed_stacks import stacked_macs_by_block
from coadtr.models import (
    CoOadTRConfig,
    GRABConfig,
    MemoryConfig,
    MiniROADConfig,
    ModelConfig,
    OadTRConfig,
    StackConfig,
    TRNConfig,
)

__all__ = ["executed_macs", "executed_macs_by_block"]


def executed_macs(config: ModelConfig) -> int:
    """Compute the multiply-accumulates of one step with a full window, as `macs_per_step` counts them.

    Products of matrices only: no biases, norms, activations, softmax, sums. D channels, E embedding, H heads,
    F feed-forward width, N window, C classes, L blocks; every model embeds and classifies, and OadTR runs its n tokens
    (the N frames, and a class token where it has a decoder) at every step::

        CoOadTR  D E + E C, and its blocks
          L = 1         attention 4 E^2 + 2 N E                                               feed-forward 2 E F
          L > 1  first  attention 3 E^2 + 2 N E + N^2 E + N E^2                               feed-forward 2 N E F
                     or           4 E^2 + 2 N E + N^2 H E   where N (H - 1) < E
                 middle attention 4 N E^2 + 2 N^2 E                                           feed-forward 2 N E F
                 last   attention 2 E^2 + 2 N E^2 + 2 N E                                     feed-forward 2 E F
                     or           4 E^2 + 2 N H E           where N (H - 1) < (N - 1) E
        OadTR    N D E + E C, and L blocks of
                        attention 4 n E^2 + 2 n^2 E                                           feed-forward 2 n E F
        decoder  E C more for the head, Q E C for its classifier, and for Q queries M layers of
                        self-attention 4 Q E^2 + 2 Q^2 E, cross-attention 2 Q E^2 + 2 n E^2 + 2 Q n E,
                        feed-forward 2 Q E^2
        LSTR, TeSTra, CMeRT  as `memory_macs` has it
        DeepCoT, low-rank CoOadTR: as `stacked_macs_by_block` has it

    The alternatives are those of a first block that folds its output projection into the cached values, and of a last
    block that attends without projecting keys and values: the layers choose by the conditions given. Where heads are
    one channel wide (E = H), folding takes no sums, so that no product is seen: 3 E^2 there.

    Args:
        config: Settings of the model.

    Returns:
        Multiply-accumulates of one step.

    Raises:
        ConfigError: If there is no formula for such a model.

    Source: the products of Hedegaard et al., ICLR 2023, section 3, and Wang et al., ICCV 2021, section 3, as
    `coadtr.layers` computes them.

    Example:
        >>> from coadtr.models import preset
        >>> executed_macs(preset("cooadtr_b1", input_dim=4096, num_classes=22))
        10639360
    """
    return sum(executed_macs_by_block(config).values())


def executed_macs_by_block(config: ModelConfig) -> dict[str, int]:
    """Compute the multiply-accumulates of one step by block, as `macs_by_block` counts them.

    Args:
        config: Settings of the model.

    Returns:
        The terms of `executed_macs` by name of the block, in order.

    Raises:
        ConfigError: If there is no formula for such a model.

    Example:
        >>> from coadtr.models import preset
        >>> sizes = {"embed_dim": 8, "num_heads": 2, "ff_dim": 8, "window": 4}
        >>> executed_macs_by_block(preset("cooadtr_b1", input_dim=6, num_classes=3, **sizes))
        {'inputs': 48, 'encoder 1 attention': 320, 'encoder 1 feed-forward': 128, 'head': 24}
    """
    found = next((formula for kind, formula in _FORMULAS.items() if isinstance(config, kind)), None)
    if found is None:
        raise ConfigError(f"no formula for {config.kind}: count its step by macs_per_step instead")
    return found(config)


def _cooadtr(config: CoOadTRConfig) -> dict[str, int]:
    width, window, heads = config.embed_dim, config.window, config.num_heads
    square = width * width
    folds, absorbs = window * (heads - 1) < width, window * (heads - 1) < (window - 1) * width
    first = 3 * square + 2 * window * width
    fold = square if width > heads else 0
    first += fold + window**2 * heads * width if folds else window**2 * width + window * square
    middle = 4 * window * square + 2 * window**2 * width
    last = 2 * square
    last += 2 * square + 2 * window * heads * width if absorbs else 2 * window * square + 2 * window * width
    alone = 4 * square + 2 * window * width
    attention = [alone] if config.depth == 1 else [first, *[middle] * (config.depth - 2), last]
    found = {"inputs": config.input_dim * width}
    for number, products in enumerate(attention, start=1):
        tokens = 1 if number == config.depth else window
        found[f"encoder {number} attention"] = products
        found[f"encoder {number} feed-forward"] = 2 * tokens * width * config.ff_dim
    return found | {"head": width * config.num_classes}


def _oadtr(config: OadTRConfig) -> dict[str, int]:
    width, classes, queries = config.embed_dim, config.num_classes, config.decoder_queries
    square, tokens = width * width, config.window + config.decoder
    found = {"inputs": config.window * config.input_dim * width}
    for number in range(1, config.depth + 1):
        found[f"encoder {number} attention"] = 4 * tokens * square + 2 * tokens**2 * width
        found[f"encoder {number} feed-forward"] = 2 * tokens * width * config.ff_dim
    if not config.decoder:
        return found | {"head": width * classes}
    for number in range(1, config.decoder_depth + 1):
        found |= {
            f"decoder {number} self-attention": 4 * queries * square + 2 * queries**2 * width,
            f"decoder {number} cross-attention": 2 * (queries + tokens) * square + 2 * queries * tokens * width,
            f"decoder {number} feed-forward": 2 * queries * square,
        }
    return found | {"decoder classifier": queries * width * classes, "head": 2 * width * classes}


_FORMULAS: dict[type[ModelConfig], Callable[[Any], dict[str, int]]] = {
    CoOadTRConfig: _cooadtr,
    OadTRConfig: _oadtr,
    StackConfig: stacked_macs_by_block,
    MiniROADConfig: miniroad_macs,
    TRNConfig: trn_macs,
    GRABConfig: grab_macs,
    MemoryConfig: memory_macs,
}
