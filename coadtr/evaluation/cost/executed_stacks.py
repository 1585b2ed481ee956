"""Multiply-accumulates as executed by stacks of single-output blocks, by formula."""

from __future__ import annotations

from coadtr.models import NystroemConfig, StackConfig

__all__ = ["stacked_macs_by_block"]


def stacked_macs_by_block(config: StackConfig) -> dict[str, int]:
    """Compute the multiply-accumulates of one step of DeepCoT or of low-rank CoOadTR, by block.

    Products of matrices only, in the letters of `executed_macs`, with m landmarks::

        DeepCoT   D E + E C, and L blocks of  attention 4 E^2 + 2 N E                          feed-forward 2 E F
        Nystroem  D E + E C, and L blocks of  attention 2 E^2 + 2 m H E + m^2 H + N (E + m H)  feed-forward 2 E F

    Softmax-free attention has the products of the softmax's; the norms of its keys are sums.

    Args:
        config: Settings of the model.

    Returns:
        Multiply-accumulates by name of the block, in order.

    Example:
        >>> from coadtr.models import preset
        >>> sizes = {"embed_dim": 8, "num_heads": 2, "ff_dim": 8, "window": 4, "depth": 1}
        >>> stacked_macs_by_block(preset("deepcot", input_dim=6, num_classes=3, **sizes))
        {'inputs': 48, 'encoder 1 attention': 320, 'encoder 1 feed-forward': 128, 'head': 24}
    """
    width, window = config.embed_dim, config.window
    attention = 4 * width**2 + 2 * window * width
    if isinstance(config, NystroemConfig):
        asked = config.num_heads * config.num_landmarks
        attention = 2 * width**2 + 2 * asked * width + asked * config.num_landmarks + window * (width + asked)
    found = {"inputs": config.input_dim * width}
    for number in range(1, config.depth + 1):
        found[f"encoder {number} attention"] = attention
        found[f"encoder {number} feed-forward"] = 2 * width * config.ff_dim
    return found | {"head": width * config.num_classes}
