"""MiniROAD: parity, clips, sizes, precisions, training, refusals. (Steps: tests/laws.)"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coadtr.errors import CheckpointError, ConfigError, ShapeError
from coadtr.layers import Int8Linear, Precision, in_precision, state_bytes
from coadtr.models import MiniROAD, MiniROADConfig, build_model, config_from_dict, load_published, preset
from coadtr.models.recurrent import GRULayer

CHANNELS, CLASSES, WINDOW = 6, 3, 5
SIZES: dict[str, Any] = {"input_dim": CHANNELS, "num_classes": CLASSES, "window": WINDOW}
SIZES |= {"embed_dim": 8, "hidden_dim": 7}


def miniroad(**changes: Any) -> MiniROAD:
    torch.manual_seed(3)
    model = build_model(preset("miniroad", **{**SIZES, **changes})).double().eval()
    assert isinstance(model, MiniROAD)
    return model


def stepped(model: MiniROAD, frames: Tensor) -> Tensor:
    state, answers = model.init_state(len(frames)), []
    with torch.no_grad():
        for frame in frames.unbind(1):
            answer, state = model.step(frame, state)
            answers.append(answer)
    return torch.stack(answers, 1)


def published(path: Path) -> tuple[MiniROAD, dict[str, Tensor], Tensor, Tensor]:
    """Build the model of the reference file; its weights, frames, and the probabilities published for them."""
    with np.load(path / "miniroad.npz") as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    weights = {name.removeprefix("weights/"): t for name, t in tensors.items() if name.startswith("weights/")}
    model = build_model(preset("miniroad", input_dim=24, num_classes=22, embed_dim=48, hidden_dim=32)).eval()
    assert isinstance(model, MiniROAD)
    return model, weights, torch.cat([tensors["rgb"], tensors["flow"]], 2), tensors["probabilities"]


def test_answers_equal_the_published_ones_as_steps_and_at_once(shared_reference: Path) -> None:
    model, weights, frames, expected = published(shared_reference)
    load_published(model, weights)
    with torch.no_grad():
        at_once = model(frames)
    assert expected.shape == (3, 100, 22)
    torch.testing.assert_close(at_once.softmax(-1), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(stepped(model, frames).softmax(-1), expected, atol=1e-5, rtol=0)


def test_weights_without_the_recurrent_layer_are_refused(shared_reference: Path) -> None:
    model, weights, _, _ = published(shared_reference)
    del weights["gru.weight_hh_l0"]
    with pytest.raises(CheckpointError, match=r"^the published weights lack gru\.weight_hh_l0: "):
        load_published(model, weights)


def test_two_layers_load_under_torch_names_and_answer_like_torch() -> None:
    theirs = nn.GRU(8, 7, 2, batch_first=True).double()
    model = miniroad(depth=2)
    ends = {"layer1.0": model.inputs.embed, "layer1.1": model.norm, "f_classification.0": model.head}
    weights = {f"gru.{name}": tensor for name, tensor in theirs.state_dict().items()}
    for name, part in ends.items():
        weights |= {f"{name}.{kind}": tensor.clone() for kind, tensor in part.state_dict().items()}
    load_published(model, weights)
    frames = torch.randn(2, 9, CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        hidden, last = theirs(model.embed(frames))
        answers, state = model.steps(frames, model.init_state(2))
        torch.testing.assert_close(answers, model.classify(hidden), atol=1e-12, rtol=0)
    torch.testing.assert_close(state.hidden, last.transpose(0, 1), atol=1e-12, rtol=0)


def test_the_published_size_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = build_model(preset("miniroad", input_dim=3072, num_classes=22))
    assert sum(parameter.numel() for parameter in model.parameters()) == 15_763_478
    assert state_bytes(model.init_state()) == 4 * 1024
    assert (model.window, model.reach, model.exactness, model.frames_learnt) == (128, None, "sequence", 1)


@pytest.mark.parametrize("length", [1, 3, WINDOW])
def test_a_clip_is_answered_from_the_zero_state(length: int) -> None:
    model = miniroad()
    clip = torch.randn(2, length, CHANNELS, dtype=torch.float64)
    expected = stepped(model, clip)[:, -1]
    with torch.no_grad():
        torch.testing.assert_close(model.answer_clip(clip), expected, atol=1e-12, rtol=0)
        torch.testing.assert_close(model.answer_clip(clip, torch.tensor([3, 70])), expected, atol=1e-12, rtol=0)
        assert model.learn_clip(clip).now.shape == (2, 1, CLASSES)


def test_frames_before_the_first_of_a_video_do_not_exist() -> None:
    """A row's stream begins where its video does: with frame 0, 2 and 4 of these clips."""
    model = miniroad()
    clip = torch.randn(3, WINDOW, CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        answers = model(clip, torch.tensor([0, -2, -4]))
        for row, begin in enumerate((0, 2, 4)):
            alone = model(clip[row : row + 1, begin:])
            torch.testing.assert_close(answers[row : row + 1, begin:], alone, atol=1e-12, rtol=0)
            last = model.answer_clip(clip, torch.tensor([0, -2, -4]))[row : row + 1]
            torch.testing.assert_close(last, alone[:, -1], atol=1e-12, rtol=0)
    assert model.shortest_clip == 1


def test_the_recurrent_products_are_stored_in_8_bits_and_answer_nearly_the_same() -> None:
    model = miniroad(embed_dim=32, hidden_dim=16, depth=2).float()
    small = in_precision(model, "int8")
    for layer in small.gru:
        assert isinstance(layer, GRULayer)
        assert isinstance(layer.input, Int8Linear)
        assert isinstance(layer.hidden, Int8Linear)
    frames = torch.randn(2, 20, CHANNELS)
    with torch.no_grad():
        exact, at_once = model(frames), small(frames.bfloat16())
    assert at_once.dtype == torch.bfloat16
    torch.testing.assert_close(at_once.float(), exact, atol=0.03, rtol=0)
    torch.testing.assert_close(stepped(small, frames.bfloat16()), at_once, atol=0.03, rtol=0)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_lower_precisions_answer_nearly_the_same(precision: Precision) -> None:
    model = miniroad()
    lowered = in_precision(model, precision)
    frames = torch.randn(2, 20, CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        answers = lowered(frames.to(lowered.input_dtype))
        torch.testing.assert_close(answers.double(), model(frames), atol=0.03, rtol=0)


def test_mixed_precision_trains_every_parameter() -> None:
    model = miniroad().float().train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(torch.randn(2, 9, CHANNELS), torch.tensor([0, -3])).float().square().sum()
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize("depth", [1, 2])
def test_gradients_are_those_of_single_steps(depth: int) -> None:
    model = miniroad(depth=depth, dropout=0.0).train()
    frames = torch.randn(2, 9, CHANNELS, dtype=torch.float64)
    model(frames).square().sum().backward()
    at_once = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    state, loss = model.init_state(2), torch.zeros((), dtype=torch.float64)
    for frame in frames.unbind(1):
        answer, state = model.step(frame, state)
        loss = loss + answer.square().sum()
    loss.backward()
    assert len(at_once) == len(list(model.parameters()))
    for parameter, expected in zip(model.parameters(), at_once, strict=True):
        assert expected.abs().sum() > 0
        torch.testing.assert_close(parameter.grad, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dropout", ["dropout", "input_dropout"])
def test_dropout_is_for_training_only(dropout: str) -> None:
    model = miniroad(**{"dropout": 0.0, "input_dropout": 0.0, dropout: 0.5})
    frames = torch.randn(1, WINDOW, CHANNELS, dtype=torch.float64)
    assert torch.equal(model(frames), model(frames))
    model.train()
    assert not torch.equal(model(frames), model(frames))


@pytest.mark.parametrize("name", ["hidden_dim", "depth", "embed_dim", "window"])
@pytest.mark.parametrize("value", [0, 2.0, None, True])
def test_sizes_are_whole_numbers_of_at_least_one(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be a whole number of at least 1, got {value!r}$"):
        config_from_dict({"kind": "miniroad", **SIZES, name: value})


def test_settings_are_written_and_read_back() -> None:
    config = MiniROADConfig(**SIZES, depth=2)
    assert config_from_dict(config.to_dict()) == config
    assert config.to_dict()["kind"] == "miniroad"


@pytest.mark.parametrize("shape", [(CHANNELS,), (2, CHANNELS + 1), (3, CHANNELS), (2, 1, CHANNELS)])
def test_a_frame_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    model = miniroad()
    with pytest.raises(ShapeError, match=r"MiniROAD\.step takes one frame per stream, \(B, 6\); got \("):
        model.step(torch.zeros(shape, dtype=torch.float64), model.init_state(2))


@pytest.mark.parametrize("method", ["forward", "answer_clip"])
@pytest.mark.parametrize("shape", [(2, CHANNELS), (2, 3, CHANNELS + 1), (2, 0, CHANNELS)])
def test_a_sequence_of_another_shape_is_refused(method: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=rf"MiniROAD\.{method} takes a sequence per stream, \(B, T >= 1, 6\); got \("):
        getattr(miniroad(), method)(torch.zeros(shape, dtype=torch.float64))


def test_a_clip_longer_than_the_window_is_refused() -> None:
    with pytest.raises(ShapeError, match="a clip holds at most the window's 5 frames, got 6"):
        miniroad().answer_clip(torch.zeros(1, WINDOW + 1, CHANNELS, dtype=torch.float64))
