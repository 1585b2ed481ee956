"""Evaluation: replay videos frame by frame, score the answers, measure the cost of a step, write a report.

Everything is measured on one code path: the step. ``replay`` takes anything that offers ``init_state``,
``step`` and ``reset_rows`` (`coadtr.types.Detector`); ``evaluate_scores`` makes its answers into numbers
under a named protocol.
"""

from coadtr.evaluation.answers import VideoAnswers, probabilities
from coadtr.evaluation.audit import CausalityAudit, Tolerance, audit_causality
from coadtr.evaluation.cost import (
    Cost,
    Latency,
    Spread,
    Throughput,
    end_to_end_latency,
    executed_macs,
    executed_macs_by_block,
    macs_by_block,
    macs_per_step,
    measure_cost,
    parameters,
    peak_memory_bytes,
    state_bytes,
    step_latency,
    throughput,
    weights_bytes,
)
from coadtr.evaluation.details import ClipSettings, DetailSettings, evaluate_clips, evaluate_details, feature_seconds
from coadtr.evaluation.groups import group_videos, share_groups
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
from coadtr.evaluation.published_cost import (
    published_clip_macs,
    published_macs,
    published_macs_by_block,
    published_parameters,
)
from coadtr.evaluation.ranks import Ranks
from coadtr.evaluation.render import render_report
from coadtr.evaluation.replay import ReplayVideo, replay
from coadtr.evaluation.report import build_origin, build_report, describe_machine, write_report
from coadtr.evaluation.smoothing import CausalSmoothing
from coadtr.evaluation.summary import evaluate_answers, evaluate_scores, score_answers

__all__ = [
    "PROTOCOLS",
    "CausalSmoothing",
    "CausalityAudit",
    "ClipSettings",
    "Cost",
    "DetailSettings",
    "FrameCounts",
    "Latency",
    "Ranks",
    "ReplayVideo",
    "ScoringProtocol",
    "Spread",
    "Throughput",
    "Tolerance",
    "VideoAnswers",
    "accuracy",
    "audit_causality",
    "average_precision",
    "build_origin",
    "build_report",
    "calibrated_average_precision",
    "count_frames",
    "describe_machine",
    "end_to_end_latency",
    "evaluate_answers",
    "evaluate_clips",
    "evaluate_details",
    "evaluate_scores",
    "executed_macs",
    "executed_macs_by_block",
    "feature_seconds",
    "find_protocol",
    "group_videos",
    "macs_by_block",
    "macs_per_step",
    "mean_average_precision",
    "measure_cost",
    "parameters",
    "peak_memory_bytes",
    "per_frame_average_precision",
    "probabilities",
    "published_clip_macs",
    "published_macs",
    "published_macs_by_block",
    "published_parameters",
    "render_report",
    "replay",
    "score_answers",
    "scored_frames",
    "share_groups",
    "state_bytes",
    "step_latency",
    "throughput",
    "weights_bytes",
    "write_report",
]
