"""Run an exported detector on live streams with numpy and ONNX Runtime alone: no torch.

``OnlineDetector.from_onnx(path)`` is the object to hold: ``push(frame, stream=...)`` answers a frame, ``snapshot`` and
``restore`` carry what streams remember over a restart. ``EventDecoder`` makes starts and ends of actions out of scores.
``LiteRTStepper`` steps a LiteRT file that `coadtr.keras` wrote, with numpy and ai-edge-litert.
"""

from coadtr.runtime.answers import BatchAnswers, StreamInfo
from coadtr.runtime.description import Description, Leaf
from coadtr.runtime.detector import OnlineDetector
from coadtr.runtime.events import Event, EventDecoder, EventSettings
from coadtr.runtime.gaps import GapPolicy
from coadtr.runtime.litert import LiteRTStepper
from coadtr.runtime.stepper import OnnxStepper, Stepper

__all__ = [
    "BatchAnswers",
    "Description",
    "Event",
    "EventDecoder",
    "EventSettings",
    "GapPolicy",
    "Leaf",
    "LiteRTStepper",
    "OnlineDetector",
    "OnnxStepper",
    "Stepper",
    "StreamInfo",
]
