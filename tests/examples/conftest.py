"""What the examples of deployment run on: files made by hand and exported ones, frames, and their scores."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coadtr.checkpoint import load
from coadtr.export import export_onnx
from coadtr.runtime import OnlineDetector
from tests.checkpoint.making import save_small
from tests.runtime.conftest import FRAMES, described, write

DEPLOYMENT = Path(__file__).resolve().parents[2] / "examples" / "deployment"
HEADS = ("softmax", "sigmoid")


@pytest.fixture(scope="session", params=[*HEADS, pytest.param("exported", marks=pytest.mark.slow)])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a file: by hand, with packed values and a counter in its state, or of a model."""
    path = tmp_path_factory.mktemp("models") / f"{request.param}.onnx"
    if request.param in HEADS:
        return write(path, described(spec={"head": request.param}))
    export_onnx(load(save_small(path.parent, "cooadtr_b1", mean=100.0)), path)
    return path


@pytest.fixture
def expected(model: Path) -> NDArray[Any]:
    """Answer the frames by the runtime."""
    return OnlineDetector.from_onnx(model).push_many(FRAMES[:60])


def run(command: Sequence[str | Path], frames: NDArray[np.float32] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program on frames that come on its standard input."""
    given = b"" if frames is None else frames.astype("<f4").tobytes()
    done = subprocess.run([*map(str, command)], input=given, capture_output=True, check=False)  # noqa: S603
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def numbers(done: subprocess.CompletedProcess[str]) -> NDArray[np.float64]:
    """Read the lines of numbers that a program has printed."""
    assert done.returncode == 0, done.stderr
    return np.array([line.split() for line in done.stdout.splitlines()], np.float64)
