"""How good the first answers are: precision by the number of frames that a stream has seen."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError
from coadtr.evaluation.metrics.ranking import mean_average_precision, per_frame_average_precision
from coadtr.evaluation.metrics.videos import scored_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["EDGES", "WarmupPrecision", "warmup_precision"]

EDGES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True, kw_only=True)
class WarmupPrecision:
    """Precision by frames since the start of the video.

    Attributes:
        edges: Band k holds the frames with index ``edges[k]`` to ``edges[k + 1] - 1``; the last band has no end.
        mean_ap: mAP of each band over the classes that occur in it; None where none does.
        frames: Frames of each band that are scored.
        classes: Classes of each band that have an AP: bands with other classes do not compare.
    """

    edges: tuple[int, ...]
    mean_ap: tuple[float | None, ...]
    frames: tuple[int, ...]
    classes: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "edges": list(self.edges),
            "mAP": list(self.mean_ap),
            "frames": list(self.frames),
            "classes": list(self.classes),
        }


def warmup_precision(
    labels: Sequence[NDArray[Any]],
    scores: Sequence[NDArray[Any]],
    *,
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
    edges: Sequence[int] = EDGES,
) -> WarmupPrecision:
    """Return mAP by the number of frames that came before, which is what a detector has to go by.

    Each band is scored on its own, as if its frames were the test set. Bands differ in which classes occur and how
    often, so the curve shows the cost of starting cold together with what the first frames of videos show.

    Args:
        labels: One array per video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        scores: One array per video ``(T, C)``.
        class_names: The C names, each once.
        background: Index of the background class, which has no AP, or None.
        ignored: Index of the class whose frames never count, or None.
        scored: One array per video ``(T,)``: frames that count; None for all.
        edges: First frame index of each band, ascending from 0; a band that no video reaches is left out.

    Returns:
        The curve; values in (0, 1].

    Raises:
        ConfigError: ``edges`` do not ascend from 0, or the classes do not fit.
        ShapeError: Labels, scores and masks do not fit together.
        DataError: A label is outside the classes, or a score is nan.

    Example:
        >>> labels, scores = np.array([0, 1, 1]), np.array([[0.2, 0.8], [0.9, 0.1], [0.1, 0.9]])
        >>> found = warmup_precision([labels], [scores], class_names=["none", "run"], background=0, edges=(0, 2))
        >>> found.mean_ap, found.frames
        ((0.5, 1.0), (2, 1))
    """
    if not edges or edges[0] != 0 or any(later <= earlier for earlier, later in pairwise(edges)):
        raise ConfigError(f"edges are {list(edges)}; give frame indices that ascend from 0")
    named: dict[str, Any] = {"class_names": class_names, "background": background, "ignored": ignored}
    counted = scored or [np.ones(len(part), dtype=np.bool_) for part in labels]
    reached = [edge for edge in edges if edge < max((len(part) for part in labels), default=0)]
    means: list[float | None] = []
    frames: list[int] = []
    classes: list[int] = []
    for first, end in pairwise([*reached, None]):
        band = [_inside(mask, first, end) for mask in counted]
        parts = scored_parts(labels, scores, band, **named)
        shown, ranked = (np.concatenate(half) for half in zip(*parts, strict=True))
        per_class = per_frame_average_precision(shown, ranked, **named)
        means.append(mean_average_precision(per_class) if per_class else None)
        frames.append(len(shown))
        classes.append(len(per_class))
    return WarmupPrecision(edges=tuple(reached), mean_ap=tuple(means), frames=tuple(frames), classes=tuple(classes))


def _inside(mask: NDArray[np.bool_], first: int | None, end: int | None) -> NDArray[np.bool_]:
    band = np.zeros_like(mask)
    band[first:end] = mask[first:end]
    return band
