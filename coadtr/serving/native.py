"""A checkpoint folder as a stepper: the one place of the server that uses torch, and only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError, MissingExtraError
from coadtr.runtime import Description, Leaf

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, dtype

__all__ = ["NativeStepper"]


class NativeStepper:
    """Step streams by a checkpoint as it was trained, with torch.

    What the streams remember passes through numpy at every step, as for an ONNX file; bfloat16, which numpy has not, as
    float32. It is exact, and no faster than an export: this is for checkpoints that are not exported, and for a GPU.

    Args:
        path: The folder of the checkpoint.
        device: Where the model runs; the CPU if None.
        threads: Threads that compute one step on a CPU; as torch chooses if None.

    Attributes:
        description: What the checkpoint says of itself.

    Raises:
        MissingExtraError: If torch is not installed.
        CheckpointError: If the checkpoint is missing or damaged.
        ConfigError: If the device cannot be used, or ``threads`` is below one.

    Example:
        >>> NativeStepper("no/such/folder")
        Traceback (most recent call last):
            ...
        coadtr.errors.CheckpointError: no/such/folder: there is no such folder; give the folder of a checkpoint
    """

    def __init__(self, path: str | Path, *, device: str | None = None, threads: int | None = None) -> None:
        try:
            import torch  # noqa: PLC0415 - an exported file is served without it
        except ImportError as error:
            raise MissingExtraError(
                f"{path} needs torch to be served: run `pip install torch`, or give a file that `coadtr export` wrote"
            ) from error
        from coadtr.checkpoint import load  # noqa: PLC0415
        from coadtr.layers import state_from_tensors, state_names, state_tensors  # noqa: PLC0415

        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be a whole number above 0, got {threads!r}")
        checkpoint = load(path, device)
        if threads is not None:
            torch.set_num_threads(threads)
        self._torch, self._flat, self._built = torch, state_tensors, state_from_tensors
        self._like = checkpoint.model.init_state(1)
        self._model = checkpoint.model
        self._device = checkpoint.model.inputs.embed.weight.device
        self._kinds = [tensor.dtype for tensor in state_tensors(self._like)]
        spec = checkpoint.spec
        self.description = Description(
            class_names=spec.class_names,
            background=spec.background,
            ignored=spec.ignored,
            streams=spec.streams,
            rate_hz=spec.rate_hz,
            head=spec.head,
            state=tuple(self._leaves(state_names(self._like))),
            source={"checkpoint": checkpoint.path.resolve().name, "weights_sha256": checkpoint.weights_sha256},
            precision=str(checkpoint.model.inputs.embed.weight.dtype).removeprefix("torch."),
            extractors=spec.extractors,
        )

    def step(
        self, frames: NDArray[np.float32], state: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.float32], list[NDArray[Any]]]:
        """Take the next frame of each stream: see :meth:`coadtr.runtime.Stepper.step`."""
        with self._torch.inference_mode():
            # Copies: the model writes into the state that it is given, and others hold these arrays.
            before = [self._tensor(leaf, kind) for leaf, kind in zip(state, self._kinds, strict=True)]
            given = self._tensor(frames, self._model.input_dtype)
            logits, after = self._model.step(given, self._built(before, self._like))
            return self._array(logits.float()), [self._array(leaf) for leaf in self._flat(after)]

    def _tensor(self, values: NDArray[Any], kind: dtype) -> Tensor:
        return self._torch.tensor(values, dtype=kind, device=self._device)

    def _array(self, tensor: Tensor) -> NDArray[Any]:
        if tensor.dtype == self._torch.bfloat16:
            tensor = tensor.float()
        return np.ascontiguousarray(tensor.cpu().numpy())

    def _leaves(self, names: Sequence[str]) -> Iterator[Leaf]:
        for name, tensor in zip(names, self._flat(self._like), strict=True):
            fresh = np.array(self._array(tensor)[0])  # of no dimensions, it would be a number
            fresh.flags.writeable = False  # all fresh streams share it
            yield Leaf(name, fresh)
