"""Run an exported LiteRT (TFLite) step by its interpreter: NumPy in and out, no TensorFlow."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from coadtr.errors import CheckpointError, MissingExtraError, ShapeError

__all__ = ["SIGNATURE", "LiteRTStepper"]

SIGNATURE: Final = "step"


def _interpreter(path: Path) -> Any:
    for module in ("ai_edge_litert.interpreter", "tensorflow.lite"):
        try:
            found = importlib.import_module(module)
        except ImportError:
            continue
        return found.Interpreter(model_content=path.read_bytes())
    raise MissingExtraError("a LiteRT file needs its interpreter: pip install ai-edge-litert")


class LiteRTStepper:
    """A LiteRT file that :func:`coadtr.keras.export_litert` wrote, step by step.

    Args:
        path: The file.

    Raises:
        CheckpointError: If the file is missing, or has no step.
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
            self._interpreter = _interpreter(file)
            self._run = self._interpreter.get_signature_runner(SIGNATURE)
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(f"{file}: has no step ({error}); give a file that export_litert wrote") from error
        self._inputs = self._run.get_input_details()

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
        self, frame: NDArray[Any], state: dict[str, NDArray[Any]]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Take in one frame of each stream, ``(B, D)``, and answer for it.

        Returns:
            The answer and the state after the frame; the given state stays as it is.

        Raises:
            ShapeError: If the frame has another shape.
        """
        frame = np.asarray(frame, dtype=np.float32)
        if frame.shape != self.frame_shape:
            raise ShapeError(f"this file takes frames {self.frame_shape}, got {frame.shape}")
        outputs = {name: np.array(value) for name, value in self._run(frame=frame, **state).items()}
        answer = outputs.pop("answer")
        return answer, {name.replace("next_", "state_", 1): value for name, value in outputs.items()}
