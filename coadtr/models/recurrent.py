"""Recurrent cells whose products are linear layers: counted, stored in 8 bits and stepped like those of all models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["GRULayer", "LSTMCell", "frames_missing", "roll_rows"]


P = ParamSpec("P")
R = TypeVar("R")


def outside_graphs(run: Callable[P, R], *, recursive: bool = True) -> Callable[P, R]:
    """Leave a loop over time out of compiled graphs, where it would be written out frame by frame.

    Called while compiling, and not before: to mark a function loads the compiler, and a mark cannot be pickled.

    Args:
        run: Runs the loop.
        recursive: Also leave out what it calls.
    """
    return torch.compiler.disable(run, recursive=recursive) if torch.compiler.is_compiling() else run


class GRULayer(nn.Module):
    """Gated recurrent unit over a sequence, or one frame at a time, by the same weights.

    ::

        r, z = sigmoid(W x + b + U h + c)     n = tanh(W x + b + r (U h + c))     h = (1 - z) n + z h

    W, b and U, c are the two linear layers, each for r, z and n in this order (as in ``torch.nn.GRU``). A frame's
    answer depends on the whole past, through the state alone.

    Args:
        input_dim: Width D of a frame.
        hidden_dim: Width G of the hidden state.

    Source: Cho et al., EMNLP 2014, section 2.3, in the form of ``torch.nn.GRU``.

    Example:
        >>> layer = GRULayer(3, 4)
        >>> frames, hidden = torch.randn(2, 5, 3), torch.zeros(2, 4)
        >>> answers, last = layer(frames, hidden)
        >>> for frame in frames.unbind(1):
        ...     hidden = layer.step(frame, hidden)
        >>> torch.allclose(hidden, last, atol=1e-6), torch.equal(answers[:, -1], last)
        (True, True)
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.input = nn.Linear(input_dim, 3 * hidden_dim)
        self.hidden = nn.Linear(hidden_dim, 3 * hidden_dim)
        _draw(self, hidden_dim)

    def step(self, frame: Tensor, hidden: Tensor) -> Tensor:
        """Take in one frame of each stream, ``(B, D)``; hidden states ``(B, G)`` in and out."""
        return self._update(self.input(frame), hidden)

    def forward(self, frames: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Take in a sequence of each stream.

        Args:
            frames: ``(B, T, D)``.
            hidden: ``(B, G)``, states before the first frame.

        Returns:
            Hidden states of all frames, ``(B, T, G)``, and of the last one, ``(B, G)``.
        """
        if type(self.input) is nn.Linear and type(self.hidden) is nn.Linear:
            weights = [self.input.weight, self.hidden.weight, self.input.bias, self.hidden.bias]
            return outside_graphs(_run_gru)(frames, hidden, weights, self.training)
        answers = []
        for gates in self.input(frames).unbind(1):
            hidden = self._update(gates, hidden)
            answers.append(hidden)
        return torch.stack(answers, 1), hidden

    def _update(self, gates: Tensor, hidden: Tensor) -> Tensor:
        reset, update, new = gates.chunk(3, -1)
        old_reset, old_update, old_new = self.hidden(hidden).chunk(3, -1)
        new = torch.tanh(new + torch.sigmoid(reset + old_reset) * old_new)
        return new + torch.sigmoid(update + old_update) * (hidden - new)


def _run_gru(frames: Tensor, hidden: Tensor, weights: list[Tensor], training: bool) -> tuple[Tensor, Tensor]:
    answers, last = torch.gru(frames, hidden.unsqueeze(0), weights, True, 1, 0.0, training, False, True)
    return answers, last.squeeze(0)


class LSTMCell(nn.Module):
    """Long short-term memory, one frame at a time.

    ::

        i, f, g, o = W [x, h] + b
        c = sigmoid(f) c + sigmoid(i) tanh(g)     h = sigmoid(o) tanh(c)

    Inputs and hidden state are joined, so that a frame takes one product. (``torch.nn.LSTM`` keeps W in two parts, in
    the same order of gates, and two biases, of which only the sum has an effect.) A frame's answer depends on the whole
    past, through the states alone.

    Args:
        input_dim: Width D of a frame, all inputs together.
        hidden_dim: Width G of hidden and cell state.

    Source: Hochreiter and Schmidhuber, Neural Computation 1997, with the forget gate of Gers et al., 2000.

    Example:
        >>> hidden, memory = LSTMCell(3, 4)([torch.randn(2, 3)], torch.zeros(2, 4), torch.zeros(2, 4))
        >>> hidden.shape, memory.shape
        (torch.Size([2, 4]), torch.Size([2, 4]))
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gates = nn.Linear(input_dim + hidden_dim, 4 * hidden_dim)
        _draw(self, hidden_dim)

    def forward(self, inputs: Sequence[Tensor], hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Take in one frame of each stream.

        Args:
            inputs: Its parts, ``(B, ...)``, together D wide.
            hidden: ``(B, G)``, hidden states before it.
            memory: ``(B, G)``, cell states before it.

        Returns:
            Hidden and cell states after it.
        """
        gates: Tensor = self.gates(torch.cat([*inputs, hidden], -1))
        enter, forget, new, leave = gates.unflatten(-1, (4, -1)).unbind(-2)
        memory = torch.addcmul(forget.sigmoid() * memory, enter.sigmoid(), new.tanh())
        return leave.sigmoid() * memory.tanh(), memory


def _draw(cell: nn.Module, hidden_dim: int) -> None:
    """Draw all weights and biases uniformly within one over the root of the hidden width, as torch does for its own."""
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -(hidden_dim**-0.5), hidden_dim**-0.5)


def frames_missing(first_frame: Tensor, length: int) -> Tensor:
    """Count the frames at the front of each row that do not exist, ``(B,) int64``: those before frame 0 of its stream.

    Args:
        first_frame: ``(B,) int64`` index of each row's first frame in its stream.
        length: Frames T of a row; one at least is taken to exist.

    Example:
        >>> frames_missing(torch.tensor([-2, 0, 7]), 4).tolist()
        [2, 0, 0]
    """
    return (-first_frame).clamp(0, length - 1)


def roll_rows(x: Tensor, by: Tensor) -> Tensor:
    """Roll each row in time: what leaves at one end enters at the other.

    Args:
        x: ``(B, T, ...)``.
        by: ``(B,) int64``, frames to the right.

    Example:
        >>> roll_rows(torch.arange(6).view(2, 3), torch.tensor([1, 0])).tolist()
        [[2, 0, 1], [3, 4, 5]]
    """
    length = x.shape[1]
    order = (torch.arange(length, device=x.device) - by.unsqueeze(1)) % length
    return x[torch.arange(x.shape[0], device=x.device).unsqueeze(1), order]
