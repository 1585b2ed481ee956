"""Positional encodings from and to continual-inference's."""

from __future__ import annotations

import continual as co
import pytest
import torch
from torch import nn

from coadtr.errors import ConfigError
from coadtr.interop import as_comodule, positions_from_continual, positions_to_continual
from coadtr.layers import RecyclingPositionalEncoding
from tests.interop.subjects import WIDTH, frames, near, stepped
from tests.interop.test_torch_weights import assert_owns


@pytest.mark.parametrize("learned", [True, False])
def test_positions_run_side_by_side(learned: bool) -> None:
    theirs, x = co.RecyclingPositionalEncoding(WIDTH, 7, learned=learned).double(), frames()
    ours = positions_from_continual(theirs)
    assert isinstance(ours.table, nn.Parameter) == learned
    assert_owns(ours, theirs)
    expected = stepped(theirs, x)
    near(stepped(as_comodule(ours), x), expected, 0)
    back = positions_to_continual(ours)
    assert_owns(back, ours)
    near(stepped(back, x), expected, 0)
    fresh = positions_to_continual(ours)
    for _ in range(2):  # a call of forward does not shift the stream
        near(fresh.forward(x[:, :, :5]), expected[:, :, :5], 0)


def test_a_fixed_table_that_was_changed_is_kept() -> None:
    theirs = co.RecyclingPositionalEncoding(WIDTH, 7, learned=False)
    theirs.pe.pattern += 1
    assert torch.equal(positions_from_continual(theirs).table, theirs.pe.pattern)


def test_other_modules_are_refused() -> None:
    with pytest.raises(ConfigError, match="positions_from_continual takes RecyclingPositionalEncoding, got Embedding"):
        positions_from_continual(nn.Embedding(7, 8))
    with pytest.raises(ConfigError, match="positions_to_continual takes RecyclingPositionalEncoding, got Embedding"):
        positions_to_continual(nn.Embedding(7, 8))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="even dim"):
        positions_from_continual(co.RecyclingPositionalEncoding(7, 9, learned=False))
    assert isinstance(positions_from_continual(co.RecyclingPositionalEncoding(7, 9)), RecyclingPositionalEncoding)
