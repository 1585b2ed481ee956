"""TRN: what it predicts ahead, clips, precisions, training, refusals. (Steps: tests/laws.)"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coadtr.errors import CheckpointError, ConfigError, ShapeError
from coadtr.layers import Int8Linear, in_precision
from coadtr.models import TRN, TRNConfig, build_model, config_from_dict, load_published, preset
from coadtr.models.recurrent import LSTMCell
from tests.laws.models_recurrent import trn_run

CHANNELS, CLASSES, WINDOW, STEPS = 6, 3, 5, 4
SIZES: dict[str, Any] = {"input_dim": CHANNELS, "num_classes": CLASSES, "window": WINDOW}
SIZES |= {"embed_dim": 8, "hidden_dim": 7, "decoder_steps": STEPS}


def trn(**changes: Any) -> TRN:
    torch.manual_seed(4)
    model = build_model(preset("trn", **{**SIZES, **changes})).double().eval()
    assert isinstance(model, TRN)
    return model


def stepped(model: TRN, frames: Tensor) -> tuple[Tensor, Tensor]:
    state, now, ahead = model.init_state(len(frames)), [], []
    with torch.no_grad():
        for frame in frames.unbind(1):
            answer, later, state = model.step_ahead(frame, state)
            now.append(answer)
            ahead.append(later)
    return torch.stack(now, 1), torch.stack(ahead, 1)


def test_frames_ahead_are_predicted_as_by_the_reference() -> None:
    model = trn()
    frames = torch.randn(2, 7, CHANNELS, dtype=torch.float64)
    now, ahead = stepped(model, frames)
    assert ahead.shape == (2, 7, STEPS, CLASSES)
    for row in range(2):
        for t in range(7):
            expected_now, expected_ahead, _ = trn_run(model, frames[row, : t + 1].numpy())
            torch.testing.assert_close(now[row, t], torch.from_numpy(expected_now[-1]), atol=1e-12, rtol=0)
            torch.testing.assert_close(ahead[row, t], torch.from_numpy(np.stack(expected_ahead)), atol=1e-12, rtol=0)


def test_training_answers_all_frames_and_those_ahead_as_steps_do() -> None:
    model = trn()
    frames = torch.randn(2, WINDOW, CHANNELS, dtype=torch.float64)
    now, ahead = stepped(model, frames)
    with torch.no_grad():
        for answers in (model.learn_sequence(frames), model.learn_clip(frames, torch.tensor([0, 9]))):
            assert answers.ahead is not None
            torch.testing.assert_close(answers.now, now, atol=1e-12, rtol=0)
            torch.testing.assert_close(answers.ahead, ahead, atol=1e-12, rtol=0)
        torch.testing.assert_close(model.answer_clip(frames), now[:, -1], atol=1e-12, rtol=0)
    assert (model.frames_learnt, model.frames_ahead, model.reach, model.exactness) == (WINDOW, STEPS, None, "sequence")


def test_a_step_answers_as_the_step_that_looks_ahead() -> None:
    model, frame = trn(), torch.randn(2, CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        answer, state = model.step(frame, model.init_state(2))
        now, _, other = model.step_ahead(frame, model.init_state(2))
    assert torch.equal(answer, now)
    assert all(torch.equal(leaf, kept) for leaf, kept in zip(state, other, strict=True))


def test_the_first_answer_is_given_with_no_future_in_view_and_later_ones_with_it() -> None:
    model, frames = trn(), torch.randn(1, 2, CHANNELS, dtype=torch.float64)
    before, _ = stepped(model, frames)
    assert not model.init_state(1).future.any()
    with torch.no_grad():
        model.future.bias.add_(1)
    after, _ = stepped(model, frames)
    assert torch.equal(after[:, 0], before[:, 0])
    assert not torch.allclose(after[:, 1], before[:, 1])


def test_each_frame_ahead_is_predicted_from_the_scores_of_the_one_before() -> None:
    model, frame = trn(), torch.randn(1, CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        _, before, _ = model.step_ahead(frame, model.init_state(1))
        model.decoder.feedback.bias.add_(1)
        _, after, _ = model.step_ahead(frame, model.init_state(1))
    assert torch.equal(after[:, 0], before[:, 0])
    assert not torch.isclose(after[:, 1:], before[:, 1:]).all(2).any()


def test_frames_before_the_first_of_a_video_do_not_exist() -> None:
    """Whatever they hold: training gives TRN none, callers may."""
    model, first = trn(), torch.tensor([0, -2, -4])
    clip = torch.randn(3, WINDOW, CHANNELS, dtype=torch.float64)
    clip = clip.masked_fill((torch.arange(WINDOW) < -first.unsqueeze(1)).unsqueeze(2), math.nan)
    assert model.shortest_clip == model.window
    with torch.no_grad():
        now, last = model(clip, first), model.answer_clip(clip, first)
        for answers in (model.learn_clip(clip, first), model.learn_sequence(clip, first)):
            assert answers.ahead is not None
            for row, begin in enumerate((0, 2, 4)):
                expected_now, expected_ahead = stepped(model, clip[row : row + 1, begin:])
                for got in (answers.now, now):
                    torch.testing.assert_close(got[row : row + 1, begin:], expected_now, atol=1e-12, rtol=0)
                torch.testing.assert_close(answers.ahead[row : row + 1, begin:], expected_ahead, atol=1e-12, rtol=0)
                torch.testing.assert_close(last[row], expected_now[0, -1], atol=1e-12, rtol=0)


def test_where_a_stream_is_cut_has_no_effect_on_what_follows() -> None:
    model, frames = trn(), torch.randn(2, WINDOW, CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(model(frames, torch.tensor([0, 9])), model(frames))


def test_a_cell_updates_its_states_as_that_of_torch_does() -> None:
    theirs, ours = nn.LSTMCell(5, 4).double(), LSTMCell(5, 4).double()
    with torch.no_grad():
        ours.gates.weight.copy_(torch.cat([theirs.weight_ih, theirs.weight_hh], 1))
        ours.gates.bias.copy_(theirs.bias_ih + theirs.bias_hh)
    x, hidden, memory = (torch.randn(3, width, dtype=torch.float64) for width in (5, 4, 4))
    expected = theirs(x, (hidden, memory))
    for got, wanted in zip(ours([x[:, :2], x[:, 2:]], hidden, memory), expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-12, rtol=0)


def test_8_bit_weights_answer_nearly_the_same() -> None:
    model = trn(embed_dim=16, hidden_dim=16).float()
    small = in_precision(model, "int8")
    assert isinstance(small.encoder.gates, Int8Linear)
    assert isinstance(small.decoder.cell.gates, Int8Linear)
    frames = torch.randn(2, 20, CHANNELS)
    with torch.no_grad():
        exact, at_once = model(frames), small(frames.bfloat16())
    assert at_once.dtype == torch.bfloat16
    torch.testing.assert_close(at_once.float(), exact, atol=0.03, rtol=0)
    torch.testing.assert_close(stepped(small, frames.bfloat16())[0], at_once, atol=0.03, rtol=0)


@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "mixed"])
def test_every_parameter_learns(mixed: bool) -> None:
    model = trn(dropout=0.0).float().train()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        answers = model.learn_sequence(torch.randn(4, 6, CHANNELS), torch.tensor([0, -3, 2, 0]))
    assert answers.ahead is not None
    (answers.now.float().square().sum() + answers.ahead.float().square().sum()).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


def test_frames_ahead_may_be_learnt_without_those_now_and_the_other_way_round() -> None:
    model = trn(dropout=0.0).train()
    for wanted in ("now", "ahead"):
        model.zero_grad()
        answers = model.learn_sequence(torch.randn(2, 6, CHANNELS, dtype=torch.float64))
        getattr(answers, wanted).square().sum().backward()
        grad = model.decoder.cell.gates.weight.grad
        assert grad is not None
        assert grad.abs().sum() > 0


@pytest.mark.parametrize("dropout", ["dropout", "input_dropout"])
def test_dropout_is_for_training_only(dropout: str) -> None:
    model = trn(**{"dropout": 0.0, "input_dropout": 0.0, dropout: 0.5})
    frames = torch.randn(1, WINDOW, CHANNELS, dtype=torch.float64)
    assert torch.equal(model(frames), model(frames))
    model.train()
    assert not torch.equal(model(frames), model(frames))


@pytest.mark.parametrize("name", ["hidden_dim", "decoder_steps", "embed_dim", "window"])
@pytest.mark.parametrize("value", [0, 2.0, None, True])
def test_sizes_are_whole_numbers_of_at_least_one(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be a whole number of at least 1, got {value!r}$"):
        config_from_dict({"kind": "trn", **SIZES, name: value})


def test_settings_are_written_and_read_back() -> None:
    config = TRNConfig(**SIZES)
    assert config_from_dict(config.to_dict()) == config
    assert config.to_dict()["kind"] == "trn"


def test_there_are_no_published_weights() -> None:
    with pytest.raises(CheckpointError, match=r"^there are no published weights for TRN$"):
        load_published(trn(), {})


@pytest.mark.parametrize("shape", [(CHANNELS,), (2, CHANNELS + 1), (3, CHANNELS), (2, 1, CHANNELS)])
def test_a_frame_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    model = trn()
    with pytest.raises(ShapeError, match=r"TRN\.step takes one frame per stream, \(B, 6\); got \("):
        model.step(torch.zeros(shape, dtype=torch.float64), model.init_state(2))


@pytest.mark.parametrize("method", ["learn_sequence", "learn_clip"])
@pytest.mark.parametrize("shape", [(2, CHANNELS), (2, 3, CHANNELS + 1), (2, 0, CHANNELS)])
def test_a_sequence_of_another_shape_is_refused(method: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=rf"TRN\.{method} takes a sequence per stream, \(B, T >= 1, 6\); got \("):
        getattr(trn(), method)(torch.zeros(shape, dtype=torch.float64))


def test_a_clip_longer_than_the_window_is_refused() -> None:
    with pytest.raises(ShapeError, match="a clip holds at most the window's 5 frames, got 6"):
        trn().answer_clip(torch.zeros(1, WINDOW + 1, CHANNELS, dtype=torch.float64))
