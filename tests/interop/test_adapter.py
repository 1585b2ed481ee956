"""The adapter: every layer and model is a CoModule, and keeps the laws of its own step."""

from __future__ import annotations

import copy
import pickle
from typing import Any, cast

import continual as co
import pytest
import torch
from torch import Tensor, nn

from coadtr.errors import ConfigError, ShapeError
from coadtr.interop import ContinualAdapter, FirstFrames, as_comodule
from coadtr.layers import AttentionProjections, CrossAttention, EncoderBlock, SingleOutputAttention, state_tensors
from tests.interop.subjects import (
    ANSWERING,
    LENGTH,
    LOOK_AHEAD,
    RETROACTIVE,
    WIDTH,
    WINDOW,
    frames,
    make,
    near,
    stepped,
)

FIRST_FRAMES: tuple[FirstFrames, ...] = ("answered", "silent")
LOOKS_AHEAD = {"look_ahead": LOOK_AHEAD, "encoder_look_ahead": LOOK_AHEAD}
REACH = {"positions": 1, "stack": 3 * (WINDOW - 1) + 1}

either = pytest.mark.parametrize("first_frames", FIRST_FRAMES)
answering = pytest.mark.parametrize("name", ANSWERING)
all_of_them = pytest.mark.parametrize("name", [*ANSWERING, *RETROACTIVE])


def reference(module: Any, x: Tensor) -> Tensor:
    """What the module itself answers for ``(B, C, T)``."""
    rows = x.transpose(1, 2)
    with torch.no_grad():
        extra = (torch.arange(rows.shape[1]),) if not hasattr(module, "init_state") else ()
        return cast("Tensor", module(rows, *extra)).transpose(1, 2)


@either
@all_of_them
def test_it_is_a_comodule_that_tells_its_delay(name: str, first_frames: FirstFrames) -> None:
    module = as_comodule(make(name), first_frames=first_frames)
    assert isinstance(module, co.CoModule)
    reach, ahead = REACH.get(name, WINDOW), LOOKS_AHEAD.get(name, 0)
    assert module.receptive_field == reach
    assert module.delay == (ahead if first_frames == "answered" else reach - 1)
    assert (module.stride, module.padding) == ((1,), (reach - 1 - module.delay,))
    answers = [module.forward_step(frame) for frame in frames().unbind(2)]
    assert [answer is None for answer in answers] == [t < module.delay for t in range(LENGTH)]


@either
@answering
def test_all_ways_of_calling_answer_as_the_module_does(name: str, first_frames: FirstFrames) -> None:
    module, x = as_comodule(make(name), first_frames=first_frames).eval(), frames()
    expected = reference(module.module, x)[:, :, module.delay :]
    with torch.no_grad():
        near(module.forward(x), expected)
        near(stepped(module, x), expected)
        for sizes in ([LENGTH], [1] * LENGTH, [7, 2, 14]):
            module.clean_state()
            chunks = [module.forward_steps(chunk) for chunk in x.split(sizes, 2)]
            near(torch.cat([chunk for chunk in chunks if chunk is not None], 2), expected)
        near(module.forward(x), expected)


@either
@pytest.mark.parametrize("name", RETROACTIVE)
def test_windows_come_in_time_order(name: str, first_frames: FirstFrames) -> None:
    module, x = as_comodule(make(name), first_frames=first_frames).eval(), frames()
    with torch.no_grad():
        answers = [module.forward_step(frame) for frame in x.unbind(2)]
        for t, answer in enumerate(answers):
            clip = x[:, :, max(0, t + 1 - WINDOW) : t + 1]
            if t < module.delay:
                assert answer is None
            else:
                assert answer is not None
                near(answer, nn.functional.pad(module.forward(clip), (WINDOW - clip.shape[2], 0)))
        module.clean_state()
        steps = module.forward_steps(x)
    assert steps is not None
    near(steps, torch.stack([answer for answer in answers if answer is not None], 2))


@all_of_them
def test_a_call_may_leave_the_memory_as_it_is(name: str) -> None:
    module, twin = as_comodule(make(name)).eval(), as_comodule(make(name)).eval()
    with torch.no_grad():
        for t, frame in enumerate(frames().unbind(2)):
            other = frames(seed=t + 1)
            module.forward_step(other[:, :, 0], update_state=False)
            module.forward_steps(other[:, :, :WINDOW], update_state=False, pad_end=True)
            module.forward(other[:, :, :WINDOW])
            got, expected = module.forward_step(frame), twin.forward_step(frame)
            assert (got is None) == (expected is None)
            if got is not None and expected is not None:
                near(got, expected, 0)


@all_of_them
def test_state_goes_out_and_in_as_a_value(name: str) -> None:
    module, x = as_comodule(make(name), first_frames="silent").eval(), frames()
    assert module.get_state() is None
    expected = stepped(module, x)
    module.clean_state()
    with torch.no_grad():
        module.forward_steps(x[:, :, :7])
    state = module.get_state()
    assert state is not None
    assert state.frames == 7
    before = [tensor.clone() for tensor in state_tensors(state.memory)]
    for _ in range(2):
        module.set_state(state)
        got = stepped(module, x[:, :, 7:])
        near(got, expected[:, :, -got.shape[2] :])
    assert all(torch.equal(old, new) for old, new in zip(before, state_tensors(state.memory), strict=True))
    module.set_state(None)
    near(stepped(module, x), expected, 0)


@all_of_them
def test_one_row_begins_anew_alone(name: str) -> None:
    module, x = as_comodule(make(name)).eval(), frames()
    module.reset_rows(torch.tensor([True, False]))  # nothing runs yet
    whole = stepped(module, x)
    module.clean_state()
    fresh = stepped(as_comodule(make(name)).eval(), x[:, :, 9:])
    with torch.no_grad():
        module.forward_steps(x[:, :, :9])
    module.reset_rows(torch.tensor([True, False]))
    got = stepped(module, x[:, :, 9:])
    count, ahead = fresh.shape[2], LOOKS_AHEAD.get(name, 0)
    near(got[0, :, ahead:], fresh[0])
    near(got[1, :, -count:], whole[1, :, -count:])


@all_of_them
def test_copies_and_pickles_carry_the_running_streams(name: str) -> None:
    module, x = as_comodule(make(name)).eval(), frames()
    net = co.Sequential(module, co.Identity())  # a container sets the call mode of what it holds
    with torch.inference_mode():
        net.forward_steps(x[:, :, :9])
    copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module))]
    expected = stepped(module, x[:, :, 9:])
    for twin in copies:
        assert isinstance(twin, ContinualAdapter)
        near(stepped(twin, x[:, :, 9:]), expected, 0)
        with torch.no_grad():
            near(twin(x[:, :, :WINDOW]), module(x[:, :, :WINDOW]), 0)


@all_of_them
def test_the_state_dict_holds_the_weights_alone(name: str) -> None:
    module = as_comodule(make(name))
    names = set(module.state_dict())
    module.forward_step(frames()[:, :, 0])
    assert set(module.state_dict()) == names == {f"module.{key}" for key in module.module.state_dict()}
    as_comodule(make(name)).load_state_dict(module.state_dict())


@answering
def test_gradients_flow_within_a_call(name: str) -> None:
    module, x = as_comodule(make(name)), frames().requires_grad_()
    forward = torch.autograd.grad(module.forward(x).square().sum(), x)[0]
    module.clean_state()
    steps = module.forward_steps(x)
    assert steps is not None
    near(torch.autograd.grad(steps.square().sum(), x)[0], forward)
    module.clean_state()
    for frame in x.unbind(2):
        answer = module.forward_step(frame)
        if answer is not None and name not in LOOKS_AHEAD:
            assert torch.isfinite(torch.autograd.grad(answer.sum(), x, retain_graph=True)[0]).all()
    copy.deepcopy(module)


def test_streams_move_between_modes_of_autograd_and_types() -> None:
    module, x = as_comodule(make("attention")).eval(), frames()
    expected = reference(module.module, x)
    with torch.inference_mode():
        module.forward_step(x[:, :, 0])
    with torch.no_grad():
        module.forward_step(x[:, :, 1])
    module.forward_step(x[:, :, 2])
    with torch.inference_mode():
        answer = module.forward_step(x[:, :, 3])
    assert answer is not None
    near(answer, expected[:, :, 3])
    single = module.float().forward_step(x[:, :, 4].float())
    assert single is not None
    near(single.detach().double(), expected[:, :, 4], 1e-5)


def test_call_modes_choose_what_a_call_does() -> None:
    module, x = as_comodule(make("attention")).eval(), frames()
    with torch.no_grad():
        whole = module(x)
        with co.call_mode("forward_step"):
            near(module(x[:, :, 0]), whole[:, :, 0])
        module.call_mode = "forward_steps"
        near(module(x[:, :, 1:]), whole[:, :, 1:])
        module.call_mode = co.module.CALL_MODES["forward"]
        near(module(x), whole)
    with pytest.raises(ConfigError, match="call_mode must be one of forward, forward_steps, forward_step, got 'whole'"):
        module.call_mode = "whole"


@either
def test_warm_up_takes_in_the_silent_steps(first_frames: FirstFrames) -> None:
    module = as_comodule(make("encoder_2"), first_frames=first_frames)
    module.warm_up((2, WIDTH))
    state = module.get_state()
    assert (0 if state is None else state.frames) == module.delay
    assert module.forward_step(frames()[:, :, 0]) is not None


def test_nothing_in_nothing_out() -> None:
    module = as_comodule(make("attention"), first_frames="silent")
    assert module.forward_steps(frames(length=0)) is None
    assert module.get_state() is None
    assert module.forward_steps(frames(length=WINDOW - 1)) is None
    assert module.forward_steps(frames(length=1)) is not None


def test_printed_form_tells_how_it_lines_up() -> None:
    shown = repr(as_comodule(SingleOutputAttention(8, 2, 4), first_frames="silent"))
    assert "first_frames=silent, receptive_field=4, delay=3" in shown


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (nn.Linear(2, 2), {}, "step.frame, state., got Linear"),
        (EncoderBlock(AttentionProjections(8, 2, 4), ff_dim=8), {}, "got EncoderBlock"),
        (CrossAttention(8, 2, 4), {}, "got CrossAttention"),
        (SingleOutputAttention(8, 2, 4), {"first_frames": "skipped"}, "one of answered, silent, got 'skipped'"),
        (SingleOutputAttention(8, 2, 4), {"receptive_field": 0}, "above the delay of 0 frames, got 0"),
    ],
)
def test_what_cannot_be_adapted_is_refused(module: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        as_comodule(module, **options)


def test_a_module_of_unknown_reach_is_told_it() -> None:
    class Echo(nn.Module):
        def init_state(self, batch_size: int = 1) -> tuple[Tensor]:
            return (torch.zeros(batch_size),)

        def step(self, frame: Tensor, state: tuple[Tensor]) -> tuple[Tensor, tuple[Tensor]]:
            return frame, state

        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(ConfigError, match="Echo tells neither receptive_field nor window; pass receptive_field="):
        as_comodule(Echo())
    near(stepped(as_comodule(Echo(), receptive_field=3, first_frames="silent"), frames()), frames()[:, :, 2:])


def test_shapes_are_checked() -> None:
    module = as_comodule(make("attention"), first_frames="silent")
    with pytest.raises(ShapeError, match=r"\(B, C, T\) here, channels second; got \(2, 8\)"):
        module.forward(frames()[:, :, 0])
    with pytest.raises(ShapeError, match=r"\(B, C\) here, channels second; got \(2, 8, 23\)"):
        module.forward_step(frames())
    with pytest.raises(ShapeError, match="pass at least 5 frames"):
        module.forward(frames(length=4))
    module.forward_step(frames()[:, :, 0])
    with pytest.raises(ShapeError, match=r"3 streams while 2 are running; call clean_state\(\)"):
        module.forward_step(frames(3)[:, :, 0])
    module.clean_state()
    assert module.forward_steps(frames(3)) is not None
