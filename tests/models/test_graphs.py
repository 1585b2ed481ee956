"""The step as a graph: exported and compiled in one piece, it answers like the eager step over several windows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coadtr.models import OnlineModel, build_model
from tests.models.sizes import small

WINDOW, LENGTH, STREAMS = 6, 20, 2

every_model = pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("cooadtr_b1", 1),
        ("cooadtr_b2", 2),
        pytest.param("cooadtr_b2", 3, marks=pytest.mark.slow),
        ("oadtr", 2),
        ("deepcot", 2),
        ("deepcot_soft", 2),
        ("nystroem", 1),
        pytest.param("nystroem", 2, marks=pytest.mark.slow),
        ("lstr", 2),
        ("testra", 2),
        ("cmert", 2),
        ("miniroad", 1),
        ("trn", 1),
        ("grab", 1),
    ],
)


class Step(nn.Module):
    """``forward`` is the step: what ``torch.export`` wants to see."""

    def __init__(self, model: OnlineModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.model.step(frame, state)


def make(name: str, depth: int) -> OnlineModel:
    wanted = {"embed_dim": 32, "num_heads": 4, "ff_dim": 16, "window": WINDOW, "depth": depth}
    if name in ("lstr", "testra", "cmert"):
        wanted |= {"work_frames": 2, "long_stride": 2}
    config = small(name, input_dim=5, num_classes=3, **wanted)
    return build_model(config).eval().requires_grad_(False)


def run(step: Any, model: OnlineModel, frames: Tensor) -> Tensor:
    state, answers = model.init_state(STREAMS), []
    with torch.no_grad():
        for frame in frames:
            answer, state = step(frame, state)
            answers.append(answer.clone())
    return torch.stack(answers)


@every_model
def test_an_exported_step_answers_like_the_eager_one(name: str, depth: int) -> None:
    model, frames = make(name, depth), torch.randn(LENGTH, STREAMS, 5)
    program = torch.export.export(Step(model), (frames[0], model.init_state(STREAMS)))
    torch.testing.assert_close(run(program.module(), model, frames), run(model.step, model, frames), atol=1e-6, rtol=0)


@pytest.mark.slow
@every_model
def test_a_compiled_step_is_one_graph_and_answers_like_the_eager_one(name: str, depth: int) -> None:
    model, frames = make(name, depth), torch.randn(3 * WINDOW, STREAMS, 5)
    compiled = torch.compile(model.step, fullgraph=True, dynamic=False)
    torch.testing.assert_close(run(compiled, model, frames), run(model.step, model, frames), atol=1e-5, rtol=0)
