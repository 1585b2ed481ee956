"""CoOadTR: clips and positions, normalisation, training, refusals. (Steps: tests/laws; parity: test_published.py.)"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from coadtr.errors import ConfigError, ShapeError
from coadtr.models import CoOadTR, build_model, preset

WINDOW, CHANNELS, CLASSES = 4, 6, 3
SIZES: dict[str, Any] = {"input_dim": CHANNELS, "num_classes": CLASSES, "window": WINDOW, "embed_dim": 8}
SIZES |= {"num_heads": 2, "ff_dim": 12}

every_depth = pytest.mark.parametrize("depth", [1, 2, 3])
every_kind = pytest.mark.parametrize("positions", ["learned", "fixed"])
every_cycle = pytest.mark.parametrize("cycle", [WINDOW, 2 * WINDOW - 1])


def cooadtr(depth: int, **changes: Any) -> CoOadTR:
    torch.manual_seed(depth)
    model = build_model(preset("cooadtr_b1", depth=depth, **SIZES, **changes)).double().eval()
    assert isinstance(model, CoOadTR)
    return model


@every_depth
@every_kind
@every_cycle
def test_a_clip_is_answered_like_the_frame_it_ends_at(depth: int, positions: str, cycle: int) -> None:
    model = cooadtr(depth, positions=positions, num_positions=cycle)
    frames = torch.randn(2, 25, CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        answers = model(frames)
        for t in range(25):
            first = max(0, t + 1 - WINDOW)
            clip = model.answer_clip(frames[:, first : t + 1], torch.tensor([first, first]))
            torch.testing.assert_close(clip, answers[:, t], atol=1e-12, rtol=0)


@every_depth
def test_a_part_of_a_stream_is_answered_alike_once_its_window_is_full(depth: int) -> None:
    model = cooadtr(depth)
    frames = torch.randn(1, 30, CHANNELS, dtype=torch.float64)
    starts = torch.tensor([0, 3, 11])
    with torch.no_grad():
        whole = model(frames)
        parts = model(torch.cat([frames[:, start : start + 12] for start in starts.tolist()]), starts)
    for row, start in enumerate(starts.tolist()):
        torch.testing.assert_close(
            parts[row, WINDOW - 1 :], whole[0, start : start + 12][WINDOW - 1 :], atol=1e-12, rtol=0
        )
    assert not torch.allclose(parts[1, 0], whole[0, 3])  # frames before a part count as not seen


@every_depth
@every_cycle
def test_answers_recur_with_the_cycle_of_positions(depth: int, cycle: int) -> None:
    model = cooadtr(depth, num_positions=cycle)
    clip = torch.randn(1, WINDOW, CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        answers = [model.answer_clip(clip, torch.tensor([first])) for first in range(cycle + 1)]
    assert torch.equal(answers[0], answers[cycle])
    assert not any(torch.allclose(answers[0], answer) for answer in answers[1:cycle])


@every_depth
def test_rows_count_their_positions_from_their_own_first_frame(depth: int) -> None:
    model = cooadtr(depth)
    frames = torch.randn(2, 15, CHANNELS, dtype=torch.float64)
    state, answers = model.init_state(2), []
    with torch.no_grad():
        for t in range(15):
            if t == 6:
                state = model.reset_rows(state, torch.tensor([False, True]))
            answer, state = model.step(frames[:, t], state)
            answers.append(answer)
        late = model(frames[1:, 6:])
    torch.testing.assert_close(torch.stack(answers[6:], 1)[1:], late, atol=1e-12, rtol=0)


@every_depth
def test_what_a_step_equals_is_stated(depth: int) -> None:
    assert cooadtr(depth).exactness == ("both" if depth == 1 else "window")


def test_each_channel_is_standardised_by_the_statistics() -> None:
    frames = torch.randn(1, 9, CHANNELS, dtype=torch.float64)
    plain, normalised = cooadtr(1), cooadtr(1, normalise=True)
    normalised.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(normalised(frames), plain(frames))  # no statistics yet: mean 0, deviation 1
    mean = torch.arange(CHANNELS, dtype=torch.float64)
    deviation = mean + 0.5
    normalised.inputs.set_statistics(mean, deviation)
    torch.testing.assert_close(normalised(frames * deviation + mean), plain(frames), atol=1e-12, rtol=0)
    assert {"inputs.mean", "inputs.scale"} <= set(normalised.state_dict())
    assert not {"inputs.mean", "inputs.scale"} & set(dict(normalised.named_parameters()))


def test_statistics_of_a_model_that_does_not_normalise_are_refused() -> None:
    with pytest.raises(ConfigError, match="does not normalise its input; build it with normalise=True"):
        cooadtr(1).inputs.set_statistics(torch.zeros(CHANNELS), torch.ones(CHANNELS))


@pytest.mark.parametrize(("mean", "deviation"), [(5, 6), (6, 7)])
def test_statistics_of_other_widths_are_refused(mean: int, deviation: int) -> None:
    model = cooadtr(1, normalise=True)
    with pytest.raises(ConfigError, match=f"must hold 6 channels, got {mean} and {deviation}"):
        model.inputs.set_statistics(torch.zeros(mean), torch.ones(deviation))


@pytest.mark.parametrize("deviation", [0.0, -1.0, float("nan"), float("inf")])
def test_deviations_that_nothing_can_be_divided_by_are_refused(deviation: float) -> None:
    model = cooadtr(1, normalise=True)
    with pytest.raises(ConfigError):
        model.inputs.set_statistics(torch.zeros(CHANNELS), torch.full((CHANNELS,), deviation))


@every_depth
@pytest.mark.parametrize("name", ["dropout", "attention_dropout", "input_dropout"])
def test_dropout_is_for_training_only(depth: int, name: str) -> None:
    dropouts = {"dropout": 0.0, "attention_dropout": 0.0, "input_dropout": 0.0, name: 0.5}
    model = cooadtr(depth, **dropouts)
    frames = torch.randn(1, 9, CHANNELS, dtype=torch.float64)
    assert torch.equal(model(frames), model(frames))
    model.train()
    assert not torch.equal(model(frames), model(frames))


@every_depth
@every_kind
def test_every_parameter_learns_from_the_last_answer_and_from_all(depth: int, positions: str) -> None:
    model = cooadtr(depth, positions=positions, num_positions=WINDOW).train()
    frames = torch.randn(2, 9, CHANNELS, dtype=torch.float64)
    for answers in (model(frames), model.answer_clip(frames[:, :WINDOW])):
        model.zero_grad()
        answers.square().sum().backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            assert torch.isfinite(parameter.grad).all()
            assert parameter.grad.abs().sum() > 0


@every_depth
@pytest.mark.parametrize("shape", [(CHANNELS,), (2, CHANNELS + 1), (2, CHANNELS - 1), (2, 1, CHANNELS)])
def test_a_frame_of_another_shape_is_refused(depth: int, shape: tuple[int, ...]) -> None:
    model = cooadtr(depth)
    with pytest.raises(ShapeError, match=r"CoOadTR\.step takes one frame per stream, \(B, 6\); got \("):
        model.step(torch.zeros(shape, dtype=torch.float64), model.init_state(2))


@every_depth
@pytest.mark.parametrize("method", ["forward", "answer_clip"])
@pytest.mark.parametrize("shape", [(2, CHANNELS), (2, 3, CHANNELS + 1), (2, 0, CHANNELS), (1, 2, 3, CHANNELS)])
def test_a_sequence_of_another_shape_is_refused(depth: int, method: str, shape: tuple[int, ...]) -> None:
    call = getattr(cooadtr(depth), method)
    with pytest.raises(ShapeError, match=rf"CoOadTR\.{method} takes a sequence per stream, \(B, T >= 1, 6\); got \("):
        call(torch.zeros(shape, dtype=torch.float64))


def test_a_clip_longer_than_the_window_is_refused_by_deeper_stacks() -> None:
    with pytest.raises(ShapeError, match="a clip holds at most the window's 4 frames, got 5"):
        cooadtr(2).answer_clip(torch.zeros(1, WINDOW + 1, CHANNELS, dtype=torch.float64))


@every_depth
def test_steps_run_under_autocast(depth: int) -> None:
    model = cooadtr(depth).float()
    state = model.init_state(1)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits, _ = model.step(torch.randn(1, CHANNELS), state)
    assert torch.isfinite(logits).all()
