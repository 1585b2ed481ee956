"""What is saved comes back: weights bit for bit, the description, the origin; without Lightning, Hydra or pickle."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import coadtr
from coadtr.checkpoint import load, save_checkpoint
from coadtr.models import PRESETS
from tests.checkpoint.conftest import MakeModel, MakeSpec

ISOLATED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"pytorch_lightning", "lightning", "hydra", "omegaconf"}:
            raise ImportError(f"blocked: {name}")

def refuse(event, arguments):
    if event in {"pickle.find_class", "os.system", "subprocess.Popen"} and armed:
        raise SystemExit(f"{event} {arguments}")

sys.meta_path.insert(0, Block())
import pickle
import numpy as np, torch
import coadtr

frames = torch.from_numpy(np.load(sys.argv[2]))
pickle.load = pickle.loads = pickle.Unpickler = torch.load = None
armed = True
sys.addaudithook(refuse)
checkpoint = coadtr.load(sys.argv[1])
assert coadtr.OnlineDetector(checkpoint).push(frames[0, 0]).shape == (3,)
armed = False
with torch.inference_mode():
    np.save(sys.argv[3], checkpoint.model(frames).numpy())
print("loaded")
"""


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("name", PRESETS)
def test_all_presets_answer_as_before(
    name: str, normalise: bool, tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec
) -> None:
    model = make_model(name, normalise=normalise).eval()
    spec = make_spec(model)
    loaded = load(save_checkpoint(tmp_path / "checkpoint", model, spec, {}))
    assert loaded.spec == spec
    assert list(loaded.spec.streams) == ["rgb", "flow"]
    assert loaded.model.config == model.config
    assert not loaded.model.training
    frames = torch.randn(2, 9, 5)
    with torch.inference_mode():
        assert torch.equal(loaded.model(frames), model(frames))
    assert all(torch.equal(tensor, loaded.model.state_dict()[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtype_comes_back(dtype: torch.dtype, tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    model = make_model("cooadtr_b2").to(dtype)
    loaded = load(save_checkpoint(tmp_path / "checkpoint", model, make_spec(model), {})).model
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {dtype}
    assert all(torch.equal(tensor, loaded.state_dict()[key]) for key, tensor in model.state_dict().items())


def test_description_comes_back(tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    model = make_model("cooadtr_b2", positions="learned", in_bias=True, activation="relu", normalise=True)
    spec = make_spec(model, head="sigmoid", background=None, ignored=None, class_names=("å", "b c", "d"), rate_hz=29.97)
    path = save_checkpoint(tmp_path / "checkpoint", model, spec, {})
    assert load(path).spec == spec
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    assert (config["format"], config["version"]) == ("coadtr-checkpoint", 1)
    assert config["normalisation"] == "standardise"


def test_origin_comes_back_with_code_version_and_date(saved: Path) -> None:
    origin = load(saved).origin
    assert {key: origin[key] for key in ("data", "metric")} == {"data": "sketch", "metric": {"mAP": 0.5}}
    assert origin["code_version"] == f"coadtr {coadtr.__version__}"
    assert abs(datetime.now(UTC) - datetime.fromisoformat(origin["created"])).total_seconds() < 600


def test_given_code_version_and_date_are_kept(tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    model = make_model()
    given = {"code_version": "abc123", "created": "2020-01-01"}
    assert load(save_checkpoint(tmp_path / "c", model, make_spec(model), given)).origin == given


def test_noncontiguous_weights_are_saved(tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec) -> None:
    model = make_model()
    weight = model.inputs.embed.weight
    weight.data = weight.data.t().contiguous().t()
    assert not weight.is_contiguous()
    loaded = load(save_checkpoint(tmp_path / "checkpoint", model, make_spec(model), {}))
    assert torch.equal(loaded.model.inputs.embed.weight, weight)


def test_random_numbers_and_the_saved_model_are_left_alone(
    tmp_path: Path, make_model: MakeModel, make_spec: MakeSpec
) -> None:
    model = make_model().train()
    before = torch.get_rng_state()
    load(save_checkpoint(tmp_path / "checkpoint", model, make_spec(model), {}))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_folder_holds_safetensors_and_json_only(saved: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == ["config.json", "model.safetensors", "origin.json"]
    for name in ("config.json", "origin.json"):
        assert isinstance(json.loads((saved / name).read_text(encoding="utf-8")), dict)
    packed = (saved / "model.safetensors").read_bytes()
    header = json.loads(packed[8 : 8 + int.from_bytes(packed[:8], "little")])
    assert set(header) - {"__metadata__"} == set(safetensors.torch.load(packed))
    assert header["__metadata__"] == {"format": "pt"}


def test_loads_without_lightning_hydra_or_pickle(saved: Path, tmp_path: Path) -> None:
    frames = torch.randn(1, 9, 5)
    np.save(tmp_path / "frames.npy", frames.numpy())
    command = [sys.executable, "-c", ISOLATED, str(saved), str(tmp_path / "frames.npy"), str(tmp_path / "logits.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.stdout.strip() == "loaded", done.stderr
    with torch.inference_mode():
        here = load(saved).model(frames)
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "logits.npy")), here)
