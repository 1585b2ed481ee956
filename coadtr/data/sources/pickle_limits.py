"""Limits on what a pickle may ask for, so that a small file cannot fill the memory.

Reading a pickle safely is not only a matter of names (`coadtr.data.sources.safe_pickle`): a few bytes can announce
a huge text, a place far out in the table of remembered objects, or a thousand copies of a large list.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from coadtr.errors import DataError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Budget", "check_shape"]

_FREE_BYTES: Final = 1 << 24
_TIMES_THE_FILE: Final = 8
_MOST_WITHOUT_DATA: Final = 1 << 20


class Budget:
    """What a pickle may still build.

    A whole pickle holds what it builds, so that eight times its size is ample; one that copies its own
    contents again and again is stopped there.

    Args:
        file_bytes: Size of the pickle.

    Example:
        >>> budget = Budget(1000)
        >>> budget.spend(1 << 30)
        Traceback (most recent call last):
        coadtr.errors.DataError: the pickle of 1000 bytes builds more than 16785216 bytes: do not use this file
    """

    def __init__(self, file_bytes: int) -> None:
        self._size, self._most = file_bytes, _FREE_BYTES + _TIMES_THE_FILE * file_bytes
        self._left = self._most

    def spend(self, amount: int) -> None:
        """Take ``amount`` bytes off; raise `DataError` if there are not as many left."""
        self._left -= amount
        if self._left < 0:
            raise DataError(
                f"the pickle of {self._size} bytes builds more than {self._most} bytes: do not use this file"
            )


def check_shape(shape: tuple[int, ...], dtype: np.dtype[Any], held: int) -> None:
    """Check that an array is as large as what the pickle holds for it, before memory is taken.

    Args:
        shape: Shape that the pickle declares.
        dtype: Type of the elements.
        held: Bytes that the pickle holds for it; for an array of objects, how many objects.

    Raises:
        DataError: If the two differ, or a size makes no sense.

    Example:
        >>> import numpy as np
        >>> check_shape((10**12,), np.dtype("i1"), held=0)
        Traceback (most recent call last):
        coadtr.errors.DataError: array of shape (1000000000000,) needs 1000000000000 bytes but the pickle holds 0: ...
    """
    if len(shape) > 32 or any(size < 0 for size in shape):
        raise DataError(f"array of shape {str(shape)[:200]}: no array has that shape, do not use this file")
    count, unit = math.prod(shape), "objects" if dtype.hasobject else "bytes"
    needed = count if dtype.hasobject else count * dtype.itemsize
    # An array without data, such as (10**12, 0), passes the first test, and still has that many rows.
    if needed != held or max(shape, default=0) > max(held, _MOST_WITHOUT_DATA):
        raise DataError(
            f"array of shape {shape} needs {needed} {unit} but the pickle holds {held}: "
            "do not use this file, or copy it again"
        )
