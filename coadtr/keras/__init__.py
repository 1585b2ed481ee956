"""Continual transformer blocks as Keras 3 layers, for TensorFlow, JAX and PyTorch.

What `continual-transformers-tf` had for TensorFlow 2, and more: single-output and retroactive attention, encoder
blocks and their stacks, circular positional encoding, delay, and CoOadTR with weights of a checkpoint. Each layer
answers a clip (``call``), the next frames (``call_steps``) or the next frame (``call_step``) of the streams whose state
it holds, and offers the step as a pure function (``init_state``, ``stateless_step``). The backend is Keras's: set
``KERAS_BACKEND`` before the first import.
"""

from __future__ import annotations

from coadtr.errors import MissingExtraError

try:
    import keras as _keras
except ImportError as error:
    _absent = (error.name or "").partition(".")[0]
    _packages = {"tensorflow": "tensorflow-cpu", "jax": "jax", "jaxlib": "jax", "torch": "torch"}
    if _absent == "keras":
        raise MissingExtraError("coadtr.keras needs Keras 3: install the extra, pip install 'coadtr[keras]'") from error
    if _absent in _packages:
        raise MissingExtraError(
            f"Keras is installed, its backend {_absent!r} is not: pip install {_packages[_absent]}, "
            "or set KERAS_BACKEND to tensorflow, jax or torch, whichever is there"
        ) from error
    raise MissingExtraError(
        f"Keras cannot be imported ({' '.join(str(error).split())}): install it again, pip install 'coadtr[keras]'"
    ) from error
if not hasattr(_keras, "ops"):
    raise MissingExtraError(
        f"coadtr.keras needs Keras 3, this is Keras {_keras.__version__}: pip install 'coadtr[keras]'"
    )

from coadtr.cyclic import cyclic_sinusoidal_table
from coadtr.keras.attention import CoSiMultiHeadAttention, RingState
from coadtr.keras.checkpoint import Checkpoint, load, save
from coadtr.keras.compiled import compile_step
from coadtr.keras.delay import CoDelay, DelayState
from coadtr.keras.encoder import CoReTransformerEncoder, CoSiTransformerEncoder, RetroactiveBlockState
from coadtr.keras.export import export_litert, export_saved_model
from coadtr.keras.model import CoOadTR
from coadtr.keras.positions import CircularPositionalEncoding, PositionState
from coadtr.keras.retroactive import CoReMultiHeadAttention, RetroactiveState
from coadtr.keras.stack import CoSiTransformerStack, CoTransformerEncoder, StackState
from coadtr.keras.streaming import Streaming
from coadtr.keras.weights import from_torch, load_weights, state_dict, to_torch
from coadtr.runtime.litert import LiteRTStepper

__all__ = [
    "Checkpoint",
    "CircularPositionalEncoding",
    "CoDelay",
    "CoOadTR",
    "CoReMultiHeadAttention",
    "CoReTransformerEncoder",
    "CoSiMultiHeadAttention",
    "CoSiTransformerEncoder",
    "CoSiTransformerStack",
    "CoTransformerEncoder",
    "DelayState",
    "LiteRTStepper",
    "PositionState",
    "RetroactiveBlockState",
    "RetroactiveState",
    "RingState",
    "StackState",
    "Streaming",
    "compile_step",
    "cyclic_sinusoidal_table",
    "export_litert",
    "export_saved_model",
    "from_torch",
    "load",
    "load_weights",
    "save",
    "state_dict",
    "to_torch",
]
