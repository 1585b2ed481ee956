"""Names that the published LSTR gives to its weights."""

from __future__ import annotations

from collections.abc import Iterator

from coadtr.models.lstr import LSTR

__all__ = ["lstr_names"]

Pairs = Iterator[tuple[str, str]]


def _affine(theirs: str, ours: str) -> Pairs:
    yield f"{theirs}.weight", f"{ours}.weight"
    yield f"{theirs}.bias", f"{ours}.bias"


def _stack(depth: int, theirs: str, ours: str) -> Pairs:
    for index in range(depth):
        published, layer = f"{theirs}.layers.{index}", f"{ours}.layers.{index}"
        for name, attention in (("self_attn", "self_attention"), ("multihead_attn", "cross_attention")):
            yield f"{published}.{name}.in_proj_weight", f"{layer}.{attention}.in_proj.weight"
            yield f"{published}.{name}.in_proj_bias", f"{layer}.{attention}.in_proj.bias"
            yield from _affine(f"{published}.{name}.out_proj", f"{layer}.{attention}.out_proj")
        yield from _affine(f"{published}.linear1", f"{layer}.feed_forward.0")
        yield from _affine(f"{published}.linear2", f"{layer}.feed_forward.3")
        for norm in range(3):
            yield from _affine(f"{published}.norm{norm + 1}", f"{layer}.norms.{norm}")
    yield from _affine(f"{theirs}.norm", f"{ours}.norm")


def lstr_names(model: LSTR) -> Pairs:
    """Pair the published name of each weight with ours.

    Args:
        model: LSTR of the same settings.

    Yields:
        The published name and the name in the model's state dict.

    Source: amazon-science/long-short-term-transformer.

    Example:
        >>> from coadtr.models import LSTRConfig
        >>> model = LSTR(LSTRConfig(input_dim=6, num_classes=3, embed_dim=8, num_heads=2, ff_dim=8))
        >>> dict(lstr_names(model))["classifier.weight"]
        'head.weight'
    """
    yield from _affine("feature_head_work.input_linear.0", "inputs.embed")
    yield from _affine("feature_head_long.input_linear.0", "long_embed")
    yield "enc_queries.0.weight", "long_queries"
    yield "enc_queries.1.weight", "memory_queries"
    yield from _stack(1, "enc_modules.0", "compress")
    yield from _stack(model.config.memory_depth, "enc_modules.1", "refine")
    yield from _stack(model.config.depth, "dec_modules", "decoder")
    yield from _affine("classifier", "head")
