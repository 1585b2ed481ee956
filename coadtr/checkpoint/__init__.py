"""Exported checkpoints: a folder of weights and plain settings that loads without Lightning, Hydra or pickle.

``save_checkpoint`` writes one, ``load`` reads it back, and ``OnlineDetector`` is the stateful object to hold in a live
program: ``push(frame) -> scores``, ``reset()``.
"""

from coadtr.checkpoint.detector import OnlineDetector
from coadtr.checkpoint.loading import Checkpoint, load
from coadtr.checkpoint.saving import save_checkpoint
from coadtr.checkpoint.spec import CheckpointSpec

__all__ = ["Checkpoint", "CheckpointSpec", "OnlineDetector", "load", "save_checkpoint"]
