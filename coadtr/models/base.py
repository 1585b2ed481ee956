"""What all models share: the input side, and the contract that training and replay build on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from coadtr.errors import ConfigError
from coadtr.layers import computes_like
from coadtr.models.config import ModelConfig

__all__ = ["InputFrames", "LearningAnswers", "OnlineModel"]


class InputFrames(nn.Module):
    """Standardise (if asked to), drop out (while training) and embed feature frames.

    Args:
        config: Settings of the model.

    Source: the linear encoding of OadTR (Wang et al., ICCV 2021, section 3.2).
    """

    # The mean of a raw channel may be large beside its deviation: it is taken off before anything is rounded.
    full_precision = ("mean", "scale")

    mean: Tensor
    scale: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.normalise = config.normalise
        if config.normalise:
            self.register_buffer("mean", torch.zeros(config.input_dim))
            self.register_buffer("scale", torch.ones(config.input_dim))
        self.drop = nn.Dropout(config.input_dropout)
        self.embed = nn.Linear(config.input_dim, config.embed_dim)

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Store mean and standard deviation of each channel, ``(D,)`` each, over the training frames.

        Raises:
            ConfigError: If the model does not normalise, the sizes are not D, or a deviation cannot be divided by.
        """
        if not self.normalise:
            raise ConfigError("this model does not normalise its input; build it with normalise=True")
        if not (torch.isfinite(mean).all() and torch.isfinite(deviation).all() and (deviation > 0).all()):
            raise ConfigError("mean and deviation must be finite, and every deviation above zero, to be divided by")
        if mean.shape != self.mean.shape or deviation.shape != self.mean.shape:
            raise ConfigError(
                f"mean and deviation must hold {self.mean.numel()} channels, got {mean.numel()} and {deviation.numel()}"
            )
        self.mean.copy_(mean)
        self.scale.copy_(1 / deviation)

    def prepare(self, frames: Tensor) -> Tensor:
        """Standardise (if asked to) and drop out frames ``(..., D)``, for models that embed them twice."""
        if self.normalise:
            frames = ((frames - self.mean) * self.scale).to(computes_like(self.embed).dtype)
        prepared: Tensor = self.drop(frames)
        return prepared

    def forward(self, frames: Tensor) -> Tensor:
        """Embed frames: ``(..., D)`` to ``(..., E)``."""
        embedded: Tensor = self.embed(self.prepare(frames))
        return embedded


class LearningAnswers(NamedTuple):
    """What a model answers in training, for a loss to be taken of.

    Attributes:
        now: ``(B, k, C)`` logits for the last k frames that it was given.
        ahead: ``(B, m, K, C)`` logits for the K frames after each of the last m of these; None if the model predicts
            nothing ahead.
        drafts: Further answers for the same frames as ``now``, which are learnt and never given: the weight of their
            loss, and ``(B, k, C)`` logits.
    """

    now: Tensor
    ahead: Tensor | None = None
    drafts: tuple[tuple[float, Tensor], ...] = ()


class OnlineModel(nn.Module, ABC):
    """An online action detector: parameters here, the memory of a stream in the state that goes in and comes out.

    Attributes:
        config: The settings it was built from.
        exactness: What a step equals: ``"window"`` the clip model on the last N frames, ``"sequence"`` one pass over
            the whole sequence under the band mask, ``"both"`` where these are the same.
    """

    exactness: Literal["window", "sequence", "both"]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.inputs = InputFrames(config)

    @property
    def input_dim(self) -> int:
        """Feature channels D of one frame."""
        return self.config.input_dim

    @property
    def input_dtype(self) -> torch.dtype:
        """Dtype that frames should have."""
        return self.inputs.mean.dtype if self.inputs.normalise else computes_like(self.inputs.embed).dtype

    @property
    def num_classes(self) -> int:
        """Classes C."""
        return self.config.num_classes

    @property
    def window(self) -> int:
        """Frames N of a clip, and of the window that one layer attends."""
        return self.config.window

    @property
    def reach(self) -> int | None:
        """Frames that an answer depends on, its own included; None for the whole past."""
        return self.window

    @property
    def frames_learnt(self) -> int:
        """How many frames at a clip's end the model learns from, where it is trained on clips (k of `learn_clip`)."""
        return 1

    @property
    def shortest_clip(self) -> int:
        """Frames of the shortest clip that it is trained on: below N where it learns the starts of videos, too."""
        return self.window

    @property
    def learns_starts(self) -> bool:
        """Whether `learn_start` takes clips of which one frame exists; if not, `shortest_clip` frames have to."""
        return True

    @property
    def frames_ahead(self) -> int:
        """How many frames ahead K it predicts; 0 if none."""
        return 0

    @abstractmethod
    def init_state(self, batch_size: int = 1) -> Any:
        """Return the state of ``batch_size`` streams that have seen no frame."""

    @abstractmethod
    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Answer one frame of each stream: ``(B, D)`` in, logits ``(B, C)`` out; the state's storage is reused.

        For inference: run it under ``torch.inference_mode``, as gradients cannot flow through storage that is reused.
        """

    @abstractmethod
    def steps(self, frames: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Answer k frames of each stream at once, ``(B, k, D)`` in, ``(B, k, C)`` out: equal to k steps."""

    @abstractmethod
    def reset_rows(self, state: Any, rows: Tensor) -> Any:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""

    @abstractmethod
    def forward(self, frames: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Answer all frames of whole streams, ``(B, T, D)`` in, logits ``(B, T, C)`` out.

        Args:
            frames: ``(B, T, D)``.
            first_frame: ``(B,) int64`` index of each row's first frame in its stream; 0 if not given. It sets the
                positions; frames before it count as not seen.
        """

    @abstractmethod
    def answer_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Answer the last frame of each clip, ``(B, n, D)`` in, logits ``(B, C)`` out, n at most N.

        Args:
            clip: ``(B, n, D)``.
            first_frame: ``(B,) int64`` index in its stream of each clip's first frame; 0 if not given.
        """

    def learn_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> LearningAnswers:
        """Answer the last `frames_learnt` frames of each clip, and the frames ahead of some of them, for training.

        Args:
            clip: ``(B, n, D)``.
            first_frame: ``(B,) int64`` index in its stream of each clip's first frame; 0 if not given. Where
                `shortest_clip` is below N it may be negative: frames before frame 0 do not exist, and are zeros.
        """
        return LearningAnswers(self.answer_clip(clip, first_frame).unsqueeze(1))

    def learn_sequence(self, frames: Tensor, first_frame: Tensor | None = None) -> LearningAnswers:
        """Answer all frames of whole streams as `forward` does, and the frames ahead of each, for training.

        Args:
            frames: ``(B, T, D)``.
            first_frame: ``(B,) int64`` index of each row's first frame in its stream; 0 if not given.
        """
        return LearningAnswers(self(frames, first_frame))

    def learn_start(self, clip: Tensor, first_frame: Tensor) -> LearningAnswers:
        """Answer the newest frame of clips that may begin before their recording does, as a step answers it.

        Recordings that are shorter than the window, and the starts of others, are learnt from so. This runs the clips
        by how many of their frames exist; models that can mask the others override it.

        Args:
            clip: ``(B, n, D)``, n at most N. Frames before frame 0 do not exist, and are zeros; the last one exists.
            first_frame: ``(B,) int64`` index in its recording of each clip's first frame, negative where the clip
                begins before it.
        """
        if not self.learns_starts or self.shortest_clip < self.window:
            return self.learn_clip(clip, first_frame)
        missing = (-first_frame).clamp(min=0)
        rows = [(missing == count).nonzero().squeeze(1) for count in missing.unique().tolist()]
        answers = [
            self.learn_clip(clip[part, int(missing[part[0]]) :], first_frame[part].clamp(min=0)).now[:, -1:]
            for part in rows
        ]
        return LearningAnswers(torch.cat(answers)[torch.cat(rows).argsort()])
