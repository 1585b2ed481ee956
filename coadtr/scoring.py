"""From logits to scores: the one place, so that a live detector and an evaluated replay answer alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from coadtr.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HEADS", "Head", "probabilities"]

Head: TypeAlias = Literal["softmax", "sigmoid"]
HEADS: Final = ("softmax", "sigmoid")


def probabilities(logits: NDArray[Any], ignored: int | None = None, *, head: Head = "softmax") -> NDArray[np.float64]:
    """Turn logits into scores: a softmax over all classes, or a sigmoid of each; the ignored class scores 0.

    Computed in float64: in float32 sure answers round to 1 and become ties that the logits did not have.

    Args:
        logits: Logits ``(..., C)``.
        ignored: Index of the class that is never scored, or None if there is none. The softmax leaves it out.
        head: ``"softmax"`` where a frame has one class, ``"sigmoid"`` where it may have several (multi-label).

    Returns:
        Scores ``(..., C)`` from 0 to 1; with a softmax each row sums to 1.

    Raises:
        ConfigError: ``ignored`` is not one of the classes, or the only one, or ``head`` is unknown.

    Example:
        >>> probabilities(np.array([0.0, 0.0, 5.0]), ignored=2).tolist()
        [0.5, 0.5, 0.0]
        >>> probabilities(np.array([0.0, 0.0, 5.0]), ignored=2, head="sigmoid").tolist()
        [0.5, 0.5, 0.0]
    """
    classes = logits.shape[-1]
    if ignored is not None and (not 0 <= ignored < classes or classes == 1):
        raise ConfigError(f"ignored class index {ignored} does not leave a class of {classes}; give another, or None")
    if head not in HEADS:
        raise ConfigError(f"head must be one of {', '.join(HEADS)}, got {head!r}")
    scores = logits.astype(np.float64)
    if ignored is not None:
        scores[..., ignored] = -np.inf
    if head == "sigmoid":
        np.exp(-np.logaddexp(0, -scores), out=scores)  # 1 / (1 + exp(-x)) without overflow
        return scores
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores
