"""The Python examples answer as the runtime and the checkpoint do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coadtr.checkpoint import load
from examples.deployment.python import bare, native, runtime
from tests.checkpoint.making import save_small
from tests.examples.conftest import DEPLOYMENT, numbers, run
from tests.runtime.conftest import FRAMES

WITHOUT = "import runpy, sys; sys.modules['coadtr'] = sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
WITHOUT += "runpy.run_path(sys.argv[0], run_name='__main__')"


def test_the_bare_loop_gives_the_scores_of_the_runtime(model: Path, expected: NDArray[Any]) -> None:
    push, channels = bare.open_detector(str(model))
    assert channels == FRAMES.shape[1]
    found = np.stack([push(frame) for frame in FRAMES[:60]])
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_the_bare_loop_does_not_take_a_frame_without_a_finite_answer(model: Path, expected: NDArray[Any]) -> None:
    push, channels = bare.open_detector(str(model))
    push(FRAMES[0])
    with pytest.raises(ValueError, match="the answer is not finite: this frame is not taken"):
        push(np.full(channels, np.nan, np.float32))
    np.testing.assert_allclose(push(FRAMES[1]), expected[1], atol=1e-7)


def test_the_bare_loop_runs_without_this_package(model: Path, expected: NDArray[Any]) -> None:
    program: list[str | Path] = [sys.executable, "-c", WITHOUT, DEPLOYMENT / "python" / "bare.py", model]
    np.testing.assert_allclose(numbers(run(program, FRAMES[:60])), expected, atol=1e-7)


def test_the_runtime_example_goes_on_after_a_frame_that_is_refused(model: Path, expected: NDArray[Any]) -> None:
    frames = np.insert(FRAMES[:60], 7, np.nan, axis=0)
    done = run([sys.executable, DEPLOYMENT / "python" / "runtime.py", model], frames)
    np.testing.assert_allclose(numbers(done), expected, atol=1e-7)
    assert "frame 7 is not finite in channel 0" in done.stderr
    assert runtime.open_detector(str(model))[1] == FRAMES.shape[1]


def test_the_native_example_gives_the_scores_of_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = load(save_small(tmp_path, "cooadtr_b1", mean=1.0))
    push, channels = native.open_detector(str(checkpoint.path))
    assert channels == FRAMES.shape[1]
    expected = checkpoint.detector().push_many(FRAMES[:20])
    np.testing.assert_array_equal(np.stack([push(frame) for frame in FRAMES[:20]]), expected)


def test_the_native_example_compiles_if_it_is_told_to(tmp_path: Path) -> None:
    path = str(save_small(tmp_path, "cooadtr_b1"))
    push, channels = native.open_detector(path, "compiled")  # at its first frame, which takes too long here
    bound: Any = push
    assert bound.__self__.checkpoint.model.backend == "compiled"
    assert channels == FRAMES.shape[1]
