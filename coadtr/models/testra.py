"""TeSTra: a long memory of the whole past under the exponential smoothing kernel, updated in constant time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from coadtr.errors import ConfigError
from coadtr.layers import computes_like, require_frame, require_sequence, reset_rows
from coadtr.layers.memory import causal_mask, sinusoidal_table
from coadtr.layers.smoothing import SmoothedMemory, init_smoothed
from coadtr.models.base import LearningAnswers
from coadtr.models.memory import MemoryConfig, MemoryConstants, MemoryModel, frames_begun, windows_at_once
from coadtr.models.testra_memory import fading, read_whole, take_in

__all__ = ["TeSTra", "TeSTraConfig", "TeSTraState"]


@dataclass(frozen=True, kw_only=True)
class TeSTraConfig(MemoryConfig):
    """Settings of TeSTra: ``window`` counts the frames of a training clip, where it is trained on clips.

    Attributes:
        decay: By how much a sample of the long memory counts less for each sample after it, in (0, 1].

    Source: Zhao and Kraehenbuehl, *Real-time Online Video Detection with Temporal Smoothing Transformers*, ECCV 2022:
    its Laplace kernel, which is exponential smoothing.

    Example:
        >>> TeSTraConfig(input_dim=3072, num_classes=22, window=224).decay
        0.97
    """

    kind: ClassVar[str] = "testra"

    decay: float = 0.97

    def __post_init__(self) -> None:
        """Refuse values that no model can be built from."""
        super().__post_init__()
        if not 0 < self.decay <= 1:
            raise ConfigError(f"decay must be above 0 and at most 1, got {self.decay!r}")


class TeSTraState(NamedTuple):
    """What one stream keeps.

    Attributes:
        memory: All frames that have left the work memory.
        products: ``(B, H, W, Q)`` of the last W frames with each query, the newest last.
        values: ``(B, H, W, E/H)`` of the last W frames, the newest last.
        work: ``(B, W, E)`` embeddings of the last W frames, the newest last.
        frames: ``(B,) int64``, frames seen by each stream.
        constants: What follows from the weights alone.
    """

    memory: SmoothedMemory
    products: Tensor
    values: Tensor
    work: Tensor
    frames: Tensor
    constants: MemoryConstants


class TeSTra(MemoryModel):
    """TeSTra: LSTR whose long memory is all the past, decaying, and whose work memory attends itself and the memory.

    The long memory holds every frame that has left the work memory (of a stride s, those whose index in the stream is a
    multiple of s) and weighs a frame with j samples after it by exp(logit) decay^j. It has no positions, so that one
    decaying numerator and denominator, relative to the largest term, hold it: a step costs the same at any age.
    The work memory of the last W frames is run anew, in the last layer for the newest frame alone.

    A step is sequence-exact: T steps equal `forward` on T (finite) frames, which takes the memory through the sequence
    by a scan and answers the window that ends at each; an answer depends on all frames before. A memory without any
    frame answers zero.
    The box kernel of the paper is not offered: taking a frame off the sums again leaves its rounding error behind, and
    what stays exact, summing the last n frames anew, is `LSTR` without positions.

    Cost of a step: 2 D E + E C, 2 E^2 + Q E for the long memory, and terms that the work memory sets (docs/models.md).

    Args:
        config: Settings; ``preset("testra", ...)`` has the published ones.

    Source: Zhao and Kraehenbuehl, ECCV 2022, streaming attention under the Laplace kernel, and zhaoyue-zephyrus/TeSTra.

    Example:
        >>> import torch
        >>> from coadtr.models import build_model, preset
        >>> sizes = {"embed_dim": 8, "num_heads": 2, "ff_dim": 8, "work_frames": 4}
        >>> model = build_model(preset("testra", input_dim=6, num_classes=3, **sizes)).eval()
        >>> frames, state = torch.randn(1, 20, 6), model.init_state(1)
        >>> with torch.no_grad():
        ...     answers, state = model.steps(frames, state)
        ...     torch.allclose(answers, model(frames), atol=1e-5)
        True
    """

    config: TeSTraConfig
    exactness: Literal["window", "sequence", "both"] = "sequence"
    positions: Tensor

    def __init__(self, config: TeSTraConfig) -> None:
        super().__init__(config)
        self.register_buffer("positions", sinusoidal_table(self.work_frames, config.embed_dim), persistent=False)

    @property
    def reach(self) -> int | None:
        """Frames that an answer depends on: all before it."""
        return None

    @torch.no_grad()
    def init_state(self, batch_size: int = 1) -> TeSTraState:
        """Return the state of ``batch_size`` streams that have seen no frame, for the weights as they are now."""
        config, weight = self.config, computes_like(self.inputs.embed)
        heads, queries, width = config.num_heads, config.long_queries, config.embed_dim // config.num_heads
        return TeSTraState(
            init_smoothed(batch_size, heads, queries, width, weight.new_zeros(())),
            weight.new_zeros(batch_size, heads, self.work_frames, queries),
            weight.new_zeros(batch_size, heads, self.work_frames, width),
            weight.new_zeros(batch_size, self.work_frames, config.embed_dim),
            torch.zeros(batch_size, dtype=torch.int64, device=weight.device),
            MemoryConstants(*(part.repeat(batch_size, *[1] * (part.dim() - 1)) for part in self.constants())),
        )

    def reset_rows(self, state: TeSTraState, rows: Tensor) -> TeSTraState:
        """Make the streams where ``rows`` ``(B,) bool`` is true fresh again."""
        return reset_rows(state, rows, self.init_state(1))

    def _decode(
        self, attended: Tensor, work: Tensor, exists: Tensor, constants: MemoryConstants, *, newest: bool
    ) -> Tensor:
        """Answer c work memories of each stream: ``(B, c, W, C)``, or ``(B, c, 1, C)`` for the newest frame of each.

        Args:
            attended: ``(B, c, Q, E)``, the long memory.
            work: ``(B, c, W, E)``.
            exists: ``(B, c, W) bool``.
            constants: Of B streams, or of one for all.
            newest: Answer for the newest frame alone.
        """
        memory = self.remember(attended, constants).flatten(0, 1)
        tokens = self.drop(work + self.positions).flatten(0, 1)
        mask = causal_mask(exists.flatten(0, 1))
        whole = F.pad(mask, (memory.shape[1], 0), value=True)
        decoded = self.decoder(tokens, torch.cat([memory, tokens], 1), mask, whole, newest=newest)
        answers: Tensor = self.head(decoded).unflatten(0, work.shape[:2])
        return answers

    def _offer(self, frames: Tensor, constants: MemoryConstants) -> tuple[Tensor, Tensor, Tensor]:
        """Work out what frames ``(B, k, D)`` are in both memories: embeddings, products and values."""
        work, long = self.embed(frames)
        return work, *self.compression.offer(long, constants.queries, bias=True)

    def step(self, frame: Tensor, state: TeSTraState) -> tuple[Tensor, TeSTraState]:
        """Answer one frame of each stream: ``(B, D)`` in, logits ``(B, C)`` out.

        Raises:
            ShapeError: If ``frame`` is not ``(B, D)``.
        """
        require_frame(frame, self.input_dim, state.frames.shape[0], "TeSTra.step")
        answers, state = self._advance(frame.unsqueeze(1), state)
        return answers.squeeze(1), state

    def steps(self, frames: Tensor, state: TeSTraState) -> tuple[Tensor, TeSTraState]:
        """Answer k frames of each stream at once, ``(B, k, D)`` in, logits ``(B, k, C)`` out: equal to k single steps.

        Raises:
            ShapeError: If ``frames`` is not ``(B, k, D)``.
        """
        require_sequence(frames, self.input_dim, "TeSTra.steps", streams=state.frames.shape[0])
        return self._advance(frames, state)

    def _advance(self, frames: Tensor, state: TeSTraState) -> tuple[Tensor, TeSTraState]:
        size, length, stride, decay = self.work_frames, frames.shape[1], self.config.long_stride, self.config.decay
        kept = state.work, state.products, state.values
        offered = self._offer(frames, state.constants)
        work, products, values = (torch.cat(pair, -2) for pair in zip(kept, offered, strict=True))
        index = state.frames.unsqueeze(1) - size + torch.arange(size + length, device=frames.device)
        start = torch.zeros_like(index[:, :1])
        left = products[:, :, :length], values[:, :, :length]
        means, memory = take_in(state.memory, *left, index[:, :length], start, stride=stride, decay=decay)
        answers = self._answer_all(means, work[:, 1:], index[:, 1:] >= 0, state.constants)
        products, values, work = (
            part[..., -size:, :].to(state.work.dtype).clone() for part in (products, values, work)
        )
        return answers, TeSTraState(memory, products, values, work, state.frames + length, state.constants)

    def _answer_all(self, means: Tensor, work: Tensor, exists: Tensor, constants: MemoryConstants) -> Tensor:
        """Answer the newest frame of the work memory that ends at each of T frames: ``(B, T, C)``.

        Args:
            means: ``(B, T, H, Q, E/H)``.
            work: ``(B, W - 1 + T, E)``.
            exists: ``(B, W - 1 + T) bool``.
            constants: Of B streams, or of one for all.
        """
        windows, there = work.unfold(1, self.work_frames, 1).transpose(2, 3), exists.unfold(1, self.work_frames, 1)
        # One frame is answered at once however many streams there are: a step takes any number of them.
        at_once = 1 if means.shape[1] == 1 else windows_at_once(self.work_frames, work.shape[0])
        answers = []
        for begin in range(0, means.shape[1], at_once):
            span = slice(begin, begin + at_once)
            part = self.compression.join(means[:, span]), windows[:, span], there[:, span]
            answers.append(self._decode(*part, constants, newest=True).squeeze(2))
        return torch.cat(answers, 1)

    def _read(self, frames: Tensor, first_frame: Tensor | None) -> tuple[Tensor, Tensor, Tensor, MemoryConstants]:
        """Read the long memory at each frame of whole streams: its means, and the work memories' frames, padded."""
        constants, size, stride, decay = self.constants(), self.work_frames, self.config.long_stride, self.config.decay
        work, products, values = self._offer(frames, constants)
        means = read_whole(products, values, first_frame, work_frames=size, stride=stride, decay=decay)
        exists = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        return means, F.pad(work, (0, 0, size - 1, 0)), F.pad(exists, (size - 1, 0)), constants

    def forward(self, frames: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Answer all frames of whole streams, ``(B, T, D)`` in, logits ``(B, T, C)`` out, equal to T steps.

        Args:
            frames: ``(B, T, D)``.
            first_frame: ``(B,) int64`` index of each row's first frame in its stream; 0 if not given.

        Raises:
            ShapeError: If ``frames`` is not ``(B, T, D)``.
        """
        require_sequence(frames, self.input_dim, "TeSTra.forward")
        return self._answer_all(*self._read(frames, first_frame))

    def learn_sequence(self, frames: Tensor, first_frame: Tensor | None = None) -> LearningAnswers:
        """Answer all frames of whole streams: in evaluation as `forward` does, in training in blocks of W frames.

        In training the stream is cut into work memories side by side, from a random frame on, and all frames of each
        are answered from those before them in there and the long memory: the published loss, with the whole past and
        at 1 / W of the cost. The last frame of each block is answered as `forward` answers it.

        Args:
            frames: ``(B, T, D)``.
            first_frame: ``(B,) int64`` index of each row's first frame in its stream; 0 if not given.
        """
        if not self.training:
            return LearningAnswers(self(frames, first_frame))
        require_sequence(frames, self.input_dim, "TeSTra.learn_sequence")
        size, length = self.work_frames, frames.shape[1]
        means, work, exists, constants = self._read(frames, first_frame)
        ends = [*range(int(torch.randint(size, ())), length - 1, size), length - 1]
        at = torch.tensor(ends, device=frames.device)
        near = at.unsqueeze(1) + torch.arange(size, device=frames.device)
        answers = self._decode(
            self.compression.join(means[:, at]), work[:, near], exists[:, near], constants, newest=False
        )
        counts = [end - before for before, end in zip([-1, *ends[:-1]], ends, strict=True)]
        return LearningAnswers(torch.cat([answers[:, block, -count:] for block, count in enumerate(counts)], 1))

    def run_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Run the clip model, nothing kept: logits ``(B, w, C)`` for the last w = min(n, W) frames of a clip.

        Args:
            clip: ``(B, n, D)``, the newest frame last; frames before it count as not seen.
            first_frame: ``(B,) int64`` index in its stream of each clip's first frame; 0 if not given. Where it is
                negative, the stream begins with frame 0: frames before it are masked.

        Raises:
            ShapeError: If ``clip`` is not ``(B, n, D)``.
        """
        require_sequence(clip, self.input_dim, "TeSTra.run_clip")
        constants, size = self.constants(), self.work_frames
        prepared, absent = self.inputs.prepare(clip), max(0, size - clip.shape[1])
        begun = frames_begun(clip, first_frame)
        index = torch.arange(max(0, clip.shape[1] - size), device=clip.device).unsqueeze(0)
        index = (index if first_frame is None else index + first_frame.unsqueeze(1)).expand(clip.shape[0], -1)
        enters = (index % self.config.long_stride == 0) & begun[:, :-size]
        # A frame that is passed over leaves no trace, even if it is not finite.
        older = prepared[:, :-size].masked_fill(~enters.unsqueeze(2), 0)
        recent = F.pad(prepared[:, -size:], (0, 0, absent, 0))
        offered = self.compression.offer(F.relu(self.long_embed(older)), constants.queries, bias=True)
        faded = fading(enters, self.config.decay, offered[0].dtype)
        attended = self.compression.recall(*offered, faded, faded.new_zeros(()), enters).unsqueeze(1)
        work = F.relu(self.inputs.embed(recent)).unsqueeze(1)
        exists = F.pad(begun[:, -size:], (absent, 0)).unsqueeze(1)
        return self._decode(attended, work, exists, constants, newest=False)[:, 0, absent:]

    def answer_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> Tensor:
        """Answer the last frame of each clip, ``(B, n, D)`` in, logits ``(B, C)`` out, for streams that began there."""
        return self.run_clip(clip, first_frame)[:, -1]

    def learn_clip(self, clip: Tensor, first_frame: Tensor | None = None) -> LearningAnswers:
        """Answer the frames of each clip's work memory, each from those before it in there and the long memory."""
        return LearningAnswers(self.run_clip(clip, first_frame))
