"""Metrics of online action detection, as pure functions on arrays.

Every function says which frames it leaves out and what becomes of a class that does not occur; none reads a file
or knows a model.
"""

from coadtr.evaluation.metrics.accuracy import accuracy
from coadtr.evaluation.metrics.ranking import (
    average_precision,
    calibrated_average_precision,
    mean_average_precision,
    per_frame_average_precision,
)

__all__ = [
    "accuracy",
    "average_precision",
    "calibrated_average_precision",
    "mean_average_precision",
    "per_frame_average_precision",
]
