"""A Keras model's step as a TensorFlow SavedModel or a LiteRT (TFLite) file.

The state is in named inputs and outputs. Both are written from the TensorFlow backend, run beside the model, and kept
only if their answers agree.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from coadtr.errors import CheckpointError, ConfigError, MissingExtraError
from coadtr.keras.checks import require_count
from coadtr.runtime.litert import SIGNATURE, LiteRTStepper

__all__ = ["export_litert", "export_saved_model", "state_names"]

FRAMES: Final = 200  # run beside the model before a file takes its name
TOLERANCE: Final = 1e-4


def state_names(state: Any, prefix: str = "") -> list[str]:
    """Name the arrays of a state, in the order in which `keras.tree.flatten` gives them.

    Example:
        >>> from coadtr.keras import RingState
        >>> state_names(RingState(0, 0, 0))
        ['keys', 'values', 'frames']
    """
    if not isinstance(state, tuple):
        return [prefix]
    fields = getattr(state, "_fields", None) or map(str, range(len(state)))
    joined = ((f"{prefix}_{name}" if prefix else name, part) for name, part in zip(fields, state, strict=True))
    return [name for path, part in joined for name in state_names(part, path)]


def export_saved_model(layer: Any, path: str | Path) -> Path:
    """Write a built layer's or model's step as a TensorFlow SavedModel, for any number of streams.

    The signature ``step`` takes ``frame`` ``(B, D)`` and ``state_<name>`` for each array of the state, and returns
    ``answer`` and ``next_<name>``; ``fresh`` takes ``streams``, a whole number, and returns ``state_<name>``.

    Args:
        layer: A built layer or model of `coadtr.keras` that takes one frame ``(B, D)``.
        path: The folder to make; it must not exist.

    Returns:
        ``path``.

    Raises:
        ConfigError: If the backend is not TensorFlow, the folder is there already, or the layer is in half precision.
        CheckpointError: If the answers of what was written differ from the layer's, or it cannot be written.
    """
    tf, folder = _require_tensorflow(), _require_free(path)
    width, names, like = _describe(layer)

    def flat(state: Any, prefix: str) -> dict[str, Any]:
        return {f"{prefix}_{name}": leaf for name, leaf in zip(names, keras.tree.flatten(state), strict=True)}

    module = tf.Module()
    module.held = [variable.value for variable in layer.variables]
    specs = {
        name: tf.TensorSpec((None, *leaf.shape[1:]), leaf.dtype, name=f"state_{name}")
        for name, leaf in zip(names, keras.tree.flatten(like), strict=True)
    }

    def step(frame: Any, **state: Any) -> dict[str, Any]:
        given = keras.tree.pack_sequence_as(like, [state[f"state_{name}"] for name in names])
        answer, after = layer.stateless_step(frame, given, training=False)
        return {"answer": answer, **flat(after, "next")}

    def fresh(streams: Any) -> dict[str, Any]:
        repeated = keras.tree.map_structure(lambda leaf: tf.repeat(leaf, tf.reshape(streams, (1,)), axis=0), like)
        return flat(repeated, "state")

    frame = tf.TensorSpec((None, width), tf.float32, name="frame")
    module.step = tf.function(step).get_concrete_function(frame=frame, **{spec.name: spec for spec in specs.values()})
    module.fresh = tf.function(fresh).get_concrete_function(streams=tf.TensorSpec((), tf.int32, name="streams"))
    with _scratch(folder) as scratch:
        part = scratch / "part"
        tf.saved_model.save(module, str(part), signatures={"step": module.step, "fresh": module.fresh})
        signatures = tf.saved_model.load(str(part)).signatures
        state = {key: value.numpy() for key, value in signatures["fresh"](tf.constant(2)).items()}

        def run(frame: NDArray[Any], state: dict[str, Any]) -> tuple[NDArray[Any], dict[str, Any]]:
            inputs = {key: tf.constant(value) for key, value in {"frame": frame, **state}.items()}
            answered = {key: value.numpy() for key, value in signatures["step"](**inputs).items()}
            answer = answered.pop("answer")
            return answer, {key.replace("next_", "state_", 1): value for key, value in answered.items()}

        _require_agreement(layer, run, state, (2, width), folder)
        shutil.move(part, folder)
    return folder


def export_litert(layer: Any, path: str | Path, *, streams: int = 1, description: Any = None) -> Path:
    """Write a built layer's or model's step as a LiteRT (TFLite) file, for a fixed number of streams.

    Inputs and outputs are named as :func:`export_saved_model` says, and only built-in operators are used.
    :class:`coadtr.runtime.LiteRTStepper` runs the file without TensorFlow and Keras; any interpreter of TFLite does.

    Args:
        layer: A built layer or model of `coadtr.keras` that takes one frame ``(B, D)``.
        path: The file to write. Beside it lies ``<name>.json``, which describes it. Neither may exist.
        streams: Streams B that the file steps at once.
        description: What the file is to say of itself besides, as JSON values; for a checkpoint its ``config``.

    Returns:
        ``path``.

    Raises:
        ConfigError: If the backend is not TensorFlow, a file is there already, ``streams`` is not a whole number above
            0, ``description`` is not JSON, or the layer is in half precision.
        CheckpointError: If the step cannot be converted or written, or its answers differ from the layer's.
        MissingExtraError: If the interpreter is not installed.
    """
    tf, file = _require_tensorflow(), _require_free(path)
    beside = _require_free(file.with_name(file.name + ".json"))
    require_count("export_litert", "streams", streams, 1)
    width, names, like = _describe(layer)
    leaves = keras.tree.flatten(like)
    shapes = [{"name": name, "shape": list(leaf.shape[1:])} for name, leaf in zip(names, leaves, strict=True)]
    says = {"format": "coadtr-litert", "version": 1, "streams": streams, "width": width, "state": shapes}
    text = _to_json({**says, "description": description})

    def step(frame: Any, **state: Any) -> dict[str, Any]:
        given = keras.tree.pack_sequence_as(like, [state[f"state_{name}"] for name in names])
        answer, after = layer.stateless_step(frame, given, training=False)
        found = zip(names, keras.tree.flatten(after), strict=True)
        return {"answer": answer, **{f"next_{name}": leaf for name, leaf in found}}

    specs = {
        f"state_{name}": tf.TensorSpec((streams, *leaf.shape[1:]), leaf.dtype, name=f"state_{name}")
        for name, leaf in zip(names, leaves, strict=True)
    }
    frame = tf.TensorSpec((streams, width), tf.float32, name="frame")
    concrete = tf.function(step).get_concrete_function(frame=frame, **specs)
    module = tf.Module()
    module.held, module.step = [variable.value for variable in layer.variables], concrete
    with _scratch(file) as scratch:
        folder, part = scratch / "model", scratch / "part"
        tf.saved_model.save(module, str(folder), signatures={SIGNATURE: concrete})
        try:
            converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[SIGNATURE])
            converter.experimental_enable_resource_variables = False  # weights become constants of the step
            part.write_bytes(converter.convert())
        except Exception as error:  # the converter has an exception of its own, under a name that moves
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{file}: {type(layer).__name__} cannot be converted ({first}); report it") from error
        stepper = LiteRTStepper(part)
        state = stepper.init_state()
        _require_agreement(layer, stepper.step, state, (streams, width), file)
        beside.write_bytes(text)
        shutil.move(part, file)
    return file


def _require_tensorflow() -> Any:
    if keras.config.backend() != "tensorflow":
        raise ConfigError(
            f"the backend is {keras.config.backend()!r}, and TensorFlow writes these files: "
            "set KERAS_BACKEND=tensorflow before Keras is imported, and load the checkpoint there"
        )
    try:
        import tensorflow as tf  # noqa: PLC0415
    except ImportError as error:  # pragma: no cover (Keras would not have started)
        raise MissingExtraError("this needs TensorFlow: pip install tensorflow-cpu") from error
    return tf


def _require_free(path: str | Path) -> Path:
    target = Path(path)
    if target.exists():
        raise ConfigError(f"{target} is there already: choose another path")
    return target


def _to_json(values: dict[str, Any]) -> bytes:
    try:
        return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"description cannot be written as JSON ({error}); give texts, numbers, lists, dicts"
        ) from error


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """Yield a folder beside the target, which goes when the block ends."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as scratch:
            yield Path(scratch)
    except OSError as error:
        raise CheckpointError(
            f"{target}: cannot be written ({error.strerror or error}): choose a folder that you may write"
        ) from error


def _describe(layer: Any) -> tuple[int, list[str], Any]:
    """Return the width of a frame, the names of the state's arrays, and a fresh stream's state."""
    if not layer.built:
        raise ConfigError(f"{type(layer).__name__} has no weights yet; build it before exporting")
    if (dtype := layer.compute_dtype) in ("float16", "bfloat16"):
        raise ConfigError(f"{type(layer).__name__} computes in {dtype}; load it with dtype float32 to export")
    width = getattr(layer, "input_dim", None) or getattr(layer, "embed_dim", None)
    if width is None:
        raise ConfigError(f"{type(layer).__name__} does not take one frame (B, D); export a block, a stack or CoOadTR")
    state = layer.init_state(1)
    return int(width), state_names(state), state


def _require_agreement(
    layer: Any,
    run: Callable[[NDArray[Any], dict[str, Any]], tuple[NDArray[Any], dict[str, Any]]],
    state: dict[str, Any],
    shape: tuple[int, int],
    what: Path,
) -> None:
    """Run what was written beside the layer, from a fresh state on, with frames of a shape ``(B, D)``."""
    rng, own, worst = np.random.default_rng(0), layer.init_state(shape[0]), 0.0
    for _ in range(FRAMES):
        frame = _draw(layer, rng, shape)
        wanted, own = layer.stateless_step(frame, own, training=False)
        answer, state = run(frame, state)
        worst = max(worst, float(np.nan_to_num(np.abs(answer - ops.convert_to_numpy(wanted)), nan=np.inf).max()))
    if not worst <= TOLERANCE:
        raise CheckpointError(
            f"{what}: its answers differ from the layer's by up to {worst:.3g} ({TOLERANCE:g} is allowed): not saved"
        )


def _draw(layer: Any, rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Draw a frame, with the channels' mean and deviation where the model knows them."""
    frame = rng.normal(size=shape)
    if getattr(layer, "normalise", False):
        frame = frame / ops.convert_to_numpy(layer.scale) + ops.convert_to_numpy(layer.mean)
    return frame.astype(np.float32)
