"""Average precision by portion of the action: how well an action is seen in its first tenth, its second, and so on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import ConfigError
from coadtr.evaluation.labels import check_classes, frames_of_class
from coadtr.evaluation.metrics.ranking import precision_against
from coadtr.evaluation.metrics.videos import instances, join_videos, means_over_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["PortionPrecision", "portion_average_precision"]


@dataclass(frozen=True, kw_only=True)
class PortionPrecision:
    """Hold average precision by portion of the action.

    Attributes:
        portions: Number of portions P.
        calibrated: Whether the values are calibrated AP.
        per_class: P values in (0, 1] by class name; None for a portion of which no frame counts.
        mean: P unweighted means over the classes that have a value; None where none has.
    """

    portions: int
    calibrated: bool
    per_class: dict[str, tuple[float | None, ...]]
    mean: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: the means under ``mAP`` or ``mcAP``, and ``per_class``."""
        return {
            "mcAP" if self.calibrated else "mAP": list(self.mean),
            "per_class": {name: list(values) for name, values in self.per_class.items()},
        }


def portion_average_precision(
    labels: Sequence[NDArray[Any]],
    scores: Sequence[NDArray[Any]],
    *,
    class_names: Sequence[str],
    background: int | None = None,
    ignored: int | None = None,
    scored: Sequence[NDArray[np.bool_]] | None = None,
    portions: int = 10,
    calibrated: bool = False,
) -> PortionPrecision:
    """Return the average precision of every class that occurs, by portion of the action.

    An instance is a maximal run of frames that show a class, within one video and found before any frame is
    left out. Frame i = 0..n-1 of an instance of n frames belongs to portion ``floor(P i / n)``. So its first
    frame belongs to portion 0, and an instance of fewer than P frames has no frame in some portions: it says
    nothing about them. (Published code, that of LSTR and others, differs: it gives every instance at least one frame in
    each portion, so that frames of short instances count in several, and takes an instance of n frames for n - 1.) For
    portion k, positive are the frames in portion k of all instances of the class,
    negative all frames that do not show it; its frames in other portions are left out. Then as in
    `average_precision` and `calibrated_average_precision`; w is taken from the positives of the portion.

    Frames labelled with the ignored class, and frames that are not scored, count neither as positive nor as
    negative. Background and ignored class get no value; a class that no remaining frame shows is left out.

    Args:
        labels: One entry per video: class indices ``(T,)`` or multi-hot ``(T, C)``.
        scores: One entry per video: scores ``(T, C)``, higher is surer.
        class_names: The C names, each once.
        background: Index of the background class, or None if there is none.
        ignored: Index of the class that is never scored, or None if there is none.
        scored: One entry per video: frames ``(T,)`` that the protocol scores. None: all.
        portions: Number of portions P; 10 gives tenths.
        calibrated: Return calibrated AP instead.

    Returns:
        P values in (0, 1] per class, and their means.

    Raises:
        ConfigError: ``portions`` is below 1, a class name occurs twice, or a class index is outside 0..C-1.
        ShapeError: The videos of the arguments differ in number or length, or have another number of classes.
        DataError: A label is outside the classes, videos differ in the form of labels, or a score is nan.

    Source:
        De Geest et al., "Online Action Detection", ECCV 2016, section 4; Xu et al., "Temporal Recurrent
        Networks for Online Action Detection", ICCV 2019.

    Example:
        >>> labels, scores = np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9], [0.5, 0.5]])
        >>> portion_average_precision([labels], [scores], class_names=["none", "run"], background=0, portions=2).mean
        (0.5, 1.0)
    """
    check_classes(class_names, background=background, ignored=ignored)
    if portions < 1:
        raise ConfigError(f"portions is {portions}; give at least 1 (10 for tenths of the action)")
    videos = join_videos(labels, scores, num_classes=len(class_names), ignored=ignored, scored=scored)
    per_class: dict[str, tuple[float | None, ...]] = {}
    for index, name in enumerate(class_names):
        shown = frames_of_class(videos.labels, index)
        if index in {background, ignored} or not (shown & videos.kept).any():
            continue
        first, end = instances(shown)
        length = np.repeat(end - first, end - first)
        place = np.flatnonzero(shown) - np.repeat(first, end - first)
        counted = videos.kept[shown]
        portion = (portions * place // length)[counted]
        positive = videos.scores[shown, index][counted]
        negative = np.sort(videos.scores[~shown & videos.kept, index])
        per_class[name] = tuple(
            precision_against(positive[portion == part], negative, calibrated=calibrated) for part in range(portions)
        )
    return PortionPrecision(
        portions=portions,
        calibrated=calibrated,
        per_class=per_class,
        mean=means_over_classes(per_class, portions),
    )
