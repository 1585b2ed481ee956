"""Calibration: whether a score of 0.8 is right eight times out of ten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError, DataError, ShapeError
from coadtr.evaluation.labels import check_classes, check_labels, frames_of_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Calibration", "CalibrationBin", "calibration_error"]


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """Hold one bin of a calibration table.

    Attributes:
        low: Lower edge, left out (but 0 belongs to the first bin).
        high: Upper edge, included.
        confidence: Mean score of its answers; None for an empty bin.
        accuracy: Share of right answers; None for an empty bin.
        frames: Number of answers: frames, or frames times classes for multi-hot labels.
    """

    low: float
    high: float
    confidence: float | None
    accuracy: float | None
    frames: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "low": self.low,
            "high": self.high,
            "confidence": self.confidence,
            "accuracy": self.accuracy,
            "frames": self.frames,
        }


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Hold what `calibration_error` found.

    Attributes:
        ece: Expected calibration error in [0, 1].
        brier: Brier score; 0 is perfect. In [0, 2] for class indices (and rows that sum to 1), in [0, 1] for
            multi-hot labels.
        bins: The table, from the lowest scores up.
    """

    ece: float
    brier: float
    bins: tuple[CalibrationBin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"ece": self.ece, "brier": self.brier, "bins": [part.to_dict() for part in self.bins]}


def calibration_error(
    labels: NDArray[Any], scores: NDArray[Any], *, ignored: int | None = None, bins: int = 15
) -> Calibration | None:
    """Return the expected calibration error, its table by bins, and the Brier score.

    The scores p in [0, 1] fall into ``bins`` of equal width, ``(low, high]``. With n_b of n answers in bin b, mean
    score conf_b and share of right ones acc_b::

        ECE = sum over b of n_b / n |acc_b - conf_b|

    For class indices each frame is one answer, that of its highest score, background included (of equal scores the
    lowest index wins), and ``Brier = mean over frames of sum over c of (p_c - y_c)^2``. For multi-hot labels each
    frame asks one yes or no of each class: p_c is the score of the answer, y_c whether it is right, both in ECE and
    in ``Brier = mean over frames and classes of (p_c - y_c)^2``; frames that show no class count too.

    Frames labelled with the ignored class are left out, and so is its score. Pass scored frames only.

    Args:
        labels: Class indices ``(T,)`` or multi-hot ``(T, C)``.
        scores: Probabilities ``(T, C)``, each in [0, 1].
        ignored: Index of the class that is never scored, or None if there is none.
        bins: Number of bins.

    Returns:
        The values; None if no frame remains.

    Raises:
        ConfigError: ``bins`` is below 1, or the ignored class is outside the classes.
        ShapeError: ``scores`` is not ``(T, C)``, or ``labels`` do not fit it.
        DataError: A label is outside the classes, or scores are not probabilities.

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3; Brier, "Verification of
        Forecasts Expressed in Terms of Probability", Monthly Weather Review, 1950, equation 2.

    Example:
        >>> found = calibration_error(np.array([0, 1]), np.array([[0.8, 0.2], [0.8, 0.2]]))
        >>> round(found.ece, 6), round(found.brier, 6)
        (0.3, 0.68)
    """
    if bins < 1:
        raise ConfigError(f"bins is {bins}; give at least 1, usually 15")
    labels, scores = _kept(labels, scores, ignored)
    if scores.size == 0:
        return None
    if labels.ndim == 2:
        shown = labels.astype(np.float64)
        confidence, right = scores.ravel(), shown.ravel()
        brier = float(np.mean((scores - shown) ** 2))
    else:
        frames = np.arange(labels.size)
        answers = scores.argmax(axis=1)
        confidence, right = scores[frames, answers], (answers == labels).astype(np.float64)
        shown = np.zeros_like(scores)
        shown[frames, labels] = 1.0
        brier = float(np.mean(np.sum((scores - shown) ** 2, axis=1)))
    table = _table(confidence, right, bins)
    error = sum(
        part.frames * abs(part.accuracy - part.confidence)
        for part in table
        if part.accuracy is not None and part.confidence is not None
    )
    return Calibration(ece=error / confidence.size, brier=brier, bins=table)


def _kept(labels: NDArray[Any], scores: NDArray[Any], ignored: int | None) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Check, and take out the ignored class: its frames, its score, and its place among the indices."""
    if scores.ndim != 2 or scores.shape[0] != labels.shape[0]:
        raise ShapeError(f"scores have shape {tuple(scores.shape)}; expected ({labels.shape[0]}, C), one row per label")
    check_labels(labels, scores.shape[1])
    check_classes([str(index) for index in range(scores.shape[1])], ignored=ignored)
    scores = scores.astype(np.float64)
    wrong = ~((scores >= 0) & (scores <= 1))  # nan is neither
    if wrong.any():
        frame, column = (int(i) for i in np.argwhere(wrong)[0])
        raise DataError(
            f"score {scores[frame, column]} at frame {frame}, class {column} is not a probability; "
            "apply `probabilities` to logits first"
        )
    if ignored is None:
        return labels.astype(np.int64), scores
    kept = ~frames_of_class(labels, ignored)
    labels, scores = labels[kept].astype(np.int64), np.delete(scores[kept], ignored, axis=1)
    return (np.delete(labels, ignored, axis=1) if labels.ndim == 2 else labels - (labels > ignored)), scores


def _table(confidence: NDArray[np.float64], right: NDArray[np.float64], bins: int) -> tuple[CalibrationBin, ...]:
    edges = np.arange(bins + 1) / bins
    place = np.searchsorted(edges[1:-1], confidence)  # a score on an edge belongs to the bin below it
    frames = np.bincount(place, minlength=bins)
    confident = np.bincount(place, weights=confidence, minlength=bins)
    correct = np.bincount(place, weights=right, minlength=bins)
    return tuple(
        CalibrationBin(
            low=float(edges[index]),
            high=float(edges[index + 1]),
            confidence=float(confident[index] / count) if count else None,
            accuracy=float(correct[index] / count) if count else None,
            frames=int(count),
        )
        for index, count in enumerate(frames)
    )
