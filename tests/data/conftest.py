"""Small stores and sources, written by the tests in the layouts that coadtr reads."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from coadtr.data import FeatureStore, StoreWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

CLASSES = ("background", "cut", "mix", "ambiguous")
LENGTHS = {"a": 25, "b": 12, "c": 7, "d": 31}
SPLIT = {"a": "train", "b": "train", "c": "validation", "d": "test"}
STREAMS = {"rgb": 6, "flow": 3}


def _make_video(name: str, *, multi_hot: bool = False) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Return float16 and float32 streams, and labels, that depend on the name alone."""
    rng = np.random.default_rng(sum(name.encode()))
    frames = LENGTHS[name]
    features: dict[str, NDArray[Any]] = {
        "rgb": rng.standard_normal((frames, 6)).astype(np.float16),
        "flow": rng.standard_normal((frames, 3)).astype(np.float32),
    }
    labels = rng.integers(0, len(CLASSES), frames)
    if not multi_hot:
        return features, labels
    hot = np.eye(len(CLASSES), dtype=np.uint8)[labels]
    hot[::5, 1] = 1
    return features, hot


def _make_store(path: Path, *, multi_hot: bool = False) -> FeatureStore:
    """Write four videos in an order that is not that of their names, and open the store."""
    with StoreWriter(
        path,
        class_names=CLASSES,
        background=0,
        ignored=3,
        streams=STREAMS,
        attributes={"origin": "made for a test", "numbers": [1, 2]},
    ) as writer:
        for name in ("d", "a", "c", "b"):
            features, labels = _make_video(name, multi_hot=multi_hot)
            writer.add(name, split=SPLIT[name], rate_hz=5.0, features=features, labels=labels)
    return FeatureStore(path)


@pytest.fixture
def sequence_source() -> dict[str, Any]:
    """Return the fields of a sequence .npz file with 6 videos of 4 to 9 frames, the last two of them test videos."""
    rng = np.random.default_rng(7)
    offsets = np.concatenate([[0], np.cumsum(np.arange(4, 10))])
    return {
        "features": rng.standard_normal((offsets[-1], 5)).astype(np.float16),
        "probs": rng.random((offsets[-1], 3)).astype(np.float16),
        "labels": rng.integers(0, 3, offsets[-1]).astype(np.uint8),
        "offsets": offsets,
        "names": np.array([f"video-{index}" for index in range(6)]),
        "is_test": np.arange(6) >= 4,
        "class_names": np.array(["cut", "background", "mix"]),
        "fps": np.float64(3.0),
    }


def _write_oadtr(folder: Path, *, names: str = "thumos_anet_{}.pickle", protocol: int = 4) -> dict[str, Any]:
    """Write a folder in the layout that OadTR publishes; return its features and annotations by video."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    classes = ["Background", *(f"Action{index}" for index in range(1, 21)), "Ambiguous"]
    lists = {
        "train_session_set": [f"video_validation_{index:07d}" for index in range(8)],
        "test_session_set": [f"video_test_{index:07d}" for index in range(3)],
    }
    info = {"HDD": {}, "TVSERIES": {}, "THUMOS": {"class_index": classes, **lists}}
    (folder / "data_info_new.json").write_text(json.dumps(info))
    written: dict[str, Any] = {}
    for subset, listed in (("val", lists["train_session_set"]), ("test", lists["test_session_set"])):
        features, annotations = {}, {}
        for name in [*listed, f"video_{subset}_not_listed"]:
            frames = int(rng.integers(10, 20))
            features[name] = {
                "rgb": rng.standard_normal((frames, 2048)).astype(np.float32),
                "flow": rng.standard_normal((frames, 1024)).astype(np.float32),
            }
            labels = rng.integers(0, 22, frames)
            annotations[name] = {"anno": np.eye(22)[labels], "feature_length": frames}
            written[name] = (features[name], labels)
        (folder / names.format(subset)).write_bytes(pickle.dumps(features, protocol=protocol))
        (folder / f"thumos_{subset}_anno.pickle").write_bytes(pickle.dumps(annotations, protocol=protocol))
    return written


@pytest.fixture(scope="session")
def make_video() -> Callable[..., tuple[dict[str, NDArray[Any]], NDArray[Any]]]:
    """Return a function of a video name (a, b, c, d) that gives its features and labels."""
    return _make_video


@pytest.fixture
def make_store() -> Callable[..., FeatureStore]:
    """Return a function that writes the four videos to a path and opens the store."""
    return _make_store


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return _make_store(tmp_path / "store.h5")


@pytest.fixture
def write_oadtr() -> Callable[..., dict[str, Any]]:
    """Return a function that writes a folder in the OadTR layout."""
    return _write_oadtr
