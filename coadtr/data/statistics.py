"""Statistics of a split: channel means and deviations for normalisation, frames per class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from coadtr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coadtr.data.storage.store import FeatureStore

__all__ = ["carries_loss", "class_counts", "count_labels", "feature_statistics"]


def feature_statistics(
    store: FeatureStore, split: str = "train", streams: Sequence[str] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of each channel over all frames of a split.

    Computed in float64, one video in memory at a time, and merged as in Chan et al. (1979), which stays exact
    where the mean is large. A channel that hardly varies gets a thousandth of the mean deviation (or 1 if
    none varies), so that dividing by it does not blow up what little it does on other data.

    Args:
        store: The feature store.
        split: The split to measure; normalisation belongs to the training split.
        streams: Streams to join, in this order; none for all.

    Returns:
        ``(D,)`` mean and ``(D,)`` standard deviation, float32.

    Raises:
        DataError: If the split holds no video, a stream does not exist, or a value is not finite.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from coadtr.data import FeatureStore, StoreWriter
        >>> path = Path(tempfile.mkdtemp()) / "tiny.h5"
        >>> with StoreWriter(path, class_names=["rest", "lift"], streams={"imu": 1}) as writer:
        ...     frames = np.array([[1.0], [3.0]])
        ...     writer.add("a", split="train", rate_hz=5.0, features={"imu": frames}, labels=[0, 1])
        >>> mean, std = feature_statistics(FeatureStore(path))
        >>> mean.tolist(), std.tolist()
        ([2.0], [1.0])
    """
    count = 0
    mean = squares = np.zeros(sum(store.streams[stream] for stream in store.check_streams(streams)))
    for record in store.videos(split):
        frames = store.features(record.name, streams=streams).astype(np.float64)
        own_mean = frames.mean(axis=0)
        if not np.isfinite(own_mean).all():
            raise DataError(f"{store.path}: video {record.name!r}: features are not finite: import the data again")
        total, shift = count + len(frames), own_mean - mean
        squares = squares + ((frames - own_mean) ** 2).sum(axis=0) + shift**2 * (count * len(frames) / total)
        mean, count = mean + shift * (len(frames) / total), total
    std = np.sqrt(squares / count)
    floor = 1e-3 * float(std.mean())
    if floor == 0.0:
        return mean.astype(np.float32), np.ones_like(std, np.float32)
    return mean.astype(np.float32), np.maximum(std, floor).astype(np.float32)


def class_counts(store: FeatureStore, split: str | None = None, *, with_loss: bool = False) -> NDArray[np.int64]:
    """Return ``(C,)`` how many frames of a split carry each class (all splits if none is given).

    Multi-hot frames count once for each of their classes.

    Args:
        store: The feature store.
        split: ``'train'``, ``'validation'``, ``'test'``, or none.
        with_loss: Leave out the frames of the ignored class, which carry no loss in training.

    Raises:
        DataError: If the split holds no video.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from coadtr.data import FeatureStore, StoreWriter
        >>> path = Path(tempfile.mkdtemp()) / "tiny.h5"
        >>> with StoreWriter(path, class_names=["rest", "lift"], streams={"imu": 1}) as writer:
        ...     frames = np.zeros((3, 1))
        ...     writer.add("a", split="train", rate_hz=5.0, features={"imu": frames}, labels=[0, 1, 1])
        >>> class_counts(FeatureStore(path), "train").tolist()
        [1, 2]
    """
    counts = np.zeros(len(store.class_names), np.int64)
    for record in store.videos(split):
        labels = store.labels(record.name)
        counts += count_labels(labels[carries_loss(labels, store.ignored)] if with_loss else labels, len(counts))
    return counts


def carries_loss(labels: NDArray[Any], ignored: int | None) -> NDArray[np.bool_]:
    """Return ``(T,)`` which frames may carry a loss: those not labelled with the ignored class.

    Args:
        labels: ``(T,)`` class indices, or ``(T, C)`` zeros and ones.
        ignored: Index of the ignored class, or none.

    Example:
        >>> carries_loss(np.array([0, 1, 2]), ignored=2).tolist()
        [True, True, False]
    """
    if ignored is None:
        return np.ones(len(labels), bool)
    return np.asarray(labels[:, ignored] == 0 if labels.ndim == 2 else labels != ignored)


def count_labels(labels: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Return ``(C,)`` how many frames carry each class.

    Args:
        labels: ``(T,)`` class indices, or ``(T, C)`` zeros and ones.
        classes: Number of classes C.

    Example:
        >>> count_labels(np.array([0, 1, 1]), 3).tolist()
        [1, 2, 0]
    """
    counts = labels.sum(axis=0, dtype=np.int64) if labels.ndim == 2 else np.bincount(labels, minlength=classes)
    return np.asarray(counts, np.int64)
