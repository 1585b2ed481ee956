"""Parity with the published implementations, on their own weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from coadtr.errors import CheckpointError
from coadtr.layers import cyclic_sinusoidal_table
from coadtr.models import OadTR, OnlineModel, build_model, load_published, preset

COOADTR = [
    f"cooadtr_b{depth}_recycling_{kind}" for depth in (1, 2) for kind in ("fixed_127", "learned_127", "learned_64")
]
OADTR = ["oadtr_b1", "oadtr_b2", "oadtr"]


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Read the weights and the other arrays of a reference file."""
    with np.load(path) as arrays:
        tensors = {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}
    weights = {name.removeprefix("weights/"): t for name, t in tensors.items() if name.startswith("weights/")}
    return weights, {name: t for name, t in tensors.items() if not name.startswith("weights/")}


def load(path: Path) -> tuple[OnlineModel, dict[str, Tensor]]:
    """Build the model of a reference file and load its weights."""
    weights, arrays = read(path)
    sizes = {"input_dim": 24, "num_classes": 22, "embed_dim": 32, "ff_dim": 32, "num_heads": 4}
    name = path.stem
    if name.startswith("cooadtr"):
        _, depth, _, kind, cycle = name.split("_")
        config = preset(f"cooadtr_{depth}", positions=kind, num_positions=int(cycle), **sizes)
    else:
        config = preset(name, **sizes)
    model = build_model(config).eval()
    load_published(model, weights)
    return model, arrays


@pytest.mark.parametrize("name", COOADTR)
def test_cooadtr_forward_equals_the_published_clip_model_at_every_window(name: str, shared_reference: Path) -> None:
    model, arrays = load(shared_reference / f"{name}.npz")
    with torch.no_grad():
        logits = model(arrays["x"].transpose(1, 2))
    assert arrays["window_logits"].shape[1] == 97
    torch.testing.assert_close(logits[:, 63:], arrays["window_logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", COOADTR)
def test_cooadtr_steps_equal_the_published_clip_model_at_every_window(name: str, shared_reference: Path) -> None:
    model, arrays = load(shared_reference / f"{name}.npz")
    frames = arrays["x"].transpose(1, 2)
    state, answers = model.init_state(2), []
    with torch.no_grad():
        for t in range(frames.shape[1]):
            answer, state = model.step(frames[:, t], state)
            answers.append(answer)
    torch.testing.assert_close(torch.stack(answers[63:], 1), arrays["window_logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", COOADTR)
def test_cooadtr_clips_equal_the_published_clip_model(name: str, shared_reference: Path) -> None:
    model, arrays = load(shared_reference / f"{name}.npz")
    clips = arrays["x"].transpose(1, 2).unfold(1, 64, 1).transpose(2, 3)
    with torch.no_grad():
        logits = model.answer_clip(clips.flatten(0, 1), torch.arange(97).repeat(2))
    torch.testing.assert_close(logits.unflatten(0, (2, 97)), arrays["window_logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", OADTR)
def test_oadtr_equals_the_published_model_as_clip_and_as_steps(name: str, shared_reference: Path) -> None:
    model, arrays = load(shared_reference / f"{name}.npz")
    assert isinstance(model, OadTR)
    clip = torch.cat([arrays["rgb"], arrays["flow"]], dim=2)
    state = model.init_state(len(clip))
    with torch.no_grad():
        answer = model.run_clip(clip)
        for t in range(clip.shape[1]):
            stepped, state = model.step(clip[:, t], state)
    torch.testing.assert_close(answer.now, arrays["logits"], atol=1e-5, rtol=0)
    torch.testing.assert_close(stepped, arrays["logits"], atol=1e-5, rtol=0)
    if name == "oadtr":
        assert answer.ahead is not None
        torch.testing.assert_close(answer.ahead, arrays["decoder_logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("depth", [1, 2])
def test_fixed_positions_are_made_as_published(depth: int, shared_reference: Path) -> None:
    weights, _ = read(shared_reference / f"cooadtr_b{depth}_recycling_fixed_127.npz")
    torch.testing.assert_close(cyclic_sinusoidal_table(127, 32), weights["1.pe.pattern"], atol=1e-6, rtol=0)


def test_weights_of_another_depth_are_refused(shared_reference: Path) -> None:
    weights, _ = read(shared_reference / "cooadtr_b1_recycling_fixed_127.npz")
    model = build_model(preset("cooadtr_b2", input_dim=24, num_classes=22, embed_dim=32, ff_dim=32, num_heads=4))
    with pytest.raises(CheckpointError, match=r"lack .*3\.0\.0\.1\.in_proj_weight"):
        load_published(model, weights)


def test_weights_of_another_width_are_refused(shared_reference: Path) -> None:
    weights, _ = read(shared_reference / "cooadtr_b1_recycling_fixed_127.npz")
    model = build_model(preset("cooadtr_b1", input_dim=25, num_classes=22, embed_dim=32, ff_dim=32, num_heads=4))
    with pytest.raises(CheckpointError, match=r"0\.weight has shape \(32, 24\), the model wants \(32, 25\)"):
        load_published(model, weights)


def test_left_over_weights_are_refused(shared_reference: Path) -> None:
    weights, _ = read(shared_reference / "oadtr_b1.npz")
    model = build_model(preset("oadtr_b1", input_dim=24, num_classes=22, embed_dim=32, ff_dim=32, num_heads=4))
    with pytest.raises(CheckpointError, match="no place for the published weights surplus"):
        load_published(model, {**weights, "surplus": torch.zeros(1)})
