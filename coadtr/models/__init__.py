"""Whole detectors, their settings, and the builder that maps one to the other.

All models offer ``init_state``, ``step``, ``reset_rows`` and ``forward`` (:class:`coadtr.types.Detector`), so all are
replayed, timed and exported by the same code.
"""

from coadtr.models.base import InputFrames, LearningAnswers, OnlineModel
from coadtr.models.cmert import CMeRT, CMeRTConfig
from coadtr.models.config import ModelConfig, TransformerConfig
from coadtr.models.cooadtr import CoOadTR, CoOadTRConfig
from coadtr.models.deepcot import DeepCoT, DeepCoTConfig
from coadtr.models.grab import GRAB, GRABConfig, GRABState
from coadtr.models.lstr import LSTR, LSTRConfig
from coadtr.models.memory import MemoryConfig, MemoryConstants, MemoryModel
from coadtr.models.miniroad import MiniROAD, MiniROADConfig, MiniROADState
from coadtr.models.nystroem import Nystroem, NystroemConfig
from coadtr.models.oadtr import ClipState, OadTR, OadTRAnswer, OadTRConfig
from coadtr.models.published import load_published
from coadtr.models.registry import MODELS, PRESETS, build_model, config_from_dict, preset
from coadtr.models.stacked import StackConfig, StackedModel
from coadtr.models.testra import TeSTra, TeSTraConfig, TeSTraState
from coadtr.models.trn import TRN, TRNConfig, TRNState
from coadtr.models.windowed_memory import WindowedMemory, WindowedMemoryConfig, WindowedMemoryState

__all__ = [
    "GRAB",
    "LSTR",
    "MODELS",
    "PRESETS",
    "TRN",
    "CMeRT",
    "CMeRTConfig",
    "ClipState",
    "CoOadTR",
    "CoOadTRConfig",
    "DeepCoT",
    "DeepCoTConfig",
    "GRABConfig",
    "GRABState",
    "InputFrames",
    "LSTRConfig",
    "LearningAnswers",
    "MemoryConfig",
    "MemoryConstants",
    "MemoryModel",
    "MiniROAD",
    "MiniROADConfig",
    "MiniROADState",
    "ModelConfig",
    "Nystroem",
    "NystroemConfig",
    "OadTR",
    "OadTRAnswer",
    "OadTRConfig",
    "OnlineModel",
    "StackConfig",
    "StackedModel",
    "TRNConfig",
    "TRNState",
    "TeSTra",
    "TeSTraConfig",
    "TeSTraState",
    "TransformerConfig",
    "WindowedMemory",
    "WindowedMemoryConfig",
    "WindowedMemoryState",
    "build_model",
    "config_from_dict",
    "load_published",
    "preset",
]
