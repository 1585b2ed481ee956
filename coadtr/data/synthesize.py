"""Simulated features on real labels: a store of THUMOS14's full size, for trials of speed and memory.

The features are drawn from a random generator. They tell nothing about video, and no accuracy on them says anything
about a detector; they are there because THUMOS14's features can be had from their authors only.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coadtr.data.importers.problems import raise_problems
from coadtr.data.importers.session_lists import find_lists, read_lists
from coadtr.data.progress import progress
from coadtr.data.sources.perframe import PerFrameLabels, read_perframe
from coadtr.data.splits import choose_validation
from coadtr.data.storage.checking import check_dtype
from coadtr.data.storage.journal import StoreJournal
from coadtr.data.storage.schema import Header
from coadtr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["SIMULATED", "SMOOTH_SECONDS", "THUMOS14_STREAMS", "simulate_features", "synthesize_thumos14"]

SIMULATED: Final = "simulated features"
"""What the origin of a store with such features begins with."""

THUMOS14_STREAMS: Final[Mapping[str, int]] = MappingProxyType({"rgb": 2048, "flow": 2048})
SMOOTH_SECONDS: Final = 2.0
"""Time after which the correlation of the smooth part with itself has fallen to 1/e."""

_FACTORS: Final = 32
_CLASS_SCALE: Final = 0.5
_VIDEO_SCALE: Final = 0.5
_UNKNOWN_FPS: Final = 30.0
_VIDEO_FRAMES: Final = 6
_MODEL: Final = (
    f"{_FACTORS} factors, each the mean of the class (deviation {_CLASS_SCALE} between classes), plus an offset of the "
    f"video (deviation {_VIDEO_SCALE}), plus an AR(1) process (deviation 1, correlation exp(-seconds / "
    f"{SMOOTH_SECONDS:g})), mixed into all channels by one random matrix, plus white noise (deviation 1)"
)


@dataclass(frozen=True, slots=True)
class _Source:
    """Labels, rates and splits of the videos to make."""

    subsets: tuple[PerFrameLabels, ...]
    split: Mapping[str, str]

    def labels(self, name: str) -> NDArray[Any]:
        return next(subset.labels[name] for subset in self.subsets if name in subset.labels)

    def rate_hz(self, name: str) -> float:
        fps = next(subset.fps[name] for subset in self.subsets if name in subset.fps)
        return (fps if math.isfinite(fps) and fps > 0 else _UNKNOWN_FPS) / _VIDEO_FRAMES


def simulate_features(
    name: str,
    labels: NDArray[Any],
    *,
    rate_hz: float,
    classes: int,
    streams: Mapping[str, int] = THUMOS14_STREAMS,
    seed: int = 0,
    noise: float = 1.0,
) -> dict[str, NDArray[np.float32]]:
    """Simulate the features of one video; they depend on nothing but the arguments.

    A frame has 32 hidden factors: the mean of its class, plus ``noise`` times an offset of the video and a smooth
    process, AR(1) with correlation ``exp(-seconds / 2)``. A random matrix mixes them into all channels of a stream,
    and white noise of ``noise`` deviation is added. So within a class and video half of a channel's variance is smooth
    and half is white, frames of a video are alike, and classes overlap: a detector is neither perfect nor at chance.

    Args:
        name: Name of the video.
        labels: ``(T,)`` class indices.
        rate_hz: Frames a second.
        classes: Number of classes C.
        streams: Name and channels D of each stream; a stream does not depend on the others.
        seed: Seed of class means, mixing and noise.
        noise: How much stands between features and classes; 0 leaves nothing but the class means.

    Returns:
        ``(T, D)`` float32 features by stream.

    Example:
        >>> labels = np.array([0, 0, 1, 1])
        >>> features = simulate_features("video", labels, rate_hz=5.0, classes=2, streams={"rgb": 8})
        >>> features["rgb"].shape, features["rgb"].dtype
        ((4, 8), dtype('float32'))
    """
    means = _CLASS_SCALE * _normal((classes, _FACTORS), seed, "classes")
    offset = _VIDEO_SCALE * _normal((1, _FACTORS), seed, "offset", name)
    smooth = _smooth(_normal((len(labels), _FACTORS), seed, "factors", name), rate_hz)
    factors = means[labels] + np.float32(noise) * (offset + smooth)
    features = {}
    for stream, dim in streams.items():
        mixing = _normal((_FACTORS, dim), seed, "mixing", stream) / np.float32(math.sqrt(_FACTORS))
        values = _normal((len(labels), dim), seed, "white", name, stream)
        values *= np.float32(noise)
        values += factors @ mixing
        features[stream] = values
    return features


def _normal(shape: tuple[int, int], seed: int, *key: str) -> NDArray[np.float32]:
    """Draw standard normal numbers that depend on seed and key alone."""
    digest = hashlib.sha256("\0".join(key).encode()).digest()
    words = np.frombuffer(digest[:16], "<u4").tolist()
    return np.random.Generator(np.random.SFC64([seed, *words])).standard_normal(shape, dtype=np.float32)


def _smooth(white: NDArray[np.float32], rate_hz: float) -> NDArray[np.float32]:
    """Turn white noise ``(T, K)`` into a stationary AR(1) process of deviation 1, in place."""
    keep = np.float32(math.exp(-1.0 / (rate_hz * SMOOTH_SECONDS)))
    fresh = np.float32(math.sqrt(1.0 - float(keep) ** 2))
    white[1:] *= fresh
    for frame in range(1, len(white)):
        white[frame] += keep * white[frame - 1]
    return white


def synthesize_thumos14(
    annotations: Path,
    out: Path,
    *,
    seed: int = 0,
    streams: Mapping[str, int] = THUMOS14_STREAMS,
    dtype: str = "float16",
    compression: str | None = None,
    noise: float = 1.0,
    scale: float = 1.0,
    videos: Sequence[str] | None = None,
    validation_fraction: float = 0.15,
) -> Path:
    """Write a store with THUMOS14's videos, lengths, rates and labels, and SIMULATED features.

    At full size: 413 videos, 428,585 frames, 4096 channels. Labels are the published per-frame labels; features come
    from `simulate_features`. A run that is killed goes on when it is called again.

    Args:
        annotations: Folder with ``val_perframe.npz``, ``test_perframe.npz`` and ``data_info_new.json``.
        out: Feature store to write.
        seed: Seed of features, of the validation split, and of the videos that ``scale`` takes.
        streams: Name and channels D of each stream.
        dtype: Type to store, ``'float16'`` or ``'float32'``.
        compression: ``'gzip'`` or ``'lzf'``, or none. Noise does not compress.
        noise: How much stands between features and classes (see `simulate_features`).
        scale: Part of the videos of each split to make, at least one; for small trials.
        videos: Names of the videos to make; none makes all. A video is the same in every part.
        validation_fraction: Part of the training videos set aside for validation; at least one is.

    Returns:
        The path of the store.

    Raises:
        DataError: If the annotations are missing, damaged or at odds; all problems in one message.
        ConfigError: If an option is out of range.

    Example:
        >>> synthesize_thumos14(Path("no_such_folder"), Path("out.h5"))
        Traceback (most recent call last):
        coadtr.errors.DataError: no_such_folder: no such folder: give the one with val_perframe.npz as source
    """
    _check_options(seed=seed, noise=noise, scale=scale, streams=streams)
    check_dtype(dtype)
    source, validation = _read_source(Path(annotations), seed, validation_fraction)
    names = _chosen(source.split, scale, seed, videos)
    settings: dict[str, object] = {"seed": seed, "noise": noise, "scale": scale, "model": _MODEL}
    header = Header(
        class_names=source.subsets[0].class_names,
        background=0,
        ignored=len(source.subsets[0].class_names) - 1,
        streams=dict(streams),
        attributes={
            "origin": f"{SIMULATED} (not THUMOS14's: random numbers, seed {seed}) on the real labels of THUMOS14",
            "label_rule": "published per-frame labels",
            "rate_rule": f"video frames a second / {_VIDEO_FRAMES}, {_UNKNOWN_FPS:g} / {_VIDEO_FRAMES} where unknown",
            "simulation": settings,
            # A detector trained on these cannot be mistaken for one of real features.
            "extractors": {stream: {"backbone": "simulated", "weights": f"seed {seed}"} for stream in streams},
            "validation": {
                "fraction": validation_fraction,
                "seed": seed,
                "videos": sorted(validation & set(names)),
            },
        },
    )
    identity = f"synthesize thumos14 {sorted(settings.items(), key=str)} {names} {_digest(source, names)}"
    with StoreJournal(out, header, identity=identity, dtype=dtype, compression=compression) as journal:
        for name in progress(names, total=len(names), description="synthesize"):
            if name in journal.done:
                continue
            labels, rate = source.labels(name), source.rate_hz(name)
            features = simulate_features(
                name, labels, rate_hz=rate, classes=len(header.class_names), streams=streams, seed=seed, noise=noise
            )
            journal.add(name, split=source.split[name], rate_hz=rate, features=features, labels=labels)
        return journal.finish(names)


def _check_options(*, seed: int, noise: float, scale: float, streams: Mapping[str, int]) -> None:
    if seed < 0:
        raise ConfigError(f"seed={seed!r}: give 0 or a positive whole number")
    if not (math.isfinite(noise) and noise >= 0):
        raise ConfigError(f"noise={noise!r}: give 0 or a positive number, such as 1.0")
    if not 0 < scale <= 1:
        raise ConfigError(f"scale={scale!r}: give a number above 0, at most 1, such as 0.05")
    wrong = {stream: dim for stream, dim in streams.items() if type(dim) is not int or dim < 1}
    if wrong or not streams:
        raise ConfigError(f"streams={dict(streams)!r}: give the channels of each, positive whole numbers")


def _read_source(folder: Path, seed: int, fraction: float) -> tuple[_Source, frozenset[str]]:
    """Read labels and lists, and choose the validation videos."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder: give the one with val_perframe.npz as source")
    subsets = tuple(read_perframe(folder / f"{subset}_perframe.npz") for subset in ("val", "test"))
    lists = read_lists(find_lists(folder, None), "THUMOS")
    problems = [
        f"{which}_perframe.npz has other classes than the list file: use files of one release"
        for which, subset in zip(("val", "test"), subsets, strict=True)
        if subset.class_names != lists.class_names
    ]
    for listed, subset, which in ((lists.train, subsets[0], "val"), (lists.test, subsets[1], "test")):
        problems += [
            f"video {name!r} is on the list but not in {which}_perframe.npz: add its labels, or take it off the list"
            for name in listed
            if name not in subset.labels
        ]
    raise_problems(folder, problems)
    validation = choose_validation(lists.train, fraction=fraction, seed=seed)
    split = {name: "validation" if name in validation else "train" for name in lists.train}
    return _Source(subsets, split | dict.fromkeys(lists.test, "test")), validation


def _chosen(split: Mapping[str, str], scale: float, seed: int, videos: Sequence[str] | None) -> list[str]:
    """Return the videos to make, in the order of the lists."""
    if videos is not None:
        unknown = [name for name in videos if name not in split]
        if unknown or not videos:
            raise ConfigError(f"videos={list(videos)!r}: name at least one video of the lists, and no other")
        return [name for name in split if name in videos]
    taken: set[str] = set()
    for part in dict.fromkeys(split.values()):
        names = [name for name in split if split[name] == part]
        order = np.random.default_rng(seed).permutation(len(names))
        taken |= {names[index] for index in order[: max(1, round(scale * len(names)))]}
    return [name for name in split if name in taken]


def _digest(source: _Source, names: Sequence[str]) -> str:
    """Tell these labels, rates and splits from any others."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(repr((name, source.split[name], source.rate_hz(name))).encode())
        digest.update(np.ascontiguousarray(source.labels(name)).tobytes())
    return digest.hexdigest()
