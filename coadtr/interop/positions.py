"""Recycling positional encodings from and to continual-inference."""

from __future__ import annotations

from typing import Any

import continual as co
import torch

from coadtr.interop.parts import like, require_type
from coadtr.layers import RecyclingPositionalEncoding

__all__ = ["positions_from_continual", "positions_to_continual"]


def _table(encoding: Any) -> torch.Tensor:
    """Return the table of continual-inference's encoding: learned or fixed, it goes by another name."""
    table: torch.Tensor = encoding.pe.weight if isinstance(encoding.pe, torch.nn.Embedding) else encoding.pe.pattern
    return table


def positions_from_continual(encoding: Any) -> RecyclingPositionalEncoding:
    """Make a positional encoding with the table of ``continual.RecyclingPositionalEncoding``.

    Args:
        encoding: Theirs, learned or not. Its running index is the stream's memory, and is not converted.

    Returns:
        The encoding, which is told the index of each frame.

    Raises:
        ConfigError: If it is another module, or a fixed table has an odd width or a single row.

    Example:
        >>> import continual
        >>> positions_from_continual(continual.RecyclingPositionalEncoding(8, 7, learned=False)).table.shape
        torch.Size([7, 8])
    """
    require_type(encoding, co.RecyclingPositionalEncoding, "positions_from_continual")
    table = _table(encoding)
    learned = isinstance(table, torch.nn.Parameter)
    ours = RecyclingPositionalEncoding(*table.shape, kind="learned" if learned else "fixed")
    like(ours, encoding)
    with torch.no_grad():
        ours.table.copy_(table)
    return ours


def positions_to_continual(encoding: RecyclingPositionalEncoding) -> Any:
    """Make a ``continual.RecyclingPositionalEncoding`` with the table of a positional encoding.

    Args:
        encoding: Learned or fixed.

    Returns:
        Theirs, whose ``forward`` always begins at the running index, and leaves it where it is
        (``forward_update_index_steps=0``).

    Raises:
        ConfigError: If it is another module.

    Example:
        >>> import torch
        >>> theirs = positions_to_continual(RecyclingPositionalEncoding(7, 8))
        >>> theirs.forward_steps(torch.zeros(1, 8, 3)).shape
        torch.Size([1, 8, 3])
    """
    require_type(encoding, RecyclingPositionalEncoding, "positions_to_continual")
    length, width = encoding.table.shape
    learned = isinstance(encoding.table, torch.nn.Parameter)
    theirs = co.RecyclingPositionalEncoding(width, length, learned=learned, forward_update_index_steps=0)
    like(theirs, encoding)
    with torch.no_grad():
        _table(theirs).copy_(encoding.table)
    return theirs
