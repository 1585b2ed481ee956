"""Whole detectors, their settings, and the builder that maps one to the other.

All models offer ``init_state``, ``step``, ``reset_rows`` and ``forward`` (:class:`coadtr.types.Detector`), so all are
replayed, timed and exported by the same code.
"""

from coadtr.models.base import InputFrames, OnlineModel
from coadtr.models.builder import build_model
from coadtr.models.config import PRESETS, CoOadTRConfig, ModelConfig, OadTRConfig, config_from_dict, preset
from coadtr.models.cooadtr import CoOadTR
from coadtr.models.oadtr import ClipState, OadTR, OadTRAnswer
from coadtr.models.published import load_published

__all__ = [
    "PRESETS",
    "ClipState",
    "CoOadTR",
    "CoOadTRConfig",
    "InputFrames",
    "ModelConfig",
    "OadTR",
    "OadTRAnswer",
    "OadTRConfig",
    "OnlineModel",
    "build_model",
    "config_from_dict",
    "load_published",
    "preset",
]
