"""What one video must be before it enters a store: its names, shapes, types and values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import numpy as np

from coadtr.data.storage import schema
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from coadtr.data.storage.schema import Header, LabelKind

__all__ = ["DTYPES", "CheckedVideo", "FeatureType", "check_dtype", "check_video"]

FeatureType: TypeAlias = Literal["float16", "float32"]
DTYPES: Final = ("float16", "float32")


@dataclass(frozen=True, slots=True)
class CheckedVideo:
    """One video as it goes into the file.

    Attributes:
        features: ``(T, D)`` float16 or float32 per stream, in the order of the header.
        labels: ``(T,)`` or ``(T, C)`` in the smallest type.
        kind: ``'index'`` or ``'multi-hot'``.
    """

    features: dict[str, NDArray[Any]]
    labels: NDArray[Any]
    kind: LabelKind

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return len(self.labels)


def check_dtype(dtype: str | None) -> FeatureType | None:
    """Return ``dtype`` if features can be stored in it, or none.

    Raises:
        ConfigError: If it is another.

    Example:
        >>> check_dtype("int8")
        Traceback (most recent call last):
        coadtr.errors.ConfigError: dtype='int8': use float16 or float32, or null to keep that of the source
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype!r}: use float16 or float32, or null to keep that of the source")
    return cast("FeatureType | None", dtype)


def check_video(
    header: Header,
    name: str,
    *,
    split: str,
    rate_hz: float,
    features: Mapping[str, ArrayLike],
    labels: ArrayLike,
    dtype: FeatureType | None = None,
) -> CheckedVideo:
    """Check one video against the header of its store.

    Args:
        header: What holds for all videos of the store.
        name: Name of the video.
        split: ``'train'``, ``'validation'`` or ``'test'``.
        rate_hz: Frames a second.
        features: ``(T, D)`` per stream.
        labels: ``(T,)`` class indices, or ``(T, C)`` zeros and ones.
        dtype: Type to store features in; none keeps float16 and float32, and makes float64 float32.

    Returns:
        The arrays as they are stored.

    Raises:
        DataError: If something is not as it should be; the message names field and value, not the video.

    Example:
        >>> header = schema.Header(("rest", "lift"), 0, None, {"imu": 2})
        >>> video = check_video(
        ...     header, "a", split="test", rate_hz=5.0, features={"imu": np.ones((3, 2))}, labels=[0, 1, 1]
        ... )
        >>> video.frames, video.kind, video.features["imu"].dtype
        (3, 'index', dtype('float32'))
    """
    schema.check_name(name, what="video")
    schema.check_split(split)
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise DataError(f"field 'rate_hz': {rate_hz!r} frames a second: give a positive number")
    faults: list[str] = []
    arrays = _check_features(header, features, dtype, faults)
    frames = len(next(iter(arrays.values()))) if arrays and not faults else None
    checked = _check_labels(header, labels, frames, faults)
    if faults or checked is None:
        raise DataError("; ".join(faults))
    return CheckedVideo(arrays, *checked)


def _check_features(
    header: Header, features: Mapping[str, ArrayLike], dtype: FeatureType | None, faults: list[str]
) -> dict[str, NDArray[Any]]:
    declared = header.streams
    if set(features) != set(declared):
        faults.append(f"has streams {schema.listing(features)} but the store declares {schema.listing(declared)}")
        return {}
    arrays = {}
    for stream, dim in declared.items():
        try:
            arrays[stream] = _check_stream(stream, np.asarray(features[stream]), dim, dtype)
        except DataError as error:
            faults.append(str(error))
    lengths = {stream: len(array) for stream, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{stream!r} {length}" for stream, length in lengths.items())
        faults.append(f"streams differ in frames ({told}): cut or extract them alike")
    return arrays


def _check_stream(stream: str, array: NDArray[Any], dim: int, dtype: FeatureType | None) -> NDArray[Any]:
    if array.dtype.kind != "f":
        raise DataError(f"field {stream!r}: type {array.dtype}: features are floating-point numbers")
    if array.ndim != 2 or array.shape[1] != dim:
        raise DataError(f"field {stream!r}: shape {array.shape}: the store declares (T, {dim})")
    if not len(array):
        raise DataError(f"field {stream!r}: holds no frame: leave the video out")
    fault = schema.non_finite(array)
    if fault is not None:
        raise DataError(f"field {stream!r}: value {fault}: features must be finite, repair the source")
    wanted = np.dtype(dtype) if dtype else array.dtype if array.dtype in (np.float16, np.float32) else np.dtype("f4")
    # A value beyond the type becomes infinite here and is named just below.
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(array, dtype=wanted)
    if stored.dtype.itemsize < array.dtype.itemsize and (fault := schema.non_finite(stored)) is not None:
        raise DataError(
            f"field {stream!r}: value {fault}: beyond the range of {wanted}, scale the features or use a wider dtype"
        )
    return stored


def _check_labels(
    header: Header, labels: ArrayLike, frames: int | None, faults: list[str]
) -> tuple[NDArray[Any], LabelKind] | None:
    array, classes = np.asarray(labels), len(header.class_names)
    if array.dtype.kind not in "iub":
        faults.append(f"field 'labels': type {array.dtype}: labels are whole numbers")
        return None
    if (array.ndim == 2 and array.shape[1] != classes) or array.ndim not in (1, 2):
        faults.append(f"field 'labels': shape {array.shape}: give (T,) or (T, {classes}), one per class")
        return None
    if frames is not None and len(array) != frames:
        faults.append(f"has {frames} frames of features but {len(array)} labels: cut or extract them alike")
    kind: LabelKind = "index" if array.ndim == 1 else "multi-hot"
    fault = schema.label_fault(array, kind, classes)
    if fault is not None:
        faults.append(fault)
        return None
    small = np.uint8 if kind == "multi-hot" or classes <= 256 else np.int32
    return array.astype(small), kind
