"""State is a value, and modules hold parameters: both can be copied, stored and counted."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from coadtr.layers import clone_state, state_bytes, state_tensors
from tests.laws.subjects import Subject, every_subject, forward, make, random, run

WINDOW, LENGTH = 5, 13


def copied_by_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


@every_subject
def test_the_size_of_a_state_is_constant_in_time(subject: Subject) -> None:
    module = make(subject, WINDOW)
    state = module.init_state(2)
    shapes, size = [leaf.shape for leaf in state_tensors(state)], state_bytes(state)
    for seed in range(5):
        _, state = run(subject, module, random(2, 7, subject.channels, seed=seed), state)
        assert [leaf.shape for leaf in state_tensors(state)] == shapes
        assert state_bytes(state) == size
        for leaf in state_tensors(state):  # what a view holds on to counts as well
            assert leaf.untyped_storage().nbytes() == leaf.numel() * leaf.element_size()


@every_subject
def test_the_first_dimension_of_a_state_is_the_stream(subject: Subject) -> None:
    module = make(subject, WINDOW)
    for streams in (1, 2, 7):
        assert {leaf.shape[0] for leaf in state_tensors(module.init_state(streams))} == {streams}
        assert state_bytes(module.init_state(streams)) == streams * state_bytes(module.init_state())


@every_subject
def test_a_state_has_the_dtype_of_the_weights(subject: Subject) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        state, wanted = make(subject, WINDOW, dtype).init_state(1), subject.state_dtypes(dtype)
        counters = {torch.int64}
        assert wanted <= {leaf.dtype for leaf in state_tensors(state)} <= wanted | counters


@every_subject
def test_fresh_states_share_no_storage(subject: Subject) -> None:
    module = make(subject, WINDOW)
    leaves = [leaf for _ in range(2) for leaf in state_tensors(module.init_state(2))]
    assert len({leaf.untyped_storage().data_ptr() for leaf in leaves}) == len(leaves)


@every_subject
@pytest.mark.parametrize(
    "copied", [clone_state, copy.deepcopy, copied_by_pickle], ids=["clone_state", "deepcopy", "pickle"]
)
def test_a_copied_state_is_isolated_and_goes_on_the_same_way(subject: Subject, copied: Callable[[Any], Any]) -> None:
    module = make(subject, WINDOW)
    frames = random(2, 2 * LENGTH, subject.channels)
    _, state = run(subject, module, frames[:, :LENGTH])
    kept, untouched = copied(state), copied(state)
    assert type(kept) is type(state)
    expected, _ = run(subject, module, frames[:, LENGTH:], state)
    for leaf, before in zip(state_tensors(kept), state_tensors(untouched), strict=True):
        assert torch.equal(leaf, before)
    assert torch.equal(run(subject, module, frames[:, LENGTH:], kept)[0], expected)


@every_subject
@pytest.mark.parametrize("copied", [copy.deepcopy, copied_by_pickle], ids=["deepcopy", "pickle"])
def test_a_copied_module_answers_the_same_and_is_isolated(subject: Subject, copied: Callable[[Any], Any]) -> None:
    module = make(subject, WINDOW)
    frames = random(2, LENGTH, subject.channels)
    expected, at_once = run(subject, module, frames)[0], forward(subject, module, frames)
    other = copied(module)
    assert torch.equal(run(subject, other, frames)[0], expected)
    assert torch.equal(forward(subject, other, frames), at_once)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(run(subject, module, frames)[0], expected)


@every_subject
def test_a_module_holds_no_trace_of_the_streams_that_it_answered(subject: Subject) -> None:
    module = make(subject, WINDOW)
    before = pickle.dumps(module)
    run(subject, module, random(2, LENGTH, subject.channels))
    forward(subject, module, random(3, LENGTH, subject.channels))
    assert pickle.dumps(module) == before


@every_subject
def test_a_state_dict_carries_all_that_answers_depend_on(subject: Subject) -> None:
    module = make(subject, WINDOW)
    torch.manual_seed(99)
    other = subject.build(WINDOW).double().eval()
    frames = random(2, LENGTH, subject.channels)
    expected = run(subject, module, frames)[0]
    assert not torch.allclose(run(subject, other, frames)[0], expected)
    other.load_state_dict({name: tensor.clone() for name, tensor in module.state_dict().items()})
    assert torch.equal(run(subject, other, frames)[0], expected)
    assert torch.equal(forward(subject, other, frames), forward(subject, module, frames))
