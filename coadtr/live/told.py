"""What views say of answers, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Action", "Labels"]


class Action(NamedTuple):
    """An action as it is shown.

    Attributes:
        name: Its class; ``"no action"`` for the background.
        score: Its score.
        background: Whether it is none.
    """

    name: str
    score: float
    background: bool


class Labels:
    """The classes that are shown, by name.

    Args:
        class_names: Names of the C classes, in the order of the scores.
        background: Index of the class that stands for "no action", or None.
        ignored: Index of the class that is never shown, or None.

    Example:
        >>> labels = Labels(("rest", "lift", "unclear"), background=0, ignored=2)
        >>> labels.current(np.array([0.2, 0.7, 0.1], np.float32)).name
        'lift'
        >>> [action.name for action in labels.top(np.array([0.6, 0.3, 0.1], np.float32), 2)]
        ['no action', 'lift']
    """

    def __init__(self, class_names: Sequence[str], background: int | None, ignored: int | None) -> None:
        self.names = tuple(class_names)
        self._background = background
        self._shown = np.array([index for index in range(len(self.names)) if index != ignored])

    def current(self, scores: NDArray[np.float32]) -> Action:
        """Return the action with the highest score."""
        return self.top(scores, 1)[0]

    def top(self, scores: NDArray[np.float32], most: int) -> list[Action]:
        """Return the actions with the highest scores, the highest first."""
        order = self._shown[np.argsort(-scores[self._shown], kind="stable")][:most]
        return [
            Action(
                "no action" if index == self._background else self.names[index],
                float(scores[index]),
                index == self._background,
            )
            for index in order.tolist()
        ]
