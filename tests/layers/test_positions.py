"""Recycling positional encoding: position p uses embedding p mod P."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from coadtr.errors import ConfigError
from coadtr.layers import RecyclingPositionalEncoding, cyclic_sinusoidal_table


@pytest.mark.parametrize("kind", ["learned", "fixed"])
def test_the_embedding_is_chosen_by_the_frame_index(kind: Any) -> None:
    encode = RecyclingPositionalEncoding(5, 8, kind=kind)
    x, index = torch.randn(2, 3, 8), torch.tensor([[0, 4, 5], [1_000_003, 7, 2**40]])
    with torch.no_grad():
        encoded = encode(x, index)
    for row in range(2):
        for t in range(3):
            assert torch.equal(encoded[row, t], x[row, t] + encode.table[int(index[row, t]) % 5])


def test_learned_embeddings_are_parameters_and_fixed_ones_are_not() -> None:
    assert [name for name, _ in RecyclingPositionalEncoding(5, 8, kind="learned").named_parameters()] == ["table"]
    fixed = RecyclingPositionalEncoding(5, 8, kind="fixed")
    assert list(fixed.parameters()) == []
    assert list(fixed.state_dict()) == ["table"]


@pytest.mark.parametrize("length", [2, 5, 64, 127])
@pytest.mark.parametrize("dim", [2, 8, 32])
def test_fixed_embeddings_have_mean_zero_and_are_finite(length: int, dim: int) -> None:
    table = cyclic_sinusoidal_table(length, dim)
    assert table.shape == (length, dim)
    assert table.dtype == torch.float32
    assert torch.isfinite(table).all()
    torch.testing.assert_close(table.mean(0), torch.zeros(dim), atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [64, 127])
def test_the_fixed_code_is_cyclic_and_tells_positions_apart(length: int) -> None:
    table = cyclic_sinusoidal_table(length, 32)
    distance = torch.cdist(table, table)
    to_next = distance.roll(-1, dims=1).diagonal()  # of the last position: to the first
    assert to_next[-1] < 1.2 * to_next[:-1].max()
    assert to_next.max() < 0.2 * distance.max()
    assert distance[~torch.eye(length, dtype=torch.bool)].min() > 0.01


@pytest.mark.parametrize(("length", "dim"), [(1, 8), (0, 8), (5, 7), (5, 0), (5, -2)])
def test_a_fixed_code_of_impossible_size_is_refused(length: int, dim: int) -> None:
    with pytest.raises(ConfigError, match=f"length >= 2 and an even dim >= 2, got length={length}, dim={dim}"):
        cyclic_sinusoidal_table(length, dim)


def test_a_cycle_without_embeddings_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one embedding, got length=0"):
        RecyclingPositionalEncoding(0, 8)


def test_an_unknown_kind_is_refused() -> None:
    kind: Any = "rotary"
    with pytest.raises(ConfigError, match="positions must be 'learned' or 'fixed', got 'rotary'"):
        RecyclingPositionalEncoding(5, 8, kind=kind)
