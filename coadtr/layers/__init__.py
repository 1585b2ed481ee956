"""Streaming building blocks in plain torch: ring cache, continual attention, positions, encoder blocks.

All are batch first. Every layer offers ``init_state(batch_size)``, ``step(frame, state)`` and ``forward(frames)``,
and says which whole-sequence computation its step equals. Modules hold parameters only; states are values.
"""

from coadtr.layers.attention import RetroactiveAttention, RetroactiveState, SingleOutputAttention
from coadtr.layers.encoder import (
    Activation,
    EncoderBlock,
    RetroactiveBlock,
    RetroactiveBlockState,
    SingleOutputBlock,
)
from coadtr.layers.positions import RecyclingPositionalEncoding, cyclic_sinusoidal_table
from coadtr.layers.projection import (
    AttentionProjections,
    attention_weights,
    require_frame,
    require_sequence,
)
from coadtr.layers.ring import RingState, init_ring, slot_positions, write_ring
from coadtr.layers.stack import ContinualEncoder, EncoderState, answer_windows
from coadtr.layers.state import clone_state, reset_rows, state_bytes, state_tensors

__all__ = [
    "Activation",
    "AttentionProjections",
    "ContinualEncoder",
    "EncoderBlock",
    "EncoderState",
    "RecyclingPositionalEncoding",
    "RetroactiveAttention",
    "RetroactiveBlock",
    "RetroactiveBlockState",
    "RetroactiveState",
    "RingState",
    "SingleOutputAttention",
    "SingleOutputBlock",
    "answer_windows",
    "attention_weights",
    "clone_state",
    "cyclic_sinusoidal_table",
    "init_ring",
    "require_frame",
    "require_sequence",
    "reset_rows",
    "slot_positions",
    "state_bytes",
    "state_tensors",
    "write_ring",
]
