"""Training with Lightning: batches, loss, validation score, one run in one folder.

The only place that imports Lightning.
"""

from coadtr.training.datamodule import FeatureDataModule
from coadtr.training.module import DetectionModule
from coadtr.training.run import TrainingResult, export_run, train
from coadtr.training.settings import TrainingSettings

__all__ = [
    "DetectionModule",
    "FeatureDataModule",
    "TrainingResult",
    "TrainingSettings",
    "export_run",
    "train",
]
