"""OadTR: clips, decoder, training, refusals. (Steps: tests/laws; parity: test_published.py.)"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from coadtr.errors import ShapeError
from coadtr.models import OadTR, build_model, preset

WINDOW, CHANNELS, CLASSES, QUERIES = 4, 6, 3, 5
SIZES: dict[str, Any] = {"input_dim": CHANNELS, "num_classes": CLASSES, "window": WINDOW, "embed_dim": 8}
SIZES |= {"num_heads": 2, "ff_dim": 12}

every_preset = pytest.mark.parametrize("name", ["oadtr_b1", "oadtr_b2", "oadtr"])


def oadtr(name: str, **changes: Any) -> OadTR:
    torch.manual_seed(len(name))
    if name == "oadtr":
        changes |= {"decoder_depth": 2, "decoder_queries": QUERIES, "decoder_heads": 2}
    model = build_model(preset(name, **SIZES, **changes)).double().eval()
    assert isinstance(model, OadTR)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@every_preset
def test_a_clip_is_answered_like_the_frame_it_ends_at(name: str) -> None:
    model = oadtr(name)
    frames = torch.randn(2, 12, CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        answers = model(frames)
        for t in range(12):
            clip = frames[:, max(0, t + 1 - WINDOW) : t + 1]
            torch.testing.assert_close(model.answer_clip(clip), answers[:, t], atol=1e-12, rtol=0)


@every_preset
def test_the_index_of_the_first_frame_has_no_effect(name: str) -> None:
    model = oadtr(name)
    frames = torch.randn(2, WINDOW, CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(model(frames, torch.tensor([3, 70])), model(frames))
        assert torch.equal(model.answer_clip(frames, torch.tensor([3, 70])), model.answer_clip(frames))


@every_preset
def test_frames_that_do_not_exist_have_no_influence(name: str) -> None:
    model = oadtr(name)
    clip = torch.randn(2, WINDOW, CHANNELS, dtype=torch.float64)
    mask = torch.tensor([[False, False, True, True]] * 2)
    other = torch.where(mask.unsqueeze(2), clip, torch.full_like(clip, 1e3))
    with torch.no_grad():
        masked, short = model.run_clip(other, mask), model.run_clip(clip[:, 2:])
    torch.testing.assert_close(masked.now, short.now, atol=1e-12, rtol=0)
    assert (masked.ahead is None) == (short.ahead is None) == (name != "oadtr")
    if masked.ahead is not None and short.ahead is not None:
        torch.testing.assert_close(masked.ahead, short.ahead, atol=1e-12, rtol=0)


def test_anticipated_frames_have_logits_each() -> None:
    answer = oadtr("oadtr").run_clip(torch.randn(2, WINDOW, CHANNELS, dtype=torch.float64))
    assert answer.now.shape == (2, CLASSES)
    assert answer.ahead is not None
    assert answer.ahead.shape == (2, QUERIES, CLASSES)


def test_a_query_does_not_look_at_later_queries() -> None:
    model = oadtr("oadtr")
    assert model.decoder is not None
    encoded = torch.randn(1, WINDOW, 8, dtype=torch.float64)
    with torch.no_grad():
        _, before = model.decoder(encoded)
        model.decoder.queries[:, 2:] += 1
        _, after = model.decoder(encoded)
    torch.testing.assert_close(after[:, :2], before[:, :2], atol=1e-12, rtol=0)
    assert not torch.allclose(after[:, 2:], before[:, 2:])


@every_preset
def test_order_matters_through_the_positions(name: str) -> None:
    model = oadtr(name)
    clip = torch.randn(1, WINDOW, CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        assert not torch.allclose(model.answer_clip(clip), model.answer_clip(clip[:, [1, 0, 2, 3]]))


@every_preset
def test_the_state_is_the_clip_newest_last(name: str) -> None:
    model = oadtr(name)
    frames = torch.randn(2, 6, CHANNELS, dtype=torch.float64)
    state = model.init_state(2)
    for frame in frames.unbind(1):
        _, state = model.step(frame, state)
    assert torch.equal(state.clip, frames[:, -WINDOW:])
    assert state.frames.tolist() == [6, 6]
    assert model.exactness == "window"


@every_preset
@pytest.mark.parametrize("dropout", ["dropout", "attention_dropout", "input_dropout"])
def test_dropout_is_for_training_only(name: str, dropout: str) -> None:
    model = oadtr(name, **{"dropout": 0.0, "attention_dropout": 0.0, "input_dropout": 0.0, dropout: 0.5})
    frames = torch.randn(1, WINDOW, CHANNELS, dtype=torch.float64)
    assert torch.equal(model(frames), model(frames))
    model.train()
    assert not torch.equal(model(frames), model(frames))


@every_preset
def test_every_parameter_learns(name: str) -> None:
    model = oadtr(name, dropout=0.0, attention_dropout=0.0).train()
    answer = model.run_clip(torch.randn(2, WINDOW, CHANNELS, dtype=torch.float64))
    loss = answer.now.square().sum()
    (loss if answer.ahead is None else loss + answer.ahead.square().sum()).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


@every_preset
@pytest.mark.parametrize("shape", [(CHANNELS,), (2, CHANNELS + 1), (2, CHANNELS - 1), (2, 1, CHANNELS)])
def test_a_frame_of_another_shape_is_refused(name: str, shape: tuple[int, ...]) -> None:
    model = oadtr(name)
    with pytest.raises(ShapeError, match=r"OadTR\.step takes one frame per stream, \(B, 6\); got \("):
        model.step(torch.zeros(shape, dtype=torch.float64), model.init_state(2))


@every_preset
@pytest.mark.parametrize(("method", "named"), [("forward", "forward"), ("answer_clip", "run_clip")])
@pytest.mark.parametrize("shape", [(2, CHANNELS), (2, 3, CHANNELS + 1), (2, 0, CHANNELS), (1, 2, 3, CHANNELS)])
def test_a_sequence_of_another_shape_is_refused(name: str, method: str, named: str, shape: tuple[int, ...]) -> None:
    call = getattr(oadtr(name), method)
    with pytest.raises(ShapeError, match=rf"OadTR\.{named} takes a sequence per stream, \(B, T >= 1, 6\); got \("):
        call(torch.zeros(shape, dtype=torch.float64))


@every_preset
@pytest.mark.parametrize("surplus", [1, 2, 3])
def test_a_clip_longer_than_the_window_is_refused(name: str, surplus: int) -> None:
    with pytest.raises(ShapeError):
        oadtr(name).answer_clip(torch.zeros(1, WINDOW + surplus, CHANNELS, dtype=torch.float64))
