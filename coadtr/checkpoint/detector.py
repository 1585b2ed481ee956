"""The one stateful object that a user holds: frames in, scores out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coadtr.errors import DataError, ShapeError
from coadtr.layers import clone_state
from coadtr.runtime.description import describe_streams
from coadtr.scoring import probabilities

if TYPE_CHECKING:
    from pathlib import Path

    from coadtr.checkpoint.loading import Checkpoint

__all__ = ["OnlineDetector"]

Values: TypeAlias = "NDArray[Any] | Tensor | Sequence[Any]"
Frames: TypeAlias = "Values | Mapping[str, Values]"

_SHAPES = {1: "(D,)", 2: "(T, D)"}


class OnlineDetector:
    """Answer one stream, frame by frame, from its first frame on.

    Every push takes the next frame, in order and at the checkpoint's rate. The memory is bounded: what it takes does
    not grow with the length of the stream. A push that fails, for whatever reason, leaves the memory as it was.
    One detector serves one stream and one thread; any number of them share one checkpoint and its model.

    Args:
        checkpoint: A loaded checkpoint. Its model is used where it is (device, dtype), in eval mode.

    Attributes:
        checkpoint: The checkpoint.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> from coadtr.checkpoint import CheckpointSpec, save_checkpoint
        >>> from coadtr.models import build_model, preset
        >>> model = build_model(preset("cooadtr_b1", input_dim=4, num_classes=2, embed_dim=8, num_heads=2, window=4))
        >>> spec = CheckpointSpec(model=model.config, class_names=("rest", "lift"), background=0, ignored=None,
        ...                       streams={"imu": 4}, rate_hz=5.0)
        >>> detector = OnlineDetector.load(save_checkpoint(Path(tempfile.mkdtemp()) / "checkpoint", model, spec, {}))
        >>> scores = detector.push([0.1, 0.2, 0.3, 0.4])
        >>> scores.shape, scores.dtype, detector.frames_seen
        ((2,), dtype('float32'), 1)
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._model = checkpoint.model.eval()
        self._spec = checkpoint.spec
        self.reset()

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str | None = None) -> OnlineDetector:
        """Load a checkpoint folder and return a detector of it.

        Args:
            path: The folder.
            device: Where the model runs; the CPU if None.

        Raises:
            CheckpointError: If the checkpoint is missing, damaged, or of another version.
            ConfigError: If the device cannot be used.
        """
        # `loading` offers `Checkpoint.detector`, so it imports this module first.
        from coadtr.checkpoint.loading import load  # noqa: PLC0415

        return cls(load(path, device))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the C classes, in the order of the scores."""
        return self._spec.class_names

    @property
    def frames_seen(self) -> int:
        """Frames answered since the start, or since the last reset."""
        return self._frames_seen

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget the stream: the next frame is the first of a new one."""
        self._state = self._model.init_state(1)
        self._frames_seen = 0

    def push(self, frame: Frames) -> NDArray[np.float32]:
        """Take the stream's next frame and return its scores.

        Args:
            frame: ``(D,)``, the feature streams joined in the checkpoint's order; or a mapping from the name of each
                stream to its vector, in any order.

        Returns:
            Scores ``(C,)`` from 0 to 1: a softmax in which the ignored class has no part, or for a multi-label
            checkpoint a sigmoid of each class. The ignored class scores 0.

        Raises:
            ShapeError: If the frame is not D channels wide.
            DataError: If the frame holds anything but finite numbers, lacks a stream or has an unknown one, or is so
                large that the answer is not finite.
        """
        scores: NDArray[np.float32] = self._answer(self._read(frame, 1, "push").unsqueeze(0))[0]
        return scores

    def push_many(self, frames: Frames) -> NDArray[np.float32]:
        """Take the stream's next T frames, all or none, and return their scores: what T pushes return.

        Args:
            frames: ``(T, D)``, or a mapping from the name of each stream to ``(T, channels)``.

        Returns:
            Scores ``(T, C)``.

        Raises:
            ShapeError: If the frames are not D channels wide.
            DataError: As `push` does; then no frame was taken.
        """
        return self._answer(self._read(frames, 2, "push_many"))

    @torch.inference_mode()
    def _answer(self, frames: Tensor) -> NDArray[np.float32]:
        """Step through ``(T, D)`` on a copy of the state, which takes the state's place if all went well."""
        state = clone_state(self._state)
        logits = frames.new_empty(len(frames), len(self.class_names))
        for index, frame in enumerate(frames.unsqueeze(1)):
            answer, state = self._model.step(frame, state)
            logits[index] = answer[0]
        raw = logits.to("cpu", torch.float64).numpy()
        finite = np.isfinite(raw).all(axis=1)
        if not finite.all():
            number = self._frames_seen + int(np.flatnonzero(~finite)[0])
            raise DataError(f"the answer to frame {number} is not finite; are the features scaled as in training?")
        self._state = state
        self._frames_seen += len(frames)
        return probabilities(raw, self._spec.ignored, head=self._spec.head).astype(np.float32)

    def _read(self, frames: Frames, ndim: int, what: str) -> Tensor:
        """Check frames of any kind and return them as ``(D,)`` or ``(T, D)``, joined, where the model is."""
        if isinstance(frames, Mapping):
            joined = self._join(frames, ndim, what)
        else:
            joined = self._tensor(frames, "frame")
            width = self._model.input_dim
            if joined.dim() != ndim or joined.shape[-1] != width:
                raise ShapeError(
                    f"{what} takes {_SHAPES[ndim]} with D = {width} ({describe_streams(self._spec.streams)}), "
                    f"got {tuple(joined.shape)}"
                )
        finite = torch.isfinite(joined).reshape(-1, joined.shape[-1])
        if not finite.all():
            row, channel = (int(value) for value in (~finite).nonzero()[0])
            raise DataError(
                f"frame {self._frames_seen + row} is not finite in channel {channel}; replace the value and push again"
            )
        return joined

    def _join(self, frames: Mapping[str, Values], ndim: int, what: str) -> Tensor:
        """Join the streams of a mapping in the checkpoint's order."""
        streams = self._spec.streams
        if set(frames) != set(streams):
            raise DataError(f"{what} got the streams {', '.join(map(str, frames))}; give {describe_streams(streams)}")
        parts = [self._tensor(frames[name], f"stream {name!r}") for name in streams]
        for part, (name, channels) in zip(parts, streams.items(), strict=True):
            if part.dim() != ndim or part.shape[-1] != channels:
                raise ShapeError(
                    f"{what}: stream {name!r} is {tuple(part.shape)}; give {_SHAPES[ndim]} with D = {channels}"
                )
        if len({part.shape[:-1] for part in parts}) > 1:
            counts = ", ".join(f"{name} {len(part)}" for name, part in zip(streams, parts, strict=True))
            raise ShapeError(f"{what}: the streams have different numbers of frames ({counts}); give as many of each")
        return torch.cat(parts, dim=-1)

    def _tensor(self, values: Values, what: str) -> Tensor:
        """Copy numbers to the device and dtype of the model."""
        device = self._model.inputs.embed.weight.device
        try:
            given = values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{what} holds something that is not a number ({error}); give numbers") from error
        if given.is_complex():
            raise DataError(f"{what} holds complex numbers; give real ones")
        return given.to(device, self._model.input_dtype)
