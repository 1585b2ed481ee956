"""Copy, reset and weigh states: nested named tuples of tensors."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from coadtr.errors import ShapeError
from coadtr.layers import clone_state, reset_rows, state_bytes, state_tensors


class Inner(NamedTuple):
    values: Tensor
    frames: Tensor


class Outer(NamedTuple):
    tokens: Tensor
    inner: Inner


def outer(fill: float, rows: int = 3) -> Outer:
    inner = Inner(torch.full((rows, 2, 4), fill, dtype=torch.bfloat16), torch.full((rows,), int(fill)))
    return Outer(torch.full((rows, 2), fill, dtype=torch.float32), inner)


def test_tensors_are_listed_depth_first() -> None:
    state = outer(1)
    assert [id(leaf) for leaf in state_tensors(state)] == [
        id(leaf) for leaf in (state.tokens, state.inner.values, state.inner.frames)
    ]


def test_bytes_are_counted_by_dtype() -> None:
    assert state_bytes(outer(1)) == 3 * (2 * 4 + 2 * 4 * 2 + 8)


def test_a_clone_keeps_structure_and_shares_nothing() -> None:
    state = outer(1)
    copied = clone_state(state)
    assert isinstance(copied, Outer)
    assert isinstance(copied.inner, Inner)
    for leaf in state_tensors(state):
        leaf.zero_()
    assert all(leaf.eq(1).all() for leaf in state_tensors(copied))


@pytest.mark.parametrize("fresh_rows", [1, 3])
def test_chosen_rows_are_made_fresh(fresh_rows: int) -> None:
    state = outer(1)
    reset = reset_rows(state, torch.tensor([True, False, True]), outer(0, fresh_rows))
    assert isinstance(reset, Outer)
    for leaf, before in zip(state_tensors(reset), state_tensors(state), strict=True):
        assert leaf.dtype == before.dtype
        assert leaf.shape == before.shape
        assert leaf[[0, 2]].eq(0).all()
        assert leaf[1].eq(1).all()
        assert before.eq(1).all()


def test_rows_may_be_fresh_though_they_hold_nan() -> None:
    reset = reset_rows((torch.full((2, 2), torch.nan),), torch.tensor([True, False]), (torch.zeros(1, 2),))
    assert reset[0][0].tolist() == [0, 0]
    assert reset[0][1].isnan().all()


@pytest.mark.parametrize(
    "rows",
    [torch.tensor([True, False]), torch.tensor([0, 2]), torch.tensor([1, 0, 1]), torch.ones(3, 1, dtype=torch.bool)],
    ids=["too few", "indices", "integers", "two dimensions"],
)
def test_rows_of_another_kind_are_refused(rows: Tensor) -> None:
    with pytest.raises(ShapeError, match=r"rows must be a bool tensor of shape \(3,\).* got torch\.\w+ of shape"):
        reset_rows(outer(1), rows, outer(0, 1))


def test_a_state_that_is_not_made_of_tensors_is_refused() -> None:
    with pytest.raises(TypeError, match="a state holds tensors and tuples of them, not dict"):
        clone_state(({"keys": torch.zeros(1)},))
