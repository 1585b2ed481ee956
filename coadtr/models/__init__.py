"""Whole detectors, their settings, and the builder that maps one to the other.

All models offer ``init_state``, ``step``, ``reset_rows`` and ``forward`` (:class:`coadtr.types.Detector`), so all are
replayed, timed and exported by the same code.
"""

from coadtr.models.base import InputFrames, LearningAnswers, OnlineModel
from coadtr.models.config import ModelConfig, TransformerConfig
from coadtr.models.cooadtr import CoOadTR, CoOadTRConfig
from coadtr.models.oadtr import ClipState, OadTR, OadTRAnswer, OadTRConfig
from coadtr.models.published import load_published
from coadtr.models.registry import MODELS, PRESETS, build_model, config_from_dict, preset

__all__ = [
    "MODELS",
    "PRESETS",
    "ClipState",
    "CoOadTR",
    "CoOadTRConfig",
    "InputFrames",
    "LearningAnswers",
    "ModelConfig",
    "OadTR",
    "OadTRAnswer",
    "OadTRConfig",
    "OnlineModel",
    "TransformerConfig",
    "build_model",
    "config_from_dict",
    "load_published",
    "preset",
]
