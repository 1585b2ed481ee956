"""Cost of a step, measured on the code path that makes the scores: arithmetic, memory, latency and throughput.

Arithmetic is counted in multiply-accumulates, as executed (`counting`, checked against the formulas of `executed`).
Latency is timed at batch 1 and throughput at the batch that is asked for, each on its own: neither is derived from the
other.
"""

from coadtr.evaluation.cost.batched import Spread, Throughput, throughput
from coadtr.evaluation.cost.counting import macs_by_block, macs_per_step, parameters
from coadtr.evaluation.cost.end_to_end import end_to_end_latency
from coadtr.evaluation.cost.executed import executed_macs, executed_macs_by_block
from coadtr.evaluation.cost.latency import Latency, step_latency
from coadtr.evaluation.cost.memory import peak_memory_bytes, weights_bytes
from coadtr.evaluation.cost.record import Cost, measure_cost
from coadtr.layers import state_bytes

__all__ = [
    "Cost",
    "Latency",
    "Spread",
    "Throughput",
    "end_to_end_latency",
    "executed_macs",
    "executed_macs_by_block",
    "macs_by_block",
    "macs_per_step",
    "measure_cost",
    "parameters",
    "peak_memory_bytes",
    "state_bytes",
    "step_latency",
    "throughput",
    "weights_bytes",
]
