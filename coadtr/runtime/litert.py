"""Run an exported LiteRT (TFLite) step by its interpreter: NumPy in and out, no Keras and no TensorFlow."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.errors import CheckpointError, MissingExtraError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SIGNATURE", "LiteRTStepper"]

SIGNATURE: Final = "step"


def _interpreter(content: bytes) -> Any:
    for module in ("ai_edge_litert.interpreter", "tensorflow.lite"):
        try:
            found = importlib.import_module(module)
        except ImportError:
            continue
        return found.Interpreter(model_content=content)
    raise MissingExtraError("a LiteRT file needs its interpreter: pip install ai-edge-litert")


class LiteRTStepper:
    """A LiteRT file that `coadtr.keras.export_litert` wrote, step by step; it keeps no state.

    Args:
        path: The file.

    Raises:
        CheckpointError: If the file is missing, cannot be read, or has no step.
        MissingExtraError: If the interpreter is not installed.

    Example:
        >>> LiteRTStepper("no-such-file.tflite")
        Traceback (most recent call last):
            ...
        coadtr.errors.CheckpointError: no-such-file.tflite: is missing; give a file that export_litert wrote
    """

    def __init__(self, path: str | Path) -> None:
        file = Path(path)
        if not file.is_file():
            raise CheckpointError(f"{file}: is missing; give a file that export_litert wrote")
        try:
            self._interpreter = _interpreter(file.read_bytes())
            self._run = self._interpreter.get_signature_runner(SIGNATURE)
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
        except (ValueError, RuntimeError) as error:
            told = " ".join(str(error).split())
            raise CheckpointError(f"{file}: has no step ({told}); give a file that export_litert wrote") from error
        self._inputs = self._run.get_input_details()
        if "frame" not in self._inputs:
            raise CheckpointError(f"{file}: its step takes no frame; give a file that export_litert wrote")

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of a frame, ``(B, D)``."""
        return tuple(int(size) for size in self._inputs["frame"]["shape"])

    def init_state(self) -> dict[str, NDArray[Any]]:
        """Return the state of B streams that have seen no frame: an array of zeros by name."""
        return {
            name: np.zeros(detail["shape"], detail["dtype"]) for name, detail in self._inputs.items() if name != "frame"
        }

    def step(
        self, frame: NDArray[Any], state: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Take in one frame of each stream, ``(B, D)``, and answer for it.

        Returns:
            The answer and the state after the frame; the given state stays as it is.

        Raises:
            ShapeError: If the frame has another shape, or an array of the state is missing, unknown, or of another
                shape or dtype.
        """
        frame = np.asarray(frame, dtype=np.float32)
        if frame.shape != self.frame_shape:
            raise ShapeError(f"this file takes frames {self.frame_shape}, got {frame.shape}")
        outputs = {name: np.array(value) for name, value in self._run(frame=frame, **self._checked(state)).items()}
        answer = outputs.pop("answer")
        return answer, {name.replace("next_", "state_", 1): value for name, value in outputs.items()}

    def _checked(self, state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the state's arrays, each as the file takes it."""
        remedy = "give what init_state or the step before returned"
        if not isinstance(state, Mapping):
            raise ShapeError(f"a state is arrays by name, got a {type(state).__name__}; {remedy}")
        wanted = {name: detail for name, detail in self._inputs.items() if name != "frame"}
        if unknown := [name for name in state if name not in wanted]:
            raise ShapeError(f"the state holds {unknown[0]!r}, which this file does not take; {remedy}")
        arrays: dict[str, NDArray[Any]] = {}
        for name, detail in wanted.items():
            if name not in state:
                raise ShapeError(f"the state lacks {name}; {remedy}")
            arrays[name] = array = np.asarray(state[name])
            shape, dtype = tuple(int(size) for size in detail["shape"]), np.dtype(detail["dtype"])
            if array.shape != shape or array.dtype != dtype:
                raise ShapeError(f"{name} must be {dtype} {shape}, got {array.dtype} {array.shape}; {remedy}")
        return arrays
