"""CoOadTR with low-rank attention: training of its landmarks, what it approximates, refusals. (Steps: tests/laws.)"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from coadtr.errors import ConfigError
from coadtr.layers import NystroemAttention, SingleOutputAttention, SingleOutputBlock, state_tensors
from coadtr.models import Nystroem, OnlineModel, build_model, preset

WINDOW, CHANNELS, CLASSES = 4, 6, 3
SIZES: dict[str, Any] = {"input_dim": CHANNELS, "num_classes": CLASSES, "window": WINDOW, "embed_dim": 8}
SIZES |= {"num_heads": 2, "ff_dim": 12}


def nystroem(depth: int = 1, landmarks: int = 3, **changes: Any) -> Nystroem:
    torch.manual_seed(depth)
    model = build_model(preset("nystroem", **{**SIZES, "depth": depth, "num_landmarks": landmarks, **changes}))
    assert isinstance(model, Nystroem)
    return model.double().eval()


@pytest.mark.parametrize("depth", [1, 2])
def test_what_a_step_equals_is_stated(depth: int) -> None:
    model = nystroem(depth)
    assert model.exactness == ("both" if depth == 1 else "sequence")
    assert model.reach == depth * (WINDOW - 1) + 1


def test_landmarks_taken_from_a_full_window_give_cooadtrs_answer() -> None:
    """With the tokens of the window as landmarks the low-rank formula is the exact one."""
    frames = torch.randn(1, WINDOW, CHANNELS, dtype=torch.float64)
    exact: OnlineModel = build_model(preset("cooadtr_b1", **SIZES)).double().eval()
    model = nystroem(landmarks=WINDOW)
    weights = {name.replace("last", "blocks.0"): value for name, value in exact.state_dict().items()}
    model.load_state_dict({name: value for name, value in weights.items() if "attention." not in name}, strict=False)
    block = model.encoder.blocks[0]
    assert isinstance(block, SingleOutputBlock)
    attention = SingleOutputAttention(8, 2, window=WINDOW).double()
    prefix = "encoder.blocks.0.attention."
    attention.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    with torch.no_grad():
        tokens = model.embed(frames, None)[0]
        drawn = NystroemAttention.from_attention(attention, tokens, cutoff=1e-12)
        block.attention.load_state_dict(drawn.state_dict())
        torch.testing.assert_close(model(frames)[:, -1], exact(frames)[:, -1], atol=1e-7, rtol=0)


@pytest.mark.parametrize("depth", [1, 2])
def test_every_parameter_learns_the_landmarks_and_their_inverse_among_them(depth: int) -> None:
    model = nystroem(depth, positions="learned", num_positions=WINDOW).train()
    model.learn_sequence(torch.randn(2, 9, CHANNELS, dtype=torch.float64)).now.square().sum().backward()
    assert {name for name, _ in model.named_parameters() if name.endswith("mixing")}
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


def test_an_ordinary_training_loop_brings_the_loss_down() -> None:
    model = nystroem(dropout=0.0).train()
    frames = torch.randn(2, 40, CHANNELS, dtype=torch.float64)
    labels = (frames[..., 0] > 0).long() + (frames[..., 1] > 0).long()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = F.cross_entropy(model(frames).flatten(0, 1), labels.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2


def test_a_stream_keeps_values_and_logits_of_landmarks_and_no_keys() -> None:
    shapes = [tuple(leaf.shape) for leaf in state_tensors(nystroem().init_state(5))]
    assert shapes == [(5, 2, 3, WINDOW), (5, 2, WINDOW, 4), (5,)]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_landmarks": 0}, "num_landmarks must be a whole number of at least 1, got 0"),
        ({"attention_dropout": 0.1}, "low-rank attention drops no weights, got attention_dropout=0.1: set it to 0"),
    ],
)
def test_settings_that_nothing_can_be_built_from_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        preset("nystroem", **{**SIZES, **changes})
