"""Evaluation: replay videos frame by frame, score the answers, measure the cost of a step, write a report.

Everything is measured on one code path: the step. ``replay`` takes anything that offers ``init_state``,
``step`` and ``reset_rows`` (`coadtr.types.Detector`); ``evaluate_scores`` makes its answers into numbers
under a named protocol.
"""

from coadtr.evaluation.cost import (
    Cost,
    Latency,
    macs_per_step,
    measure_cost,
    parameters,
    state_bytes,
    step_latency,
)
from coadtr.evaluation.metrics import (
    accuracy,
    average_precision,
    calibrated_average_precision,
    mean_average_precision,
    per_frame_average_precision,
)
from coadtr.evaluation.protocols import (
    PROTOCOLS,
    FrameCounts,
    ScoringProtocol,
    count_frames,
    find_protocol,
    scored_frames,
)
from coadtr.evaluation.published_cost import published_macs, published_parameters
from coadtr.evaluation.render import render_report
from coadtr.evaluation.replay import ReplayVideo, replay
from coadtr.evaluation.report import build_origin, build_report, describe_machine, write_report
from coadtr.evaluation.scores import VideoScores, probabilities
from coadtr.evaluation.summary import evaluate_scores

__all__ = [
    "PROTOCOLS",
    "Cost",
    "FrameCounts",
    "Latency",
    "ReplayVideo",
    "ScoringProtocol",
    "VideoScores",
    "accuracy",
    "average_precision",
    "build_origin",
    "build_report",
    "calibrated_average_precision",
    "count_frames",
    "describe_machine",
    "evaluate_scores",
    "find_protocol",
    "macs_per_step",
    "mean_average_precision",
    "measure_cost",
    "parameters",
    "per_frame_average_precision",
    "probabilities",
    "published_macs",
    "published_parameters",
    "render_report",
    "replay",
    "scored_frames",
    "state_bytes",
    "step_latency",
    "write_report",
]
