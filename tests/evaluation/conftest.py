"""Small detectors of two kinds of memory, and random videos: no model of coadtr is needed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coadtr.evaluation import ReplayVideo

if TYPE_CHECKING:
    from collections.abc import Callable

    from coadtr.types import Detector

DIM, CLASSES, WINDOW = 6, 5, 8


class Ring(NamedTuple):
    frames: Tensor  # (B, N, D)
    seen: Tensor  # (B,)


class WindowMean(nn.Module):
    """Linear answer on the mean of the last N frames; a dropout shows whether it runs in evaluation mode."""

    input_dim, num_classes, window = DIM, CLASSES, WINDOW

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(DIM, CLASSES)
        self.dropout = nn.Dropout(0.5)

    def init_state(self, batch_size: int = 1) -> Ring:
        frames = torch.zeros(batch_size, self.window, DIM, dtype=self.head.weight.dtype)
        return Ring(frames, torch.zeros(batch_size, dtype=torch.int64))

    def step(self, frame: Tensor, state: Ring) -> tuple[Tensor, Ring]:
        rows = torch.arange(frame.shape[0])
        state.frames[rows, state.seen % self.window] = frame  # in place, as the protocol allows
        seen = state.seen + 1
        mean = state.frames.sum(dim=1) / seen.clamp(max=self.window)[:, None]
        logits: Tensor = self.head(self.dropout(mean))
        return logits, Ring(state.frames, seen)

    def reset_rows(self, state: Ring, rows: Tensor) -> Ring:
        return Ring(
            state.frames.masked_fill(rows[:, None, None], 0),
            state.seen.masked_fill(rows, 0),
        )

    def forward(self, frames: Tensor) -> Tensor:
        padded = torch.cat([frames.new_zeros(frames.shape[0], self.window - 1, DIM), frames], dim=1)
        sums = padded.unfold(1, self.window, 1).sum(dim=-1)
        seen = torch.arange(1, frames.shape[1] + 1).clamp(max=self.window)
        logits: Tensor = self.head(sums / seen[:, None])
        return logits


class Hidden(NamedTuple):
    hidden: Tensor  # (B, E)


class Recurrent(nn.Module):
    """GRU with a linear head: its memory never ends, so a row that is not reset shows for ever."""

    window = 1

    def __init__(self, dim: int = DIM, classes: int = CLASSES, width: int = 16) -> None:
        super().__init__()
        self.input_dim, self.num_classes, self.width = dim, classes, width
        self.cell = nn.GRUCell(dim, width)
        self.head = nn.Linear(width, classes)

    def init_state(self, batch_size: int = 1) -> Hidden:
        return Hidden(torch.zeros(batch_size, self.width, dtype=self.head.weight.dtype))

    def step(self, frame: Tensor, state: Hidden) -> tuple[Tensor, Hidden]:
        hidden = self.cell(frame, state.hidden)
        return self.head(hidden), Hidden(hidden)

    def reset_rows(self, state: Hidden, rows: Tensor) -> Hidden:
        return Hidden(state.hidden.masked_fill(rows[:, None], 0))

    def forward(self, frames: Tensor) -> Tensor:
        state, answers = self.init_state(frames.shape[0]), []
        for frame in frames.unbind(dim=1):
            logits, state = self.step(frame, state)
            answers.append(logits)
        return torch.stack(answers, dim=1)


@pytest.fixture(params=["window mean", "recurrent"])
def detector(request: pytest.FixtureRequest) -> Detector[Any]:
    torch.manual_seed(0)
    model: Detector[Any] = WindowMean() if request.param == "window mean" else Recurrent()
    return model


@pytest.fixture
def window_mean() -> WindowMean:
    torch.manual_seed(0)
    return WindowMean()


@pytest.fixture
def make_recurrent() -> Callable[..., Recurrent]:
    def make(**sizes: int) -> Recurrent:
        torch.manual_seed(0)
        return Recurrent(**sizes)

    return make


@pytest.fixture
def make_videos() -> Callable[..., list[ReplayVideo]]:
    def make(*lengths: int, dim: int = DIM, classes: int = CLASSES, seed: int = 0) -> list[ReplayVideo]:
        random = np.random.default_rng(seed)
        return [
            ReplayVideo(
                f"video_{index}",
                random.normal(size=(frames, dim)).astype(np.float32),
                random.integers(classes, size=frames),
            )
            for index, frames in enumerate(lengths)
        ]

    return make
