"""Faces to other ecosystems: continual-inference and torch.nn.

:func:`as_comodule` makes a ``continual.CoModule`` of a layer or model of coadtr. The other functions convert weights:
attention, blocks, encoders and positions, from the module of another library and to it.
"""

from coadtr.interop.adapter import AdapterState, ContinualAdapter, FirstFrames
from coadtr.interop.continual import as_comodule
from coadtr.interop.continual_weights import (
    attention_from_continual,
    attention_to_continual,
    block_from_continual,
    block_to_continual,
    encoder_from_continual,
    encoder_to_continual,
)
from coadtr.interop.positions import positions_from_continual, positions_to_continual
from coadtr.interop.torch_weights import (
    attention_from_torch,
    attention_to_torch,
    block_from_torch,
    block_to_torch,
    encoder_from_torch,
    encoder_to_torch,
)

__all__ = [
    "AdapterState",
    "ContinualAdapter",
    "FirstFrames",
    "as_comodule",
    "attention_from_continual",
    "attention_from_torch",
    "attention_to_continual",
    "attention_to_torch",
    "block_from_continual",
    "block_from_torch",
    "block_to_continual",
    "block_to_torch",
    "encoder_from_continual",
    "encoder_from_torch",
    "encoder_to_continual",
    "encoder_to_torch",
    "positions_from_continual",
    "positions_to_continual",
]
