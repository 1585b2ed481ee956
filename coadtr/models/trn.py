"""TRN: a recurrent network that predicts what comes next, and answers with this prediction in view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coadtr.layers import computes_like, require_frame, require_sequence, reset_rows
from coadtr.models.base import LearningAnswers, OnlineModel
from coadtr.models.config import ModelConfig, check_at_least
from coadtr.models.recurrent import LSTMCell, frames_missing, outside_graphs, roll_rows

__all__ = ["TRN", "TRNConfig", "TRNState"]


@dataclass(frozen=True, kw_only=True)
class TRNConfig(ModelConfig):
    """Settings of TRN, the temporal recurrent network.

    Attributes:
        hidden_dim: Width G of the encoder's and the decoder's states.
        decoder_steps: Frames ahead K that the decoder predicts, one after the other.

    Source: Xu et al., *Temporal Recurrent Networks for Online Action Detection*, ICCV 2019; sizes from
    xumingze0308/TRN.pytorch ``configs/thumos/trn_thumos.py``, where E is the width of the features, 3072.

    Example:
        >>> TRNConfig(input_dim=3072, num_classes=22).decoder_steps
        8
    """

    kind: ClassVar[str] = "trn"

    embed_dim: int = 3072
    hidden_dim: int = 4096
    decoder_steps: int = 8

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        check_at_least(self, 1, "hidden_dim", "decoder_steps")


class TRNState(NamedTuple):
    """What the network holds of each stream.

    Attributes:
        hidden: ``(B, G)``, hidden state of the encoder.
        memory: ``(B, G)``, cell state of the encoder.
        future: ``(B, E)``, what was predicted after the last frame, pooled; zeros before the first frame.
    """

    hidden: Tensor
    memory: Tensor
    future: Tensor


class FutureDecoder(nn.Module):
    """Predict the K frames to come one by one, each from the scores of the one before.

    Args:
        config: Settings of the model.

    Source: the temporal decoder of Xu et al., ICCV 2019.
    """

    def __init__(self, config: TRNConfig) -> None:
        super().__init__()
        width = config.hidden_dim
        self.steps = config.decoder_steps
        self.begin_hidden = nn.Linear(width, width)
        self.begin_memory = nn.Linear(width, width)
        self.cell = LSTMCell(width, width)
        self.feedback = nn.Linear(config.num_classes, width)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, memory: Tensor, classify: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Predict from the encoder's states, ``(B, G)`` each.

        Args:
            hidden: Hidden state of the encoder.
            memory: Cell state of the encoder.
            classify: Maps hidden states ``(B, G)`` to logits ``(B, C)``.

        Returns:
            Logits ``(B, K, C)`` and hidden states ``(B, K, G)`` of the K frames.
        """
        hidden, memory = F.relu(self.begin_hidden(hidden)), F.relu(self.begin_memory(memory))
        fed = torch.zeros_like(hidden)
        logits: list[Tensor] = []
        states: list[Tensor] = []
        for _ in range(self.steps):
            if logits:
                fed = self.drop(F.relu(self.feedback(logits[-1])))
            hidden, memory = self.cell([fed], hidden, memory)
            logits.append(classify(hidden))
            states.append(hidden)
        return torch.stack(logits, 1), torch.stack(states, 1)


class TRN(OnlineModel):
    """TRN: an LSTM over embedded frames and the pooled prediction of the frames to come, which a second LSTM makes.

    ::

        x[t] -> embed -> ReLU --+
                                +-- LSTM (h[t-1], c[t-1] -> h[t], c[t]) -> logits[t]
               future[t-1] -----+
        h[t], c[t] -> linear -> ReLU -> decoder, K steps, each fed with the scores of the one before -> logits ahead
        future[t] = mean over the decoder's K hidden states of ReLU(linear(hidden state)); future[-1] = 0

    An answer depends on the whole past, through the state alone: a step is sequence-exact. One classifier serves now
    and ahead. Dropout acts on what enters the two LSTMs and the classifier.

    This is the published code, which differs from the paper in two places: it pools after the linear layer and ReLU
    (the paper averages the hidden states first), and where no frame was seen it takes zeros for the future (the paper
    runs the decoder before each frame, on the state before it, which is otherwise the same). The code leaves a third
    choice in a comment, taken here: decoder step k after frame t is trained on frame t + k, k = 1 to K, the frames
    ahead; as published, on frames t to t + K - 1.

    Args:
        config: Settings; ``preset("trn", ...)`` has the published ones.

    Source: Xu et al., ICCV 2019, the TRN cell; xumingze0308/TRN.pytorch ``lib/models/generalized_trn.py``.

    Example:
        >>> import torch
        >>> from coadtr.models import build_model, preset
        >>> model = build_model(preset("trn", input_dim=6, num_classes=3, embed_dim=8, hidden_dim=4))
        >>> now, ahead, state = model.step_ahead(torch.randn(1, 6), model.init_state(1))
        >>> now.shape, ahead.shape
        (torch.Size([1, 3]), torch.Size([1, 8, 3]))
    """

    config: TRNConfig
    exactness: Literal["window", "sequence", "both"] = "sequence"

    def __init__(self, config: TRNConfig) -> None:
        super().__init__(config)
        self.encoder = LSTMCell(2 * config.embed_dim, config.hidden_dim)
        self.decoder = FutureDecoder(config)
        self.future = nn.Linear(config.hidden_dim, config.embed_dim)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden_dim, config.num_classes)

    @property
    def reach(self) -> int | None:
        """None: an answer depends on the whole past."""
        return None

    @property
    def frames_learnt(self) -> int:
        """All frames of a clip."""
        return self.window

    @property
    def frames_ahead(self) -> int:
        """How many frames ahead K the decoder predicts."""
        return self.config.decoder_steps

    def init_state(self, batch_size: int = 1) -> TRNState:
        """Return the state of ``batch_size`` streams that have seen no frame: zeros."""
        like, config = computes_like(self.inputs.embed), self.config
        widths = (config.hidden_dim, config.hidden_dim, config.embed_dim)
        return TRNState(*(like.new_zeros(batch_size, width) for width in widths))

    def reset_rows(self, state: TRNState, rows: Tensor) -> TRNState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def classify(self, hidden: Tensor) -> Tensor:
        """Map hidden states ``(..., G)`` to logits ``(..., C)``."""
        logits: Tensor = self.head(self.drop(hidden))
        return logits

    def embed(self, frames: Tensor) -> Tensor:
        """Embed frames: ``(..., D)`` to ``(..., E)``."""
        embedded: Tensor = self.drop(F.relu(self.inputs(frames)))
        return embedded

    def update(self, embedded: Tensor, state: TRNState) -> tuple[Tensor, TRNState]:
        """Take in one embedded frame, ``(B, E)``; logits ahead, ``(B, K, C)``, and the state after it."""
        hidden, memory = self.encoder([embedded, self.drop(state.future)], state.hidden, state.memory)
        ahead, decoded = self.decoder(hidden, memory, self.classify)
        future = F.relu(self.future(decoded)).sum(1) / self.frames_ahead
        return ahead, TRNState(hidden, memory, future)

    def step(self, frame: Tensor, state: TRNState) -> tuple[Tensor, TRNState]:
        """Answer one frame of each stream: ``(B, D)`` in, logits ``(B, C)`` out.

        Raises:
            ShapeError: If ``frame`` is not ``(B, D)``.
        """
        now, _, state = self.step_ahead(frame, state)
        return now, state

    def step_ahead(self, frame: Tensor, state: TRNState) -> tuple[Tensor, Tensor, TRNState]:
        """Answer one frame of each stream and the K after it: logits ``(B, C)`` and ``(B, K, C)``.

        Raises:
            ShapeError: If ``frame`` is not ``(B, D)``.
        """
        require_frame(frame, self.input_dim, state.hidden.shape[0], "TRN.step")
        ahead, state = self.update(self.embed(frame), state)
        return self.classify(state.hidden), ahead, state

    def _run(self, frames: Tensor, state: TRNState) -> tuple[LearningAnswers, TRNState]:
        # Compiled, a frame is a graph.
        run = outside_graphs(_run_frames, recursive=False)
        hidden, ahead, state = run(self, self.embed(frames), state)
        return LearningAnswers(self.classify(hidden), ahead), state

    def steps(self, frames: Tensor, state: TRNState) -> tuple[Tensor, TRNState]:
        """Answer k frames of each stream at once, ``(B, k, D)`` in, logits ``(B, k, C)`` out: equal to k single steps.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, D)``.
        """
        require_sequence(frames, self.input_dim, "TRN.steps", streams=state.hidden.shape[0])
        answers, state = self._run(frames, state)
        return answers.now, state

    def learn_sequence(self, frames: Tensor, first_frame: Tensor | None = None) -> LearningAnswers:
        """Answer all frames of whole streams, and the K frames ahead of each, for training.

        Args:
            frames: ``(B, T, D)``.
            first_frame: ``(B,) int64`` index of each row's first frame in its stream; 0 if not given. Where it is
                negative, the stream begins with frame 0: answers before it mean nothing.

        Raises:
            ShapeError: If ``frames`` is not ``(B, T, D)``.
        """
        require_sequence(frames, self.input_dim, "TRN.learn_sequence")
        if first_frame is None:
            return self._run(frames, self.init_state(len(frames)))[0]
        missing = frames_missing(first_frame, frames.shape[1])
        found, _ = self._run(roll_rows(frames, -missing), self.init_state(len(frames)))
        ahead = None if found.ahead is None else roll_rows(found.ahead, missing)
        return LearningAnswers(roll_rows(found.now, missing), ahead)

    def forward(self, frames: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Answer all frames of whole streams, ``(B, T, D)`` in, logits ``(B, T, C)`` out, equal to T steps.

        Args:
            frames: ``(B, T, D)``.
            first_frame: As in `learn_sequence`.

        Raises:
            ShapeError: If ``frames`` is not ``(B, T, D)``.
        """
        return self.learn_sequence(frames, first_frame).now

    def learn_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> LearningAnswers:
        """Answer all frames of each clip from the zero state, and the K frames ahead of each, for training.

        Args:
            clip: ``(B, n, D)``, n at most N.
            first_frame: As in `learn_sequence`.

        Raises:
            ShapeError: If ``clip`` is not ``(B, n, D)``.
        """
        require_sequence(clip, self.input_dim, "TRN.learn_clip", longest=self.window)
        return self.learn_sequence(clip, first_frame)

    def answer_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Answer the last frame of each clip from the zero state, ``(B, n, D)`` in, logits ``(B, C)`` out.

        Args:
            clip: ``(B, n, D)``, n at most N.
            first_frame: As in `learn_sequence`.

        Raises:
            ShapeError: If ``clip`` is not ``(B, n, D)``.
        """
        return self.learn_clip(clip, first_frame).now[:, -1]

    def learn_start(self, clip: Tensor, first_frame: Tensor) -> LearningAnswers:
        """Answer all frames of clips that may begin before their recording does."""
        return self.learn_clip(clip, first_frame)


Run = tuple[Tensor, Tensor, TRNState]


def _run_frames(model: TRN, embedded: Tensor, state: TRNState) -> Run:
    """Take in embedded frames ``(B, T, E)``; hidden states ``(B, T, G)``, logits ahead ``(B, T, K, C)``, the state."""
    hidden, ahead = [], []
    for frame in embedded.unbind(1):
        later, state = model.update(frame, state)
        hidden.append(state.hidden)
        ahead.append(later)
    return torch.stack(hidden, 1), torch.stack(ahead, 1), state
