"""Streaming building blocks in plain torch: ring cache, continual attention, positions, encoder blocks.

All are batch first. Every layer offers ``init_state(batch_size)``, ``step(frame, state)`` and ``forward(frames)``
(cross-attention, which takes in two streams: ``step(query, key, state)``), and says which whole-sequence computation
its step equals. Modules hold parameters only; states are values.
"""

from coadtr.layers.attention import RetroactiveAttention, RetroactiveState, SingleOutputAttention
from coadtr.layers.cross import CrossAttention
from coadtr.layers.deep import SingleOutputStack, StackState
from coadtr.layers.encoder import (
    Activation,
    EncoderBlock,
    RetroactiveBlock,
    RetroactiveBlockState,
    SingleOutputBlock,
)
from coadtr.layers.landmarks import LandmarkProjections, cluster_means, segment_means
from coadtr.layers.lookahead import LookAheadAttention, LookAheadBlock, LookAheadBlockState, LookAheadState
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
from coadtr.layers.ring import RingState, init_ring, slot_positions, slots_written, write_ring
from coadtr.layers.runner import Backend, StepRunner
from coadtr.layers.stack import ContinualEncoder, EncoderState, answer_windows
from coadtr.layers.state import clone_state, reset_rows, state_bytes, state_from_tensors, state_tensors
from coadtr.layers.streams import SteppedModule, StreamBatch

__all__ = [
    "Activation",
    "AttentionProjections",
    "Backend",
    "ContinualEncoder",
    "CrossAttention",
    "EncoderBlock",
    "EncoderState",
    "Int8Linear",
    "LandmarkProjections",
    "LookAheadAttention",
    "LookAheadBlock",
    "LookAheadBlockState",
    "LookAheadState",
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
    "StackState",
    "StepRunner",
    "SteppedModule",
    "StreamBatch",
    "answer_windows",
    "attention_weights",
    "clone_state",
    "cluster_means",
    "computes_like",
    "cyclic_sinusoidal_table",
    "in_precision",
    "init_ring",
    "require_frame",
    "require_sequence",
    "reset_rows",
    "segment_means",
    "slot_positions",
    "slots_written",
    "state_bytes",
    "state_from_tensors",
    "state_tensors",
    "write_ring",
]
