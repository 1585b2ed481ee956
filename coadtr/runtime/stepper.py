"""What steps many streams at once: numpy arrays in, numpy arrays out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from coadtr.errors import CheckpointError, ConfigError, MissingExtraError
from coadtr.runtime.description import KEY, Description

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["OnnxStepper", "Stepper"]

# Dynamic quantisation takes one scale for all rows of a product: one stream with large values would change the answers
# of the others, so these are stepped one by one.
_MIXING: Final = ("int8",)
_TYPES: Final = {"float32": "tensor(float)", "float16": "tensor(float16)", "int64": "tensor(int64)"}


class Stepper(Protocol):
    """Step B streams, each by one frame. What the streams remember goes in and comes out: a stepper keeps nothing."""

    @property
    def description(self) -> Description:
        """How it is fed, what its answers mean, and what a fresh stream remembers."""
        ...

    def step(
        self, frames: NDArray[np.float32], state: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.float32], list[NDArray[Any]]]:
        """Take the next frame of each stream.

        Args:
            frames: ``(B, D)``, in C order.
            state: One array ``(B, ...)`` for each leaf of ``description.state``, in order and in C order. They are
                read only: others hold them too.

        Returns:
            Logits ``(B, C)``, and the next state: arrays in C order that share nothing with ``state``, and that nobody
            writes to from then on. No row depends on another.
        """
        ...


class OnnxStepper:
    """Step streams by an exported ONNX file, with ONNX Runtime.

    Rows do not depend on each other: a file in int8, where they would, is run for one stream after the other.

    Args:
        path: The file, as ``coadtr export format=onnx`` writes it.
        threads: Threads that compute one step. A small model on a small machine is fastest with one.
        providers: Execution providers of ONNX Runtime, the most wanted first.

    Attributes:
        description: What the file says of itself.

    Raises:
        MissingExtraError: If onnxruntime is not installed.
        ConfigError: If ``threads`` is below one, or a provider is not there.
        CheckpointError: If the file is missing, damaged, or not an export of this project that this version reads.

    Example:
        >>> OnnxStepper("no/such/file.onnx")
        Traceback (most recent call last):
            ...
        coadtr.errors.CheckpointError: no/such/file.onnx: there is no such file; give an exported ONNX file
    """

    def __init__(
        self, path: str | Path, *, threads: int = 1, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> None:
        if not Path(path).is_file():
            problem = "is a folder" if Path(path).is_dir() else "there is no such file"
            raise CheckpointError(f"{path}: {problem}; give an exported ONNX file")
        self._session = _open(path, threads, providers)
        try:
            self.description = _describe(self._session.get_modelmeta().custom_metadata_map)
            self._inputs, self._outputs = _signature(self._session, self.description)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error

    def step(
        self, frames: NDArray[np.float32], state: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.float32], list[NDArray[Any]]]:
        """Take the next frame of each stream: see :meth:`Stepper.step`."""
        if len(frames) > 1 and self.description.precision in _MIXING:
            rows = [
                self._run(frames[row : row + 1], [leaf[row : row + 1] for leaf in state]) for row in range(len(frames))
            ]
            logits, *following = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        else:
            logits, *following = self._run(frames, state)
        return logits, following

    def _run(self, frames: NDArray[np.float32], state: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        feeds = dict(zip(self._inputs, (frames, *state), strict=True))
        answers: list[NDArray[Any]] = self._session.run(self._outputs, feeds)
        return answers


def _open(path: str | Path, threads: int, providers: Sequence[str]) -> Any:
    # Its official packages report to their maker on how they are used. Whoever wants that sets the variable to 0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime  # noqa: PLC0415  (optional: another stepper does without)
    except ImportError as error:
        raise MissingExtraError(
            'running an ONNX file needs onnxruntime: run `pip install onnxruntime`, or `pip install "coadtr[runtime]"`'
        ) from error
    if not threads >= 1:
        raise ConfigError(f"threads must be a whole number above 0, got {threads!r}")
    there = onnxruntime.get_available_providers()
    if not providers or (unknown := [name for name in providers if name not in there]):
        named = repr(unknown[0]) if providers else "none"
        raise ConfigError(f"provider {named} is not in this onnxruntime; choose of {', '.join(there)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors alone: its warnings are about the exporter's graph, not about the caller
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # its errors have no root of their own below Exception
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: cannot be loaded ({reason}); copy or export it again") from error


def _describe(properties: Mapping[str, str]) -> Description:
    if KEY not in properties:
        raise CheckpointError("the file says nothing of itself; give a file that `coadtr export` wrote")
    return Description.from_json(properties[KEY])


def _signature(session: Any, description: Description) -> tuple[list[str], list[str]]:
    """Check that the graph takes and gives what the description says; return names of inputs and outputs."""
    classes = len(description.class_names)
    inputs, outputs = [("frame", [description.input_dim], "float32")], [("logits", [classes], "float32")]
    for leaf in description.state:
        layout = list(leaf.fresh.shape), leaf.fresh.dtype.name
        inputs.append((f"state.{leaf.name}", *layout))
        outputs.append((f"next.{leaf.name}", *layout))
    _compare("input", session.get_inputs(), inputs)
    _compare("output", session.get_outputs(), outputs)
    return [name for name, *_ in inputs], [name for name, *_ in outputs]


def _compare(kind: str, found: Sequence[Any], wanted: Sequence[tuple[str, list[int], str]]) -> None:
    names = [node.name for node in found]
    if names != (expected := [name for name, *_ in wanted]):
        raise CheckpointError(
            f"the graph has the {kind}s {', '.join(names)}, its description {', '.join(expected)}; export it again"
        )
    for node, (name, shape, dtype) in zip(found, wanted, strict=True):
        # A dimension that the graph leaves open is a text or None; the first is the streams, and must be open.
        streams, sizes = node.shape[:1], node.shape[1:]
        fits = len(sizes) == len(shape) and all(
            not isinstance(size, int) or size == length for size, length in zip(sizes, shape, strict=False)
        )
        if not fits or not streams or isinstance(streams[0], int) or node.type != _TYPES[dtype]:
            raise CheckpointError(
                f"the graph's {kind} {name} is {node.type} {node.shape}, its description says {dtype} "
                f"{['streams', *shape]}; export it again"
            )
