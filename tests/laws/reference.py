"""Slow, obvious references: float64 numpy, one stream, one query and one head at a time, straight from the equations.

Nothing here is shared with the package but the weights: no ring, no slots, no blocks of queries, no masks. Frames that
a stream has not seen are simply not there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from coadtr.layers import (
    AttentionProjections,
    ContinualEncoder,
    EncoderBlock,
    LandmarkProjections,
    LookAheadAttention,
    LookAheadBlock,
    RetroactiveAttention,
    RetroactiveNystroemAttention,
    SingleOutputStack,
)
from coadtr.layers import CrossAttention as ContinualCrossAttention
from coadtr.models import CoOadTR, InputFrames, OadTR
from coadtr.models.decoder import CrossAttention, DecoderLayer

Array = npt.NDArray[np.float64]
Block = EncoderBlock[Any]  # the wiring is the same around every attention layer


def array(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def linear(layer: nn.Linear, x: Array) -> Array:
    y: Array = x @ array(layer.weight).T
    bias: Tensor | None = layer.bias
    return y if bias is None else y + array(bias)


def norm(layer: nn.Module, x: Array) -> Array:
    assert isinstance(layer, nn.LayerNorm)
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps)
    normal: Array = centred / deviation
    return normal * array(layer.weight) + array(layer.bias)


def activation(layer: nn.Module, x: Array) -> Array:
    if isinstance(layer, nn.ReLU):
        return np.maximum(x, 0)
    error_function: Array = np.vectorize(math.erf)(x / math.sqrt(2))
    return x * (1 + error_function) / 2


def feed_forward(layers: nn.Sequential, x: Array) -> Array:
    first, act, _, last = layers
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    return linear(last, activation(act, linear(first, x)))


def attend(query: Array, keys: Array, values: Array, heads: int) -> Array:
    """One query ``(E,)`` over keys and values ``(n, E)``, head by head."""
    width = len(query) // heads
    parts = []
    for head in range(heads):
        mine = slice(head * width, (head + 1) * width)
        logits = keys[:, mine] @ query[mine] / math.sqrt(width)
        weights = np.exp(logits - logits.max())
        parts.append(weights @ values[:, mine] / weights.sum())
    return np.concatenate(parts)


def project(layer: AttentionProjections, x: Array) -> tuple[Array, Array, Array]:
    """Unscaled queries, keys and values, heads side by side."""
    q, k, v = np.split(linear(layer.in_proj, x), 3, axis=-1)
    return q, k, v


def attention(layer: AttentionProjections, clip: Array, *, band: bool = False) -> Array:
    """Every frame of a clip attends every frame of it, or under the band those of the window that ends with it."""
    q, k, v = project(layer, clip)
    attended = []
    for t, one in enumerate(q):
        seen = slice(max(0, t + 1 - layer.window), t + 1) if band else slice(None)
        attended.append(attend(one, k[seen], v[seen], layer.num_heads))
    return linear(layer.out_proj, np.stack(attended))


def block(layer: Block, clip: Array, *, band: bool = False) -> Array:
    entered = norm(layer.attention_norm, clip) if layer.norm_first else clip
    y = clip + attention(layer.attention, entered, band=band)
    if layer.norm_first:
        return y + feed_forward(layer.feed_forward, norm(layer.feed_forward_norm, y))
    y = norm(layer.attention_norm, y)
    return norm(layer.feed_forward_norm, y + feed_forward(layer.feed_forward, y))


def encoder(layer: ContinualEncoder, clip: Array) -> Array:
    blocks = [layer.first] if layer.first is not None else []
    for part in [*blocks, *layer.middle, layer.last]:
        assert isinstance(part, EncoderBlock)
        clip = block(part, clip)
    return delayed(clip, layer.delay)


def delayed(rows: Array, delay: int) -> Array:
    """The row so many frames before the newest; zeros where the clip does not reach back so far."""
    due: Array = rows[-1 - delay] if len(rows) > delay else np.zeros_like(rows[0])
    return due


def look_ahead_attention(layer: LookAheadAttention, clip: Array) -> Array:
    return delayed(attention(layer, clip), layer.delay)


def look_ahead_block(layer: LookAheadBlock, clip: Array) -> Array:
    return delayed(block(layer, clip), layer.delay)


def stack(layer: SingleOutputStack, sequence: Array) -> list[Array]:
    """What enters each block of a sequence-exact stack, and, last, what leaves it."""
    tokens = [sequence]
    for part in layer.blocks:
        assert isinstance(part, EncoderBlock)
        tokens.append(block(part, tokens[-1], band=True))
    return tokens


def continual_cross_attention(layer: ContinualCrossAttention, query: Array, keys: Array, values: Array) -> Array:
    """One query ``(E,)`` of one stream over the frames ``(n, K)`` and ``(n, V)`` of another."""
    k, v = attended_stream(layer, keys, values)
    return linear(layer.out_proj, attend(linear(layer.q_proj, query), k, v, layer.num_heads))


def attended_stream(layer: ContinualCrossAttention, keys: Array, values: Array) -> tuple[Array, Array]:
    """Keys and values, heads side by side."""
    if not layer.fused:
        return linear(layer.k_proj, keys), linear(layer.v_proj, values)
    width = layer.embed_dim
    return linear(layer.kv_proj, keys)[:, :width], linear(layer.kv_proj, values)[:, width:]


def embed(inputs: InputFrames, clip: Array) -> Array:
    if inputs.normalise:
        clip = (clip - array(inputs.mean)) * array(inputs.scale)
    return linear(inputs.embed, clip)


def cooadtr_tokens(model: CoOadTR, clip: Array, first: int) -> Array:
    table = array(model.positions.table)
    positions: Array = np.stack([table[(first + i) % len(table)] for i in range(len(clip))])
    return embed(model.inputs, clip) + positions


def cooadtr(model: CoOadTR, clip: Array, first: int) -> Array:
    encoded = encoder(model.encoder, cooadtr_tokens(model, clip, first))
    return linear(model.head, norm(model.norm, encoded))


def cross_attention(layer: CrossAttention, queries: Array, memory: Array, *, causal: bool = False) -> Array:
    k, v = linear(layer.key, memory), linear(layer.value, memory)
    attended = []
    for i, query in enumerate(linear(layer.query, queries)):
        seen = i + 1 if causal else len(memory)
        attended.append(attend(query, k[:seen], v[:seen], layer.num_heads))
    return linear(layer.out, np.stack(attended))


def oadtr(model: OadTR, clip: Array) -> Array:
    """The clip model on at most N frames, which take the last positions of the window."""
    positions = array(model.positions)
    tokens = embed(model.inputs, clip) + positions[model.window - len(clip) : model.window]
    if model.class_token is not None:
        tokens = np.concatenate([tokens, array(model.class_token)[0] + positions[model.window :]])
    for part in model.blocks:
        assert isinstance(part, EncoderBlock)
        tokens = block(part, tokens)
    encoded = norm(model.norm, tokens)
    if model.decoder is None:
        return linear(model.head, encoded[-1])
    x = array(model.decoder.queries)[0]
    for layer in model.decoder.layers:
        assert isinstance(layer, DecoderLayer)
        x = norm(layer.norms[0], x + cross_attention(layer.self_attention, x, x, causal=True))
        x = norm(layer.norms[1], x + cross_attention(layer.cross_attention, x, encoded))
        x = norm(layer.norms[2], x + feed_forward(layer.feed_forward, x))
    decoded = norm(model.decoder.norm, x)
    return linear(model.head, np.concatenate([encoded[-1], decoded.mean(0)]))


# What a state holds after a whole stream.


def slots(rows: Array, window: int) -> Array:
    """Put the last N rows of a stream into their slots: row p into slot p mod N; slots never written hold zero."""
    kept = np.zeros((window, *rows.shape[1:]))
    for p in range(max(0, len(rows) - window), len(rows)):
        kept[p % window] = rows[p]
    return kept


def by_head(layer: AttentionProjections | ContinualCrossAttention, rows: Array) -> Array:
    return np.stack(np.split(rows, layer.num_heads, axis=-1))


def ring_state(layer: AttentionProjections, tokens: Array) -> tuple[Any, ...]:
    _, k, v = project(layer, tokens)
    keys, values = (by_head(layer, slots(part, layer.window)) for part in (k, v))
    return keys, values, np.array(len(tokens))


def retroactive_state(layer: RetroactiveAttention, tokens: Array) -> tuple[Any, ...]:
    q = by_head(layer, slots(project(layer, tokens)[0], layer.window)) / math.sqrt(layer.head_dim)
    keys, values, count = ring_state(layer, tokens)
    logits = [[[query @ key for key in k] for k, query in zip(keys, heads, strict=True)] for heads in q.swapaxes(0, 1)]
    if layer.folds:
        out = np.split(layer.out_proj.weight.detach().double().numpy(), layer.num_heads, axis=1)
        values = np.stack([value @ part.T for value, part in zip(values, out, strict=True)])
    return q, keys, values, np.array(logits), count


def block_state(layer: Block, tokens: Array, *, retroactive: bool) -> tuple[Any, ...]:
    entered = norm(layer.attention_norm, tokens) if layer.norm_first else tokens
    if not retroactive:
        return ring_state(layer.attention, entered)
    return slots(tokens, layer.attention.window), retroactive_state(layer.attention, entered)


def look_ahead_state(layer: LookAheadAttention, tokens: Array) -> tuple[Any, ...]:
    waiting = slots(project(layer, tokens)[0], layer.delay + 1) / math.sqrt(layer.head_dim)
    return by_head(layer, waiting), ring_state(layer, tokens)


def look_ahead_block_state(layer: LookAheadBlock, tokens: Array) -> tuple[Any, ...]:
    entered = norm(layer.attention_norm, tokens) if layer.norm_first else tokens
    return slots(tokens, layer.delay + 1), look_ahead_state(layer.attention, entered)


def stack_state(layer: SingleOutputStack, sequence: Array) -> tuple[Any, ...]:
    entering = zip(layer.blocks, stack(layer, sequence), strict=False)
    return tuple(block_state(part, tokens, retroactive=False) for part, tokens in entering)  # type: ignore[arg-type]


def cross_state(layer: ContinualCrossAttention, keys: Array, values: Array) -> tuple[Any, ...]:
    k, v = (by_head(layer, slots(part, layer.window)) for part in attended_stream(layer, keys, values))
    return k, v, np.array(len(keys))


def encoder_state(layer: ContinualEncoder, tokens: Array) -> tuple[Any, ...]:
    if layer.first is not None:
        return block_state(layer.first, tokens, retroactive=True)
    if isinstance(layer.last, LookAheadBlock):
        return look_ahead_block_state(layer.last, tokens)
    return block_state(layer.last, tokens, retroactive=False)


def clip_state(model: OadTR, frames: Array) -> tuple[Any, ...]:
    clip = np.zeros((model.window, model.input_dim))
    last = frames[-model.window :]
    clip[model.window - len(last) :] = last
    return clip, np.array(len(frames))


# Low-rank attention: the formula with its three softmaxes, one frame, one head and one landmark at a time.


def softmax(logits: Array) -> Array:
    weights: Array = np.exp(logits - logits.max())
    normal: Array = weights / weights.sum()
    return normal


def landmark_parts(layer: LandmarkProjections, x: Array) -> tuple[Array, Array, Array]:
    """Mixes and logits ``(n, H, m)`` and values ``(n, H, E/H)``."""
    heads, landmarks = layer.num_heads, layer.num_landmarks
    asked, logits, values = np.split(linear(layer.in_proj, x), [heads * landmarks, 2 * heads * landmarks], axis=-1)
    mixing = array(layer.mixing)
    mixes = [[softmax(one) @ mixing[h] for h, one in enumerate(np.split(row, heads))] for row in asked]
    return np.array(mixes), logits.reshape(len(x), heads, landmarks), values.reshape(len(x), heads, -1)


def landmark_attention(layer: LandmarkProjections, clip: Array) -> Array:
    """Every frame of a clip asks the landmarks, and they attend every frame of it."""
    mixes, logits, values = landmark_parts(layer, clip)
    heads = []
    for h in range(layer.num_heads):
        summaries = [softmax(logits[:, h, landmark]) @ values[:, h] for landmark in range(layer.num_landmarks)]
        heads.append(mixes[:, h] @ np.stack(summaries))
    return linear(layer.out_proj, np.concatenate(heads, -1))


def landmark_state(layer: LandmarkProjections, tokens: Array) -> tuple[Any, ...]:
    mixes, logits, values = (slots(part, layer.window) for part in landmark_parts(layer, tokens))
    kept = logits.transpose(1, 2, 0), values.swapaxes(0, 1), np.array(len(tokens))
    if not isinstance(layer, RetroactiveNystroemAttention):
        return kept
    if layer.folds:
        out = np.split(array(layer.out_proj.weight), layer.num_heads, axis=1)
        folded = np.stack([value @ part.T for value, part in zip(kept[1], out, strict=True)])
        return mixes, kept[0], folded, kept[2]
    return mixes, *kept
