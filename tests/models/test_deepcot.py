"""DeepCoT: its reach, positions, training, refusals. (Steps: tests/laws; CoOadTR: test_cooadtr.py.)"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from coadtr.errors import ConfigError, ShapeError
from coadtr.models import DeepCoT, OnlineModel, build_model, preset

WINDOW, CHANNELS, CLASSES = 4, 6, 3
SIZES: dict[str, Any] = {"input_dim": CHANNELS, "num_classes": CLASSES, "window": WINDOW, "embed_dim": 8}
SIZES |= {"num_heads": 2, "ff_dim": 12}

every_depth = pytest.mark.parametrize("depth", [1, 2, 3])
every_attention = pytest.mark.parametrize("attention", ["softmax", "soft"])


def deepcot(depth: int = 2, **changes: Any) -> DeepCoT:
    torch.manual_seed(depth)
    model = build_model(preset("deepcot", depth=depth, **SIZES, **changes)).double().eval()
    assert isinstance(model, DeepCoT)
    return model


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@every_depth
@every_attention
def test_an_answer_depends_on_its_reach_and_on_nothing_before_it(depth: int, attention: str) -> None:
    model = deepcot(depth, attention=attention)
    assert model.reach == depth * (WINDOW - 1) + 1
    frames = random(1, model.reach + 3, CHANNELS).requires_grad_()
    model(frames)[0, -1].square().sum().backward()
    assert frames.grad is not None
    reached = frames.grad[0].abs().amax(1) > 0
    assert reached.tolist() == [False] * 3 + [True] * model.reach


@every_depth
@every_attention
def test_a_clip_of_its_reach_is_answered_like_the_frame_it_ends_at(depth: int, attention: str) -> None:
    model, frames = deepcot(depth, attention=attention), random(2, 25, CHANNELS)
    with torch.no_grad():
        answers = model(frames)
        for t in range(25):
            first = max(0, t + 1 - model.reach)
            clip = model.answer_clip(frames[:, first : t + 1], torch.tensor([first, first]))
            torch.testing.assert_close(clip, answers[:, t], atol=1e-12, rtol=0)


def test_one_block_is_cooadtr_b1_with_the_same_weights() -> None:
    model, frames = deepcot(1), random(2, 13, CHANNELS)
    other: OnlineModel = build_model(preset("cooadtr_b1", **SIZES)).double().eval()
    other.load_state_dict({name.replace("blocks.0", "last"): value for name, value in model.state_dict().items()})
    with torch.no_grad():
        assert torch.equal(model(frames), other(frames))


def test_two_blocks_are_not_cooadtr_b2_once_the_first_frames_leave_the_window() -> None:
    """Outputs of the first block are not brought up to date; while one frame was seen, there is nothing to update."""
    model, frames = deepcot(2), random(1, 9, CHANNELS)
    other: OnlineModel = build_model(preset("cooadtr_b2", **SIZES)).double().eval()
    names = {"blocks.0": "first", "blocks.1": "last"}
    weights = model.state_dict()
    for ours, theirs in names.items():
        weights = {name.replace(ours, theirs): value for name, value in weights.items()}
    other.load_state_dict(weights)
    with torch.no_grad():
        mine, theirs_answers = model(frames), other(frames)
    torch.testing.assert_close(mine[:, 0], theirs_answers[:, 0], atol=1e-12, rtol=0)
    assert not torch.allclose(mine[:, 1:], theirs_answers[:, 1:])


@every_depth
def test_what_a_step_equals_is_stated(depth: int) -> None:
    assert deepcot(depth).exactness == ("both" if depth == 1 else "sequence")


@every_attention
def test_a_part_of_a_stream_is_answered_alike_once_its_reach_is_full(attention: str) -> None:
    model, frames = deepcot(attention=attention), random(1, 30, CHANNELS)
    with torch.no_grad():
        whole, part = model(frames), model(frames[:, 11:], torch.tensor([11]))
    torch.testing.assert_close(part[:, model.reach - 1 :], whole[:, 11 + model.reach - 1 :], atol=1e-12, rtol=0)
    assert not torch.allclose(part[:, 0], whole[:, 11])


@every_attention
@pytest.mark.parametrize("norm_first", [False, True])
def test_every_parameter_learns_from_a_sequence(attention: str, norm_first: bool) -> None:
    model = deepcot(attention=attention, norm_first=norm_first, positions="learned", num_positions=WINDOW).train()
    learnt = model.learn_sequence(random(2, 9, CHANNELS))
    assert learnt.ahead is None
    learnt.now.square().sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


def test_the_attention_is_the_one_asked_for() -> None:
    softmax, soft = deepcot(), deepcot(attention="soft")
    soft.load_state_dict(softmax.state_dict())
    frames = random(1, 9, CHANNELS)
    with torch.no_grad():
        assert not torch.allclose(softmax(frames), soft(frames))
    assert preset("deepcot_soft", **SIZES).to_dict() == soft.config.to_dict()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"attention": "linear"}, "attention must be one of softmax, soft, got 'linear'"),
        ({"positions": "none"}, "positions must be one of learned, fixed, got 'none'"),
        ({"activation": "tanh"}, "activation must be one of gelu, relu, got 'tanh'"),
        ({"num_positions": 3}, "num_positions must be 0 .* or at least the window of 4 frames, got 3"),
        ({"embed_dim": 3, "num_heads": 1}, "fixed positions need an even embed_dim .* got embed_dim=3"),
        ({"depth": 0}, "depth must be a whole number of at least 1, got 0"),
    ],
)
def test_settings_that_nothing_can_be_built_from_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        preset("deepcot", **{**SIZES, **changes})


@pytest.mark.parametrize("shape", [(CHANNELS,), (2, CHANNELS + 1), (3, CHANNELS), (2, 1, CHANNELS)])
def test_a_frame_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    model = deepcot()
    with pytest.raises(ShapeError, match=r"DeepCoT\.step takes one frame per stream, \(B, 6\); got \("):
        model.step(torch.zeros(shape, dtype=torch.float64), model.init_state(2))


@pytest.mark.parametrize("method", ["forward", "answer_clip"])
@pytest.mark.parametrize("shape", [(2, CHANNELS), (2, 3, CHANNELS + 1), (2, 0, CHANNELS)])
def test_a_sequence_of_another_shape_is_refused(method: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=rf"DeepCoT\.{method} takes a sequence per stream, \(B, T >= 1, 6\); got \("):
        getattr(deepcot(), method)(torch.zeros(shape, dtype=torch.float64))


def test_a_clip_longer_than_the_reach_is_refused() -> None:
    with pytest.raises(ShapeError, match="a clip holds at most the window's 7 frames, got 8"):
        deepcot().answer_clip(random(1, 8, CHANNELS))
