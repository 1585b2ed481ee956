"""Features and labels: the HDF5 feature store, importers, training windows, splits, and scores.

The only place that reads and writes HDF5. Names resolve on first use (PEP 562); torch is loaded by the
training windows alone.

Example:
    >>> from coadtr.data import IMPORTERS
    >>> IMPORTERS  # doctest: +ELLIPSIS
    ('audio-csv', 'audio-folders', 'csv', 'exercises', 'fsdd', ...)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coadtr.data.exercises import write_exercises
    from coadtr.data.importers import IMPORTERS, ImportReport, import_features
    from coadtr.data.inspect import Summary, render, summarise
    from coadtr.data.recordings import check_recordings
    from coadtr.data.score_journal import ScoreJournal
    from coadtr.data.scores import ScoreFile, VideoScores, read_scores, write_scores
    from coadtr.data.sources.safe_pickle import load_object_npy, load_pickle
    from coadtr.data.splits import choose_validation
    from coadtr.data.statistics import class_counts, feature_statistics
    from coadtr.data.storage.journal import StoreJournal
    from coadtr.data.storage.schema import SPLITS, VideoRecord
    from coadtr.data.storage.store import FeatureStore
    from coadtr.data.storage.writer import StoreWriter
    from coadtr.data.windows import NO_LOSS, ClipDataset, SequenceDataset

__all__ = [
    "IMPORTERS",
    "NO_LOSS",
    "SPLITS",
    "ClipDataset",
    "FeatureStore",
    "ImportReport",
    "ScoreFile",
    "ScoreJournal",
    "SequenceDataset",
    "StoreJournal",
    "StoreWriter",
    "Summary",
    "VideoRecord",
    "VideoScores",
    "check_recordings",
    "choose_validation",
    "class_counts",
    "feature_statistics",
    "import_features",
    "load_object_npy",
    "load_pickle",
    "read_scores",
    "render",
    "summarise",
    "write_exercises",
    "write_scores",
]

_HOME = {
    "IMPORTERS": "importers",
    "NO_LOSS": "windows",
    "SPLITS": "storage.schema",
    "ClipDataset": "windows",
    "FeatureStore": "storage.store",
    "ImportReport": "importers",
    "ScoreFile": "scores",
    "ScoreJournal": "score_journal",
    "SequenceDataset": "windows",
    "StoreJournal": "storage.journal",
    "StoreWriter": "storage.writer",
    "Summary": "inspect",
    "VideoRecord": "storage.schema",
    "VideoScores": "scores",
    "check_recordings": "recordings",
    "choose_validation": "splits",
    "class_counts": "statistics",
    "feature_statistics": "statistics",
    "import_features": "importers",
    "load_object_npy": "sources.safe_pickle",
    "load_pickle": "sources.safe_pickle",
    "read_scores": "scores",
    "render": "inspect",
    "summarise": "inspect",
    "write_exercises": "exercises",
    "write_scores": "scores",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"coadtr.data.{_HOME[name]}"), name)
    raise AttributeError(f"module 'coadtr.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
