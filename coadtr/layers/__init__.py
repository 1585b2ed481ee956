"""Streaming building blocks in plain torch: ring cache, continual attention, positions, encoder blocks.

All are batch first. Every layer offers ``init_state(batch_size)``, ``step(frame, state)`` and ``forward(frames)``
(cross-attention, which takes in two streams: ``step(query, key, state)``), and says which whole-sequence computation
its step equals. Modules hold parameters only; states are values.
"""

from coadtr.layers.attention import RetroactiveAttention, RetroactiveState, SingleOutputAttention
from coadtr.layers.cross import CrossAttention
from coadtr.layers.deep import SingleOutputStack, StackAttention, StackState
from coadtr.layers.encoder import (
    Activation,
    EncoderBlock,
    RetroactiveBlock,
    RetroactiveBlockState,
    SingleOutputBlock,
    SingleOutputState,
)
from coadtr.layers.landmarks import LandmarkProjections, cluster_means, segment_means
from coadtr.layers.lookahead import LookAheadAttention, LookAheadBlock, LookAheadBlockState, LookAheadState
from coadtr.layers.memory import MemoryAttention, causal_mask, sinusoidal_table
from coadtr.layers.memory_stack import MemoryLayer, MemoryStack
from coadtr.layers.nystroem import (
    NystroemAttention,
    NystroemState,
    RetroactiveNystroemAttention,
    RetroactiveNystroemState,
)
from coadtr.layers.positions import RecyclingPositionalEncoding, cyclic_sinusoidal_table
from coadtr.layers.precision import Int8Linear, Precision, computes_like, in_precision
from coadtr.layers.projection import (
    AttentionProjections,
    attention_weights,
    require_frame,
    require_sequence,
)
from coadtr.layers.recurrence import AverageBank, GatedRecurrence, scan
from coadtr.layers.ring import RingState, init_ring, slot_positions, slots_written, write_ring
from coadtr.layers.runner import Backend, StepRunner
from coadtr.layers.smoothing import SmoothedMemory, init_smoothed, smooth
from coadtr.layers.softmax_free import SoftmaxFreeAttention
from coadtr.layers.stack import ContinualEncoder, EncoderState, answer_windows
from coadtr.layers.state import clone_state, reset_rows, state_bytes, state_from_tensors, state_names, state_tensors
from coadtr.layers.streams import SteppedModule, StreamBatch

__all__ = [
    "Activation",
    "AttentionProjections",
    "AverageBank",
    "Backend",
    "ContinualEncoder",
    "CrossAttention",
    "EncoderBlock",
    "EncoderState",
    "GatedRecurrence",
    "Int8Linear",
    "LandmarkProjections",
    "LookAheadAttention",
    "LookAheadBlock",
    "LookAheadBlockState",
    "LookAheadState",
    "MemoryAttention",
    "MemoryLayer",
    "MemoryStack",
    "NystroemAttention",
    "NystroemState",
    "Precision",
    "RecyclingPositionalEncoding",
    "RetroactiveAttention",
    "RetroactiveBlock",
    "RetroactiveBlockState",
    "RetroactiveNystroemAttention",
    "RetroactiveNystroemState",
    "RetroactiveState",
    "RingState",
    "SingleOutputAttention",
    "SingleOutputBlock",
    "SingleOutputStack",
    "SingleOutputState",
    "SmoothedMemory",
    "SoftmaxFreeAttention",
    "StackAttention",
    "StackState",
    "StepRunner",
    "SteppedModule",
    "StreamBatch",
    "answer_windows",
    "attention_weights",
    "causal_mask",
    "clone_state",
    "cluster_means",
    "computes_like",
    "cyclic_sinusoidal_table",
    "in_precision",
    "init_ring",
    "init_smoothed",
    "require_frame",
    "require_sequence",
    "reset_rows",
    "scan",
    "segment_means",
    "sinusoidal_table",
    "slot_positions",
    "slots_written",
    "smooth",
    "state_bytes",
    "state_from_tensors",
    "state_names",
    "state_tensors",
    "write_ring",
]
