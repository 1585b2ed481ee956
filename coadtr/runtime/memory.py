"""What streams remember, as values: what a step returns is kept as it is, and nothing is ever written to again."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coadtr.runtime.description import Description

__all__ = ["Block", "Stream", "fresh_stream", "gather", "pack"]

_numbers = count()


class Block:
    """The state that one step returned, of all streams that were in it; each of them holds a row.

    Args:
        leaves: One array ``(rows, ...)`` for each leaf.
        rows: Streams that were in the step.

    Attributes:
        number: Of the block, in the order in which blocks came to be.
        live: Streams whose state is still here: the others went on to other blocks.
    """

    __slots__ = ("leaves", "live", "number", "rows")

    def __init__(self, leaves: list[NDArray[Any]], rows: int) -> None:
        self.leaves, self.rows = leaves, rows
        self.live, self.number = 0, next(_numbers)

    @property
    def is_thin(self) -> bool:
        """Whether at most half of the rows are in use, so that packing them anew pays for itself."""
        return self.rows > 1 and 0 < 2 * self.live <= self.rows


class Stream(NamedTuple):
    """What is known of one stream between two frames. A value: the next frame makes another.

    Attributes:
        block: Where its state is.
        row: Which row of it.
        seen: Frames answered since it began, or began anew.
        time: Time of the last frame in seconds, None if it had none.
        last: The last frame as it was fed, ``(D,)``; None before the first, and where nobody needs it.
        masked: Values that were not finite and were replaced.
        missing: Frames that did not come.
        held: How often a frame was fed again in place of a missing one.
        restarts: How often it began anew after a gap.
    """

    block: Block
    row: int
    seen: int = 0
    time: float | None = None
    last: NDArray[np.float32] | None = None
    masked: int = 0
    missing: int = 0
    held: int = 0
    restarts: int = 0


def fresh_stream(description: Description) -> Stream:
    """Return a stream that has seen no frame; any number of them share its state."""
    return Stream(Block([np.ascontiguousarray(leaf.fresh[None]) for leaf in description.state], 1), 0)


def gather(streams: Sequence[Stream]) -> list[NDArray[Any]]:
    """Return the state of some streams as arrays ``(B, ...)``, in their order.

    Streams in neighbouring rows of one block, or one stream alone, cost nothing: their state is returned as a view.

    Example:
        >>> block = Block([np.arange(4)], 4)
        >>> gather([Stream(block, 1), Stream(block, 2)]), gather([Stream(block, 3), Stream(block, 0)])
        ([array([1, 2])], [array([3, 0])])
    """
    runs: list[tuple[Block, int, int]] = []
    for stream in streams:
        if runs and runs[-1][0] is stream.block and runs[-1][2] == stream.row:
            runs[-1] = (stream.block, runs[-1][1], stream.row + 1)
        else:
            runs.append((stream.block, stream.row, stream.row + 1))
    if len(runs) == 1:
        block, start, stop = runs[0]
        return block.leaves if stop - start == block.rows else [leaf[start:stop] for leaf in block.leaves]
    parts = ([leaf[start:stop] for leaf in block.leaves] for block, start, stop in runs)
    return [np.concatenate(leaves) for leaves in zip(*parts, strict=True)]


def pack(streams: dict[str, Stream]) -> dict[str, Stream]:
    """Copy the state of some streams into a block of their own, so that the blocks that they were in can go.

    Example:
        >>> old = Block([np.arange(4)], 4)
        >>> new = pack({"a": Stream(old, 3), "b": Stream(old, 1)})
        >>> new["a"].block.leaves, new["b"].row, new["b"].block.live
        ([array([3, 1])], 1, 2)
    """
    block = Block([np.array(leaf) for leaf in gather(list(streams.values()))], len(streams))
    block.live = len(streams)
    return {name: stream._replace(block=block, row=row) for row, (name, stream) in enumerate(streams.items())}
