"""Metrics of online action detection, as pure functions on arrays.

Every function says which frames it leaves out and what becomes of a class that does not occur; none reads a file
or knows a model. `coadtr.evaluation.metrics.running` has them as torchmetrics classes, for several processes.
"""

from coadtr.evaluation.metrics.accuracy import accuracy
from coadtr.evaluation.metrics.anticipation import HORIZONS_S, Anticipation, anticipation_average_precision
from coadtr.evaluation.metrics.calibration import Calibration, calibration_error
from coadtr.evaluation.metrics.clips import ClipAnswer, ClipScores, clip_scores
from coadtr.evaluation.metrics.delay import DetectionDelay, detection_delay
from coadtr.evaluation.metrics.intervals import PrecisionIntervals, bootstrap_mean, bootstrap_precision
from coadtr.evaluation.metrics.paired import PairedTest, paired_precision_test
from coadtr.evaluation.metrics.portions import PortionPrecision, portion_average_precision
from coadtr.evaluation.metrics.ranking import (
    average_precision,
    calibrated_average_precision,
    mean_average_precision,
    per_frame_average_precision,
)
from coadtr.evaluation.metrics.seeds import MeanOverSeeds, difference_over_seeds, mean_over_seeds
from coadtr.evaluation.metrics.segmental import SegmentalScores, segmental_scores
from coadtr.evaluation.metrics.start_points import Starts, action_starts, detect_starts
from coadtr.evaluation.metrics.starts import OFFSETS_S, StartPrecision, point_average_precision
from coadtr.evaluation.metrics.warmup import WarmupPrecision, warmup_precision

__all__ = [
    "HORIZONS_S",
    "OFFSETS_S",
    "Anticipation",
    "Calibration",
    "ClipAnswer",
    "ClipScores",
    "DetectionDelay",
    "MeanOverSeeds",
    "PairedTest",
    "PortionPrecision",
    "PrecisionIntervals",
    "SegmentalScores",
    "StartPrecision",
    "Starts",
    "WarmupPrecision",
    "accuracy",
    "action_starts",
    "anticipation_average_precision",
    "average_precision",
    "bootstrap_mean",
    "bootstrap_precision",
    "calibrated_average_precision",
    "calibration_error",
    "clip_scores",
    "detect_starts",
    "detection_delay",
    "difference_over_seeds",
    "mean_average_precision",
    "mean_over_seeds",
    "paired_precision_test",
    "per_frame_average_precision",
    "point_average_precision",
    "portion_average_precision",
    "segmental_scores",
    "warmup_precision",
]
