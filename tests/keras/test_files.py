"""Checkpoint folders and exported files: what is refused, and what runs without Keras."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.keras.subjects import SUBJECTS, TOLERANCE, array, keras, run_steps

from coadtr.errors import CheckpointError, ConfigError, ShapeError  # isort: skip
from coadtr.keras import Checkpoint, CoOadTR, CoSiMultiHeadAttention, CoTransformerEncoder, LiteRTStepper  # isort: skip
from coadtr.keras import export_litert, export_saved_model, load, load_weights, save, state_dict, to_torch  # isort: skip
from coadtr.keras.checkpoint import SETTINGS  # isort: skip

needs_tensorflow = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow writes these files")
ROOT = Path(__file__).parents[2]

MODEL: dict[str, Any] = {
    "kind": "cooadtr", "input_dim": 6, "num_classes": 3, "window": 4, "embed_dim": 8, "num_heads": 2, "ff_dim": 8,
    "depth": 1, "positions": "fixed", "num_positions": 0, "normalise": False, "activation": "gelu",
    "norm_first": False, "in_bias": False, "dropout": 0.1, "input_dropout": 0.0, "attention_dropout": 0.0,
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "format": "coadtr-checkpoint", "version": 1, "classes": ["rest", "lift", "row"], "background": 0, "ignored": None,
    "streams": [{"name": "imu", "channels": 6}], "rate_hz": 5.0, "head": "softmax", "normalisation": "none",
}  # fmt: skip


def fresh(**settings: Any) -> Checkpoint:
    chosen = MODEL | settings
    model = CoOadTR(**{own: chosen[name] for name, own in SETTINGS.items()})
    return Checkpoint(model, {**CONFIG, "model": chosen}, {})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("saved") / "checkpoint", fresh())


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "checkpoint"))


def edit(folder: Path, changes: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        (config["model"] if name in MODEL else config)[name] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 0}, "num_heads must be a whole number of at least 1, got 0"),
        ({"window": "8"}, "window must be a whole number of at least 1, got '8'"),
        ({"depth": True}, "depth must be a whole number of at least 1, got True"),
        ({"input_dim": -6}, "input_dim must be a whole number of at least 1, got -6"),
        ({"num_heads": 3}, "embed_dim must be a multiple of num_heads=3, got 8"),
        ({"num_positions": 3}, "num_positions must be 0 or at least the window of 4 frames, got 3"),
        ({"dropout": "x"}, "dropout must be a number of at least 0 and below 1, got 'x'"),
        ({"dropout": float("nan")}, "dropout must be a number of at least 0 and below 1, got nan"),
        ({"activation": "softmix"}, "activation must be gelu or relu, got 'softmix'"),
        ({"activation": None}, "activation must be gelu or relu, got None"),
        ({"positions": ["fixed"]}, r"positions must be learned or fixed, got \['fixed'\]"),
        ({"normalise": "no"}, "normalise must be True or False, got 'no'"),
        ({"in_bias": 0}, "in_bias must be True or False, got 0"),
        ({"head": "zzz"}, "head must be softmax or sigmoid, got 'zzz'"),
        ({"head": []}, r"head must be softmax or sigmoid, got \[\]"),
        ({"classes": 5}, "classes must be 3 names, each its own, got 5"),
        ({"classes": ["a", "b"]}, "classes must be 3 names, each its own, got"),
        ({"classes": ["a", "b", "a"]}, "classes must be 3 names, each its own, got"),
        ({"ignored": 3}, "ignored must be None or the index of a class, 0 to 2, got 3"),
    ],
)
def test_settings_of_a_file_are_not_trusted(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit(folder, changes)
    with pytest.raises(CheckpointError, match=rf"config\.json: {message}.*; export it again$"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 2**50}, r"inputs\.embed\.weight has shape \(8, 6\), config\.json wants \(1125899906842624, 6\)"),
        ({"window": 2**50}, r"positions\.table has shape \(7, 8\)"),
        ({"ff_dim": 2**50}, r"encoder\.last\.feed_forward\.0\.weight has shape \(8, 8\)"),
        ({"depth": 2**50}, "its number of blocks is 1, config.json says depth=1125899906842624"),
    ],
)
def test_a_model_larger_than_its_weights_is_not_made(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit(folder, changes)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_what_the_model_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="warmup must be one of mask, none, got 'zeros'"):
        load(folder, warmup="zeros")
    with pytest.raises(ConfigError, match="CoOadTR refuses the options colour"):
        load(folder, colour=1)
    with pytest.raises(ConfigError, match="CoOadTR refuses the options dropout"):
        load(folder, dropout=0.5)

    def refuse(**_settings: Any) -> None:
        raise ValueError("too\nlate")

    monkeypatch.setattr("coadtr.keras.checkpoint.CoOadTR", refuse)
    with pytest.raises(CheckpointError, match=r"config\.json: CoOadTR refuses its settings \(too late\)"):
        load(folder)


def test_scores_are_of_the_classes(folder: Path) -> None:
    checkpoint = load(folder, warmup="none")
    assert checkpoint.scores(np.zeros((2, 3))).sum() == pytest.approx(2)
    for shape in ((2, 4), ()):
        with pytest.raises(ShapeError, match="the checkpoint has 3 classes, got logits of shape"):
            checkpoint.scores(np.zeros(shape))
    with pytest.raises(ConfigError, match="leave out the steps of the warm-up"):
        checkpoint.scores(checkpoint.model.call_step(np.zeros((1, 6), np.float32)))


def test_a_model_is_saved_with_its_own_settings(tmp_path: Path) -> None:
    checkpoint = fresh()
    for changes, message in (
        ({"window": 5}, "says window=5, the model has seq_len=4"),
        ({"dropout": 0.2}, "says dropout=0.2, the model has dropout=0.1"),
        ({"num_classes": 4, "classes": ["a", "b", "c", "d"]}, "says num_classes=4, the model has num_classes=3"),
        ({"classes": ["a", "b", "c", "d"]}, "classes must be 3 names"),
    ):
        classes = {"classes": changes.get("classes", CONFIG["classes"])}
        settings = MODEL | {name: value for name, value in changes.items() if name != "classes"}
        other = dataclasses.replace(checkpoint, config={**checkpoint.config, **classes, "model": settings})
        with pytest.raises(CheckpointError, match=message):
            save(tmp_path / "out", other)
    assert list(tmp_path.iterdir()) == []


def test_a_bias_that_pytorch_lacks_is_not_dropped(stream: NDArray[Any], tmp_path: Path) -> None:
    checkpoint = fresh(in_bias=True)
    again = load(save(tmp_path / "zero", checkpoint))
    wanted = run_steps(checkpoint.model, stream[:, :6])
    np.testing.assert_allclose(run_steps(again.model, stream[:, :6]), wanted, **TOLERANCE)
    kept, bias = state_dict(again.model), again.model.encoder.blocks[0].att.output_dense.bias
    bias.assign(np.ones(8, np.float32))
    with pytest.raises(CheckpointError, match=r"encoder\.last\.attention\.out_proj\.bias is not zero.*set it to zeros"):
        save(tmp_path / "ones", again)
    assert not (tmp_path / "ones").exists()
    load_weights(again.model, kept)
    assert not array(bias).any()


def test_a_layer_without_weights_has_none_to_give() -> None:
    for layer in (CoTransformerEncoder(2, 4, 8, 2, 8), CoSiMultiHeadAttention(4, 2, 4)):
        with pytest.raises(ConfigError, match=rf"{type(layer).__name__} has no weights yet: call it or build\(...\)"):
            to_torch(layer)


# What is not installed where a file runs.
BARE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""
WITHOUT_KERAS = """
from coadtr.runtime import LiteRTStepper
try:
    import coadtr.keras
except ImportError as error:
    print(error)
if sys.argv[2:]:
    import numpy as np
    file, frames, answers = sys.argv[2:]
    stepper, found = LiteRTStepper(file), []
    state = stepper.init_state()
    for frame in np.load(frames):
        answer, state = stepper.step(frame, state)
        found.append(answer)
    np.save(answers, np.stack(found))
assert not {"keras", "tensorflow", "torch"} & {name.partition(".")[0] for name in sys.modules}
"""


def run_bare(code: str, absent: str, *arguments: object) -> str:
    command = [sys.executable, "-c", BARE + code, absent, *map(str, arguments)]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)  # noqa: S603
    return done.stdout


def test_the_stepper_needs_no_keras() -> None:
    told = run_bare(WITHOUT_KERAS, "keras tensorflow torch jax")
    assert told == "coadtr.keras needs Keras 3: install the extra, pip install 'coadtr[keras]'\n"


@pytest.mark.parametrize(("backend", "package"), [("tensorflow", "tensorflow-cpu"), ("jax", "jax"), ("torch", "torch")])
def test_a_backend_that_is_missing_is_named(backend: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    code = "try:\n    import coadtr.keras\nexcept ImportError as error:\n    print(error)"
    told = run_bare(code, f"{backend} jaxlib" if backend == "jax" else backend)
    assert told.startswith(f"Keras is installed, its backend {backend!r} is not: pip install {package}, or set KERAS_")


@needs_tensorflow
def test_an_exported_file_runs_without_keras(stream: NDArray[Any], tmp_path: Path) -> None:
    layer = SUBJECTS["CoOadTR-b1"].built()
    file, frames = export_litert(layer, tmp_path / "step.tflite"), stream[:1, :12]
    np.save(tmp_path / "frames.npy", frames.swapaxes(0, 1))
    pytest.importorskip("ai_edge_litert", reason="runs files without TensorFlow")
    run_bare(WITHOUT_KERAS, "keras tensorflow torch jax", file, tmp_path / "frames.npy", tmp_path / "answers.npy")
    found = np.load(tmp_path / "answers.npy").swapaxes(0, 1)
    np.testing.assert_allclose(found, run_steps(layer, frames), **TOLERANCE)

    stepper, frame = LiteRTStepper(file), frames[:, 0]
    state = stepper.init_state()
    for wrong, message in (
        ({name: value for name, value in state.items() if name != "state_keys"}, "the state lacks state_keys; give"),
        ({**state, "state_other": frame}, "holds 'state_other', which this file does not take"),
        ({**state, "state_frames": np.zeros(2, np.int32)}, r"state_frames must be int32 \(1,\), got int32 \(2,\)"),
        ({**state, "state_frames": np.zeros(1)}, r"state_frames must be int32 \(1,\), got float64 \(1,\)"),
        (None, "a state is arrays by name, got a NoneType"),
    ):
        with pytest.raises(ShapeError, match=message):
            stepper.step(frame, wrong)  # type: ignore[arg-type]
    (tmp_path / "text.tflite").write_text("no model")
    with pytest.raises(CheckpointError, match=r"text\.tflite: has no step"):
        LiteRTStepper(tmp_path / "text.tflite")


@needs_tensorflow
def test_what_is_not_exported(tmp_path: Path) -> None:
    layer, file = SUBJECTS["CoOadTR-b1"].built(), tmp_path / "step.tflite"
    streams: Any
    for streams in ("2", 1.5, 0, True):
        with pytest.raises(ConfigError, match=f"streams must be a whole number of at least 1, got {streams!r}"):
            export_litert(layer, file, streams=streams)
    for description in ({1, 2}, {"rate": float("nan")}, "\ud800"):
        with pytest.raises(ConfigError, match="description cannot be written as JSON"):
            export_litert(layer, file, description=description)
    half = SUBJECTS["CoOadTR-b1"].built(dtype="mixed_float16")
    for export in (export_litert, export_saved_model):
        with pytest.raises(ConfigError, match="computes in float16; load it with dtype float32 to export"):
            export(half, file)
    (tmp_path / "step.tflite.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"step\.tflite\.json is there already: choose another path"):
        export_litert(layer, file)
    assert [path.name for path in tmp_path.iterdir()] == ["step.tflite.json"]
    for export in (export_litert, export_saved_model):
        with pytest.raises(CheckpointError, match=r"cannot be written \(.*\): choose a folder that you may write$"):
            export(layer, tmp_path / "step.tflite.json" / "out")
