"""Multiply-accumulates of the recurrent models as executed, by formula."""

from __future__ import annotations

from coadtr.models import GRABConfig, MiniROADConfig, TRNConfig

__all__ = ["grab_macs", "miniroad_macs", "trn_macs"]


def grab_macs(config: GRABConfig) -> dict[str, int]:
    """Compute the multiply-accumulates of one step of GRAB by block.

    ``D E + 4 E R + (K + 2) E S + E C`` for D channels, E embedding, R channels of the recurrence, S of the bank with K
    averages each, C classes.

    Args:
        config: Settings of the model.

    Returns:
        The terms by name of the block, in order.

    Example:
        >>> grab_macs(GRABConfig(input_dim=6, num_classes=3, embed_dim=8, recurrence_dim=4, bank_dim=2))
        {'inputs': 48, 'recurrence': 128, 'bank': 96, 'head': 24}
    """
    width = config.embed_dim
    return {
        "inputs": config.input_dim * width,
        "recurrence": 4 * width * config.recurrence_dim,
        "bank": (config.horizons + 2) * width * config.bank_dim,
        "head": width * config.num_classes,
    }


def miniroad_macs(config: MiniROADConfig) -> dict[str, int]:
    """Compute the multiply-accumulates of one step of MiniROAD by block.

    ``D E + 3 G (E + G) + 6 (L - 1) G^2 + G C`` for D channels, E embedding, G hidden width, L layers, C classes.

    Args:
        config: Settings of the model.

    Returns:
        The terms by name of the block, in order.

    Source: An et al., ICCV 2023, section 3.

    Example:
        >>> miniroad_macs(MiniROADConfig(input_dim=6, num_classes=3, embed_dim=8, hidden_dim=4))
        {'inputs': 48, 'gru': 144, 'head': 12}
    """
    width, hidden = config.embed_dim, config.hidden_dim
    return {
        "inputs": config.input_dim * width,
        "gru": 3 * hidden * (width + hidden) + 6 * (config.depth - 1) * hidden**2,
        "head": hidden * config.num_classes,
    }


def trn_macs(config: TRNConfig) -> dict[str, int]:
    """Compute the multiply-accumulates of one step of TRN by block.

    For D channels, E embedding, G hidden width, K decoder steps, C classes::

        inputs   D E
        encoder  4 G (2 E + G)
        decoder  2 G^2 to begin, 8 K G^2 for its states, (K - 1) C G for the scores that it is fed with
        head     (K + 1) G C
        future   K G E

    Args:
        config: Settings of the model.

    Returns:
        The terms by name of the block, in order.

    Source: Xu et al., ICCV 2019, section 3.

    Example:
        >>> trn_macs(TRNConfig(input_dim=6, num_classes=3, embed_dim=8, hidden_dim=4, decoder_steps=2))
        {'inputs': 48, 'encoder': 320, 'decoder': 300, 'head': 36, 'future': 64}
    """
    width, hidden, steps = config.embed_dim, config.hidden_dim, config.decoder_steps
    square = hidden**2
    return {
        "inputs": config.input_dim * width,
        "encoder": 4 * hidden * (2 * width + hidden),
        "decoder": 2 * square + 8 * steps * square + (steps - 1) * config.num_classes * hidden,
        "head": (steps + 1) * hidden * config.num_classes,
        "future": steps * hidden * width,
    }
