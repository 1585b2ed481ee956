"""Settings, files, dtypes and shapes of the Keras layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.keras.subjects import SUBJECTS, TOLERANCE, WINDOW, Subject, array, keras, run_steps

from coadtr.keras import CoOadTR, CoSiTransformerEncoder  # isort: skip


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS.keys())
def test_a_layer_of_the_same_settings(subject: Subject, stream: NDArray[Any]) -> None:
    layer = subject.built(save_state=True)
    again = type(layer).from_config(layer.get_config())
    again.build((None, None, 6))
    assert again.get_config() == layer.get_config()
    again.set_weights(layer.get_weights())
    np.testing.assert_allclose(run_steps(again, stream[:, :7]), run_steps(layer, stream[:, :7]), **TOLERANCE)


def test_a_saved_model_answers_alike(stream: NDArray[Any], tmp_path: Path) -> None:
    inputs = keras.Input((None, 6))
    x = SUBJECTS["positions"].make()(inputs)
    x = SUBJECTS["retroactive block"].make()(x)
    model = keras.Model(inputs, SUBJECTS["single-output block"].make()(x))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(array(again(stream)), array(model(stream)), **TOLERANCE)
    assert again.output_shape == (None, 1, 6)


@pytest.mark.parametrize("save_state", [False, True])
def test_a_state_is_saved_where_it_is_asked_for(save_state: bool, stream: NDArray[Any], tmp_path: Path) -> None:
    model = SUBJECTS["CoOadTR-b2"].built(save_state=save_state)
    whole = run_steps(model, stream[:, :12])
    model.clean_state()
    run_steps(model, stream[:, :8])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, CoOadTR)
    assert (again.get_state() is None) is not save_state
    if save_state:
        np.testing.assert_allclose(run_steps(again, stream[:, 8:12]), whole[:, 8:], **TOLERANCE)


@pytest.mark.parametrize(("policy", "exact"), [("mixed_bfloat16", 0.15), ("mixed_float16", 0.02)])
def test_mixed_precision(policy: str, exact: float, stream: NDArray[Any]) -> None:
    sizes: dict[str, Any] = {"seq_len": WINDOW, "embed_dim": 6, "num_heads": 2, "ff_dim": 7}
    full, half = CoSiTransformerEncoder(**sizes), CoSiTransformerEncoder(**sizes, dtype=policy)
    for layer in (full, half):
        layer.build((None, None, 6))
    half.set_weights(full.get_weights())
    found = half.call_steps(stream[:, :12])
    assert keras.backend.standardize_dtype(found.dtype) == policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(half.get_state().keys.dtype) == policy.removeprefix("mixed_")
    wanted = array(full.call_steps(stream[:, :12]))
    np.testing.assert_allclose(array(keras.ops.cast(found, "float32")), wanted, atol=exact)


# The layer norms of Keras compute in float32 also where all else is float64.
@pytest.mark.parametrize(("policy", "exact"), [("mixed_bfloat16", 0.1), ("mixed_float16", 0.01), ("float64", 1e-5)])
def test_clips_and_steps_agree_in_each_dtype(policy: str, exact: float, stream: NDArray[Any]) -> None:
    if policy == "float64" and keras.config.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is asked to")
    model = SUBJECTS["CoOadTR-b2"].built(dtype=policy)
    model.mean.assign(np.full(6, 100, np.float32))
    raw = 100 + stream[:, :WINDOW]
    step = array(keras.ops.cast(model.call_steps(raw)[:, -1], "float32"))
    np.testing.assert_allclose(array(keras.ops.cast(model(raw), "float32")), step, atol=exact)


def test_a_model_with_a_layer_in_step_mode_is_saved_and_loaded(stream: NDArray[Any], tmp_path: Path) -> None:
    inputs = keras.Input((WINDOW, 6))
    layer = SUBJECTS["single-output block"].make()
    model = keras.Model(inputs, layer(inputs))
    clip = array(model(stream[:, :WINDOW]))
    layer.call_mode = "step"
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").layers[1]
    assert again.call_mode == "step"
    np.testing.assert_allclose(run_steps(again, stream[:, :WINDOW])[:, -1:], clip, **TOLERANCE)


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS.keys())
def test_a_symbolic_answer_has_the_shape_of_a_real_one(subject: Subject, stream: NDArray[Any]) -> None:
    layer = subject.built()
    both = "attention" in type(layer).__name__.lower()
    symbolic, clip = keras.Input((8, 6)), stream[:, :8]
    real = layer(clip, clip) if both else layer(clip)
    found = layer(symbolic, symbolic) if both else layer(symbolic)
    assert tuple(found.shape[1:]) == tuple(real.shape[1:])
    shapes = ((2, 8, 6), (2, 8, 6)) if both else ((2, 8, 6),)
    assert tuple(layer.compute_output_shape(*shapes)) == tuple(real.shape)
