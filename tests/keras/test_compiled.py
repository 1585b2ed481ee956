"""Steps compiled by the backend, and exported files, beside the eager step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.keras.subjects import SUBJECTS, TOLERANCE, array, keras, run_steps

from coadtr.errors import CheckpointError, ConfigError, ShapeError  # isort: skip
from coadtr.keras import LiteRTStepper, compile_step, export_litert, export_saved_model  # isort: skip

NAMES = ["single-output attention", "retroactive block", "stack of depth 2", "CoOadTR-b1", "CoOadTR-b2", "positions"]
BACKEND = keras.config.backend()
needs_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow writes these files")


def test_options_reach_the_compiler(stream: NDArray[Any]) -> None:
    layer = SUBJECTS["CoOadTR-b2"].built()
    options: dict[str, Any] = {
        "tensorflow": {"reduce_retracing": True},
        "jax": {"inline": True},
        "torch": {"backend": "eager"},
    }
    step, state = compile_step(layer, **options[BACKEND]), layer.init_state(2)
    wanted = run_steps(layer, stream[:, :4])
    for t in range(4):
        answer, state = step(stream[:, t], state)
        np.testing.assert_allclose(array(answer), wanted[:, t], **TOLERANCE)


@pytest.mark.skipif(BACKEND == "torch" and shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if BACKEND == "torch" else name for name in NAMES]
)
def test_a_compiled_step_answers_alike(name: str, stream: NDArray[Any]) -> None:
    layer = SUBJECTS[name].built()
    wanted, state = run_steps(layer, stream[:, :12]), layer.init_state(2)
    step = compile_step(layer)
    for t in range(12):
        answer, state = step(stream[:, t], state)
        np.testing.assert_allclose(array(answer), wanted[:, t], **TOLERANCE, err_msg=f"frame {t}")


def test_a_compiled_step_sees_new_weights(stream: NDArray[Any]) -> None:
    layer = SUBJECTS["positions"].built()
    step = compile_step(layer, **({"backend": "eager"} if BACKEND == "torch" else {}))
    step(stream[:, 0], layer.init_state(2))
    layer.set_weights([np.zeros((7, 6), np.float32)])
    answer, _ = step(stream[:, 0], layer.init_state(2))
    np.testing.assert_allclose(array(answer), stream[:, 0])


@needs_tensorflow
@pytest.mark.parametrize("name", ["CoOadTR-b1", "CoOadTR-b2"])
def test_a_litert_file_answers_alike(name: str, stream: NDArray[Any], tmp_path: Path) -> None:
    layer = SUBJECTS[name].built()
    file = export_litert(layer, tmp_path / "step.tflite", streams=2, description={"classes": ["a"]})
    stepper, wanted = LiteRTStepper(file), run_steps(layer, stream[:, :30])
    state = stepper.init_state()
    for t in range(30):
        answer, state = stepper.step(stream[:, t], state)
        np.testing.assert_allclose(answer, wanted[:, t], **TOLERANCE, err_msg=f"frame {t}")
    assert state["state_" + ("attention_frames" if name.endswith("b2") else "frames")].tolist() == [30, 30]
    told = json.loads((tmp_path / "step.tflite.json").read_text())
    assert (told["streams"], told["width"], told["description"]) == (2, 6, {"classes": ["a"]})
    with pytest.raises(ShapeError, match=r"this file takes frames \(2, 6\), got \(1, 6\)"):
        stepper.step(stream[:1, 0], state)
    with pytest.raises(ConfigError, match="is there already: choose another path"):
        export_litert(layer, file)


@needs_tensorflow
def test_a_saved_model_answers_any_number_of_streams(stream: NDArray[Any], tmp_path: Path) -> None:
    import tensorflow as tf  # noqa: PLC0415

    layer = SUBJECTS["CoOadTR-b2"].built()
    loaded = tf.saved_model.load(str(export_saved_model(layer, tmp_path / "saved"))).signatures
    wanted = run_steps(layer, stream[:, :12])
    state = loaded["fresh"](streams=tf.constant(2))
    for t in range(12):
        outputs = dict(loaded["step"](frame=tf.constant(stream[:, t]), **state))
        np.testing.assert_allclose(array(outputs.pop("answer")), wanted[:, t], **TOLERANCE)
        state = {name.replace("next_", "state_"): value for name, value in outputs.items()}


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow writes them")
def test_other_backends_write_no_tensorflow(tmp_path: Path) -> None:
    layer = SUBJECTS["CoOadTR-b1"].built()
    for export in (export_litert, export_saved_model):
        with pytest.raises(ConfigError, match="set KERAS_BACKEND=tensorflow before Keras is imported"):
            export(layer, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_litert_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is missing; give a file that export_litert wrote"):
        LiteRTStepper(tmp_path / "none.tflite")
