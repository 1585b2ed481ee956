"""Subjects of the recurrent models (MiniROAD, TRN, GRAB), with slow references that run a stream from its start.

Each is given as the fields of a ``Subject``: that class imports this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from coadtr.models import GRAB, TRN, MiniROAD, build_model, preset
from coadtr.models.recurrent import GRULayer, LSTMCell
from tests.laws import reference
from tests.laws.reference import Array

WIDTH, HIDDEN, CHANNELS, CLASSES, STEPS = 8, 6, 6, 3, 3

# Answers depend on all frames before them: on more than any test has.
WHOLE_PAST = 10**6


def sigmoid(x: Array) -> Array:
    y: Array = 1 / (1 + np.exp(-x))
    return y


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def gru(layer: GRULayer, sequence: Array) -> Array:
    """Hidden states of all frames ``(T, G)``, one frame after the other from zero."""
    hidden, states = np.zeros(layer.hidden_dim), []
    for x in sequence:
        reset, update, new = np.split(reference.linear(layer.input, x), 3)
        old_reset, old_update, old_new = np.split(reference.linear(layer.hidden, hidden), 3)
        new = np.tanh(new + sigmoid(reset + old_reset) * old_new)
        keep = sigmoid(update + old_update)
        hidden = (1 - keep) * new + keep * hidden
        states.append(hidden)
    return np.stack(states)


def lstm(cell: LSTMCell, x: Array, hidden: Array, memory: Array) -> tuple[Array, Array]:
    """One frame ``(D,)``; hidden and cell state ``(G,)`` in and out."""
    enter, forget, new, leave = np.split(reference.linear(cell.gates, np.concatenate([x, hidden])), 4)
    memory = sigmoid(forget) * memory + sigmoid(enter) * np.tanh(new)
    return sigmoid(leave) * np.tanh(memory), memory


def miniroad_hidden(model: MiniROAD, frames: Array) -> list[Array]:
    """Hidden states of all frames, ``(T, G)`` by layer."""
    x, states = relu(reference.norm(model.norm, reference.embed(model.inputs, frames))), []
    for layer in model.gru:
        assert isinstance(layer, GRULayer)
        x = gru(layer, x)
        states.append(x)
    return states


def miniroad(model: MiniROAD, frames: Array) -> Array:
    return reference.linear(model.head, relu(miniroad_hidden(model, frames)[-1]))


def miniroad_state(model: MiniROAD, frames: Array) -> tuple[Any, ...]:
    return (np.stack([states[-1] for states in miniroad_hidden(model, frames)]),)


def trn_decoder(model: TRN, hidden: Array, memory: Array) -> tuple[list[Array], Array]:
    """Logits of the frames ahead, and what is made of their hidden states for the next frame."""
    decoder = model.decoder
    hidden = relu(reference.linear(decoder.begin_hidden, hidden))
    memory = relu(reference.linear(decoder.begin_memory, memory))
    fed, ahead, seen = np.zeros(len(hidden)), [], []
    for _ in range(model.frames_ahead):
        hidden, memory = lstm(decoder.cell, fed, hidden, memory)
        ahead.append(reference.linear(model.head, hidden))
        fed = relu(reference.linear(decoder.feedback, ahead[-1]))
        seen.append(relu(reference.linear(model.future, hidden)))
    return ahead, np.mean(seen, 0)


def trn_run(model: TRN, frames: Array) -> tuple[Array, list[Array], tuple[Array, Array, Array]]:
    """Logits of all frames ``(T, C)``, those ahead of the last one, and the state after it."""
    hidden, memory = np.zeros(model.config.hidden_dim), np.zeros(model.config.hidden_dim)
    future, ahead, answers = np.zeros(model.config.embed_dim), list[Array](), []
    for x in relu(reference.embed(model.inputs, frames)):
        hidden, memory = lstm(model.encoder, np.concatenate([x, future]), hidden, memory)
        ahead, future = trn_decoder(model, hidden, memory)
        answers.append(reference.linear(model.head, hidden))
    return np.stack(answers), ahead, (hidden, memory, future)


def trn(model: TRN, frames: Array) -> Array:
    return trn_run(model, frames)[0]


def trn_state(model: TRN, frames: Array) -> tuple[Any, ...]:
    return trn_run(model, frames)[2]


def build(published: str, changes: dict[str, Any], window: int) -> nn.Module:
    """Build a small model that forgets slowly, so that the mark of a frame outlasts the streams of the tests."""
    sizes = {"input_dim": CHANNELS, "num_classes": CLASSES, "embed_dim": WIDTH, "hidden_dim": HIDDEN}
    model = build_model(preset(published, window=window, **sizes, **changes))
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, GRULayer):
                part.hidden.bias[HIDDEN : 2 * HIDDEN] += 2
            elif isinstance(part, LSTMCell):
                part.gates.bias[HIDDEN : 2 * HIDDEN] += 1
    return model


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def rms(layer: nn.RMSNorm, x: Array) -> Array:
    assert layer.eps is not None
    scaled: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + layer.eps) * reference.array(layer.weight)
    return scaled


def grab_run(model: GRAB, frames: Array) -> tuple[Array, tuple[Any, ...]]:
    """Logits of all frames ``(T, C)``, one frame after the other, and the state after the last."""
    recurrence, bank, config = model.recurrence, model.bank, model.config
    memory = np.zeros(config.recurrence_dim)
    averages = np.zeros((config.horizons, config.bank_dim))
    rates = sigmoid(reference.array(bank.rate)).reshape(averages.shape)
    answers = []
    for count, embedded in enumerate(reference.embed(model.inputs, frames), start=1):
        x = relu(reference.norm(model.norm, embedded))
        entered = rms(model.recurrence_norm, x)
        gate = sigmoid(reference.linear(recurrence.gate, entered))
        memory = (1 - gate) * memory + gate * reference.linear(recurrence.value, entered)
        shown = memory * silu(reference.linear(recurrence.out_gate, entered))
        x = x + reference.linear(recurrence.out, shown)
        value = silu(reference.linear(bank.value, rms(model.bank_norm, x)))
        averages = (1 - rates) * averages + rates * value
        seen = averages / (1 - (1 - rates) ** count)
        x = x + reference.linear(bank.out, np.concatenate([value, seen.ravel()]))
        answers.append(reference.linear(model.head, rms(model.head_norm, x)))
    return np.stack(answers), (memory, averages.ravel(), np.asarray(len(frames)))


def grab(model: GRAB, frames: Array) -> Array:
    return grab_run(model, frames)[0]


def grab_state(model: GRAB, frames: Array) -> tuple[Any, ...]:
    return grab_run(model, frames)[1]


def build_grab(window: int, **changes: Any) -> nn.Module:
    sizes = {"input_dim": CHANNELS, "num_classes": CLASSES, "embed_dim": WIDTH, "recurrence_dim": HIDDEN, "bank_dim": 4}
    return build_model(preset("grab", window=window, **sizes, **changes))


def answers_of(stream: Callable[[Any, Array], Array]) -> dict[str, Callable[..., Array]]:
    """The fields of a subject whose reference answers all frames on its one way through a stream."""
    return {"stream": stream, "clip": lambda model, frames, _: stream(model, frames)[-1]}


def grab_subjects() -> Iterator[dict[str, Any]]:
    for name, changes in (("grab", {}), ("grab_normalised", {"normalise": True, "horizons": 2})):
        yield {
            "name": name,
            "channels": CHANNELS,
            "build": partial(build_grab, **changes),
            **answers_of(grab),
            "remember": grab_state,
            "reach": lambda _: WHOLE_PAST,
            "wide_state": True,
        }


def recurrent_subjects() -> Iterator[dict[str, Any]]:
    yield from grab_subjects()
    for name, published, changes in (
        ("miniroad", "miniroad", {}),
        ("miniroad_depth_2_normalised", "miniroad", {"depth": 2, "normalise": True}),
        ("trn", "trn", {"decoder_steps": STEPS}),
        ("trn_one_step_normalised", "trn", {"decoder_steps": 1, "normalise": True}),
    ):
        yield {
            "name": name,
            "channels": CHANNELS,
            "build": partial(build, published, changes),
            **answers_of(trn if published == "trn" else miniroad),
            "remember": trn_state if published == "trn" else miniroad_state,
            "reach": lambda _: WHOLE_PAST,
        }
