"""Weights of the published implementations, under the names that they were saved with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from coadtr.errors import CheckpointError
from coadtr.models.base import OnlineModel
from coadtr.models.config import TransformerConfig
from coadtr.models.cooadtr import CoOadTR
from coadtr.models.lstr import LSTR
from coadtr.models.miniroad import MiniROAD
from coadtr.models.oadtr import OadTR
from coadtr.models.published_lstr import lstr_names, lstr_weights

__all__ = ["load_published"]

Pairs = Iterator[tuple[str, str]]


def _affine(theirs: str, ours: str) -> Pairs:
    yield f"{theirs}.weight", f"{ours}.weight"
    yield f"{theirs}.bias", f"{ours}.bias"


def _cooadtr_block(attention: str, names: tuple[str, str, str, str], ours: str) -> Pairs:
    yield f"{attention}.in_proj_weight", f"{ours}.attention.in_proj.weight"
    yield f"{attention}.in_proj_bias", f"{ours}.attention.in_proj.bias"
    yield from _affine(f"{attention}.out_proj", f"{ours}.attention.out_proj")
    parts = ("attention_norm", "feed_forward.0", "feed_forward.3", "feed_forward_norm")
    for theirs, part in zip(names, parts, strict=True):
        yield from _affine(theirs, f"{ours}.{part}")


def _cooadtr(model: CoOadTR) -> Pairs:
    yield from _affine("0", "inputs.embed")
    yield "1.pe.weight", "positions.table"
    yield "1.pe.pattern", "positions.table"
    if model.config.depth == 1:
        yield from _cooadtr_block("3.0.1", ("3.1.fn", "3.2.1.0", "3.2.1.3", "3.3.fn"), "encoder.last")
    else:
        inner = "3.0.1.fn"
        names = (f"{inner}.0", f"{inner}.1.fn.0", f"{inner}.1.fn.3", f"{inner}.2")
        yield from _cooadtr_block("3.0.0.1", names, "encoder.first")
        inner = "3.1.fn"
        names = (f"{inner}.1.fn", f"{inner}.2.1.0", f"{inner}.2.1.3", f"{inner}.3.fn")
        yield from _cooadtr_block(f"{inner}.0.1", names, "encoder.last")
    yield from _affine("4.fn", "norm")
    yield from _affine("5", "head")


def _oadtr(model: OadTR) -> Pairs:
    yield from _affine("linear_encoding", "inputs.embed")
    yield "position_encoding.pe.weight", "positions"
    for depth in range(model.config.depth):
        attention, feed_forward = f"encoder.net.{2 * depth}.fn", f"encoder.net.{2 * depth + 1}.fn"
        ours = f"blocks.{depth}"
        yield f"{attention}.fn.qkv.weight", f"{ours}.attention.in_proj.weight"
        yield from _affine(f"{attention}.fn.proj", f"{ours}.attention.out_proj")
        yield from _affine(f"{attention}.norm", f"{ours}.attention_norm")
        yield from _affine(f"{feed_forward}.norm", f"{ours}.feed_forward_norm")
        yield from _affine(f"{feed_forward}.fn.net.0", f"{ours}.feed_forward.0")
        yield from _affine(f"{feed_forward}.fn.net.3", f"{ours}.feed_forward.3")
    yield from _affine("pre_head_ln", "norm")
    yield from _affine("mlp_head", "head")
    if model.decoder is not None:
        yield "cls_token", "class_token"
        yield "decoder_cls_token", "decoder.queries"
        yield from _affine("classifier", "decoder.classifier")
        yield from _affine("decoder.norm", "decoder.norm")
        for depth in range(model.config.decoder_depth):
            yield from _oadtr_decoder_layer(f"decoder.layers.{depth}")


def _oadtr_decoder_layer(name: str) -> Pairs:
    for attention in ("self_attention", "cross_attention"):
        for part in ("query", "key", "value", "out"):
            yield from _affine(f"{name}.{attention}.{part}_projection", f"{name}.{attention}.{part}")
    yield from _affine(f"{name}.conv1", f"{name}.feed_forward.0")
    yield from _affine(f"{name}.conv2", f"{name}.feed_forward.3")
    for norm in range(3):
        yield from _affine(f"{name}.norm{norm + 1}", f"{name}.norms.{norm}")


def _miniroad(model: MiniROAD) -> Pairs:
    yield from _affine("layer1.0", "inputs.embed")
    yield from _affine("layer1.1", "norm")
    for depth in range(model.config.depth):
        for theirs, ours in (("ih", "input"), ("hh", "hidden")):
            yield f"gru.weight_{theirs}_l{depth}", f"gru.{depth}.{ours}.weight"
            yield f"gru.bias_{theirs}_l{depth}", f"gru.{depth}.{ours}.bias"
    yield from _affine("f_classification.0", "head")


# Saved by the published models, and used by none of their outputs.
UNUSED = ("position_ids", "decoder_position_encoding.", "cls_token", "classifier.", "pos_encoding.")


def load_published(model: OnlineModel, weights: Mapping[str, Tensor]) -> None:
    """Load weights saved by the published code of CoOadTR, OadTR, MiniROAD or LSTR into a model of the same settings.

    Args:
        model: CoOadTR of depth one or two, OadTR, MiniROAD, or LSTR.
        weights: State dict under the published names.

    Raises:
        CheckpointError: If the published code has no such model, or a name is missing, left over, or of another shape.

    Source: names of LukasHedegaard/CoOadTR, wangxiang1230/OadTR, jbistanbul/MiniROAD and
    amazon-science/long-short-term-transformer.
    """
    match model:
        case CoOadTR() if model.config.depth <= 2:
            pairs = list(_cooadtr(model))
        case OadTR():
            pairs = list(_oadtr(model))
        case MiniROAD():
            pairs = list(_miniroad(model))
        case LSTR():
            weights, pairs = lstr_weights(weights), list(lstr_names(model))
        case _:
            size = f" of depth {model.config.depth}" if isinstance(model.config, TransformerConfig) else ""
            raise CheckpointError(f"there are no published weights for {type(model).__name__}{size}")
    state = model.state_dict()
    mapped = {ours: (theirs, weights[theirs]) for theirs, ours in pairs if theirs in weights}
    expected = {name for name in state if not name.startswith(("inputs.mean", "inputs.scale"))}
    if missing := sorted(expected - set(mapped)):
        names = sorted({theirs for theirs, ours in pairs if ours in missing})
        raise CheckpointError(
            f"the published weights lack {', '.join(names)}: is the model's depth or kind another one?"
        )
    known = {theirs for theirs, _ in pairs}
    left = sorted(name for name in weights if name not in known and not any(part in name for part in UNUSED))
    if left:
        raise CheckpointError(f"the model has no place for the published weights {', '.join(left[:5])}")
    tensors = {ours: _without_kernel(tensor, state[ours]) for ours, (_, tensor) in mapped.items()}
    for ours, tensor in tensors.items():
        if tensor.shape != state[ours].shape:
            raise CheckpointError(
                f"published weight {mapped[ours][0]} has shape {tuple(tensor.shape)}, "
                f"the model wants {tuple(state[ours].shape)}"
            )
    with torch.no_grad():
        for ours, tensor in tensors.items():
            state[ours].copy_(tensor)


def _without_kernel(tensor: Tensor, ours: Tensor) -> Tensor:
    """Make a linear weight of a convolution's of kernel size one."""
    return tensor.squeeze(-1) if tensor.dim() == 3 and ours.dim() == 2 else tensor
