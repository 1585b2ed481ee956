"""A tiny store that a model can learn from in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coadtr.data import FeatureStore, StoreWriter

MakeStore = Callable[..., FeatureStore]


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """Return a function that writes a store of noisy class-dependent frames."""

    def make(
        name: str = "tiny.h5", *, multi_hot: bool = False, splits: str = "tttvx", ignored: int | None = None
    ) -> FeatureStore:
        generator = np.random.default_rng(0)
        centres = generator.normal(size=(3, 6))
        kinds = {"t": "train", "v": "validation", "x": "test"}
        with StoreWriter(
            tmp_path / name,
            class_names=["rest", "lift", "turn"],
            background=0,
            ignored=ignored,
            streams={"a": 4, "b": 2},
        ) as writer:
            for number, split in enumerate(splits):
                labels = generator.integers(0, 3, size=8).repeat(10)
                frames = centres[labels] + generator.normal(scale=0.7, size=(80, 6))
                writer.add(
                    f"video{number}",
                    split=kinds[split],
                    rate_hz=5.0,
                    features={"a": frames[:, :4].astype(np.float32), "b": frames[:, 4:].astype(np.float32)},
                    labels=np.eye(3, dtype=np.uint8)[labels] if multi_hot else labels,
                )
        return FeatureStore(tmp_path / name)

    return make
