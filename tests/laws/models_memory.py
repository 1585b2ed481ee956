"""Subjects of the models with two memories, with slow references that run the clip from its frames.

Each is given as the fields of a ``Subject``: that class imports this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from coadtr.layers.memory import MemoryAttention
from coadtr.layers.memory_stack import MemoryLayer, MemoryStack
from coadtr.models import LSTR, CMeRT, TeSTra, WindowedMemory, build_model, preset
from coadtr.models.memory import MemoryModel
from tests.laws import reference
from tests.laws.reference import Array

WIDTH, HEADS, HIDDEN, CHANNELS, CLASSES = 8, 2, 12, 6, 3

# Answers depend on all frames before them: on more than any test has.
WHOLE_PAST = 10**6


def project(layer: MemoryAttention, x: Array) -> tuple[Array, Array, Array]:
    """Unscaled queries, keys and values, heads side by side."""
    k, v = np.split(reference.linear(layer.kv_proj, x) + reference.array(layer.kv_bias), 2, axis=-1)
    return reference.linear(layer.q_proj, x), k, v


def attention(layer: MemoryAttention, queries: Array, memory: Array, seen: list[slice]) -> Array:
    """Each query attends its own slice of the memory, one after the other."""
    asked = project(layer, queries)[0]
    _, keys, values = project(layer, memory)
    attended = [
        reference.attend(one, keys[part], values[part], layer.num_heads) if len(keys[part]) else np.zeros(len(one))
        for one, part in zip(asked, seen, strict=True)
    ]
    return reference.linear(layer.out_proj, np.stack(attended))


def finish(layer: MemoryLayer, x: Array, attended: Array) -> Array:
    x = reference.norm(layer.norms[1], x + attended)
    return reference.norm(layer.norms[2], x + reference.feed_forward(layer.feed_forward, x))


def mix(layer: MemoryLayer, x: Array, seen: list[slice]) -> Array:
    return reference.norm(layer.norms[0], x + attention(layer.self_attention, x, x, seen))


def stack(
    layers: MemoryStack, x: Array, memory: Array, *, causal: bool = False, itself: bool = False, together: int = 0
) -> Array:
    """Decoder layers over tokens ``(n, E)``; with ``itself`` the memory is followed by what the tokens came as.

    The last ``together`` tokens attend all others and each other, even where the others are causal.
    """
    came, length, alone = x, len(memory), len(x) - together
    memory = np.concatenate([memory, came]) if itself else memory
    for index in range(len(layers.layers)):
        layer = layers.layer(index)
        x = mix(layer, x, [slice(i + 1) if causal and i < alone else slice(None) for i in range(len(x))])
        seen = [slice(length + i + 1) if itself and i < alone else slice(None) for i in range(len(x))]
        x = finish(layer, x, attention(layer.cross_attention, x, memory, seen))
    return reference.norm(layers.norm, x)


def embeddings(model: MemoryModel, frames: Array) -> tuple[Array, Array]:
    """Frames ``(T, D)`` for the work memory and for the long one."""
    frames = frames.astype(float)
    if model.inputs.normalise:
        frames = (frames - reference.array(model.inputs.mean)) * reference.array(model.inputs.scale)
    work, long = (reference.linear(layer, frames) for layer in (model.inputs.embed, model.long_embed))
    return np.maximum(work, 0), np.maximum(long, 0)


def first_queries(model: MemoryModel) -> Array:
    queries = reference.array(model.long_queries)
    return mix(model.compress.layer(0), queries, [slice(None)] * len(queries))


def heads(x: Array) -> Array:
    """Split ``(n, E)`` into ``(H, n, E/H)``."""
    return x.reshape(len(x), HEADS, WIDTH // HEADS).transpose(1, 0, 2)


def scaled(model: MemoryModel) -> Array:
    """First queries, projected: ``(H, Q, E/H)``."""
    asked = project(model.compression, first_queries(model))[0]
    return heads(asked) / math.sqrt(WIDTH / HEADS)


def constants(model: MemoryModel) -> tuple[Array, Array, Array]:
    queries = reference.array(model.memory_queries)
    refined = mix(model.refine.layer(0), queries, [slice(None)] * len(queries))
    if isinstance(model, CMeRT):
        future = reference.array(model.future_queries)
        refined = np.concatenate([refined, mix(model.generate.layer(0), future, [slice(None)] * len(future))])
    return first_queries(model), scaled(model), refined


def long_positions(model: WindowedMemory) -> Array:
    """Positions of the samples of the long memory, ``(n, E)``; CMeRT has none, which is one for all."""
    if isinstance(model, CMeRT):
        return np.zeros((1, WIDTH))
    assert isinstance(model, LSTR)
    return reference.array(model.positions)[: model.config.long_samples]


def compressed(model: WindowedMemory, clip: Array) -> Array:
    """The memory that R queries make of the samples before the work memory."""
    long, samples, stride = embeddings(model, clip)[1], model.config.long_samples, model.config.long_stride
    before = max(0, len(clip) - model.work_frames)
    distances = [d for d in range(samples * stride, 0, -stride) if d <= before]
    table = np.broadcast_to(long_positions(model), (samples, WIDTH))
    memory = np.array([long[before - d] + table[samples - d // stride] for d in distances]).reshape(-1, WIDTH)
    found = stack(model.compress, reference.array(model.long_queries), memory)
    return stack(model.refine, reference.array(model.memory_queries), found)


def lstr(model: LSTR, clip: Array, _: int) -> Array:
    """Answer the last frame of a clip; the newest frame has the last position, whatever is absent."""
    work, table = embeddings(model, clip)[0][-model.work_frames :], reference.array(model.positions)
    memory = compressed(model, clip)
    decoded = stack(model.decoder, work + table[len(table) - len(work) :], memory, causal=True)
    return reference.linear(model.head, decoded[-1])


def cmert_answers(model: CMeRT, clip: Array) -> tuple[Array, Array, Array, Array]:
    """Answer the work memory and the frames anticipated, and give the drafts of both and the generated tokens.

    Logits ``(w, C)`` and ``(A, C)``, drafts ``(w + A, C)``, tokens ``(G, C)``.
    """
    memory = compressed(model, clip)
    future = stack(model.generate, reference.array(model.future_queries), memory)
    recent, table = embeddings(model, clip)[0][-model.recent_frames :], reference.array(model.positions)
    ahead, size = len(model.anticipated), model.work_frames
    tokens = recent + table[model.recent_frames - len(recent) : model.recent_frames]
    tokens = np.concatenate([tokens, reference.array(model.anticipated) + table[size : size + ahead]])
    drafts = stack(model.decoder, tokens, memory, causal=True, itself=True, together=ahead)[
        -min(size, len(clip)) - ahead :
    ]
    around = np.concatenate([memory, future])
    refined = stack(model.revise, drafts, around, causal=True, itself=True, together=ahead)
    refined, drafts, future = (reference.linear(model.head, part) for part in (refined, drafts, future))
    return refined[:-ahead], refined[-ahead:], drafts, future


def cmert(model: CMeRT, clip: Array, _: int) -> Array:
    newest: Array = cmert_answers(model, clip)[0][-1]
    return newest


def windowed_state(model: WindowedMemory, frames: Array) -> tuple[Any, ...]:
    work, long = embeddings(model, frames)
    bias = reference.array(model.compression.kv_bias)
    queries, window = scaled(model), model.window
    products, values = np.zeros((HEADS, window, queries.shape[1])), np.zeros((HEADS, window, WIDTH // HEADS))
    for p in range(max(0, len(frames) - window), len(frames)):
        _, key, value = (heads(part) for part in project(model.compression, long[p : p + 1]))
        key_bias, value_bias = (heads(part[None]) for part in np.split(bias, 2))
        products[:, p % window] = ((key - key_bias) @ queries.transpose(0, 2, 1))[:, 0]
        values[:, p % window] = (value - value_bias)[:, 0]
    kept = np.concatenate([np.zeros((model.recent_frames, WIDTH)), work])[-model.recent_frames :]
    _, keys, shares = (heads(part) for part in project(model.compression, long_positions(model)))
    return products, values, kept, len(frames), constants(model), keys @ queries.transpose(0, 2, 1), shares


def testra_terms(model: TeSTra, frames: Array) -> tuple[Array, Array, Array, int]:
    """Logits, decayed logits and values of the samples, and how many there are; ``(H, Q, m)`` and ``(H, m, E/H)``."""
    taken = embeddings(model, frames)[1][: max(0, len(frames) - model.work_frames) : model.config.long_stride]
    _, keys, values = (heads(part) for part in project(model.compression, taken))
    logits = scaled(model) @ keys.transpose(0, 2, 1)
    age = len(taken) - 1 - np.arange(len(taken))
    return logits, logits + math.log(model.config.decay) * age, values, len(taken)


def testra(model: TeSTra, frames: Array, _: int) -> Array:
    """Answer the last frame of a whole stream: every sample of its past is weighed anew."""
    faded, values, samples = testra_terms(model, frames)[1:]
    attended: Array = np.zeros((len(model.long_queries), WIDTH))
    for head in range(HEADS if samples else 0):
        for query, terms in enumerate(faded[head]):
            weights = np.exp(terms - terms.max())
            mine = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
            attended[query, mine] = weights @ values[head] / weights.sum()
    attended = reference.linear(model.compression.out_proj, attended)
    found = reference.norm(model.compress.norm, finish(model.compress.layer(0), first_queries(model), attended))
    memory = stack(model.refine, reference.array(model.memory_queries), found)
    work = embeddings(model, frames)[0][-model.work_frames :]
    table = reference.array(model.positions)
    decoded = stack(model.decoder, work + table[len(table) - len(work) :], memory, causal=True, itself=True)
    return reference.linear(model.head, decoded[-1])


def testra_state(model: TeSTra, frames: Array) -> tuple[Any, ...]:
    logits, faded, values, samples = testra_terms(model, frames)
    work, long = embeddings(model, frames)
    size = model.work_frames
    shape = logits.shape[:2]
    memory: tuple[Any, ...]
    if samples:
        largest = faded.argmax(2)
        terms = np.exp(faded - faded.max(2, keepdims=True))
        peak = np.take_along_axis(logits, largest[:, :, None], 2)[:, :, 0]
        memory = peak, largest + 1, terms.sum(2), terms @ values
    else:
        memory = np.full(shape, -math.inf), np.zeros(shape, int), np.zeros(shape), np.zeros((*shape, WIDTH // HEADS))
    _, keys, recent = (heads(part) for part in project(model.compression, long[-size:]))
    absent = ((0, 0), (max(0, size - len(frames)), 0), (0, 0))
    products = np.pad(keys @ scaled(model).transpose(0, 2, 1), absent)
    kept = np.pad(work[-size:], absent[1:])
    return memory, products, np.pad(recent, absent), kept, len(frames), constants(model)


def build(published: str, changes: dict[str, Any], window: int) -> nn.Module:
    """Build a small model: TeSTra has a work memory of the whole window, the others of two frames."""
    sizes = {"input_dim": CHANNELS, "num_classes": CLASSES, "embed_dim": WIDTH, "num_heads": HEADS, "ff_dim": HIDDEN}
    sizes |= {"long_queries": 3, "memory_queries": 4, "long_stride": 1, "window": window}
    sizes |= {"work_frames": window if published == "testra" else 2}
    if published == "cmert":
        sizes |= {"context_frames": 1, "anticipated_frames": 2, "future_frames": 4, "future_queries": 3}
    model = build_model(preset(published, **{**sizes, **changes}))
    assert isinstance(model, WindowedMemory | TeSTra)
    with torch.no_grad():
        for embed in (model.inputs.embed, model.long_embed):
            embed.bias.add_(1)  # few units of so narrow an embedding are then cut to zero: every frame leaves a mark
    return model


def memory_subjects() -> Iterator[dict[str, Any]]:
    for name, published, changes in (
        ("lstr", "lstr", {}),
        ("lstr_shallow_normalised", "lstr", {"depth": 1, "memory_depth": 1, "normalise": True}),
        ("cmert", "cmert", {}),
        ("cmert_shallow_normalised", "cmert", {"depth": 1, "future_depth": 1, "context_frames": 3, "normalise": True}),
        ("testra", "testra", {"decay": 0.9}),
        ("testra_shallow_normalised", "testra", {"depth": 1, "memory_depth": 1, "decay": 0.95, "normalise": True}),
    ):
        subject = {"name": name, "channels": CHANNELS, "build": partial(build, published, changes)}
        if published == "lstr":
            yield subject | {"clip": lstr, "remember": windowed_state}
        elif published == "cmert":
            # Three stacks one after the other, the last on drafts of the one before.
            yield subject | {"clip": cmert, "remember": windowed_state, "roundings": 2.0}
        else:
            yield subject | {
                "clip": testra,
                "remember": testra_state,
                "reach": lambda _: WHOLE_PAST,
                "wide_parts": True,
                "roundings": 1.5,  # two compressions, then a decoder
            }
