"""The C++ example compiles, and answers as the runtime does.

Needs CMake, a compiler, nlohmann/json, zlib, and the headers and library of ONNX Runtime, which the variable
ONNXRUNTIME_ROOT of the environment names; skipped without them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.examples.conftest import DEPLOYMENT, numbers, run
from tests.runtime.conftest import FRAMES, write

pytestmark = pytest.mark.slow  # compiling takes some seconds


@pytest.fixture(scope="session")
def detect(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the example, with warnings as errors."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    if "ONNXRUNTIME_ROOT" not in os.environ:
        pytest.skip("ONNXRUNTIME_ROOT does not name an unpacked ONNX Runtime with its headers")
    build = tmp_path_factory.mktemp("cpp")
    strict = "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wpedantic -Wshadow -Werror"
    configure = ["cmake", "-S", str(DEPLOYMENT / "cpp"), "-B", str(build), strict]
    configured = subprocess.run(configure, capture_output=True, text=True, check=False)  # noqa: S603
    if configured.returncode:
        pytest.skip(f"CMake finds not all that the example needs: {' '.join(configured.stderr.split())}")
    built = subprocess.run(["cmake", "--build", str(build)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    assert built.returncode == 0, built.stdout + built.stderr
    return build / "detect"


def test_scores_are_those_of_the_runtime(detect: Path, model: Path, expected: NDArray[Any], tmp_path: Path) -> None:
    np.testing.assert_allclose(numbers(run([detect, model], FRAMES[:60])), expected, atol=1e-5)
    np.save(tmp_path / "frames.npy", FRAMES[:60])
    np.testing.assert_allclose(numbers(run([detect, model, tmp_path / "frames.npy"])), expected, atol=1e-5)


def test_times_come_before_the_scores(detect: Path, model: Path, expected: NDArray[Any]) -> None:
    lines = numbers(run([detect, model, "--times"], FRAMES[:60]))
    np.testing.assert_allclose(lines[:, 1:], expected, atol=1e-5)
    assert (lines[:, 0] > 0).all()


@pytest.mark.parametrize(
    "frames", [np.zeros((3, 4), "f4"), np.zeros((3, 5), "f8"), np.asfortranarray(np.zeros((3, 5), "f4"))]
)
def test_other_frames_are_refused(detect: Path, model: Path, frames: NDArray[Any], tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", frames)
    done = run([detect, model, tmp_path / "frames.npy"])
    assert done.returncode == 1
    assert "detect: frames must be (T, 5) in float32, got {'descr'" in done.stderr


def test_a_file_that_is_not_ours_is_refused(detect: Path, tmp_path: Path) -> None:
    done = run([detect, write(tmp_path / "other.onnx", "")], FRAMES[:1])
    assert done.returncode == 1
    assert "says nothing of itself; give a file that `coadtr export` wrote" in done.stderr


def test_a_frame_without_a_finite_answer_ends_it(detect: Path, model: Path, expected: NDArray[Any]) -> None:
    frames = FRAMES[:3].copy()
    frames[2] = np.nan
    done = run([detect, model], frames)
    assert done.returncode == 1
    assert "the answer is not finite: this frame is not taken" in done.stderr
    np.testing.assert_allclose(
        [[*map(float, line.split())] for line in done.stdout.splitlines()], expected[:2], atol=1e-5
    )
