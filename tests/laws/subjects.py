"""The layers and models that the laws hold for, each with its slow reference.

A new layer or model joins by one entry in ``SUBJECTS``.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coadtr.layers import (
    Activation,
    AttentionProjections,
    ContinualEncoder,
    EncoderBlock,
    RetroactiveAttention,
    RetroactiveBlock,
    RetroactiveBlockState,
    SingleOutputAttention,
    SingleOutputBlock,
)
from coadtr.models import build_model, preset
from tests.laws import reference
from tests.laws.reference import Array

WIDTH, HEADS, HIDDEN, CHANNELS, CLASSES = 8, 2, 12, 6, 3
WINDOWS = (1, 2, 5)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 0.06}

Module = Any  # a module with init_state, step, reset_rows and forward; layers and models share no base class


@dataclass(frozen=True)
class Subject:
    """One layer or model under test.

    Attributes:
        name: Shown by pytest.
        channels: Width of a frame.
        build: Makes the module for a window of N frames.
        clip: Answers for the last frame of a clip ``(n <= N, D)`` whose first frame has the given index.
        remember: What the state holds after a whole stream ``(T, D)``.
        retroactive: A step brings the whole window up to date, and ``forward`` takes clips, not streams.
    """

    name: str
    channels: int
    build: Callable[[int], Module]
    clip: Callable[[Module, Array, int], Array]
    remember: Callable[[Module, Array], tuple[Any, ...]]
    retroactive: bool = False

    def __str__(self) -> str:
        return self.name


def _attention(kind: type[AttentionProjections], window: int, *, bias: bool = False) -> Module:
    return kind(WIDTH, HEADS, window, in_bias=bias, out_bias=bias)


def _block(
    kind: type[EncoderBlock[Any]], attention: type[AttentionProjections], norm_first: bool, window: int
) -> Module:
    activation: Activation = "relu" if norm_first else "gelu"
    return kind(_attention(attention, window), ff_dim=HIDDEN, norm_first=norm_first, activation=activation)


def _encoder(depth: int, window: int) -> Module:
    return ContinualEncoder(depth, WIDTH, HEADS, window, ff_dim=HIDDEN)


def _layers() -> Iterator[Subject]:
    def newest(answer: Callable[[Module, Array], Array]) -> Callable[[Module, Array, int], Array]:
        return lambda module, clip, _: answer(module, clip)[-1]

    def whole(answer: Callable[[Module, Array], Array]) -> Callable[[Module, Array, int], Array]:
        return lambda module, clip, _: answer(module, clip)

    single, retroactive = SingleOutputAttention, RetroactiveAttention
    for bias in (False, True):
        name, clip = "attention" + "_biases" * bias, reference.attention
        build = partial(_attention, single, bias=bias)
        yield Subject(f"single_output_{name}", WIDTH, build, newest(clip), reference.ring_state)
        build = partial(_attention, retroactive, bias=bias)
        yield Subject(f"retroactive_{name}", WIDTH, build, whole(clip), reference.retroactive_state, retroactive=True)
    for norm_first in (False, True):
        name, wired = "pre_norm" if norm_first else "post_norm", reference.block
        remember = partial(reference.block_state, retroactive=False)
        build = partial(_block, SingleOutputBlock, single, norm_first)
        yield Subject(f"single_output_block_{name}", WIDTH, build, newest(wired), remember)
        remember = partial(reference.block_state, retroactive=True)
        build = partial(_block, RetroactiveBlock, retroactive, norm_first)
        yield Subject(f"retroactive_block_{name}", WIDTH, build, whole(wired), remember, retroactive=True)
    for depth in (1, 2, 3):
        name, encoded = f"encoder_depth_{depth}", whole(reference.encoder)
        yield Subject(name, WIDTH, partial(_encoder, depth), encoded, reference.encoder_state)


def _model(name: str, published: str, **changes: Any) -> Subject:
    sizes: dict[str, Any] = {"embed_dim": WIDTH, "num_heads": HEADS, "ff_dim": HIDDEN}
    sizes |= {"input_dim": CHANNELS, "num_classes": CLASSES}
    if published == "oadtr":
        sizes |= {"decoder_depth": 2, "decoder_queries": 3, "decoder_heads": 4}
    continual = published.startswith("cooadtr")

    def build(window: int) -> nn.Module:
        cycle = {"num_positions": max(2, changes["cycle"](window))} if continual else {}
        others = {key: value for key, value in changes.items() if key != "cycle"}
        return build_model(preset(published, window=window, **cycle, **sizes, **others))

    if continual:
        return Subject(
            name,
            CHANNELS,
            build,
            reference.cooadtr,
            lambda model, frames: reference.encoder_state(model.encoder, reference.cooadtr_tokens(model, frames, 0)),
        )
    return Subject(name, CHANNELS, build, lambda model, clip, _: reference.oadtr(model, clip), reference.clip_state)


def _models() -> Iterator[Subject]:
    def shortest(window: int) -> int:
        return window

    def longest(window: int) -> int:
        return 2 * window - 1

    yield _model("cooadtr_b1_fixed_long", "cooadtr_b1", positions="fixed", cycle=longest)
    yield _model("cooadtr_b1_learned_short", "cooadtr_b1", positions="learned", cycle=shortest)
    yield _model("cooadtr_b1_normalised", "cooadtr_b1", cycle=longest, normalise=True)
    yield _model("cooadtr_b2_fixed_short", "cooadtr_b2", positions="fixed", cycle=shortest)
    yield _model("cooadtr_b2_learned_long", "cooadtr_b2", positions="learned", cycle=longest)
    wiring: dict[str, Any] = {"norm_first": True, "activation": "relu", "in_bias": True}
    yield _model("cooadtr_b2_pre_norm", "cooadtr_b2", cycle=longest, **wiring)
    yield _model("cooadtr_depth_3", "cooadtr_b2", positions="learned", cycle=longest, depth=3)
    yield _model("oadtr_b1", "oadtr_b1")
    yield _model("oadtr_b2_normalised", "oadtr_b2", normalise=True)
    yield _model("oadtr", "oadtr")


SUBJECTS = (*_layers(), *_models())

every_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=str)
every_window = pytest.mark.parametrize("window", WINDOWS)


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers that bfloat16 holds exactly, so that every dtype is given the same ones."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16().double()


@functools.cache
def _prototype(subject: Subject, window: int) -> Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = subject.build(window).eval()
        if getattr(module, "inputs", None) is not None and module.inputs.normalise:
            module.inputs.set_statistics(torch.randn(CHANNELS), torch.rand(CHANNELS) + 0.5)
        with torch.no_grad():
            for tensor in module.parameters():  # biases and tokens start at zero, and would hide their own loss
                tensor.add_(0.2 * torch.randn_like(tensor))
            for tensor in module.state_dict().values():
                tensor.copy_(tensor.bfloat16())
    return module


def make(subject: Subject, window: int = 5, dtype: torch.dtype = torch.float64) -> Module:
    """Build a subject in evaluation mode; all dtypes get the same weights, which bfloat16 holds exactly."""
    return copy.deepcopy(_prototype(subject, window)).to(dtype)


def aligned(subject: Subject, module: Module, output: Tensor, state: Any) -> Tensor:
    """Bring the output of a step into time order; frames before the stream began are zero."""
    if not subject.retroactive:
        return output
    retroactive = state.attention if isinstance(state, RetroactiveBlockState) else state
    attention = module if isinstance(module, RetroactiveAttention) else module.attention
    positions = attention.positions(retroactive)
    order = positions.argsort(1).unsqueeze(2).expand_as(output)
    ordered = output.masked_fill((positions < 0).unsqueeze(2), 0).gather(1, order)
    assert isinstance(ordered, Tensor)
    return ordered


def run(subject: Subject, module: Module, frames: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """Step through ``(B, T, D)``; answers ``(B, T, ...)`` and the state after them."""
    state = module.init_state(len(frames)) if state is None else state
    answers = []
    with torch.no_grad():
        for frame in frames.unbind(1):
            output, state = module.step(frame, state)
            answers.append(aligned(subject, module, output, state))
    return torch.stack(answers, 1), state


def forward(subject: Subject, module: Module, frames: Tensor) -> Tensor:
    """Answer ``(B, T, D)`` by ``forward``: at once, or for a retroactive layer by the clip that ends at each frame."""
    with torch.no_grad():
        if not subject.retroactive:
            answers: Tensor = module(frames)
            return answers
        window = (module if isinstance(module, RetroactiveAttention) else module.attention).window
        clips = [module(frames[:, max(0, t + 1 - window) : t + 1]) for t in range(frames.shape[1])]
        padded = [nn.functional.pad(clip, (0, 0, window - clip.shape[1], 0)) for clip in clips]
        return torch.stack(padded, 1)


def slow(subject: Subject, module: Module, window: int, frames: Tensor) -> Tensor:
    """Answer ``(B, T, D)`` by the reference: the clip model run afresh on the window that ends at each frame."""
    streams = []
    for stream in reference.array(frames):
        answers = []
        for t in range(len(stream)):
            first = max(0, t + 1 - window)
            answer = subject.clip(module, stream[first : t + 1], first)
            missing = window - len(answer) if subject.retroactive else 0
            answers.append(np.pad(answer, [(missing, 0)] + [(0, 0)] * (answer.ndim - 1)))
        streams.append(np.stack(answers))
    return torch.from_numpy(np.stack(streams))


@functools.cache
def reference_run(subject: Subject, window: int) -> tuple[Tensor, Tensor]:
    """Frames of two streams, 21 windows long, and what the reference answers for them."""
    frames = random(2, 21 * window + 2, subject.channels, seed=window)
    return frames, slow(subject, make(subject, window), window, frames)


def assert_near(got: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(got.double(), expected.double(), atol=tolerance, rtol=0)
