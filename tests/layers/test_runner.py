"""Runners: the same answers, however the step runs."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._inductor.exc import InductorError, InvalidCxxCompiler

from coadtr.errors import ConfigError, MissingExtraError, ShapeError
from coadtr.layers import (
    ContinualEncoder,
    Int8Linear,
    RetroactiveAttention,
    SingleOutputAttention,
    SingleOutputStack,
    StepRunner,
    StreamBatch,
    clone_state,
    in_precision,
    state_tensors,
)
from coadtr.layers.runner import StaticStep, _signature
from coadtr.models import build_model, preset
from tests.laws.subjects import Subject, every_subject, make, random

WINDOW, LENGTH = 5, 17


def answers(step: Any, frames: Tensor, state: Any) -> tuple[Tensor, Any]:
    given = []
    with torch.inference_mode():
        for frame in frames.unbind(1):
            answer, state = step(frame, state)
            given.append(answer)
    return torch.stack(given, 1), state


def static(module: Any, frame: Tensor) -> StaticStep:
    """Return a static step that runs as it stands: what a CUDA graph would replay, without the graph."""
    return StaticStep(module, frame, lambda advance, _: advance)


@every_subject
def test_a_static_step_answers_like_the_step_while_streams_take_turns(subject: Subject) -> None:
    module = make(subject, WINDOW)
    frames = [random(2, LENGTH, subject.channels, seed=seed) for seed in range(3)]
    expected = [answers(module.step, stream, module.init_state(2)) for stream in frames]
    step, states = static(module, frames[0][:, 0]), [module.init_state(2) for _ in range(3)]
    given: list[list[Tensor]] = [[], [], []]
    turns: list[int] = [0, 0, 1, 0, 2, 2, 1] * LENGTH
    for turn in turns:
        if (t := len(given[turn])) < LENGTH:
            answer, states[turn] = step(frames[turn][:, t], states[turn])
            given[turn].append(answer)
    for stream in range(3):
        assert torch.equal(torch.stack(given[stream], 1), expected[stream][0])
        for leaf, other in zip(state_tensors(states[stream]), state_tensors(expected[stream][1]), strict=True):
            assert torch.equal(leaf, other)


def test_a_static_step_copies_no_cache_while_one_stream_runs() -> None:
    module = SingleOutputAttention(8, 2, window=4)
    step, state = static(module, torch.randn(1, 8)), module.init_state(1)
    _, state = step(torch.randn(1, 8), state)
    addresses = [tensor.data_ptr() for tensor in state_tensors(state)]
    for _ in range(9):
        answer, state = step(torch.randn(1, 8), state)
        assert answer.data_ptr() != step.answer.data_ptr()
    assert [tensor.data_ptr() for tensor in state_tensors(state)] == addresses


def test_a_static_step_takes_a_kept_and_a_reset_state() -> None:
    module = SingleOutputAttention(8, 2, window=4).double()
    frames = random(2, LENGTH, 8)
    step = static(module, frames[:, 0])
    before, state = answers(step, frames[:, :6], module.init_state(2))
    kept = clone_state(state)
    after, state = answers(step, frames[:, 6:], state)
    assert torch.equal(answers(step, frames[:, 6:], kept)[0], after)
    fresh, _ = answers(step, frames[:, :6], module.reset_rows(state, torch.tensor([True, True])))
    assert torch.equal(fresh, before)


@every_subject
def test_a_runner_is_what_it_runs(subject: Subject) -> None:
    module = make(subject, WINDOW)
    runner, frames = StepRunner(module), random(3, LENGTH, subject.channels)
    expected, _ = answers(module.step, frames, module.init_state(3))
    assert runner.backend == "eager"
    assert torch.equal(answers(runner.step, frames, runner.init_state(3))[0], expected)
    for other in (copy.deepcopy(runner), pickle.loads(pickle.dumps(runner))):
        assert torch.equal(answers(other.step, frames, other.init_state(3))[0], expected)


def test_a_runner_stands_in_for_a_model() -> None:
    model = build_model(preset("cooadtr_b1", input_dim=5, num_classes=3, embed_dim=8, num_heads=2, window=4))
    runner = StepRunner(model)
    assert (runner.input_dim, runner.num_classes, runner.window) == (5, 3, 4)
    frames = torch.randn(1, 6, 5)
    assert torch.equal(runner(frames), model(frames))
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = runner.no_such_thing


@pytest.mark.parametrize(
    ("backend", "said"), [("fast", "must be one of auto, eager, compiled, cuda_graph"), ("cuda_graph", "on cpu; take")]
)
def test_a_backend_that_cannot_run_is_refused(backend: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        StepRunner(SingleOutputAttention(8, 2, window=4), backend=backend)


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        # What torch raises; to take its compiler away for real would stay in its caches.
        raise InductorError(InvalidCxxCompiler("no-such-compiler"), None)

    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", refuse)
    runner = StepRunner(SingleOutputAttention(8, 2, window=4), backend="compiled")
    with pytest.raises(MissingExtraError, match=r"needs a C\+\+ compiler.*backend=eager"):
        runner.step(torch.randn(1, 8), runner.init_state(1))


def test_a_frame_or_state_that_was_not_prepared_for_is_refused() -> None:
    runner: Any = StepRunner(SingleOutputAttention(8, 2, window=4))
    runner._wanted = "static"  # any backend but eager checks alike
    prepared = []

    def prepare(frame: Tensor) -> Any:
        prepared.append(len(frame))
        return static(runner.module, frame), _signature(frame, runner.init_state(len(frame)))

    runner._prepare = prepare
    frame = torch.randn(3, 8)
    _, state = runner.step(frame, runner.init_state(3))
    wrong = [
        (frame, runner.init_state(2)),
        (frame[:, :4], state),
        (frame.double(), state),
        (frame, runner.init_state(1)),
    ]
    for bad_frame, bad_state in wrong:
        with pytest.raises(ShapeError, match=r"prepared for frame and state \(3, 8\)"):
            runner.step(bad_frame, bad_state)
    assert runner.step(torch.randn(8, 3).t(), state)[0].shape == (3, 8)
    other = SingleOutputAttention(8, 2, window=4)
    runner.load_state_dict(StepRunner(other).state_dict())
    fresh = other.init_state(3)
    with torch.no_grad():
        assert torch.equal(runner.step(frame, runner.init_state(3))[0], other.step(frame, fresh)[0])
    assert prepared == [3, 3]  # loading forgets what was prepared, and so does converting
    runner.double()
    assert runner.step(frame.double(), runner.init_state(3))[0].dtype == torch.float64


def test_a_runner_in_a_batch_of_streams_is_prepared_once() -> None:
    module = SingleOutputAttention(8, 2, window=4).double()
    runner: Any = StepRunner(module)
    runner._wanted, prepared = "static", []

    def prepare(frame: Tensor) -> Any:
        prepared.append(len(frame))
        return static(module, frame), _signature(frame, module.init_state(len(frame)))

    runner._prepare = prepare
    batch, alone, states = StreamBatch(runner, 5), {}, {}
    for key in range(4):
        batch.join(key)
        states[key] = module.init_state(1)
    for t in range(30):
        frames = {key: random(8, seed=31 * t + key) for key in range(4) if (t + key) % (key + 1) == 0}
        answers = batch.step(frames)
        for key, frame in frames.items():
            with torch.no_grad():
                alone[key], states[key] = module.step(frame[None], states[key])
            torch.testing.assert_close(answers[key], alone[key][0], atol=1e-12, rtol=0)
    assert prepared == [5]


@pytest.mark.slow
@pytest.mark.parametrize("build", [1, 2, 3, "stack", "single", "retroactive"])
def test_a_compiled_runner_answers_like_the_step(build: int | str) -> None:
    sizes: dict[str, Any] = {"embed_dim": 32, "num_heads": 4, "window": WINDOW}
    if isinstance(build, int):
        module: nn.Module = ContinualEncoder(build, **sizes, ff_dim=16)
    elif build == "stack":
        module = SingleOutputStack(3, **sizes, ff_dim=16)
    else:
        module = (SingleOutputAttention if build == "single" else RetroactiveAttention)(**sizes)
    module.eval().requires_grad_(False)
    runner: Any = StepRunner(module, backend="compiled")
    frames = torch.randn(2, 3 * WINDOW, 32)
    expected, end = answers(module.step, frames, runner.init_state(2))
    first, state = answers(runner.step, frames[:, :7], runner.init_state(2))  # views: their strides are not the frame's
    other, _ = answers(runner.step, frames, runner.init_state(2))
    rest, state = answers(runner.step, frames[:, 7:], state)
    torch.testing.assert_close(torch.cat([first, rest], 1), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(other, expected, atol=1e-5, rtol=0)
    for leaf, wanted in zip(state_tensors(state), state_tensors(end), strict=True):
        torch.testing.assert_close(leaf, wanted, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_a_compiled_runner_answers_like_the_step_in_fewer_bytes(precision: Any) -> None:
    encoder = in_precision(ContinualEncoder(1, 32, 4, WINDOW, ff_dim=16).eval(), precision)
    runner, frames = StepRunner(encoder, backend="compiled"), torch.randn(2, 3 * WINDOW, 32).bfloat16()
    expected, _ = answers(encoder.step, frames, encoder.init_state(2))
    torch.testing.assert_close(answers(runner.step, frames, runner.init_state(2))[0], expected, atol=0.06, rtol=0)


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU; on one, run `make test-slow`")
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_cuda_graph_answers_like_the_step(depth: int) -> None:
    encoder = ContinualEncoder(depth, 32, 4, WINDOW, ff_dim=16).eval().cuda()
    runner, frames = StepRunner(encoder), torch.randn(3, 2, 3 * WINDOW, 32, device="cuda")
    assert runner.backend == "cuda_graph"
    states = [runner.init_state(2) for _ in range(3)]
    for t in range(3 * WINDOW):
        for stream in range(3):
            answer, states[stream] = runner.step(frames[stream, :, t], states[stream])
            if t == 3 * WINDOW - 1:
                expected, _ = answers(encoder.step, frames[stream], encoder.init_state(2))
                torch.testing.assert_close(answer, expected[:, -1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16", "int8"])
def test_a_lower_precision_is_a_copy_near_the_original(precision: Any) -> None:
    model = build_model(preset("cooadtr_b2", input_dim=24, num_classes=3, embed_dim=32, num_heads=4, window=WINDOW))
    frames = torch.randn(2, LENGTH, 24)
    before = clone_state(tuple(model.state_dict().values()))
    lowered = in_precision(model.eval(), precision)
    expected, _ = answers(model.step, frames, model.init_state(2))
    dtype = next(lowered.parameters()).dtype
    given, state = answers(lowered.step, frames.to(dtype), lowered.init_state(2))
    assert dtype == (torch.bfloat16 if precision == "int8" else getattr(torch, precision))
    assert {tensor.dtype for tensor in state_tensors(state)} == {dtype, torch.int64}
    torch.testing.assert_close(given.float(), expected, atol=1e-5 if "float" in precision[:5] else 0.1, rtol=0)
    assert all(torch.equal(kept, now) for kept, now in zip(before, model.state_dict().values(), strict=True))
    assert not any(parameter.requires_grad for parameter in lowered.parameters())


def test_eight_bits_hold_a_weight_to_half_a_step() -> None:
    linear = nn.Linear(64, 8, bias=False)
    linear.weight.data[3] = 0
    quantised = Int8Linear(linear)
    step = quantised.scale.float().unsqueeze(1)
    error = (quantised.integers * step - linear.weight).abs()
    assert ((error <= step / 2 + 1e-7) | (quantised.integers.abs() == 127)).all()
    assert (error <= 0.8 * step + 1e-7).all()  # the largest, where the scale was rounded down
    assert quantised.integers[3].eq(0).all()
    exact = nn.functional.linear(torch.ones(1, 64).bfloat16(), quantised.weight)
    torch.testing.assert_close(quantised(torch.ones(1, 64).bfloat16()), exact, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("channels", [1, 8, 16, 24, 48, 100])
def test_eight_bit_products_are_right_at_any_width(channels: int) -> None:
    linear = nn.Linear(channels, 3)
    x = torch.randn(2, 5, channels)
    torch.testing.assert_close(Int8Linear(linear)(x.bfloat16()).float(), linear(x), atol=0.1, rtol=0)


def test_a_raw_channel_is_standardised_before_it_is_rounded() -> None:
    model = build_model(
        preset("cooadtr_b1", input_dim=16, num_classes=3, embed_dim=32, num_heads=4, window=WINDOW, normalise=True)
    ).eval()
    model.inputs.set_statistics(torch.full((16,), 1000.0), torch.ones(16))
    frames = 1000 + torch.randn(2, LENGTH, 16)
    expected, _ = answers(model.step, frames, model.init_state(2))
    for precision in ("bfloat16", "int8"):
        lowered: Any = in_precision(model, precision)
        assert (lowered.input_dtype, lowered.inputs.mean.dtype) == (torch.float32, torch.float32)
        given, _ = answers(lowered.step, frames, lowered.init_state(2))
        torch.testing.assert_close(given.float(), expected, atol=0.1, rtol=0)


def test_a_layer_used_twice_stays_one_in_eight_bits() -> None:
    shared = nn.Linear(16, 16)
    lowered = in_precision(nn.Sequential(shared, nn.ReLU(), shared), "int8")
    assert isinstance(lowered[0], Int8Linear)
    assert lowered[0] is lowered[2]
    with pytest.raises(ConfigError, match="8-bit integers already: make its float32 form from the original"):
        in_precision(lowered, "float32")
    with pytest.raises(ConfigError, match=r"take Int8Linear\(layer\)"):
        in_precision(shared, "int8")
    assert lowered(torch.randn(2, 16)).dtype == torch.bfloat16


def test_an_unknown_precision_is_refused() -> None:
    wanted: Any = "int4"
    with pytest.raises(ConfigError, match="must be one of float64, float32, bfloat16, int8; got 'int4'"):
        in_precision(nn.Linear(2, 2), wanted)
