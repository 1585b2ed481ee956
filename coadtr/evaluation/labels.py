"""Read frame labels in their two forms: class indices ``(T,)``, or multi-hot ``(T, C)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError, DataError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["check_classes", "check_labels", "frames_of_class"]


def check_classes(class_names: Sequence[str], *, background: int | None = None, ignored: int | None = None) -> None:
    """Refuse class names that occur twice, and special classes that are not among them.

    Args:
        class_names: The C names.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.

    Raises:
        ConfigError: A class name occurs twice, or a class index is outside 0..C-1.

    Example:
        >>> check_classes(["none", "run"], background=0)
    """
    seen: set[str] = set()
    for name in class_names:
        if name in seen:
            raise ConfigError(f"class name {name!r} occurs more than once; give every class its own name")
        seen.add(name)
    for role, index in (("background", background), ("ignored", ignored)):
        if index is not None and not 0 <= index < len(class_names):
            raise ConfigError(
                f"{role} class index {index} is outside 0..{len(class_names) - 1}; give one of these, or None"
            )


def check_labels(labels: NDArray[Any], num_classes: int) -> None:
    """Refuse labels that do not fit ``num_classes`` classes.

    Args:
        labels: Class indices ``(T,)`` from 0 to C-1, or multi-hot ``(T, C)``.
        num_classes: Number of classes C.

    Raises:
        ShapeError: ``labels`` is neither ``(T,)`` nor ``(T, C)``.
        DataError: A class index is fractional or outside 0..C-1, or a multi-hot value is neither 0 nor 1.

    Example:
        >>> check_labels(np.array([0, 2, 1]), 3)
    """
    if labels.ndim == 2 and labels.shape[1] == num_classes:
        wrong = (labels != 0) & (labels != 1)
        if wrong.any():
            frame, column = (int(i) for i in np.argwhere(wrong)[0])
            raise DataError(f"multi-hot label {labels[frame, column]} at frame {frame}, class {column}: use 0 or 1")
        return
    if labels.ndim != 1:
        raise ShapeError(f"labels have shape {labels.shape}; give class indices (T,) or multi-hot (T, {num_classes})")
    if not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == np.bool_):
        raise DataError(f"class indices have dtype {labels.dtype}; give integers")
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        frame = int(outside[0])
        raise DataError(
            f"class index {labels[frame]} at frame {frame} is outside 0..{num_classes - 1}; "
            "give the class names that the labels were made with"
        )


def frames_of_class(labels: NDArray[Any], index: int) -> NDArray[np.bool_]:
    """Return which frames carry class ``index``.

    Args:
        labels: Class indices ``(T,)`` or multi-hot ``(T, C)``.
        index: Class index.

    Returns:
        Truth per frame ``(T,)``.

    Example:
        >>> frames_of_class(np.array([0, 2, 2]), 2).tolist()
        [False, True, True]
        >>> frames_of_class(np.array([[1, 0], [1, 1]]), 1).tolist()
        [False, True]
    """
    chosen = labels[:, index] if labels.ndim == 2 else labels == index
    return np.asarray(chosen, dtype=np.bool_)
