"""Smoothing of scores that stays online: each answer is mixed with earlier ones, never with later ones.

It runs over all frames of a video, before a protocol leaves any out, and over the scores (probabilities), not the
logits: a mean of probabilities is a probability. A report names it, since smoothed scores lag behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from coadtr.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["CausalSmoothing", "SmoothingState"]

_SETTINGS = {"mean": "frames", "exponential": "decay"}


class SmoothingState(NamedTuple):
    """Hold what a stream remembers of its scores.

    Attributes:
        rows: For ``mean`` the last rows, at most ``frames - 1``, oldest first ``(K, C)``; for ``exponential`` the
            weighted sum of all rows ``(1, C)``.
        weight: Sum of the weights in ``rows``.
    """

    rows: NDArray[np.float64]
    weight: float


@dataclass(frozen=True, kw_only=True)
class CausalSmoothing:
    """Mix the scores of each frame with those of the frames before it.

    With scores x_t, and t counted from 0::

        mean         y_t = (x_t + ... + x_{t-n+1}) / n                          n = frames
        exponential  y_t = (x_t + d x_{t-1} + d^2 x_{t-2} + ... + d^t x_0) / (1 + d + ... + d^t)    d = decay

    Warm-up: while fewer than n frames have come, ``mean`` is over those seen; ``exponential`` divides by the weights
    of those seen. So the first frame keeps its scores, and no frame is mixed with made-up ones. ``frames=1`` and
    ``decay=0`` change nothing. For long streams the mean age of what an answer is made of is (n - 1) / 2 frames, and
    d / (1 - d).

    Attributes:
        kind: ``"mean"`` or ``"exponential"``.
        frames: Number n of frames in the mean, at least 1; for ``mean`` alone.
        decay: Weight d of each frame relative to the next, in [0, 1); for ``exponential`` alone.

    Raises:
        ConfigError: The kind is unknown, or its setting is missing, out of range, or that of another kind.

    Example:
        >>> CausalSmoothing(kind="mean", frames=2).apply(np.array([[1.0], [0.0], [0.5]])).ravel().tolist()
        [1.0, 0.5, 0.25]
    """

    kind: str
    frames: int | None = None
    decay: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _SETTINGS:
            raise ConfigError(f"unknown smoothing {self.kind!r}; choose one of {', '.join(_SETTINGS)}")
        for kind, setting in _SETTINGS.items():
            value = getattr(self, setting)
            if (value is None) is (kind == self.kind):
                if value is None:
                    example = {"frames": 5, "decay": 0.8}[setting]
                    raise ConfigError(f"smoothing {self.kind!r} needs {setting}; add smoothing.{setting}={example}")
                raise ConfigError(f"smoothing {self.kind!r} has {setting}={value}; give {_SETTINGS[self.kind]} alone")
        if self.frames is not None and (not _is_number(self.frames, int) or self.frames < 1):
            raise ConfigError(f"smoothing has frames={self.frames!r}; give a whole number from 1 on")
        if self.decay is not None and (not _is_number(self.decay, int, float) or not 0 <= self.decay < 1):
            raise ConfigError(f"smoothing has decay={self.decay!r}; give a number from 0 to below 1, such as 0.8")

    @classmethod
    def parse(cls, settings: Mapping[str, Any] | None) -> CausalSmoothing | None:
        """Make a smoothing from plain values.

        Args:
            settings: ``kind``, and ``frames`` or ``decay``; None, or None as ``kind``, for no smoothing.

        Returns:
            The smoothing, or None.

        Raises:
            ConfigError: A setting is unknown, missing or out of range.

        Example:
            >>> CausalSmoothing.parse({"kind": "exponential", "decay": 0.5})
            CausalSmoothing(kind='exponential', frames=None, decay=0.5)
        """
        given = {key: value for key, value in (settings or {}).items() if value is not None}
        known = ("kind", *_SETTINGS.values())
        unknown = [key for key in given if key not in known]
        if unknown:
            raise ConfigError(f"smoothing has no setting {unknown[0]!r}; choose among {', '.join(known)}")
        if not given:
            return None
        if "kind" not in given:
            raise ConfigError(f"smoothing has {', '.join(given)} but no kind; choose one of {', '.join(_SETTINGS)}")
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Return the kind and its setting, JSON-ready; `parse` reads them.

        Example:
            >>> CausalSmoothing(kind="mean", frames=8).to_dict()
            {'kind': 'mean', 'frames': 8}
        """
        setting = _SETTINGS[self.kind]
        return {"kind": self.kind, setting: getattr(self, setting)}

    def apply(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Smooth the scores of one whole video.

        Equal to `step` frame by frame, to the last digit.

        Args:
            scores: Scores ``(T, C)`` in order of time.

        Returns:
            Smoothed scores ``(T, C)``, float64; ``scores`` stay as they are.

        Raises:
            ShapeError: ``scores`` are not ``(T, C)``.

        Example:
            >>> smoothing = CausalSmoothing(kind="exponential", decay=0.5)
            >>> smoothing.apply(np.array([[0.0], [0.75]])).ravel().tolist()
            [0.0, 0.5]
        """
        if scores.ndim != 2:
            raise ShapeError(f"scores have shape {scores.shape}; expected (T, C), the frames of one video")
        total = scores.astype(np.float64)
        if self.frames is not None:
            # Sums are taken anew for each frame: a running sum would drift, and could leave [0, 1].
            for back in range(1, min(self.frames, total.shape[0])):
                total[back:] += scores[:-back]
            return total / np.minimum(np.arange(total.shape[0]) + 1, self.frames)[:, None]
        state = self.init_state(total.shape[1])
        for frame, row in enumerate(total):
            total[frame], state = self.step(row, state)
        return total

    def init_state(self, num_classes: int) -> SmoothingState:
        """Return the state before the first frame.

        Args:
            num_classes: Number of classes C.

        Example:
            >>> CausalSmoothing(kind="mean", frames=8).init_state(3).rows.shape
            (0, 3)
        """
        return SmoothingState(np.zeros((0 if self.kind == "mean" else 1, num_classes)), 0.0)

    def step(self, row: NDArray[Any], state: SmoothingState) -> tuple[NDArray[np.float64], SmoothingState]:
        """Smooth the scores of the next frame.

        Args:
            row: Scores ``(C,)``.
            state: What `init_state` or the last step returned; stays as it is.

        Returns:
            Smoothed scores ``(C,)``, and the next state.

        Raises:
            ShapeError: ``row`` is not ``(C,)`` with the state's C.

        Example:
            >>> smoothing = CausalSmoothing(kind="mean", frames=2)
            >>> first, state = smoothing.step(np.array([1.0, 0.0]), smoothing.init_state(2))
            >>> smoothing.step(np.array([0.0, 1.0]), state)[0].tolist()
            [0.5, 0.5]
        """
        if row.shape != state.rows.shape[1:]:
            raise ShapeError(f"scores have shape {row.shape}; expected {state.rows.shape[1:]}, one value per class")
        total = row.astype(np.float64)
        if self.frames is not None:
            for past in state.rows[::-1]:
                total += past
            kept = np.concatenate([state.rows, row[None]])[max(0, state.rows.shape[0] + 2 - self.frames) :]
            return total / (state.rows.shape[0] + 1), SmoothingState(kept, float(kept.shape[0]))
        decay = float(self.decay or 0.0)
        total += decay * state.rows[0]
        weight = decay * state.weight + 1
        return total / weight, SmoothingState(total[None], weight)


def _is_number(value: object, *types: type) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)
