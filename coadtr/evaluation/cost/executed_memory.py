"""Multiply-accumulates of LSTR, TeSTra and CMeRT as executed, by formula."""

from __future__ import annotations

from coadtr.models import CMeRTConfig, MemoryConfig, WindowedMemoryConfig

__all__ = ["memory_macs"]


def memory_macs(config: MemoryConfig) -> dict[str, int]:
    """Compute the multiply-accumulates of one step of LSTR, TeSTra or CMeRT by block.

    For D channels, E embedding, F feed-forward width, C classes, W work frames, n samples of the long memory, Q and R
    learned queries, and L layers of the decoder. Blocks are numbered through both compressions and the decoder, and in
    CMeRT, with G generated tokens and V = W + context frames, on through two stacks more::

        two embeddings            2 D E, and E C for the head
        first compression         cross-attention 2 E^2 + Q E + Q E^2, and Q n E (not TeSTra) feed-forward 2 Q E F
        second, first layer       cross-attention 2 R E^2 + 2 Q E^2 + 2 R Q E                 feed-forward 2 R E F
                other layers      the same, and self-attention 4 R E^2 + 2 R^2 E
        decoder of m memory keys, R in LSTR and R + W in TeSTra
                all but the last  self-attention 4 W E^2 + 2 W^2 E
                                  cross-attention 2 W E^2 + 2 m E^2 + 2 W m E                 feed-forward 2 W E F
                last              self-attention 2 E^2 + 2 W E^2 + 2 W E
                                  cross-attention 2 E^2 + 2 m E^2 + 2 m E                     feed-forward 2 E F
        CMeRT: the decoder with V for W, m = R + V, and a last layer like the others
                generation        as the second compression, with G for R and R for Q
                refinement        as the last layer of a decoder of m = R + W + G

    The self-attention of learned queries in first layers follows from the weights alone, and is kept with the state.

    Args:
        config: Settings of the model.

    Returns:
        The terms by name of the block, in order.

    Source: Xu et al., NeurIPS 2021, section 3; Zhao and Kraehenbuehl, ECCV 2022, section 4; as `coadtr.models` computes
    them.

    Example:
        >>> from coadtr.models import LSTRConfig
        >>> sizes = {"embed_dim": 8, "num_heads": 2, "ff_dim": 8, "window": 12, "work_frames": 4, "memory_depth": 1}
        >>> found = memory_macs(LSTRConfig(input_dim=6, num_classes=3, depth=1, **sizes))
        >>> found["inputs"], found["long_embed"], found["decoder 1 cross-attention"], found["head"]
        (48, 48, 1536, 24)
    """
    width, work = config.embed_dim, min(config.work_frames, config.window)
    first, second = config.long_queries, config.memory_queries
    square, hidden = width * width, width * config.ff_dim
    found = {"inputs": config.input_dim * width, "long_embed": config.input_dim * width}
    summed = config.long_samples * first * width if isinstance(config, WindowedMemoryConfig) else 0
    found["decoder 1 cross-attention"] = (2 + first) * square + first * width + summed
    found["decoder 1 feed-forward"] = 2 * first * hidden

    def layer(number: int, tokens: int, asking: int, keys: int, *, mixes: bool) -> None:
        if mixes:
            found[f"decoder {number} self-attention"] = 2 * (asking + tokens) * square + 2 * asking * tokens * width
        found[f"decoder {number} cross-attention"] = 2 * (asking + keys) * square + 2 * asking * keys * width
        found[f"decoder {number} feed-forward"] = 2 * asking * hidden

    for index in range(config.memory_depth):
        layer(index + 2, second, second, first, mixes=index > 0)
    decoded = config.memory_depth + 2
    if isinstance(config, CMeRTConfig):
        tokens, future = min(work + config.context_frames, config.window), config.future_queries
        for index in range(config.depth):
            layer(decoded + index, tokens, tokens, second + tokens, mixes=True)
        decoded += config.depth
        for index in range(config.future_depth):
            layer(decoded + index, future, future, second, mixes=index > 0)
        layer(decoded + config.future_depth, work, 1, second + work + future, mixes=True)
        return found | {"head": width * config.num_classes}
    keys = second if isinstance(config, WindowedMemoryConfig) else second + work
    for index in range(config.depth):
        last = index == config.depth - 1
        layer(decoded + index, work, 1 if last else work, keys, mixes=True)
    return found | {"head": width * config.num_classes}
