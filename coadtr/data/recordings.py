"""Recordings of one class each: what a store of the task ``audio`` holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coadtr.errors import DataError

if TYPE_CHECKING:
    from coadtr.data.storage.store import FeatureStore

__all__ = ["check_recordings"]


def check_recordings(store: FeatureStore, split: str | None = None) -> None:
    """Check that every video of a split is a recording of one class, as the task ``audio`` needs it.

    Args:
        store: The feature store.
        split: ``'train'``, ``'validation'``, ``'test'``, or none for all videos.

    Raises:
        DataError: If the store has a background class or several classes a frame, or a video is of several classes.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from coadtr.data import FeatureStore, StoreWriter
        >>> path = Path(tempfile.mkdtemp()) / "tiny.h5"
        >>> with StoreWriter(path, class_names=["yes", "no"], streams={"audio": 3}) as writer:
        ...     writer.add("a", split="train", rate_hz=5.0, features={"audio": np.ones((3, 3))}, labels=[1, 1, 1])
        >>> check_recordings(FeatureStore(path), "train")
    """
    for role, wrong in (("a background class", store.background), ("an ignored class", store.ignored)):
        if wrong is not None:
            raise DataError(
                f"{store.path}: has {role} ({store.class_names[wrong]!r}), and whole recordings have one of their own "
                "classes: use task=oad"
            )
    if store.label_kind == "multi-hot":
        raise DataError(f"{store.path}: labels are of several classes a frame: use task=oad")
    for record in store.videos(split):
        labels = store.labels(record.name)
        if (labels != labels[0]).any():
            shown = sorted({store.class_names[index] for index in labels.tolist()})
            raise DataError(
                f"{store.path}: video {record.name!r} shows {', '.join(shown[:3])}, and a recording is of one class: "
                "use task=oad"
            )
