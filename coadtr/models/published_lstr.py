"""Names that the published LSTR gives to its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from coadtr.models.lstr import LSTR

__all__ = ["lstr_names", "lstr_weights"]

Pairs = Iterator[tuple[str, str]]

# The published attention keeps its three projections in one weight, ours in two.
QUERIES, KEYS = " (queries)", " (keys and values)"


def lstr_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split the published weights that hold queries, keys and values, ``(3 E, ...)``, into the two that ours has.

    Args:
        weights: State dict under the published names.

    Returns:
        The same under the names that `lstr_names` knows; tensors are not copied.

    Example:
        >>> import torch
        >>> {name: tuple(part.shape) for name, part in lstr_weights({"in_proj_bias": torch.zeros(6)}).items()}
        {'in_proj_bias (queries)': (2,), 'in_proj_bias (keys and values)': (4,)}
    """
    split: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if "in_proj_" in name:
            split[name + QUERIES], split[name + KEYS] = tensor.tensor_split([len(tensor) // 3])
        else:
            split[name] = tensor
    return split


def _affine(theirs: str, ours: str) -> Pairs:
    yield f"{theirs}.weight", f"{ours}.weight"
    yield f"{theirs}.bias", f"{ours}.bias"


def _stack(depth: int, theirs: str, ours: str) -> Pairs:
    for index in range(depth):
        published, layer = f"{theirs}.layers.{index}", f"{ours}.layers.{index}"
        for name, attention in (("self_attn", "self_attention"), ("multihead_attn", "cross_attention")):
            for kind, keys in (("weight", "kv_proj.weight"), ("bias", "kv_bias")):
                yield f"{published}.{name}.in_proj_{kind}{QUERIES}", f"{layer}.{attention}.q_proj.{kind}"
                yield f"{published}.{name}.in_proj_{kind}{KEYS}", f"{layer}.{attention}.{keys}"
            yield from _affine(f"{published}.{name}.out_proj", f"{layer}.{attention}.out_proj")
        yield from _affine(f"{published}.linear1", f"{layer}.feed_forward.0")
        yield from _affine(f"{published}.linear2", f"{layer}.feed_forward.3")
        for norm in range(3):
            yield from _affine(f"{published}.norm{norm + 1}", f"{layer}.norms.{norm}")
    yield from _affine(f"{theirs}.norm", f"{ours}.norm")


def lstr_names(model: LSTR) -> Pairs:
    """Pair the name of each published weight, after `lstr_weights`, with ours.

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
