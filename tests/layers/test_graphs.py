"""Steps of the stacks as graphs: exported and compiled in one piece, they answer like the eager step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coadtr.layers import ContinualEncoder, LookAheadAttention, SingleOutputStack
from tests.laws.subjects import Crossed

WIDTH, HEADS, HIDDEN, WINDOW, STREAMS = 8, 2, 12, 5, 2


def stack(depth: int) -> nn.Module:
    return SingleOutputStack(depth, WIDTH, HEADS, WINDOW, ff_dim=HIDDEN)


def encoder(depth: int, lookahead: int) -> nn.Module:
    return ContinualEncoder(depth, WIDTH, HEADS, WINDOW, ff_dim=HIDDEN, lookahead=lookahead)


BUILDS: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "stack_depth_1": (WIDTH, lambda: stack(1)),
    "stack_depth_3": (WIDTH, lambda: stack(3)),
    "stack_soft": (WIDTH, lambda: SingleOutputStack(2, WIDTH, HEADS, WINDOW, ff_dim=HIDDEN, attention="soft")),
    "look_ahead_attention": (WIDTH, lambda: LookAheadAttention(WIDTH, HEADS, WINDOW, lookahead=2)),
    "look_ahead_encoder_depth_1": (WIDTH, lambda: encoder(1, 2)),
    "look_ahead_encoder_depth_2": (WIDTH, lambda: encoder(2, 2)),
    "look_ahead_encoder_depth_3": (WIDTH, lambda: encoder(3, 2)),
    "cross_attention": (WIDTH + 5, lambda: Crossed(WINDOW, 5, None)),
    "cross_attention_two_widths": (WIDTH + 5 + 3, lambda: Crossed(WINDOW, 5, 3)),
}

# What the others are made of, or are one more of.
VARIANTS = ("stack_depth_1", "look_ahead_encoder_depth_1", "look_ahead_encoder_depth_2", "cross_attention")

every_layer = pytest.mark.parametrize(
    ("width", "build"),
    [pytest.param(*BUILDS[name], marks=[pytest.mark.slow] * (name in VARIANTS), id=name) for name in BUILDS],
)


class Step(nn.Module):
    """``forward`` is the step: what ``torch.export`` wants to see."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        answer, state = self.layer.step(frame, state)
        return answer, state


def run(step: Any, layer: Any, frames: Tensor) -> Tensor:
    state, answers = layer.init_state(STREAMS), []
    with torch.no_grad():
        for frame in frames:
            answer, state = step(frame, state)
            answers.append(answer.clone())
    return torch.stack(answers)


@every_layer
def test_an_exported_step_answers_like_the_eager_one(width: int, build: Callable[[], nn.Module]) -> None:
    layer: Any = build().eval().requires_grad_(False)
    frames = torch.randn(3 * WINDOW, STREAMS, width)
    program = torch.export.export(Step(layer), (frames[0], layer.init_state(STREAMS)))
    torch.testing.assert_close(run(program.module(), layer, frames), run(layer.step, layer, frames), atol=1e-6, rtol=0)


@pytest.mark.slow
@every_layer
def test_a_compiled_step_is_one_graph_and_answers_like_the_eager_one(
    width: int, build: Callable[[], nn.Module]
) -> None:
    layer: Any = build().eval().requires_grad_(False)
    frames = torch.randn(3 * WINDOW, STREAMS, width)
    compiled = torch.compile(layer.step, fullgraph=True, dynamic=False)
    torch.testing.assert_close(run(compiled, layer, frames), run(layer.step, layer, frames), atol=1e-5, rtol=0)
