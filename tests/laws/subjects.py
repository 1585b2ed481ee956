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
    CrossAttention,
    EncoderBlock,
    LandmarkProjections,
    LookAheadAttention,
    LookAheadBlock,
    NystroemAttention,
    RetroactiveAttention,
    RetroactiveBlock,
    RetroactiveBlockState,
    RetroactiveNystroemAttention,
    RingState,
    SingleOutputAttention,
    SingleOutputBlock,
    SingleOutputStack,
)
from coadtr.models import build_model, preset
from tests.laws import reference
from tests.laws.models_memory import memory_subjects
from tests.laws.models_recurrent import recurrent_subjects
from tests.laws.models_stacks import stacked_subjects
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
        clip: Answers as the step at the last frame of a clip does, from the frames that this answer depends on,
            ``(n <= reach, D)``, and the index of the first of them.
        remember: What the state holds after a whole stream ``(T, D)``.
        retroactive: A step brings the whole window up to date, and ``forward`` takes clips, not streams.
        reach: Frames that one answer depends on, for a window of N frames.
        wide_state: The state is kept in float32 at least, whatever the dtype of the weights.
        wide_parts: Parts of it are, and others in the dtype of the weights.
        roundings: How many times the tolerance of half precision it may take, where it rounds more often than others.
        delay: Steps from a frame to its answer, for a window of N frames; until the first is due, answers are zeros.
        stream: Answers of a whole stream ``(T, D)``, for a reference that runs it frame by frame and meets them all.
    """

    name: str
    channels: int
    build: Callable[[int], Module]
    clip: Callable[[Module, Array, int], Array]
    remember: Callable[[Module, Array], tuple[Any, ...]]
    retroactive: bool = False
    reach: Callable[[int], int] = lambda window: window
    delay: Callable[[int], int] = lambda _: 0
    wide_state: bool = False
    roundings: float = 1.0
    wide_parts: bool = False
    stream: Callable[[Module, Array], Array] | None = None

    def __str__(self) -> str:
        return self.name

    def state_dtypes(self, dtype: torch.dtype) -> set[torch.dtype]:
        """Return the dtypes of the state, its counters aside, for weights of a dtype."""
        wide = {torch.promote_types(dtype, torch.float32)} if self.wide_state or self.wide_parts else set[torch.dtype]()
        return wide if self.wide_state else wide | {dtype}


def _attention(kind: type[AttentionProjections], window: int, *, bias: bool = False) -> Module:
    return kind(WIDTH, HEADS, window, in_bias=bias, out_bias=bias)


def _block(
    kind: type[EncoderBlock[Any]], attention: type[AttentionProjections], norm_first: bool, window: int
) -> Module:
    activation: Activation = "relu" if norm_first else "gelu"
    return kind(_attention(attention, window), ff_dim=HIDDEN, norm_first=norm_first, activation=activation)


def _encoder(depth: int, window: int) -> Module:
    return ContinualEncoder(depth, WIDTH, HEADS, window, ff_dim=HIDDEN)


def _ahead(window: int) -> int:
    """Frames of look-ahead, as many as fit the window up to two."""
    return min(2, window - 1)


def _look_ahead_attention(window: int) -> LookAheadAttention:
    return LookAheadAttention(WIDTH, HEADS, window, lookahead=_ahead(window), in_bias=True, out_bias=True)


def _look_ahead() -> Iterator[Subject]:
    def attended(layer: Module, clip: Array, _: int) -> Array:
        return reference.look_ahead_attention(layer, clip)

    def wired(layer: Module, clip: Array, _: int) -> Array:
        return reference.look_ahead_block(layer, clip)

    def encoded(layer: Module, clip: Array, _: int) -> Array:
        return reference.encoder(layer, clip)

    name = "look_ahead_attention"
    yield Subject(name, WIDTH, _look_ahead_attention, attended, reference.look_ahead_state, delay=_ahead)
    for norm_first in (False, True):

        def block(window: int, norm_first: bool = norm_first) -> LookAheadBlock:
            return LookAheadBlock(_look_ahead_attention(window), ff_dim=HIDDEN, norm_first=norm_first)

        name = "look_ahead_block_" + ("pre_norm" if norm_first else "post_norm")
        yield Subject(name, WIDTH, block, wired, reference.look_ahead_block_state, delay=_ahead)
    for depth in (1, 2, 3):

        def stack(window: int, depth: int = depth) -> ContinualEncoder:
            return ContinualEncoder(depth, WIDTH, HEADS, window, ff_dim=HIDDEN, lookahead=_ahead(window))

        name = f"look_ahead_encoder_depth_{depth}"
        yield Subject(name, WIDTH, stack, encoded, reference.encoder_state, delay=_ahead)


def _stacks() -> Iterator[Subject]:
    def newest(layer: Module, clip: Array, _: int) -> Array:
        answer: Array = reference.stack(layer, clip)[-1][-1]
        return answer

    for depth, norm_first in ((2, False), (3, True)):

        def build(window: int, depth: int = depth, norm_first: bool = norm_first) -> SingleOutputStack:
            return SingleOutputStack(depth, WIDTH, HEADS, window, ff_dim=HIDDEN, norm_first=norm_first)

        def reach(window: int, depth: int = depth) -> int:
            return depth * (window - 1) + 1

        yield Subject(f"stack_depth_{depth}", WIDTH, build, newest, reference.stack_state, reach=reach)


class Crossed(nn.Module):
    """Cross-attention as a layer with one input: a frame holds the query, the key and, where it has one, the value."""

    def __init__(self, window: int, key_width: int, value_width: int | None) -> None:
        super().__init__()
        self.attention = CrossAttention(
            WIDTH, HEADS, window, key_width=key_width, value_width=value_width, in_bias=True, out_bias=True
        )
        self.cuts = [WIDTH] if value_width is None else [WIDTH, WIDTH + key_width]

    def split(self, x: Any) -> tuple[Any, Any, Any]:
        parts = x.tensor_split(self.cuts, -1) if isinstance(x, Tensor) else np.split(x, self.cuts, -1)
        return parts[0], parts[1], parts[2] if len(parts) > 2 else None

    def init_state(self, batch_size: int = 1) -> RingState:
        return self.attention.init_state(batch_size)

    def reset_rows(self, state: RingState, rows: Tensor) -> RingState:
        return self.attention.reset_rows(state, rows)

    def step(self, frame: Tensor, state: RingState) -> tuple[Tensor, RingState]:
        query, key, value = self.split(frame)
        return self.attention.step(query, key, state, value)

    def steps(self, frames: Tensor, state: RingState) -> tuple[Tensor, RingState]:
        queries, keys, values = self.split(frames)
        return self.attention.steps(queries, keys, state, values)

    def forward(self, frames: Tensor) -> Tensor:
        answers: Tensor = self.attention(*self.split(frames))
        return answers


def _crossed() -> Iterator[Subject]:
    def newest(module: Module, clip: Array, _: int) -> Array:
        queries, keys, values = module.split(clip)
        values = keys if values is None else values
        return reference.continual_cross_attention(module.attention, queries[-1], keys, values)

    def remember(module: Module, frames: Array) -> tuple[Any, ...]:
        _, keys, values = module.split(frames)
        return reference.cross_state(module.attention, keys, keys if values is None else values)

    for name, key, value in (("one_stream", 5, None), ("values_apart", 5, 5), ("two_widths", 5, 3)):
        build = partial(Crossed, key_width=key, value_width=value)
        yield Subject(f"cross_attention_{name}", WIDTH + key + (value or 0), build, newest, remember)


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


def _low_rank() -> Iterator[Subject]:
    """Low-rank attention; at window 5, the retroactive kind with 1 landmark folds its output projection, with 4 not."""

    def build(kind: type[LandmarkProjections], landmarks: int, bias: bool, window: int) -> Module:
        return kind(WIDTH, HEADS, window, num_landmarks=landmarks, in_bias=bias, out_bias=bias)

    def newest(module: Module, clip: Array, _: int) -> Array:
        answer: Array = reference.landmark_attention(module, clip)[-1]
        return answer

    def whole(module: Module, clip: Array, _: int) -> Array:
        return reference.landmark_attention(module, clip)

    remember = reference.landmark_state
    for landmarks, bias in ((1, True), (4, False)):
        size = f"nystroem_{landmarks}_landmarks"
        made = partial(build, NystroemAttention, landmarks, bias)
        yield Subject(f"single_output_{size}", WIDTH, made, newest, remember)
        made = partial(build, RetroactiveNystroemAttention, landmarks, bias)
        yield Subject(f"retroactive_{size}", WIDTH, made, whole, remember, retroactive=True)


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
    yield _model("cooadtr_depth_4", "cooadtr_b2", positions="learned", cycle=longest, depth=4)
    yield _model("oadtr_b1", "oadtr_b1")
    yield _model("oadtr_b2_normalised", "oadtr_b2", normalise=True)
    yield _model("oadtr", "oadtr")


def _stacked() -> Iterator[Subject]:
    return (Subject(**fields) for fields in stacked_subjects())


def _recurrent() -> Iterator[Subject]:
    return (Subject(**fields) for fields in recurrent_subjects())


def _remembering() -> Iterator[Subject]:
    return (Subject(**fields) for fields in memory_subjects())


SUBJECTS = (
    *_layers(),
    *_look_ahead(),
    *_stacks(),
    *_crossed(),
    *_low_rank(),
    *_models(),
    *_stacked(),
    *_recurrent(),
    *_remembering(),
)

# Each has the parts of two other subjects: `make test` leaves it to the laws that draw a subject at random.
VARIANTS = {
    *("cooadtr_b2_fixed_short", "cooadtr_b2_pre_norm", "look_ahead_encoder_depth_1", "look_ahead_encoder_depth_2"),
    *("stack_depth_2", "deepcot_depth_3", "deepcot_soft_normalised", "nystroem_depth_2", "grab_normalised"),
    *("miniroad_depth_2_normalised", "trn_one_step_normalised", "lstr_shallow_normalised", "testra_shallow_normalised"),
    *("cmert_shallow_normalised", "cooadtr_depth_4"),
}


def case(subject: Subject, *others: Any) -> Any:
    """Make a case of a parametrised test, slow for a variant."""
    marks = [pytest.mark.slow] * (subject.name in VARIANTS)
    return pytest.param(subject, *others, marks=marks, id="-".join(map(str, (subject, *others))))


every_subject = pytest.mark.parametrize("subject", [*map(case, SUBJECTS)])
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
    retroactive: Any = state.attention if isinstance(state, RetroactiveBlockState) else state
    attention = module if isinstance(module, RetroactiveAttention | RetroactiveNystroemAttention) else module.attention
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
        bare = isinstance(module, RetroactiveAttention | RetroactiveNystroemAttention)
        window = (module if bare else module.attention).window
        clips = [module(frames[:, max(0, t + 1 - window) : t + 1]) for t in range(frames.shape[1])]
        padded = [nn.functional.pad(clip, (0, 0, window - clip.shape[1], 0)) for clip in clips]
        return torch.stack(padded, 1)


def slow(subject: Subject, module: Module, window: int, frames: Tensor) -> Tensor:
    """Answer ``(B, T, D)`` by the reference: the clip model run afresh on the frames that each answer depends on."""
    if subject.stream is not None:
        return torch.from_numpy(np.stack([subject.stream(module, stream) for stream in reference.array(frames)]))
    streams = []
    for stream in reference.array(frames):
        answers = []
        for t in range(len(stream)):
            first = max(0, t + 1 - subject.reach(window))
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
