"""The same weights in PyTorch and in Keras give the same answers, and go back."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.keras.subjects import SUBJECTS, WINDOW, array, keras, run_steps

from coadtr.errors import CheckpointError, ConfigError  # isort: skip
from coadtr.keras import compile_step, from_torch, load, save, state_dict, to_torch  # isort: skip

torch = pytest.importorskip("torch", reason="compares with PyTorch")

import coadtr  # noqa: E402
from coadtr import layers  # noqa: E402
from coadtr.checkpoint import CheckpointSpec, OnlineDetector, save_checkpoint  # noqa: E402
from coadtr.data.exercises import load_recordings  # noqa: E402
from coadtr.models import build_model, preset  # noqa: E402

EXACT: dict[str, Any] = {"atol": 1e-5, "rtol": 0}
STEPS = 1000
# PyTorch's own compiler takes minutes; what it makes is tested in test_compiled.py.
OPTIONS = {"backend": "eager"} if keras.config.backend() == "torch" else {}


@pytest.fixture(params=[1, 2], ids=["b1", "b2"])
def folder(request: pytest.FixtureRequest, shared_data: Path, tmp_path: Path) -> Path:
    """Export a model for the features of 50 Salads, with weights large enough for attention to choose."""
    frames = salads(shared_data)
    torch.manual_seed(request.param)
    sizes = {"embed_dim": 32, "ff_dim": 32, "num_heads": 4, "window": 64, "normalise": True}
    model = build_model(preset(f"cooadtr_b{request.param}", input_dim=frames.shape[1], num_classes=18, **sizes))
    model.inputs.set_statistics(torch.from_numpy(frames.mean(0)), torch.from_numpy(frames.std(0) + 1e-3))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1 / parameter.shape[-1] ** 0.5)
    names = tuple(f"class {index}" for index in range(18))
    spec = CheckpointSpec(
        model=model.config, class_names=names, background=0, ignored=17, streams={"i3d": frames.shape[1]}, rate_hz=5.0
    )
    return save_checkpoint(tmp_path / "checkpoint", model, spec, {"metric": {"mAP": 0.5}})


def salads(shared_data: Path) -> NDArray[np.float32]:
    with np.load(shared_data / "50salads_mid/Split_1.npz") as file:
        frames: NDArray[np.float32] = file["features"][:STEPS].astype(np.float32)
    return frames


def test_a_checkpoint_answers_alike_for_a_thousand_frames(folder: Path, shared_data: Path) -> None:
    frames = salads(shared_data)[:, None]
    detector, ours = coadtr.load(folder), load(folder)
    theirs = detector.model
    mine, state = theirs.init_state(1), ours.model.init_state(1)
    step = compile_step(ours.model, **OPTIONS)
    worst = 0.0
    with torch.inference_mode():
        for frame in frames:
            wanted, mine = theirs.step(torch.from_numpy(frame), mine)
            found, state = step(frame, state)
            worst = max(worst, float(np.abs(array(found) - wanted.numpy()).max()))
        clip = theirs.answer_clip(torch.from_numpy(frames[200:264, 0][None]), torch.tensor([200]))
    assert len(frames) == STEPS
    assert worst < EXACT["atol"]
    answered = ours.model(frames[200:264, 0][None], first_frame=np.array([200]))
    np.testing.assert_allclose(array(answered), clip.numpy(), **EXACT)
    scores = ours.scores(found)
    assert scores[0, 17] == 0
    assert scores.sum() == pytest.approx(1)


def test_the_checkpoint_of_the_project_answers_its_recordings_alike() -> None:
    path = Path(__file__).parents[2] / "checkpoints/exercises-cooadtr-b1"
    detector, ours = OnlineDetector.load(path), load(path)
    signals = np.concatenate([signal for signal in load_recordings().signals if len(signal) > 500])
    frames = signals[: STEPS * 10].reshape(STEPS, 1, -1).astype(np.float32)
    step, state = compile_step(ours.model, **OPTIONS), ours.model.init_state(1)
    answers = []
    for frame in frames:
        answer, state = step(frame, state)
        answers.append(array(answer)[0])
    wanted = np.stack([detector.push(frame[0]) for frame in frames])
    np.testing.assert_allclose(ours.scores(np.stack(answers)), wanted, **EXACT)
    assert len(np.unique(wanted.argmax(1))) > 2, "the recordings hold several exercises"


def test_a_model_trained_here_goes_back(folder: Path, tmp_path: Path) -> None:
    ours = load(folder)
    ours.model.head.bias.assign(np.arange(18, dtype=np.float32))
    again = coadtr.load(save(tmp_path / "again", ours))
    np.testing.assert_array_equal(again.model.state_dict()["head.bias"].numpy(), np.arange(18))
    for name, array_ in state_dict(ours.model).items():
        np.testing.assert_array_equal(again.model.state_dict()[name].numpy(), array_)
    with pytest.raises(CheckpointError, match="is there already; name another folder"):
        save(tmp_path / "again", ours)


def test_what_is_no_checkpoint_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    packed = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(packed[:-1] + b"x")
    with pytest.raises(CheckpointError, match="its SHA-256 begins with"):
        load(folder)
    config["weights_sha256"] = hashlib.sha256(b"damaged").hexdigest()
    (folder / "model.safetensors").write_bytes(b"damaged")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(folder)
    config["model"]["kind"] = "grab"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="is a checkpoint of 'grab'"):
        load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "settings", "make"),
    [
        ("pre-norm block", {"epsilon": 1e-5},
         lambda: layers.SingleOutputBlock(layers.SingleOutputAttention(6, 2, WINDOW), ff_dim=7, norm_first=True)),
        ("CoOadTR-b2", {}, lambda: layers.ContinualEncoder(2, 6, 2, WINDOW, ff_dim=7)),
    ],
)  # fmt: skip
def test_weights_of_layers_go_both_ways(name: str, settings: dict[str, Any], make: Any, stream: NDArray[Any]) -> None:
    theirs, ours = make(), SUBJECTS[name].built(**settings)
    ours = getattr(ours, "encoder", ours)
    theirs.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in to_torch(ours).items()
                            if "out_proj.bias" not in key})  # fmt: skip
    from_torch(ours, theirs.state_dict())
    for block in getattr(ours, "blocks", [ours]):
        assert block.ln1.epsilon == block.ln2.epsilon == 1e-5
    state = theirs.init_state(2)
    found = run_steps(ours, stream[:, :12])
    with torch.no_grad():
        for t in range(12):
            wanted, state = theirs.step(torch.from_numpy(stream[:, t]), state)
            np.testing.assert_allclose(found[:, t], wanted.numpy(), **EXACT)
