"""Features out of videos: decoding, sampling, backbones, and a feature store of many videos.

Needs the extra ``video`` (PyAV, and the weights of the offline backbone). Names resolve on first use (PEP 562).

Example:
    >>> from coadtr.video import Sampling
    >>> Sampling().describe()
    'lstr: 24 frames a second, chunks of 6, the 4th for one image'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coadtr.video.backbones import Backbone, load_backbone
    from coadtr.video.decode import Frame, VideoReader, decode_frames
    from coadtr.video.extraction import ExtractionReport, extract
    from coadtr.video.flow import FlowBackbone, load_flow
    from coadtr.video.info import VideoInfo, probe
    from coadtr.video.pool import extract_all
    from coadtr.video.ray_pool import on_ray
    from coadtr.video.sampling import Resampler, Sampling, chunks
    from coadtr.video.sources import Source, find_videos
    from coadtr.video.streaming import Eyes, Feature, FeatureStream, Picture
    from coadtr.video.workers import Extraction, VideoFeatures, extract_video

__all__ = [
    "Backbone",
    "Extraction",
    "ExtractionReport",
    "Eyes",
    "Feature",
    "FeatureStream",
    "FlowBackbone",
    "Frame",
    "Picture",
    "Resampler",
    "Sampling",
    "Source",
    "VideoFeatures",
    "VideoInfo",
    "VideoReader",
    "chunks",
    "decode_frames",
    "extract",
    "extract_all",
    "extract_video",
    "find_videos",
    "load_backbone",
    "load_flow",
    "on_ray",
    "probe",
]

_HOME = {
    "Backbone": "backbones",
    "Extraction": "workers",
    "ExtractionReport": "extraction",
    "Eyes": "streaming",
    "Feature": "streaming",
    "FeatureStream": "streaming",
    "FlowBackbone": "flow",
    "Frame": "decode",
    "Picture": "streaming",
    "Resampler": "sampling",
    "Sampling": "sampling",
    "Source": "sources",
    "VideoFeatures": "workers",
    "VideoInfo": "info",
    "VideoReader": "decode",
    "chunks": "sampling",
    "decode_frames": "decode",
    "extract_all": "pool",
    "on_ray": "ray_pool",
    "extract": "extraction",
    "extract_video": "workers",
    "find_videos": "sources",
    "load_backbone": "backbones",
    "load_flow": "flow",
    "probe": "info",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"coadtr.video.{_HOME[name]}"), name)
    raise AttributeError(f"module 'coadtr.video' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
