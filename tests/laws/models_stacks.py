"""Subjects of stacked single-output blocks: softmax-free attention, DeepCoT and low-rank CoOadTR, with slow references.

Each is given as the fields of a ``Subject``: that class imports this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from coadtr.layers import (
    NystroemAttention,
    SingleOutputAttention,
    SingleOutputBlock,
    SingleOutputStack,
    SoftmaxFreeAttention,
)
from coadtr.models import StackedModel, build_model, preset
from tests.laws import reference
from tests.laws.reference import Array

WIDTH, HEADS, HIDDEN, CHANNELS, CLASSES, LANDMARKS = 8, 2, 12, 6, 3, 3


def gaussian(query: Array, keys: Array, values: Array, heads: int) -> Array:
    """One query ``(E,)`` over keys and values ``(n, E)``, head by head and key by key."""
    width = len(query) // heads
    parts = []
    for head in range(heads):
        mine = slice(head * width, (head + 1) * width)
        total = np.zeros(width)
        for key, value in zip(keys[:, mine], values[:, mine], strict=True):
            total += math.exp(-((query[mine] - key) ** 2).sum() / (2 * width)) * value
        parts.append(total)
    return np.concatenate(parts)


def attended(layer: SingleOutputAttention | NystroemAttention, tokens: Array) -> Array:
    """What each frame of a stream is answered, from those of the window that ends with it."""
    windows = [tokens[max(0, t + 1 - layer.window) : t + 1] for t in range(len(tokens))]
    if isinstance(layer, NystroemAttention):
        return np.stack([reference.landmark_attention(layer, window)[-1] for window in windows])
    if not isinstance(layer, SoftmaxFreeAttention):
        return reference.attention(layer, tokens, band=True)
    answers = []
    for window in windows:
        q, k, v = reference.project(layer, window)
        answers.append(gaussian(q[-1], k, v, layer.num_heads))
    return reference.linear(layer.out_proj, np.stack(answers))


def entered(block: SingleOutputBlock, tokens: Array) -> Array:
    return reference.norm(block.attention_norm, tokens) if block.norm_first else tokens


def answered(block: SingleOutputBlock, tokens: Array) -> Array:
    y = tokens + attended(block.attention, entered(block, tokens))
    if block.norm_first:
        return y + reference.feed_forward(block.feed_forward, reference.norm(block.feed_forward_norm, y))
    y = reference.norm(block.attention_norm, y)
    return reference.norm(block.feed_forward_norm, y + reference.feed_forward(block.feed_forward, y))


def stack(layers: SingleOutputStack, sequence: Array) -> list[Array]:
    """What enters each block, and, last, what leaves the last."""
    tokens = [sequence]
    for block in layers.blocks:
        assert isinstance(block, SingleOutputBlock)
        tokens.append(answered(block, tokens[-1]))
    return tokens


def stack_state(layers: SingleOutputStack, sequence: Array) -> tuple[Any, ...]:
    states = []
    for block, tokens in zip(layers.blocks, stack(layers, sequence), strict=False):
        assert isinstance(block, SingleOutputBlock)
        low_rank = isinstance(block.attention, NystroemAttention)
        remember: Any = reference.landmark_state if low_rank else reference.ring_state
        states.append(remember(block.attention, entered(block, tokens)))
    return tuple(states)


def tokens_of(model: StackedModel, clip: Array, first: int) -> Array:
    table = reference.array(model.positions.table)
    positions: Array = np.stack([table[(first + i) % len(table)] for i in range(len(clip))])
    return reference.embed(model.inputs, clip) + positions


def answer(model: StackedModel, clip: Array, first: int) -> Array:
    encoded: Array = stack(model.encoder, tokens_of(model, clip, first))[-1][-1]
    return reference.linear(model.head, reference.norm(model.norm, encoded))


def _layers() -> Iterator[dict[str, Any]]:
    def attention(bias: bool, window: int) -> nn.Module:
        return SoftmaxFreeAttention(WIDTH, HEADS, window, in_bias=bias, out_bias=bias)

    def layers(kind: dict[str, Any], window: int) -> nn.Module:
        return SingleOutputStack(2, WIDTH, HEADS, window, ff_dim=HIDDEN, **kind)

    for bias in (False, True):
        yield {
            "name": "softmax_free_attention" + "_biases" * bias,
            "channels": WIDTH,
            "build": partial(attention, bias),
            "clip": lambda layer, clip, _: attended(layer, clip)[-1],
            "remember": reference.ring_state,
        }
    kinds: dict[str, dict[str, Any]] = {
        "soft": {"attention": "soft", "norm_first": True},
        "nystroem": {"attention": "nystroem", "num_landmarks": LANDMARKS},
    }
    for name, kind in kinds.items():
        yield {
            "name": f"stack_{name}",
            "channels": WIDTH,
            "build": partial(layers, kind),
            "clip": lambda module, clip, _: stack(module, clip)[-1][-1],
            "remember": stack_state,
            "reach": lambda window: 2 * (window - 1) + 1,
        }


def _model(name: str, published: str, depth: int, **changes: Any) -> dict[str, Any]:
    sizes: dict[str, Any] = {"embed_dim": WIDTH, "num_heads": HEADS, "ff_dim": HIDDEN, "depth": depth, **changes}
    sizes |= {"input_dim": CHANNELS, "num_classes": CLASSES}

    def build(window: int) -> nn.Module:
        return build_model(preset(published, window=window, num_positions=max(2, 2 * window - 1), **sizes))

    return {
        "name": name,
        "channels": CHANNELS,
        "build": build,
        "clip": answer,
        "remember": lambda model, frames: (stack_state(model.encoder, tokens_of(model, frames, 0)),),
        "reach": lambda window: depth * (window - 1) + 1,
    }


def stacked_subjects() -> Iterator[dict[str, Any]]:
    yield from _layers()
    yield _model("deepcot", "deepcot", 2)
    yield _model("deepcot_depth_3", "deepcot", 3, positions="learned", norm_first=True, activation="relu", in_bias=True)
    yield _model("deepcot_soft", "deepcot_soft", 2)
    yield _model("deepcot_soft_normalised", "deepcot_soft", 1, normalise=True)
    yield _model("nystroem", "nystroem", 1, num_landmarks=LANDMARKS)
    yield _model("nystroem_depth_2", "nystroem", 2, num_landmarks=1, in_bias=True)
