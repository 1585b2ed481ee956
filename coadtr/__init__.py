"""coadtr: online action detection with continual transformers.

Public names resolve on first use (PEP 562), so ``import coadtr`` is light and does not load torch.

Example:
    >>> import sys, coadtr
    >>> sorted(coadtr.__all__)
    ['Checkpoint', 'FeatureStore', 'OnlineDetector', '__version__', 'build_model', 'errors', 'load']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from coadtr import errors

if TYPE_CHECKING:
    from coadtr.checkpoint import Checkpoint, OnlineDetector, load
    from coadtr.data import FeatureStore
    from coadtr.models import build_model

__version__ = "0.1.0"

__all__ = ["Checkpoint", "FeatureStore", "OnlineDetector", "__version__", "build_model", "errors", "load"]

_HOME = {
    "Checkpoint": "coadtr.checkpoint",
    "FeatureStore": "coadtr.data",
    "OnlineDetector": "coadtr.checkpoint",
    "build_model": "coadtr.models",
    "load": "coadtr.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'coadtr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
