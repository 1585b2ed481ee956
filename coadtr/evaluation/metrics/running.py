"""The metrics as running ones: fed video by video, on one process or on many, with the same value bit for bit.

Thin: a running metric keeps what it is given, and hands all of it, put in order, to the pure function of its name.
That makes it a `torchmetrics.Metric` that Lightning and `torch.distributed` (gloo, nccl) know what to do with.
Give each video once: on one process, a repeat of it cannot be told from its continuation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from coadtr.evaluation.metrics.accuracy import accuracy
from coadtr.evaluation.metrics.calibration import calibration_error
from coadtr.evaluation.metrics.gathering import RunningMetric
from coadtr.evaluation.metrics.portions import portion_average_precision
from coadtr.evaluation.metrics.ranking import mean_average_precision, per_frame_average_precision
from coadtr.evaluation.metrics.segmental import segmental_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coadtr.evaluation.metrics.calibration import Calibration
    from coadtr.evaluation.metrics.portions import PortionPrecision
    from coadtr.evaluation.metrics.segmental import SegmentalScores

__all__ = ["RunningAccuracy", "RunningAveragePrecision", "RunningCalibration", "RunningPortions", "RunningSegmental"]


class RunningAveragePrecision(RunningMetric):
    """Mean average precision over all scored frames: mAP, or mcAP if calibrated.

    Formula, range, frames left out and absent classes as in `per_frame_average_precision`.

    Args:
        calibrated: Whether to return mcAP.
        **options: Settings of `RunningMetric`.

    Example:
        >>> metric = RunningAveragePrecision(class_names=["none", "run"], background=0)
        >>> metric.update(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 1]), video=0)
        >>> metric.update(torch.tensor([[0.6, 0.4]]), torch.tensor([1]), video=1)
        >>> metric.compute().item(), metric.result()
        (1.0, {'run': 1.0})
    """

    def __init__(self, *, calibrated: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.calibrated = calibrated

    def result(self) -> dict[str, float]:
        """Return the value of each class that a scored frame shows, by name."""
        return per_frame_average_precision(
            *self.gathered().joined(),
            class_names=self.class_names,
            background=self.background,
            ignored=self.ignored,
            calibrated=self.calibrated,
        )

    def compute(self) -> Tensor:
        """Return mAP or mcAP in (0, 1].

        Raises:
            DataError: No scored frame shows an action, or the videos cannot be put together (`RunningMetric.gathered`).
        """
        return _number(mean_average_precision(self.result()))


class RunningAccuracy(RunningMetric):
    """Share of scored frames that are answered right, as `accuracy`; nan if no scored frame has a label.

    Example:
        >>> metric = RunningAccuracy(class_names=["none", "run"])
        >>> metric.update(torch.tensor([[0.9, 0.1], [0.7, 0.3]]), torch.tensor([0, 1]), video=0)
        >>> metric.compute().item()
        0.5
    """

    def result(self) -> float:
        """Return the share."""
        return accuracy(*self.gathered().joined(), ignored=self.ignored)

    def compute(self) -> Tensor:
        """Return the share in [0, 1]."""
        return _number(self.result())


class RunningPortions(RunningMetric):
    """Average precision by portion of the action, as `portion_average_precision`.

    Args:
        portions: Number of portions P.
        calibrated: Whether to return calibrated AP.
        **options: Settings of `RunningMetric`.

    Example:
        >>> metric = RunningPortions(portions=2, class_names=["none", "run"], background=0)
        >>> scores = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9], [0.5, 0.5]])
        >>> metric.update(scores, torch.tensor([0, 1, 1, 0]), video=0)
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'mAP_1': 0.5, 'mAP_2': 1.0}
    """

    def __init__(self, *, portions: int = 10, calibrated: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.portions = portions
        self.calibrated = calibrated

    def result(self) -> PortionPrecision:
        """Return the values by class and their means."""
        return portion_average_precision(**self.by_video(), portions=self.portions, calibrated=self.calibrated)

    def compute(self) -> dict[str, Tensor]:
        """Return the means of portions 1..P under ``mAP_1`` (``mcAP_1``) and so on; nan where undefined."""
        name = "mcAP" if self.calibrated else "mAP"
        return {f"{name}_{place}": _number(value) for place, value in enumerate(self.result().mean, start=1)}


class RunningSegmental(RunningMetric):
    """Edit score and segmental F1, as `segmental_scores`; for labels with one class a frame.

    Args:
        overlaps: Least overlaps in percent.
        **options: Settings of `RunningMetric`.

    Example:
        >>> metric = RunningSegmental(overlaps=[50], class_names=["none", "run"], background=0)
        >>> metric.update(torch.eye(2, dtype=torch.float64)[[0, 0, 1, 1]], torch.tensor([0, 1, 1, 1]), video=0)
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'edit': 1.0, 'f1_50': 1.0}
    """

    def __init__(self, *, overlaps: Sequence[int] = (10, 25, 50), **options: Any) -> None:
        super().__init__(**options)
        self.overlaps = tuple(overlaps)

    def result(self) -> SegmentalScores:
        """Return the scores, and the edit score of each video."""
        return segmental_scores(**self.by_video(), overlaps=self.overlaps)

    def compute(self) -> dict[str, Tensor]:
        """Return ``edit``, and ``f1_10`` and so on, in [0, 1]; nan where undefined."""
        found = self.result()
        shares = {f"f1_{overlap}": _number(value) for overlap, value in found.f1.items()}
        return {"edit": _number(found.edit), **shares}


class RunningCalibration(RunningMetric):
    """Calibration error and Brier score of the scored frames, as `calibration_error`.

    Args:
        bins: Number of bins.
        **options: Settings of `RunningMetric`.

    Example:
        >>> metric = RunningCalibration(class_names=["none", "run"])
        >>> metric.update(torch.tensor([[0.75, 0.25], [0.75, 0.25]]), torch.tensor([0, 1]), video=0)
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'ece': 0.25, 'brier': 0.625}
    """

    higher_is_better = False

    def __init__(self, *, bins: int = 15, **options: Any) -> None:
        super().__init__(**options)
        self.bins = bins

    def result(self) -> Calibration | None:
        """Return the values and the table by bins; None if no scored frame has a label."""
        return calibration_error(*self.gathered().joined(), ignored=self.ignored, bins=self.bins)

    def compute(self) -> dict[str, Tensor]:
        """Return ``ece`` in [0, 1] and ``brier``; nan if no scored frame has a label."""
        found = self.result()
        values = (None, None) if found is None else (found.ece, found.brier)
        return dict(zip(("ece", "brier"), map(_number, values), strict=True))


def _number(value: float | None) -> Tensor:
    return torch.tensor(float("nan") if value is None else value, dtype=torch.float64)
